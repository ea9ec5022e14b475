/* What a run tells of its steps: records in metrics.jsonl, lines in the log, hashes, and who is slow. */
#include "trainer/loop_impl.h"
#include "trainer/process.h"
#include "trainer/splits.h"
#include "trainer/weights_hash.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Images that other sets evaluate on, a line for each two sets. */
static void tell_leaks(const vg_run *r)
{
    const bool kept = strcmp(r->o->data_leaked, "keep") == 0;
    const int n = vg_split_leak_count(r->train_split);
    for (int i = 0; i < n; i++) {
        vg_split_leak leak;
        vg_split_leak_of(r->train_split, i, &leak);
        vg_metrics_say(r->metrics, "%lld images of %s in %s stand in %s of %s: %s", (long long)leak.n_images,
                       r->o->data_train_split, leak.set, leak.splits, leak.evaluated_in,
                       kept ? "trained on, as data.leaked=keep says" : "left out; data.leaked=keep trains on them");
    }
    if (n) vg_metrics_number(r->metrics, r->step, VG_METRIC_leaked_images, (double)vg_split_leaked(r->train_split));
}

/* Phrases whose ends neither training nor evaluation sees. */
static vg_status tell_cut_phrases(const vg_run *r)
{
    const vg_split *const splits[] = {r->train_split, r->eval_split};
    for (int k = 0; k < 2; k++) {
        int64_t n = 0;
        VG_TRY(vg_count_cut_phrases(r->o, splits[k], r->tokenizer, &n));
        if (n == 0) continue;
        vg_metrics_say(r->metrics,
                       "%lld of %lld phrases in %s have more than %d tokens (text.max_tokens): their ends are cut off",
                       (long long)n, (long long)vg_split_sentence_count(splits[k]), vg_split_name(splits[k]),
                       vg_model_batch_shape(r->o).text_tokens);
        if (splits[k] == r->train_split) vg_metrics_number(r->metrics, r->step, VG_METRIC_cut_phrases, (double)n);
    }
    return VG_OK;
}

/* A rank that finds no memory any more is ended by the kernel, without a word. */
static void tell_memory(const vg_run *r)
{
    if (vg_host_holds(r->host_need)) return;
    vg_metrics_say(r->metrics,
                   "warning: the ranks of %s need %.2f GB of memory, of %.2f GB that they may take; lower "
                   "train.micro_batch (now %lld), or start fewer of them there",
                   vg_comm_host(r->comm), r->host_need * 1e-9, vg_host_memory() * 1e-9,
                   (long long)r->o->train_micro_batch);
}

vg_status vg_run_tell_start(const vg_run *r, const char *checkpoint)
{
    if (!r->metrics) return VG_OK;
    vg_metrics_say(r->metrics, "%s\n%d ranks, %d threads each, %s; %lld sentences on %lld images in split '%s'",
                   r->configuration, vg_comm_size(r->comm), r->compute.stream.n_threads,
                   vg_compute_profile(&r->compute), (long long)vg_split_sentence_count(r->train_split),
                   (long long)vg_split_image_count(r->train_split), r->o->data_train_split);
    if (*r->o->data_without)
        vg_metrics_say(r->metrics, "%lld of %lld records that data.without lists are there, and left out",
                       (long long)vg_split_left_out(r->train_split), (long long)vg_split_listed(r->train_split));
    tell_leaks(r);
    VG_TRY(tell_cut_phrases(r));
    if (*r->compute.why_cpu) vg_metrics_say(r->metrics, "computing on the CPU: %s", r->compute.why_cpu);
    if (*r->compute.idle_cores) vg_metrics_say(r->metrics, "warning: %s", r->compute.idle_cores);
    tell_memory(r);
    if (r->compute.backend->device == &vg_host_device && strcmp(r->o->train_reduction, "fast") == 0)
        vg_metrics_say(r->metrics, "train.reduction concerns GPUs: on the CPU the sum is canonical");
    if (checkpoint) vg_metrics_say(r->metrics, "resumed from %s at step %lld", checkpoint, (long long)r->step);
    return VG_OK;
}

double vg_run_step_flops(const vg_run *r)
{
    return vg_program_cost(r->stage->train).flops * r->n_all_leaves;
}

