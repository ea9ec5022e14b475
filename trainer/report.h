/* A run on one page: HTML that needs nothing else, neither files beside it nor scripts.
 *
 *     const vg_report_spec spec = {.run = "runs/first", .answers = {...}, .galleries = {...}};
 *     VG_TRY(vg_report_write(&spec, "report.html")); */
#ifndef VG_TRAINER_REPORT_H
#define VG_TRAINER_REPORT_H

#include "kernels/base/base.h"

enum { VG_REPORT_FILES = 16 };

/* What the page is made of. Borrowed. */
typedef struct vg_report_spec {
    const char *run;                        /* folder: metrics.jsonl, log.txt, config.yaml */
    const char *answers[VG_REPORT_FILES];   /* files of `vlgtr eval --out`: a table of accuracies for each */
    const char *galleries[VG_REPORT_FILES]; /* pictures of `vlgtr eval --gallery` */
    int n_answers, n_galleries;
} vg_report_spec;

/* Local. Curves of losses, accuracy, learning rate and time, tables, pictures, what went wrong, the configuration.
 * Lines of metrics.jsonl that cannot be read are counted on the page. Errors: VG_E_DATA (a file is absent or is not
 * what it should be), VG_E_STORAGE, VG_E_NOMEM. */
vg_status vg_report_write(const vg_report_spec *spec, const char *path);

#endif
