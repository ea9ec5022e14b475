/* One optimizer step: the leaves of this rank, the canonical sum, the clipped AdamW pass. Every rank does the same
 * arithmetic on the same total, so weights never differ between ranks. Source: vl-gtr-model 4.3. */
#include "trainer/loop_impl.h"
#include "trainer/update.h"

#include <math.h>
#include <signal.h>
#include <string.h>
#include <time.h>

static int slots_of(const vg_batch *b)
{
    return b->shape.images * b->shape.phrases;
}

/* ---- data ---- */

vg_status vg_run_want(vg_run *r)
{
    const int64_t stage_end = r->step - r->stage_step + r->stage->stage->steps;
    int64_t end = r->step + 2;
    if (r->images && end > stage_end) end = stage_end; /* the store's rows are those of this stage alone */
    for (; r->next_wanted < end; r->next_wanted++)
        for (int i = 0; i < r->n_leaves; i++) {
            const int64_t leaf = r->first_leaf + i;
            VG_TRY(
                vg_loader_want(r->loader, r->next_wanted * r->o->train_global_batch + leaf * r->o->train_micro_batch));
        }
    return VG_OK;
}

static vg_status take_leaves(vg_run *r)
{
    const int n_ahead = r->ahead != NULL;
    VG_TRY(vg_error_raise(&r->taking));
    if (n_ahead) r->taken[0] = r->ahead;
    r->ahead = NULL;
    for (int i = n_ahead; i < r->n_leaves; i++) VG_TRY(vg_loader_take(r->loader, &r->taken[i]));
    return VG_OK;
}

static void give_leaves_back(vg_run *r)
{
    for (int i = 0; i < r->n_leaves; i++) vg_loader_give_back(r->loader, r->taken[i]);
}

static void count_leaves(const vg_run *r, int64_t counts[N_COUNTS])
{
    for (int i = 0; i < r->n_leaves; i++) {
        const vg_batch *b = r->taken[i];
        for (int k = 0; k < b->shape.images; k++) counts[COUNT_BAD] += b->replaced[k];
        for (int s = 0; s < slots_of(b); s++) {
            if (!b->filled[s]) continue;
            counts[COUNT_FILLED]++;
            counts[COUNT_MATCHED] += b->n_targets[s] < r->o->fusion_queries ? b->n_targets[s] : r->o->fusion_queries;
        }
    }
}

/* What the step before cost each rank. */
static void add_pace(vg_run *r)
{
    for (int rank = 0; rank < vg_comm_size(r->comm); rank++) {
        int first, n;
        vg_leaves_of(r->n_all_leaves, vg_comm_size(r->comm), rank, &first, &n);
        vg_pace_add(&r->pace, rank, r->rank_counts[rank * N_COUNTS + COUNT_BUSY_US], n);
    }
}

/* A share of data.max_bad of each epoch that has begun may be bad. Positions decide and not what was met where, so this
 * ends at the same step whatever the ranks and interruptions, on all ranks. */
static vg_status judge_bad_samples(const vg_run *r)
{
    if (r->bad_samples == 0) return VG_OK;
    const int64_t last = (r->step + 1) * r->o->train_global_batch - 1, epochs = last / r->epoch_samples + 1;
    VG_CHECK(
        (double)r->bad_samples / ((double)epochs * (double)r->epoch_samples) <= r->o->data_max_bad, VG_E_DATA,
        "step %lld: %lld samples cannot be read in %lld epoch%s of %lld, more than data.max_bad allows, %g of them; "
        "see the lines above, mend the shards or raise it",
        (long long)r->step, (long long)r->bad_samples, (long long)epochs, epochs == 1 ? "" : "s",
        (long long)r->epoch_samples, r->o->data_max_bad);
    return VG_OK;
}

