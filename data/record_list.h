/* Lists of records to leave out: what `vlgtr shard verify --quarantine` and `leakage --out` write, and `filter
 * --without` and the loader read. A JSON object a line:
 *
 *     {"records": ["92d1c0ffee15600d"], "image_id": 9, "file_name": "9.jpg", "shard": "a.h5", "reason": "broken JPEG"}
 *
 * "records" decides: the hashes of images or sentences (column `record` of their tables, which stays when a row moves
 * to another shard). What else there is, is for people. */
#ifndef VG_DATA_RECORD_LIST_H
#define VG_DATA_RECORD_LIST_H

#include "kernels/base/base.h"

typedef struct vg_record_list {
    uint64_t *records; /* sorted */
    size_t n, capacity;
} vg_record_list;

/* Reads a list. The caller releases it, also on failure. Errors: VG_E_DATA naming file and line, VG_E_NOMEM. */
vg_status vg_record_list_read(const char *path, vg_record_list *out);
void vg_record_list_release(vg_record_list *list);
bool vg_record_list_has(const vg_record_list *list, uint64_t record); /* a NULL list has none */
/* That shards had some of the records, n_met of them; NULL and an empty list name none. Errors: VG_E_DATA. */
vg_status vg_record_list_check_met(const vg_record_list *list, int64_t n_met);

/* A line to be written; zeroed, then filled. Strings are borrowed. */
typedef struct vg_record_line {
    uint64_t *records;
    size_t n_records, capacity;
    int64_t image_id;
    const char *file_name, *shard, *reason;
} vg_record_line;

vg_status vg_record_line_add(vg_record_line *line, uint64_t record);
vg_status vg_record_line_text(const vg_record_line *line, vg_text *out);
void vg_record_line_release(vg_record_line *line);

#endif
