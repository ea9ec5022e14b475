#include "data/shard_tools.h"

#include "data/draw.h"
#include "data/shard_impl.h"

#include <stdlib.h>
#include <string.h>

static uint64_t image_bytes(const vg_shard_tables *t)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < t->n_images; i++) sum += t->images[i].length;
    return sum;
}

static vg_status image_verify(const vg_shard *shard, size_t i, bool decode, unsigned char **bytes, size_t *capacity)
{
    const vg_shard_image *row = &shard->tables.images[i];
    size_t n = 0;
    if (row->length == 0) return VG_OK; /* its file was absent */
    VG_TRY(vg_shard_read_image(shard, i, bytes, capacity, &n));
    if (!decode) return VG_OK;
    vg_image image = {0};
    const vg_status st = vg_image_decode(*bytes, n, false, &image);
    const bool right = image.width == row->width && image.height == row->height;
    vg_image_release(&image);
    if (st != VG_OK) return vg_fail_at(st, "%s: image %lld", shard->path, (long long)row->image_id);
    VG_CHECK(right, VG_E_DATA, "%s: image %lld has another size than its row says", shard->path,
             (long long)row->image_id);
    return VG_OK;
}

/* Notes what is bad and goes on; other errors end the work. */
static vg_status note_bad(vg_status st, vg_shard_verify_report *report)
{
    if (st != VG_E_DATA) return st;
    report->bad++;
    return vg_text_add(&report->lines, "%s\n", vg_error_text());
}

static vg_status shard_verify(const char *path, bool decode, vg_shard_verify_report *report)
{
    vg_shard *shard = NULL;
    unsigned char *bytes = NULL;
    size_t capacity = 0;
    report->shards++;
    vg_status st = vg_shard_open(path, &shard);
    if (st != VG_OK) return note_bad(st, report);
    const vg_shard_tables *t = &shard->tables;
    for (size_t i = 0; i < t->n_images && st == VG_OK; i++)
        st = note_bad(image_verify(shard, i, decode, &bytes, &capacity), report);
    for (size_t i = 0; i < t->n_images; i++) report->absent += t->images[i].length == 0;
    report->images += (int64_t)t->n_images;
    report->sentences += (int64_t)t->n_sentences;
    report->image_bytes += (int64_t)image_bytes(t);
    free(bytes);
    vg_shard_close(shard);
    return st;
}

vg_status vg_shard_verify(const char *path, bool decode, vg_shard_verify_report *report)
{
    vg_shard_paths list = {0};
    *report = (vg_shard_verify_report){0};
    vg_status st = vg_shard_paths_find(&path, 1, &list);
    for (size_t i = 0; i < list.n && st == VG_OK; i++) st = shard_verify(list.path[i], decode, report);
    vg_shard_paths_release(&list);
    VG_TRY(st);
    VG_CHECK(report->bad == 0, VG_E_DATA, "%lld of %lld shards and images are bad, the first: %.*s",
             (long long)report->bad, (long long)(report->shards + report->images),
             (int)strcspn(report->lines.data, "\n"), report->lines.data);
    return VG_OK;
}