/* The step's counts over all ranks: the first of its two small messages. `st`: how taking this rank's leaves went. */
static vg_status count_step(vg_run *r, vg_status st)
{
    int64_t mine[N_COUNTS] = {[COUNT_STOP] = vg_stop_signal() != 0,
                              [COUNT_FAILED] = st != VG_OK,
                              [COUNT_READY] = vg_checkpoint_ready(r->writer),
                              [COUNT_SAVE] = vg_comm_rank(r->comm) == 0 && vg_run_may_save(r),
                              [COUNT_BUSY_US] = r->busy_us};
    if (st == VG_OK) count_leaves(r, mine);
    VG_TRY(vg_comm_allgather(r->comm, mine, sizeof mine, r->rank_counts));
    int64_t total[N_COUNTS] = {0};
    for (int rank = 0; rank < vg_comm_size(r->comm); rank++)
        for (int i = 0; i < N_COUNTS; i++) total[i] += r->rank_counts[rank * N_COUNTS + i];
    if (total[COUNT_FAILED]) return vg_comm_agree(r->comm, st);
    if (total[COUNT_STOP]) return VG_E_STOPPED;
    add_pace(r);
    r->filled = total[COUNT_FILLED];
    r->matched = total[COUNT_MATCHED];
    r->bad_samples += total[COUNT_BAD];
    r->save_due = total[COUNT_SAVE] > 0;
    r->all_ready = total[COUNT_READY] == vg_comm_size(r->comm);
    return judge_bad_samples(r);
}

/* Factors of the gradients, formed once per step: nothing else divides. */
static void form_scales(vg_run *r)
{
    const vg_options *o = r->o;
    const double slots = (double)r->filled, matched = (double)r->matched;
    const float boxes = (float)fmax(1, matched);
    const float classes = (float)(matched + o->loss_no_object * (slots * (double)o->fusion_queries - matched));
    memset(r->scales, 0, sizeof r->scales);
    r->scales[0] = classes > 0 ? 1 / classes : 0;
    r->scales[1] = classes > 0 ? (float)o->loss_no_object / classes : 0;
    r->scales[2] = (float)o->loss_l1 / boxes;
    r->scales[3] = (float)o->loss_giou / boxes;
    r->scales[4] = r->filled ? (float)(o->loss_align / slots) : 0;
}

/* ---- one leaf ---- */

static bool is_empty(const vg_batch *b)
{
    for (int s = 0; s < slots_of(b); s++)
        if (b->filled[s]) return false;
    return true;
}

/* Adds a leaf's numerators in slot order and names what is not finite. */
static void add_losses(vg_run *r, vg_program *program, const vg_batch *b, double *sums)
{
    vg_shape shape;
    const double *parts = vg_program_output(program, "parts", &shape);
    const double *align = vg_program_output(program, "align_parts", NULL);
    const int32_t *bad = vg_program_output(program, "bad", NULL);
    const int64_t layers = shape.dim[1];
    for (int s = 0; s < slots_of(b); s++) {
        if (!b->filled[s]) continue;
        for (int64_t l = 0; l < layers; l++) {
            const double *p = parts + (s * layers + l) * 3;
            sums[SUM_CLASS] += p[0];
            sums[SUM_L1] += p[1];
            sums[SUM_GIOU] += p[2];
            if (l == layers - 1) sums[SUM_LAST_GIOU] += p[2];
        }
        if (align) sums[SUM_ALIGN] += align[s];
        if (!bad[s]) continue;
        sums[SUM_BAD] += 1;
        vg_sentence sentence;
        vg_split_sentence(r->train_split, b->sentences[s], &sentence);
        vg_log_rank("step %lld: matching cost of sentence %lld ('%s') is not finite in decoder layer %d",
                    (long long)r->step, (long long)sentence.sentence_id, sentence.text, bad[s] - 1);
    }
}

/* Binds a batch, and lets a device bring it in while it computes what came before. */
static vg_status stage_leaf(vg_run *r, vg_batch *b)
{
    vg_program *program = vg_stage_program(r->stage, b->shape.side);
    if (is_empty(b) || r->staged == b) return VG_OK;
    if (r->stage->text) {
        const float *features = NULL;
        VG_TRY(vg_phrases_of(&r->train_phrases, b, &features));
        VG_TRY(vg_program_bind(program, "text_features", features));
    }
    VG_TRY(vg_model_bind(r->o, program, b, r->key_counts));
    r->staged = b;
    return vg_program_stage(program);
}

/* Whether batches can be brought in ahead: on the host they are read where they are. */
static bool stages_ahead(const vg_run *r)
{
    return r->compute.backend->device != &vg_host_device;
}

/* The stage's next step finds its first batch on the device, unless that is for another program, whose inputs lie where
 * this one computes. How taking it went is the next step's to say. */
static vg_status stage_next_step(vg_run *r, int64_t side)
{
    if (!r->loader || r->stage_step + 1 == r->stage->stage->steps) return VG_OK;
    r->taking = vg_error_of(vg_loader_take(r->loader, &r->ahead));
    return r->taking.status == VG_OK && r->ahead->shape.side == side ? stage_leaf(r, r->ahead) : VG_OK;
}

