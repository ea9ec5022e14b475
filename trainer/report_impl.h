/* Between the files of the report. */
#ifndef VG_TRAINER_REPORT_IMPL_H
#define VG_TRAINER_REPORT_IMPL_H

#include "trainer/chart.h"
#include "trainer/metrics.h"
#include "trainer/report.h"

typedef struct vg_run_records {
    vg_curve curves[VG_METRICS];
    int64_t unread; /* lines that were no record */
} vg_run_records;

/* Reads metrics.jsonl of a run. Errors: VG_E_DATA, VG_E_NOMEM. */
vg_status vg_run_records_read(const char *run, vg_run_records *out);
void vg_run_records_release(vg_run_records *records);

#endif