static void fill_record(vg_run *r, vg_step_record *record)
{
    const vg_options *o = r->o;
    const double now = vg_now_s(), elapsed = fmax(now - r->mark_s, 1e-9);
    const double wait = r->loader ? vg_loader_wait_s(r->loader) - r->mark_wait_s : 0;
    const int64_t steps = r->step - r->mark_step, total = vg_run_total_steps(o);
    const double boxes = fmax(1, (double)r->matched), slots = fmax(1, (double)r->filled);
    for (int i = 0; i < vg_comm_size(r->comm); i++) r->rank_phrases[i] = r->rank_counts[N_COUNTS * i + COUNT_FILLED];
    *record = (vg_step_record){.step = r->step,
                               .steps = total,
                               .stage = r->stage->stage->name,
                               .loss_class = r->sums[SUM_CLASS] * (double)r->scales[0],
                               .loss_l1 = o->loss_l1 * r->sums[SUM_L1] / boxes,
                               .loss_giou = o->loss_giou * r->sums[SUM_GIOU] / boxes,
                               .loss_align = o->loss_align * r->sums[SUM_ALIGN] / slots,
                               .giou = r->matched ? 1 - r->sums[SUM_LAST_GIOU] / (double)r->matched : 0,
                               .grad_norm = r->update.norm,
                               .lr = r->stage->stage->lr * vg_stage_course(r->stage->stage, r->stage_step - 1),
                               .phrases = r->filled,
                               .rank_phrases = r->rank_phrases,
                               .n_ranks = vg_comm_size(r->comm),
                               .phrases_per_s = (double)r->mark_phrases / elapsed,
                               .gflops_per_s = vg_run_step_flops(r) * (double)steps / elapsed * 1e-9,
                               .step_ms = 1e3 * elapsed / fmax(1, (double)steps),
                               .wait_ms = 1e3 * wait / fmax(1, (double)steps),
                               .eta_s = (now - r->start_s) / fmax(1, (double)(r->step - r->start_step)) *
                                        (double)(total - r->step),
                               .skipped = r->skipped,
                               .bad_samples = r->bad_samples};
    record->loss = record->loss_class + record->loss_l1 + record->loss_giou + record->loss_align;
}

void vg_run_set_mark(vg_run *r)
{
    r->mark_s = vg_now_s();
    r->mark_wait_s = r->loader ? vg_loader_wait_s(r->loader) : 0;
    r->mark_exchange_s = r->mark_exposed_s = 0;
    r->mark_step = r->step;
    r->mark_phrases = 0;
}

static vg_status log_hash(vg_run *r)
{
    char text[24];
    VG_TRY(vg_params_fetch(r->params));
    snprintf(text, sizeof text, "%016" PRIx64, vg_weights_hash(r->params, ""));
    vg_metrics_text(r->metrics, r->step, "weights_hash", text);
    return VG_OK;
}

static void tell_slow_rank(vg_run *r)
{
    vg_slow_rank slow;
    if (!vg_pace_slowest(&r->pace, &slow)) return;
    vg_metrics_say(
        r->metrics,
        "warning: rank %d on %s takes %.1f ms for a micro-batch, the ranks' median is %.1f ms; all wait for it in "
        "every step: see what else runs there",
        slow.rank, slow.host, slow.ms, slow.usual_ms);
    vg_metrics_number(r->metrics, r->step, VG_METRIC_slow_rank, slow.rank);
}

/* What the exchange of gradients took a step, and what of that did not hide behind backward: where it is known. */
static void tell_exchange(vg_run *r)
{
    const double steps = (double)(r->step - r->mark_step);
    vg_exchange_times t;
    if (!vg_gradients_times(r->gradients, &t) || !t.n_buckets) return;
    vg_metrics_number(r->metrics, r->step, VG_METRIC_exchange_ms, 1e3 * r->mark_exchange_s / steps);
    vg_metrics_number(r->metrics, r->step, VG_METRIC_exposed_ms, 1e3 * r->mark_exposed_s / steps);
}

vg_status vg_run_tell(vg_run *r)
{
    const bool last = r->stage_step == r->stage->stage->steps;
    r->mark_phrases += r->filled;
    if (!r->metrics) return VG_OK;
    const bool logs = r->step % r->o->run_log_every == 0 || last;
    const bool hashes = last || (r->o->run_hash_every && r->step % r->o->run_hash_every == 0);
    if (logs || hashes) VG_TRY(vg_run_still_ours(r));
    vg_step_record record;
    fill_record(r, &record);
    vg_metrics_progress(r->metrics, &record);
    if (logs) {
        vg_metrics_step(r->metrics, &record);
        tell_exchange(r);
        tell_slow_rank(r);
        vg_run_set_mark(r);
    }
    return hashes ? log_hash(r) : VG_OK;
}
