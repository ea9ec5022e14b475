/* Between the files of the training loop: a run as every rank holds it. */
#ifndef VG_TRAINER_LOOP_IMPL_H
#define VG_TRAINER_LOOP_IMPL_H

#include "checkpoints/checkpoint.h"
#include "dist/health.h"
#include "dist/reduce.h"
#include "trainer/evaluate.h"
#include "trainer/gradients.h"
#include "trainer/inject.h"
#include "trainer/metrics.h"
#include "trainer/pace.h"
#include "trainer/rank_moments.h"
#include "trainer/stage.h"
#include "trainer/trace.h"

/* What a rank tells the others before a step. */
enum {
    COUNT_FILLED,
    COUNT_MATCHED,
    COUNT_STOP,
    COUNT_FAILED,
    COUNT_READY,
    COUNT_SAVE,
    COUNT_BUSY_US,
    COUNT_BAD,
    N_COUNTS
};

/* What a step adds up over the slots of a leaf, in fp64. */
enum { SUM_CLASS, SUM_L1, SUM_GIOU, SUM_ALIGN, SUM_LAST_GIOU, SUM_BAD, SUM_FAILED, SUM_LEFT_OUT, N_SUMS };

typedef struct vg_run {
    vg_comm *comm;
    const vg_options *o;
    const vg_injections *faults;
    vg_compute compute;
    double host_need; /* bytes of memory that the ranks of this host take in the stage that takes most */
    vg_params *params;
    vg_tokenizer *tokenizer;
    vg_split *train_split, *eval_split;
    uint64_t configuration_hash, generation;
    char *configuration; /* the resolved YAML */
    vg_metrics *metrics; /* rank 0 */

    /* the sample stream: this rank's leaves of each step */
    vg_loader *loader;
    vg_feature_store *images; /* of the current stage, where it takes stored features; else NULL */
    vg_text told_stores;      /* why there are none, once for all stages */
    int64_t epoch_samples;    /* of the training split */
    vg_loader_stage stream_stages[VG_MAX_STAGES];
    vg_loader_set stream_sets[VG_MAX_DATA_SETS];
    vg_batch *batches; /* [2 * n_leaves], so that the next step is read while this one is computed */
    int first_leaf, n_leaves, n_all_leaves;
    vg_batch **taken;    /* [n_leaves] of the current step */
    vg_batch *ahead;     /* the first of the next step, once it is taken */
    vg_error taking;     /* how that went */
    vg_batch *staged;    /* which is on its way to the device, or there */
    int64_t next_wanted; /* step whose leaves are wanted next */

    /* the current stage */
    vg_stage_run *stage;
    vg_gradients *gradients;
    vg_rank_moments moments;
    vg_phrases train_phrases, eval_phrases;
    int32_t *key_counts; /* [m*P] */
    double *leaf_sums;   /* [n_leaves, N_SUMS] */

    /* where the run stands: saved in checkpoints */
    int64_t step, stage_index, stage_step, optimizer_steps, skipped;
    int64_t bad_samples; /* positions of the stream whose sample could not be read */
    bool evaluation_due; /* after this step, and not done yet */
    double accuracy;     /* after evaluated_step, where that is not 0 */
    int64_t evaluated_step;
    int64_t skipped_in_a_row;

    /* saves, which go on behind the steps */
    vg_checkpoint_writer *writer; /* of this stage */
    int64_t saving_step, failed_saves;
    char *newest; /* checkpoint of newest_step; NULL: there is none */
    int64_t newest_step;
    double save_stall_s; /* what the save under way has made the steps wait */
    bool all_ready;      /* all ranks are done with their part of it */
    bool save_due;       /* after this step, in rank 0's opinion */

    vg_trace trace;
    double saving_s; /* since when the save under way goes on behind the steps */

    /* the current step */
    vg_pace pace;
    int64_t busy_us;       /* what the last step's leaves took on this rank */
    int64_t *rank_counts;  /* [ranks, N_COUNTS] */
    int64_t *rank_phrases; /* [ranks] of those, for the record */
    int64_t filled, matched;
    float scales[8];
    double sums[N_SUMS];
    vg_update update; /* what the device made of it */

    /* since the last log line */
    double mark_s, mark_wait_s;
    double mark_exchange_s, mark_exposed_s; /* of gradients, on this rank */
    int64_t mark_step, mark_phrases;
    double start_s;
    int64_t start_step;
} vg_run;

