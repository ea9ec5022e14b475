/* What the writer and the reader of shards agree on: row types, record hashes, the way HDF5 is spoken to. */
#include "data/shard_impl.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "record hashes are taken over little-endian values");

/* ---- row types ---- */

typedef enum { FIELD_I32, FIELD_U32, FIELD_I64, FIELD_U64 } field_type;

typedef struct field {
    const char *name;
    size_t offset;
    field_type type;
    bool newer; /* format 1 has no such column; its rows then hold 0 */
} field;

static const field image_fields[] = {
    {"image_id", offsetof(vg_shard_image, image_id), FIELD_I64, false},
    {"coco_id", offsetof(vg_shard_image, coco_id), FIELD_I64, true},
    {"flickr_id", offsetof(vg_shard_image, flickr_id), FIELD_I64, true},
    {"width", offsetof(vg_shard_image, width), FIELD_I32, false},
    {"height", offsetof(vg_shard_image, height), FIELD_I32, false},
    {"offset", offsetof(vg_shard_image, offset), FIELD_U64, false},
    {"length", offsetof(vg_shard_image, length), FIELD_U64, false},
    {"hash", offsetof(vg_shard_image, hash), FIELD_U64, false},
    {"name_offset", offsetof(vg_shard_image, name_offset), FIELD_U64, false},
    {"name_length", offsetof(vg_shard_image, name_length), FIELD_U32, false},
    {"record", offsetof(vg_shard_image, record), FIELD_U64, false},
};

static const field sentence_fields[] = {
    {"sentence_id", offsetof(vg_shard_sentence, sentence_id), FIELD_I64, false},
    {"ref_id", offsetof(vg_shard_sentence, ref_id), FIELD_I64, false},
    {"image", offsetof(vg_shard_sentence, image), FIELD_I64, false},
    {"text_offset", offsetof(vg_shard_sentence, text_offset), FIELD_U64, false},
    {"text_length", offsetof(vg_shard_sentence, text_length), FIELD_U32, false},
    {"first_box", offsetof(vg_shard_sentence, first_box), FIELD_I64, false},
    {"n_boxes", offsetof(vg_shard_sentence, n_boxes), FIELD_I32, false},
    {"split", offsetof(vg_shard_sentence, split), FIELD_I32, false},
    {"kind", offsetof(vg_shard_sentence, kind), FIELD_I32, false},
    {"record", offsetof(vg_shard_sentence, record), FIELD_U64, false},
};

enum {
    N_IMAGE_FIELDS = sizeof image_fields / sizeof *image_fields,
    N_SENTENCE_FIELDS = sizeof sentence_fields / sizeof *sentence_fields,
};

static hid_t field_h5_type(field_type type, bool in_memory)
{
    switch (type) {
    case FIELD_I32: return in_memory ? H5T_NATIVE_INT32 : H5T_STD_I32LE;
    case FIELD_U32: return in_memory ? H5T_NATIVE_UINT32 : H5T_STD_U32LE;
    case FIELD_I64: return in_memory ? H5T_NATIVE_INT64 : H5T_STD_I64LE;
    case FIELD_U64: return in_memory ? H5T_NATIVE_UINT64 : H5T_STD_U64LE;
    }
    return H5I_INVALID_HID;
}

static hid_t row_type(const field *fields, size_t n, size_t row_bytes, bool in_memory)
{
    const hid_t type = H5Tcreate(H5T_COMPOUND, row_bytes);
    for (size_t i = 0; type >= 0 && i < n; i++)
        H5Tinsert(type, fields[i].name, fields[i].offset, field_h5_type(fields[i].type, in_memory));
    if (!in_memory && type >= 0) H5Tpack(type);
    return type;
}

hid_t vg_shard_image_type(bool in_memory)
{
    return row_type(image_fields, N_IMAGE_FIELDS, sizeof(vg_shard_image), in_memory);
}

hid_t vg_shard_sentence_type(bool in_memory)
{
    return row_type(sentence_fields, N_SENTENCE_FIELDS, sizeof(vg_shard_sentence), in_memory);
}

hid_t vg_shard_text_type(size_t bytes)
{
    const hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, bytes);
    H5Tset_cset(type, H5T_CSET_UTF8);
    return type;
}

static bool type_fits(hid_t type, const field *fields, size_t n)
{
    if (H5Tget_class(type) != H5T_COMPOUND) return false;
    for (size_t i = 0; i < n; i++) {
        const int member = H5Tget_member_index(type, fields[i].name);
        if (member < 0 && fields[i].newer) continue;
        if (member < 0 || H5Tget_member_class(type, (unsigned)member) != H5T_INTEGER) return false;
    }
    return true;
}

