/* Reading and decoding is nearly all the work of an import: threads take the images as they come, the caller puts them
 * in order. */
#include "data/import_impl.h"

#include "data/image_impl.h"
#include "data/shard_impl.h"
#include "data/steady_read_impl.h"
#include "data/workers.h"

#include <stdio.h>

typedef struct job {
    const vg_kept_record *records;
    vg_found_image *out;
    bool decode;
} job;

/* Where nothing can be decoded, the annotations alone say how large the image is. */
static vg_status absent_find(const vg_import_record *r, vg_found_image *out)
{
    VG_CHECK(r->width > 0 && r->height > 0, VG_E_DATA, "%s: absent, and the annotations do not say its size", r->path);
    out->width = r->width;
    out->height = r->height;
    return VG_OK;
}

/* That a picture decodes, and its size. Where the annotations say how large it is, a JPEG is decoded at an eighth of
 * that: all of its bytes are looked at, and little else is done with them. */
static vg_status picture_check(const vg_import_record *r, vg_found_image *out)
{
    if (r->width > 0 && r->height > 0) {
        const vg_decode how = {.width = r->width, .height = r->height, .least_pixels = 1};
        vg_decoded decoded = {0};
        const vg_status st = vg_image_decode_part(out->bytes, out->n_bytes, &how, &decoded);
        vg_image_release(&decoded.image);
        out->width = r->width;
        out->height = r->height;
        return st;
    }
    vg_image picture = {0};
    const vg_status st = vg_image_decode(out->bytes, out->n_bytes, false, &picture);
    out->width = picture.width;
    out->height = picture.height;
    vg_image_release(&picture);
    return st;
}

static vg_status image_find(const vg_kept_record *kept, bool decode, vg_found_image *out)
{
    const vg_import_record *r = &kept->record;
    if (kept->absent) return absent_find(r, out);
    VG_TRY(vg_steady_read_file(r->path, VG_SHARD_MAX_IMAGE, &out->bytes, &out->n_bytes));
    out->turned = vg_image_is_turned(out->bytes, out->n_bytes);
    if (!decode) return VG_OK;
    const vg_status st = picture_check(r, out);
    return st == VG_OK ? VG_OK : vg_fail_at(st, "%s", r->path);
}

static void find_one(void *context, size_t i)
{
    const job *j = context;
    vg_found_image *out = &j->out[i];
    *out = (vg_found_image){0};
    out->status = image_find(&j->records[i], j->decode, out);
    if (out->status != VG_OK) snprintf(out->why, sizeof out->why, "%s", vg_error_text());
}

void vg_import_images(const vg_kept_record *records, size_t n, bool decode, int n_threads, vg_found_image *out)
{
    vg_work_on_each(n, n_threads, find_one, &(job){.records = records, .out = out, .decode = decode});
}
