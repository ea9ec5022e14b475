/* Any bytes as the tables of a shard, past HDF5 and past the hashes, so that each check of a row stands alone. The file
 * around them is fuzz_data_container's. */
#include "data/shard_impl.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct cursor {
    const uint8_t *at, *end;
} cursor;

/* n rows copied from the input, fewer when it ends. */
static void *rows(cursor *c, size_t *n, size_t row_bytes)
{
    const size_t most = (size_t)(c->end - c->at) / row_bytes;
    if (*n > most) *n = most;
    void *copy = malloc(*n * row_bytes + 1); /* no byte more than the rows: the sanitizer watches their end */
    if (!copy) abort();
    memcpy(copy, c->at, *n * row_bytes);
    c->at += *n * row_bytes;
    return copy;
}

/* Six counts, the size of /bytes and of its chunks, then the rows of each table, text last. */
static void tables_fill(vg_shard_tables *t, cursor c)
{
    uint8_t head[8] = {0};
    memcpy(head, c.at, (size_t)(c.end - c.at) < sizeof head ? (size_t)(c.end - c.at) : sizeof head);
    c.at += (size_t)(c.end - c.at) < sizeof head ? (size_t)(c.end - c.at) : sizeof head;
    *t = (vg_shard_tables){.n_images = head[0],
                           .n_sentences = head[1],
                           .n_boxes = head[2],
                           .n_splits = head[3],
                           .n_kinds = head[4],
                           .n_text = SIZE_MAX,
                           .n_bytes = (uint64_t)head[6] << (head[5] & 31),
                           .chunk_bytes = (uint64_t)head[7] << (head[5] >> 5)};
    t->images = rows(&c, &t->n_images, sizeof *t->images);
    t->sentences = rows(&c, &t->n_sentences, sizeof *t->sentences);
    t->boxes = rows(&c, &t->n_boxes, sizeof *t->boxes);
    t->splits = rows(&c, &t->n_splits, sizeof *t->splits);
    t->kinds = rows(&c, &t->n_kinds, sizeof *t->kinds);
    t->text = rows(&c, &t->n_text, 1);
}

static bool only_hash(const char *fault)
{
    return fault && strcmp(fault, "its row does not match its hash") == 0;
}

/* A row whose one fault is its hash gets the right one. */
static void hashes_mend(vg_shard_tables *t)
{
    uint64_t end = 0, before;
    if (t->chunk_bytes == 0) return;
    for (size_t i = 0; i < t->n_images; i++) {
        before = end;
        if (only_hash(vg_shard_image_fault(t, &t->images[i], &end))) {
            t->images[i].record = vg_shard_image_record(t, &t->images[i]);
            end = before;
            if (vg_shard_image_fault(t, &t->images[i], &end)) abort();
        }
    }
    int64_t image = -1;
    for (size_t i = 0; i < t->n_sentences; i++) {
        if (only_hash(vg_shard_sentence_fault(t, &t->sentences[i], image)))
            t->sentences[i].record = vg_shard_sentence_record(t, &t->sentences[i]);
        image = t->sentences[i].image;
    }
}

/* What readers do with checked rows without looking again. */
static void walk(const vg_shard_tables *t)
{
    for (size_t i = 0; i < t->n_images; i++) {
        const vg_shard_image *image = &t->images[i];
        if (image->offset + image->length > t->n_bytes || strlen(t->text + image->name_offset) != image->name_length)
            abort();
    }
    for (size_t i = 0; i < t->n_sentences; i++) {
        const vg_shard_sentence *s = &t->sentences[i];
        if (strlen(t->text + s->text_offset) != s->text_length) abort();
        if (strlen(t->splits[s->split]) + strlen(t->kinds[s->kind]) > 126) abort();
        for (int b = 0; b < s->n_boxes; b++)
            if (!(t->boxes[s->first_box + b][2] <= (float)t->images[s->image].width)) abort();
    }
    (void)vg_shard_content(t);
}

static vg_status count_fault(void *user, const vg_row_fault *fault)
{
    size_t *n = user;
    *n += fault->what != NULL;
    return VG_OK;
}

/* Tables that are whole stay so when some of their sentences are left out. */
static void leave_out(vg_shard_tables *t)
{
    vg_record_list list = {0};
    size_t n_out = 0;
    for (size_t i = 0; i < t->n_sentences; i += 3) {
        if (vg_grow(&list.records, &list.capacity, list.n + 1, sizeof *list.records) != VG_OK) abort();
        list.records[list.n++] = t->sentences[i].record;
        for (size_t k = list.n - 1; k > 0 && list.records[k] < list.records[k - 1]; k--) {
            const uint64_t swap = list.records[k];
            list.records[k] = list.records[k - 1];
            list.records[k - 1] = swap;
        }
    }
    const size_t before = t->n_sentences;
    const bool whole = vg_shard_check("input", t, NULL, NULL) == VG_OK;
    if (vg_shard_leave_out(t, &list, &n_out) != VG_OK || t->n_sentences > before) abort();
    vg_record_list_release(&list);
    if (whole && vg_shard_check("input", t, NULL, NULL) != VG_OK) abort();
    if (whole) walk(t);
}

static void as_tables(const uint8_t *data, size_t size)
{
    size_t n_faults = 0;
    vg_shard_tables t;
    tables_fill(&t, (cursor){data, data + size});
    if (t.n_splits && t.n_kinds) { /* the names are hashed, so they come first */
        for (size_t i = 0; i < t.n_splits; i++) t.splits[i][VG_SHARD_NAME_BYTES - 1] = '\0';
        for (size_t i = 0; i < t.n_kinds; i++) t.kinds[i][VG_SHARD_NAME_BYTES - 1] = '\0';
        hashes_mend(&t);
    }
    const bool whole = vg_shard_check("input", &t, NULL, NULL) == VG_OK;
    if (whole) walk(&t);
    if (vg_shard_check("input", &t, count_fault, &n_faults) == VG_OK && n_faults == 0 && !whole) abort();
    leave_out(&t);
    vg_shard_tables_release(&t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    as_tables(data, size);
    return 0;
}