bool vg_shard_image_type_fits(hid_t type)
{
    return type_fits(type, image_fields, N_IMAGE_FIELDS);
}

bool vg_shard_sentence_type_fits(hid_t type)
{
    return type_fits(type, sentence_fields, N_SENTENCE_FIELDS);
}

/* ---- record hashes ---- */

uint64_t vg_shard_image_record(const vg_shard_tables *t, const vg_shard_image *image)
{
    const uint64_t values[] = {
        (uint64_t)image->image_id, (uint64_t)image->width, (uint64_t)image->height, image->length, image->hash,
        image->name_length};
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, values, sizeof values);
    XXH3_64bits_update(&state, t->text + image->name_offset, image->name_length);
    const int64_t elsewhere[] = {image->coco_id, image->flickr_id};
    if (elsewhere[0] || elsewhere[1]) XXH3_64bits_update(&state, elsewhere, sizeof elsewhere);
    return XXH3_64bits_digest(&state);
}

uint64_t vg_shard_sentence_record(const vg_shard_tables *t, const vg_shard_sentence *s)
{
    const uint64_t values[] = {(uint64_t)s->sentence_id, (uint64_t)s->ref_id, (uint64_t)t->images[s->image].image_id,
                               s->text_length, (uint64_t)s->n_boxes};
    const char *split = t->splits[s->split], *kind = t->kinds[s->kind];
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, values, sizeof values);
    XXH3_64bits_update(&state, t->text + s->text_offset, s->text_length);
    if (s->n_boxes) XXH3_64bits_update(&state, t->boxes[s->first_box], (size_t)s->n_boxes * sizeof *t->boxes);
    XXH3_64bits_update(&state, split, strlen(split) + 1);
    XXH3_64bits_update(&state, kind, strlen(kind) + 1);
    return XXH3_64bits_digest(&state);
}

uint64_t vg_shard_content(const vg_shard_tables *t)
{
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    for (size_t i = 0; i < t->n_images; i++)
        XXH3_64bits_update(&state, &t->images[i].record, sizeof t->images[i].record);
    for (size_t i = 0; i < t->n_sentences; i++)
        XXH3_64bits_update(&state, &t->sentences[i].record, sizeof t->sentences[i].record);
    return XXH3_64bits_digest(&state);
}

/* ---- measures ---- */

int vg_shard_words(const char *text)
{
    int n = 0;
    for (bool in_word = false; *text; text++) {
        const bool space = isspace((unsigned char)*text);
        n += !space && !in_word;
        in_word = !space;
    }
    return n;
}

double vg_shard_box_area(const float box[4], const vg_shard_image *image)
{
    const double width = (double)box[2] - (double)box[0], height = (double)box[3] - (double)box[1];
    return width * height / ((double)image->width * image->height);
}

/* ---- HDF5 ---- */

void vg_h5_begin(void)
{
    H5dont_atexit(); /* after a failed write (disk full) its exit handler would touch what its close has freed */
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

typedef struct h5_reason {
    int code; /* errno, where the system refused */
    char text[160];
} h5_reason;

static herr_t keep_first_reason(unsigned n, const H5E_error2_t *error, void *reason)
{
    h5_reason *r = reason;
    if (n > 0 || !error->desc) return 0;
    const char *number = strstr(error->desc, "errno = "); /* where the system refused, its word says more */
    r->code = number ? atoi(number + strlen("errno = ")) : 0;
    snprintf(r->text, sizeof r->text, r->code ? ": %s" : " (HDF5: %s)", r->code ? strerror(r->code) : error->desc);
    return 0;
}

vg_status vg_h5_fail(vg_status status, const char *path, const char *what)
{
    h5_reason reason = {0};
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first_reason, &reason);
    return vg_fail(status, "%s: %s%s%s", path, what, reason.text,
                   status == VG_E_DATA ? "; it is cut short or damaged, import it again" : "");
}

static herr_t note_io_error(hid_t stack, void *code)
{
    h5_reason reason = {0};
    H5Ewalk2(stack, H5E_WALK_UPWARD, keep_first_reason, &reason);
    if (vg_steady_may_pass(reason.code)) *(int *)code = reason.code;
    return 0;
}

void vg_h5_watch(int *io_error)
{
    H5Eset_auto2(H5E_DEFAULT, io_error ? note_io_error : NULL, io_error);
}

hid_t vg_h5_access(void)
{
    const hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_file_locking(access, false, true);
    H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110);
    return access;
}
