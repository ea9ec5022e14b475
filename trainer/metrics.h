/* What a run tells: metrics.jsonl for programs, log.txt and standard error for people, tensorboard/ and metrics.prom
 * for those who watch. Rank 0 alone has one; for the others every call is a no-op on NULL. */
#ifndef VG_TRAINER_METRICS_H
#define VG_TRAINER_METRICS_H

#include "kernels/base/base.h"

typedef struct vg_metrics vg_metrics;

/* A row of metrics.def. */
typedef enum vg_metric {
#define VG_METRIC(key, prometheus, factor, help) VG_METRIC_##key,
#include "trainer/metrics.def"
#undef VG_METRIC
    VG_METRICS
} vg_metric;

const char *vg_metric_key(vg_metric metric);
const char *vg_metric_help(vg_metric metric); /* a line for people */

/* One step, averaged over nothing: losses are those of the step's whole batch. */
typedef struct vg_step_record {
    int64_t step, steps; /* done so far, in the whole schedule */
    const char *stage;
    double loss, loss_class, loss_l1, loss_giou, loss_align; /* weighted parts of loss; sums over decoder layers */
    double giou;                                             /* mean GIoU of the last layer's matched pairs */
    double grad_norm, lr;
    int64_t phrases;             /* filled slots */
    const int64_t *rank_phrases; /* [n_ranks] by rank */
    int n_ranks;
    double phrases_per_s, gflops_per_s; /* since the last record, all ranks */
    double step_ms;                     /* of wall time per step, since the last record */
    double wait_ms;                     /* of those, that rank 0 waited for data */
    double eta_s;
    int64_t skipped;     /* steps so far */
    int64_t bad_samples; /* positions of the stream so far whose sample could not be read */
} vg_step_record;

/* Opens folder/metrics.jsonl and folder/log.txt for appending, and an event file in folder/tensorboard; records after
 * `step` are dropped (a resumed run writes them again). Errors: VG_E_STORAGE. */
vg_status vg_metrics_open(const char *folder, int64_t step, vg_metrics **out);
void vg_metrics_close(vg_metrics *m);

/* The folder belongs to a later start of the run by now: closing leaves metrics.prom as it is. */
void vg_metrics_disown(vg_metrics *m);

void vg_metrics_step(vg_metrics *m, const vg_step_record *r);

/* A moving bar on a terminal; nothing elsewhere. */
void vg_metrics_progress(vg_metrics *m, const vg_step_record *r);

/* A sentence for people, also into log.txt. */
void vg_metrics_say(vg_metrics *m, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* A sentence into log.txt alone: one that standard error gets from elsewhere. */
void vg_metrics_note(vg_metrics *m, const char *sentence);

/* A record {"step": .., "<key>": <value>} with a number, shown in curves and metrics.prom, too; or with a text. */
void vg_metrics_number(vg_metrics *m, int64_t step, vg_metric metric, double value);
void vg_metrics_text(vg_metrics *m, int64_t step, const char *key, const char *value);

#endif