/* A leaf that nobody computes. */
static vg_status leave_out(vg_run *r)
{
    vg_gradients_leaf(r->gradients);
    return vg_gradients_push(r->gradients, true);
}

/* Meanwhile the next batch comes in: the step's own, or that of the next one. */
static vg_status run_leaf(vg_run *r, vg_batch *b, vg_batch *next, double *sums)
{
    vg_program *program = vg_stage_program(r->stage, b->shape.side);
    if (is_empty(b)) return leave_out(r);
    VG_TRY(stage_leaf(r, b));
    VG_TRY(vg_program_bind(program, "scales", r->scales));
    vg_program_bind_gradients(program, vg_gradients_leaf(r->gradients));
    VG_TRY(vg_program_run(program));
    r->staged = NULL;
    if (stages_ahead(r)) VG_TRY(next ? stage_leaf(r, next) : stage_next_step(r, b->shape.side));
    VG_TRY(vg_program_wait(program));
    add_losses(r, program, b, sums);
    return vg_gradients_push(r->gradients, false);
}

static bool injected(const vg_run *r, vg_fault fault)
{
    return vg_injected(r->faults, fault, vg_comm_rank(r->comm), r->step + 1);
}

static void slow_down(double seconds)
{
    const struct timespec pause = {.tv_sec = (time_t)seconds, .tv_nsec = (long)(fmod(seconds, 1) * 1e9)};
    nanosleep(&pause, NULL);
}

/* What the run has waited for its loader so far. */
static double waited_s(const vg_run *r)
{
    return r->loader ? vg_loader_wait_s(r->loader) : 0;
}

/* Whether what is left of the step is left out, and with it the step: on a host it may take many minutes. A device is
 * soon done with it, and others wait there for its gradients. */
static bool is_asked_to_stop(const vg_run *r)
{
    return vg_stop_signal() && !stages_ahead(r);
}

/* Whoever leaves the rest of a step out is early: others, who were not asked, may have all of it before them. */
static double dropped_deadline_s(const vg_options *o)
{
    return o->watch_compute > 0 ? o->train_deadline + o->watch_compute : 0;
}

/* What lies there of a leaf that was left out, or not ended, is pushed in its place: with it the total is worth
 * nothing. */
static vg_status run_or_leave_out(vg_run *r, int i)
{
    double *sums = r->leaf_sums + (size_t)i * N_SUMS;
    vg_batch *next = i + 1 < r->n_leaves ? r->taken[i + 1] : NULL;
    if (!next && injected(r, VG_FAULT_ask)) raise(SIGUSR1);
    const vg_status st = is_asked_to_stop(r) ? VG_E_STOPPED : run_leaf(r, r->taken[i], next, sums);
    if (st != VG_E_STOPPED) return st;
    vg_comm_set_deadline(r->comm, dropped_deadline_s(r->o));
    sums[SUM_LEFT_OUT] = 1;
    return vg_gradients_push(r->gradients, false);
}

static vg_status run_leaves(vg_run *r)
{
    const double start_s = vg_now_s() - waited_s(r);
    memset(r->leaf_sums, 0, (size_t)r->n_leaves * N_SUMS * sizeof *r->leaf_sums);
    for (int i = 0; i < r->n_leaves; i++) VG_TRY(run_or_leave_out(r, i));
    if (injected(r, VG_FAULT_lag)) slow_down(0.1);
    if (injected(r, VG_FAULT_slow)) slow_down(4 * (vg_now_s() - waited_s(r) - start_s));
    r->busy_us = (int64_t)(1e6 * (vg_now_s() - waited_s(r) - start_s));
    return VG_OK;
}

/* ---- the update ---- */

static void note_gather(void *context, double start_s, double end_s)
{
    vg_run *r = context;
    vg_trace_add(&r->trace, VG_LANE_BUCKETS, "gather", start_s, end_s);
    r->mark_exchange_s += end_s - start_s;
    r->mark_exposed_s += end_s - start_s;
}

/* A loss that is not finite and a step without samples change nothing, nor does a norm that is not finite. */
static vg_status update_weights(vg_run *r, const float *total)
{
    const vg_updater updater = {.options = r->o,
                                .stage = r->stage,
                                .params = r->params,
                                .gradients = r->gradients,
                                .moments = &r->moments,
                                .gathered = note_gather,
                                .context = r};
    r->update = (vg_update){.course = (float)vg_stage_course(r->stage->stage, r->stage_step),
                            .skip = r->sums[SUM_BAD] > 0 || !r->filled,
                            .steps = r->optimizer_steps};
    return vg_update_weights(&updater, total, &r->update);
}

