/* Between the files of the report. */
#ifndef VG_TRAINER_REPORT_IMPL_H
#define VG_TRAINER_REPORT_IMPL_H

#include "trainer/report.h"

/* Values over steps, in the order in which they were told. */
typedef struct vg_curve {
    const char *key; /* of metrics.def */
    double *steps, *values;
    size_t n, capacity;
} vg_curve;

typedef struct vg_run_records {
    vg_curve *curves; /* [n], a row of metrics.def each */
    int n;
    int64_t unread; /* lines that were no record */
} vg_run_records;

/* Reads metrics.jsonl of a run. Errors: VG_E_DATA, VG_E_NOMEM. */
vg_status vg_run_records_read(const char *run, vg_run_records *out);
void vg_run_records_release(vg_run_records *records);
const vg_curve *vg_run_records_find(const vg_run_records *records, const char *key);

/* Appends one chart of the curves named by keys (a NULL ends them) as SVG; nothing where none has two points. log: the
 * values stand on a logarithmic axis. Errors: VG_E_NOMEM. */
vg_status vg_chart_add(vg_text *page, const vg_run_records *records, const char *title, const char *const *keys,
                       bool log);

/* Appends text with the characters that HTML takes for its own written out. Errors: VG_E_NOMEM. */
vg_status vg_html_add(vg_text *page, const char *text);

#endif