static inline int64_t vg_run_total_steps(const vg_options *o)
{
    int64_t total = 0;
    for (int i = 0; i < o->n_stages; i++) total += o->schedule[i].steps;
    return total;
}

/* Opens tokenizer and both splits, with places for the batches of this rank's leaves; the parameters are declared.
 * Local. Errors: VG_E_CONFIG, VG_E_DATA, VG_E_NOMEM. */
vg_status vg_run_open_stream(vg_run *r);
void vg_run_close_stream(vg_run *r);

/* Has batches as the current stage takes them, of pixels or of features from r->images, and a loader that fills them
 * from this step on. One that fits goes on with what it has read ahead. Local. Errors: VG_E_NOMEM, VG_E_DATA. */
vg_status vg_run_open_loader(vg_run *r);
void vg_run_close_loader(vg_run *r);

/* Compiles stage r->stage_index and makes its reducer; gives both back. Collective. */
vg_status vg_run_enter_stage(vg_run *r);
void vg_run_leave_stage(vg_run *r);

/* Whether no later start of this run has taken its folder over. Local. */
vg_status vg_run_still_ours(const vg_run *r);

/* What this rank does from here on. Local. */
void vg_run_phase(vg_run *r, vg_phase phase);

/* One optimizer step, all ranks. VG_E_STOPPED, without a sentence: some rank was asked to stop, and the run stands
 * where it stood; what there was of the step is dropped. Collective. */
vg_status vg_run_step(vg_run *r);

/* The arithmetic of a step, on this rank's batches in r->taken; `st` says how taking them went. Collective. */
vg_status vg_run_batches(vg_run *r, vg_status st);

/* Asks the loader for the leaves of steps up to two ahead, of this stage where it takes stored features. Local. */
vg_status vg_run_want(vg_run *r);

/* Weights, and moments that lie beside them, as the last step left them, in the host's memory. Collective. */
vg_status vg_run_bring_home(vg_run *r);

/* Makes the writer of this stage's checkpoints. Collective. */
vg_status vg_run_open_saves(vg_run *r);

/* Whether run.checkpoint_overhead allows another save by now. Local; rank 0's word counts. */
bool vg_run_may_save(const vg_run *r);

/* Begins a save, once the one before is through; goes on with it where all ranks are ready; ends it. All tolerate
 * failures up to the configured number. Collective. */
vg_status vg_run_save(vg_run *r);
vg_status vg_run_go_on_saving(vg_run *r);
vg_status vg_run_finish_save(vg_run *r);

/* Where the checkpoint of this step is there already, its evaluation goes into it. Collective. */
vg_status vg_run_add_accuracy(vg_run *r);

/* What phrase and image features of a split are made from. Local. */
vg_feature_source vg_run_feature_source(vg_run *r, const vg_split *split);

/* Each rank keeps the average of its slices of the weights alone, until somebody wants all of it. Collective. */
vg_status vg_run_gather_average(vg_run *r);

/* Rank 0 tells what the run is and begins with; checkpoint NULL: afresh. Local. Errors: VG_E_NOMEM. */
vg_status vg_run_tell_start(const vg_run *r, const char *checkpoint);

/* Rank 0 tells of the step that ended, as often as run.log_every and run.hash_every say. Local. Errors: VG_E_CONFIG,
 * when the run is no longer ours. */
vg_status vg_run_tell(vg_run *r);

/* Times and rates that are told are of what comes from here on. Local. */
void vg_run_set_mark(vg_run *r);

/* Of all ranks. Local. */
double vg_run_step_flops(const vg_run *r);

/* Evaluates on data.eval_split and logs; the result goes into the checkpoint of this step, where there is one already,
 * or waits for it in r->accuracy. Collective. */
vg_status vg_run_evaluate(vg_run *r);

/* Finds a checkpoint in the run's folder and takes its state over; params must be declared. Collective. */
vg_status vg_run_resume(vg_run *r, bool allow_new_bits, char **checkpoint);

#endif