static vg_status skip_step(vg_run *r)
{
    r->skipped++;
    r->skipped_in_a_row++;
    vg_metrics_say(r->metrics,
                   "warning: step %lld: a loss or gradient is not finite (gradient norm %g); the step is skipped",
                   (long long)r->step, r->update.norm);
    VG_CHECK(
        r->skipped_in_a_row < r->o->train_max_skips, VG_E_NUMERICS,
        "step %lld: %lld steps in a row are not finite; lower the learning rate or look at the samples logged above",
        (long long)r->step, (long long)r->skipped_in_a_row);
    return VG_OK;
}

static vg_status judge_step(vg_run *r)
{
    r->optimizer_steps = r->update.steps;
    if (r->filled && r->update.skip) return skip_step(r);
    if (r->filled) r->skipped_in_a_row = 0;
    return VG_OK;
}

/* Of the exchange of gradients: when backward and the buckets went on; what it took, and what of that the step waited
 * for. */
static void note_exchange(vg_run *r)
{
    vg_exchange_times t;
    if (!vg_gradients_times(r->gradients, &t)) return;
    if (r->n_leaves) vg_trace_add(&r->trace, VG_LANE_BACKWARD, "backward", t.backward_start_s, t.backward_end_s);
    for (int b = 0; b < t.n_buckets; b++) {
        double start_s, end_s;
        vg_gradients_bucket_times(r->gradients, b, &start_s, &end_s);
        vg_trace_add(&r->trace, VG_LANE_BUCKETS, "bucket", start_s, end_s);
        r->mark_exchange_s += end_s - start_s;
    }
    r->mark_exposed_s += t.settle_end_s - t.settle_start_s;
}

/* The rest of the gradients' exchange; then the second message: loss sums, non-finite and failed leaves, and those left
 * out, with which the total is worth nothing. */
static vg_status reduce(vg_run *r, vg_status st, const float **total)
{
    VG_TRY(vg_comm_leave(r->comm, vg_gradients_settle(r->gradients)));
    note_exchange(r);
    if (st != VG_OK && r->n_leaves) r->leaf_sums[SUM_FAILED] = 1;
    VG_TRY(vg_tree_sum_f64(r->comm, r->n_all_leaves, r->leaf_sums, N_SUMS, r->sums));
    if (r->sums[SUM_FAILED] > 0) return vg_comm_agree(r->comm, st);
    VG_TRY(vg_comm_leave(r->comm, vg_gradients_finish(r->gradients, total)));
    return r->sums[SUM_LEFT_OUT] > 0 ? VG_E_STOPPED : VG_OK;
}

/* The arithmetic up to where the step either is one or never was. */
static vg_status sum_step(vg_run *r, vg_status st, const float **total)
{
    vg_run_phase(r, VG_PHASE_exchange);
    VG_TRY(count_step(r, st));
    form_scales(r);
    if (injected(r, VG_FAULT_nan)) r->scales[0] = NAN;
    vg_run_phase(r, VG_PHASE_compute);
    const vg_status ran = run_leaves(r);
    vg_run_phase(r, VG_PHASE_exchange);
    return reduce(r, ran, total);
}

vg_status vg_run_batches(vg_run *r, vg_status st)
{
    const float *total = NULL;
    const int64_t bad_samples = r->bad_samples;
    st = sum_step(r, st, &total);
    if (st == VG_E_STOPPED) r->bad_samples = bad_samples;
    VG_TRY(st);
    vg_trace_phase(&r->trace, VG_PHASE_compute, "update");
    VG_TRY(vg_comm_leave(r->comm, update_weights(r, total))); /* the others may wait for this rank's device */
    VG_TRY(judge_step(r));
    if (injected(r, VG_FAULT_late)) raise(SIGUSR1);
    r->step++;
    r->stage_step++;
    return VG_OK;
}

vg_status vg_run_step(vg_run *r)
{
    vg_run_phase(r, VG_PHASE_data);
    vg_inject(r->faults, vg_comm_rank(r->comm), r->step + 1);
    const vg_status taken = take_leaves(r);
    vg_comm_set_deadline(r->comm, r->o->train_deadline);
    const vg_status st = vg_run_batches(r, taken);
    vg_comm_set_deadline(r->comm, 0); /* also where the run ends here: it waits for its last save */
    VG_TRY(st);
    give_leaves_back(r);
    return vg_run_want(r);
}
