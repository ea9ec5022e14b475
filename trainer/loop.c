#include "trainer/loop.h"

#include "trainer/forecast.h"
#include "trainer/loop_impl.h"
#include "trainer/process.h"
#include "trainer/trained.h"
#include "trainer/watch.h"
#include "trainer/weights_hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a stage ---- */

vg_feature_source vg_run_feature_source(vg_run *r, const vg_split *split)
{
    return (vg_feature_source){.comm = r->comm,
                               .options = r->o,
                               .params = r->params,
                               .compute = &r->compute,
                               .tokenizer = r->tokenizer,
                               .split = split,
                               .told = &r->told_stores};
}

vg_status vg_run_gather_average(vg_run *r)
{
    if (!r->params->at.average) return VG_OK;
    VG_TRY(vg_gradients_share(r->gradients, r->params->at.average, VG_PARAM_BLOCK));
    return vg_gradients_wait(r->gradients);
}

vg_status vg_run_bring_home(vg_run *r)
{
    VG_TRY(vg_comm_leave(r->comm, vg_run_gather_average(r)));
    return vg_comm_leave(r->comm, vg_params_fetch(r->params));
}

void vg_run_leave_stage(vg_run *r)
{
    vg_gradients_free(r->gradients); /* first: it gives up messages that releasing memory would wait for */
    vg_checkpoint_writer_close(r->writer);
    vg_rank_moments_release(&r->moments);
    vg_phrases_release(&r->train_phrases);
    vg_phrases_release(&r->eval_phrases);
    if (r->images) vg_run_close_loader(r);   /* it reads from the store */
    (void)vg_feature_store_close(r->images); /* which was only read */
    r->images = NULL;
    vg_stage_leave(r->stage);
    r->writer = NULL;
    r->gradients = NULL;
    r->stage = NULL;
}

/* The store of image features that the stage takes, where there is to be one. */
static vg_status open_images(vg_run *r)
{
    const vg_stage *wanted = &r->o->schedule[r->stage_index];
    const char *why = vg_stage_without_images(r->o, wanted, r->params);
    if (why) vg_log_root("stage '%s' computes image features in every step: %s", wanted->name, why);
    if (!vg_stage_wants_images(r->o, wanted, r->params)) return VG_OK;
    const vg_loader_stage *stage = &r->stream_stages[r->stage_index];
    vg_feature_source source = vg_run_feature_source(r, r->train_split);
    if (stage->views) source.views = stage;
    return vg_features_of_images(&source, &r->images);
}

static vg_status open_train_phrases(vg_run *r)
{
    if (!r->stage->text) return VG_OK;
    const vg_feature_source source = vg_run_feature_source(r, r->train_split);
    return vg_phrases_open(&r->train_phrases, &source, r->stage->stage->flip > 0, r->stage->text);
}

static vg_status compile_stage(vg_run *r)
{
    return vg_stage_enter(r->o, (int)r->stage_index, r->images != NULL, r->params, &r->compute, &r->stage);
}

/* Whether each rank keeps its share of the moments alone: where that saves something. */
static bool keeps_slices(const vg_run *r)
{
    return r->o->train_zero && vg_comm_size(r->comm) > 1;
}

static vg_status make_gradients(vg_run *r)
{
    const vg_gradients_plan plan = vg_gradients_plan_of(r->o, r->params->n_trainable, keeps_slices(r));
    VG_TRY(vg_gradients_new(r->comm, &r->compute, &plan, &r->gradients));
    vg_status st = vg_gradients_follow(r->gradients, r->stage->train);
    for (int k = 0; k < r->stage->n_smaller && st == VG_OK; k++)
        st = vg_gradients_follow(r->gradients, r->stage->smaller[k].train);
    if (st == VG_OK) st = vg_rank_moments_open(r->params, r->gradients, &r->compute, &r->moments);
    return vg_comm_agree(r->comm, st);
}

vg_status vg_run_enter_stage(vg_run *r)
{
    vg_run_phase(r, VG_PHASE_start);
    vg_peak_memory_reset();
    r->params->moments_elsewhere = keeps_slices(r);
    VG_TRY(open_images(r));
    VG_TRY(vg_comm_agree(r->comm, compile_stage(r)));
    VG_TRY(open_train_phrases(r));
    VG_TRY(make_gradients(r));
    VG_TRY(vg_run_open_saves(r));
    vg_metrics_say(r->metrics,
                   "stage '%s': %lld steps, %.3f M of %.3f M parameters train, %.2f GFLOP a step, arena %.1f MB",
                   r->stage->stage->name, (long long)r->stage->stage->steps, (double)r->params->n_trainable * 1e-6,
                   (double)(r->params->n_trainable + r->params->n_frozen) * 1e-6, vg_run_step_flops(r) * 1e-9,
                   (double)r->stage->arena.size_bytes * 1e-6);
    return VG_OK;
}

/* The evaluation that a step made due, now or in the run that goes on from here. Collective. */
static vg_status evaluate_where_due(vg_run *r)
{
    if (!r->evaluation_due) return VG_OK;
    VG_TRY(vg_run_evaluate(r));
    r->evaluation_due = false;
    vg_run_set_mark(r);
    return VG_OK;
}

/* What a run leaves behind is where it stands, or it does not end well. */
static vg_status check_saved(const vg_run *r, const char *end)
{
    VG_CHECK(!r->failed_saves, VG_E_STORAGE,
             "%s at step %lld, but its checkpoint could not be saved; the same command goes on from an older one", end,
             (long long)r->step);
    return VG_OK;
}

static vg_status stopped(const vg_run *r)
{
    VG_CHECK(r->step, VG_E_STOPPED, "stopped on request within the first step; the same command begins anew");
    VG_TRY(check_saved(r, "stopped on request"));
    return vg_fail(VG_E_STOPPED, "stopped at step %lld on request; the same command goes on from its checkpoint",
                   (long long)r->step);
}

/* Between two steps. */
static vg_status stop_here(vg_run *r)
{
    VG_TRY(vg_run_finish_save(r));
    const bool saved = r->newest && r->newest_step == r->step;
    if (r->step && !saved) {
        VG_TRY(vg_run_save(r));
        VG_TRY(vg_run_finish_save(r));
    }
    return stopped(r);
}

static vg_status after_step(vg_run *r)
{
    const vg_options *o = r->o;
    const bool last = r->stage_step == r->stage->stage->steps;
    VG_TRY(vg_comm_leave(r->comm, vg_run_tell(r)));
    r->evaluation_due = o->run_eval_every && r->step % o->run_eval_every == 0 && r->step < vg_run_total_steps(o);
    const vg_status st = evaluate_where_due(r);
    if (st != VG_OK && st != VG_E_STOPPED) return st;
    VG_TRY(vg_run_go_on_saving(r));
    const bool regular = o->run_checkpoint_every && r->step % o->run_checkpoint_every == 0;
    if (last || st == VG_E_STOPPED || regular || r->save_due) VG_TRY(vg_run_save(r));
    if (last || st == VG_E_STOPPED) {
        VG_TRY(vg_run_finish_save(r));
        vg_run_set_mark(r);
    }
    return st == VG_E_STOPPED ? stopped(r) : VG_OK;
}

static vg_status write_trace(vg_run *r)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/trace.json", r->o->run_folder);
    const vg_status st = vg_trace_write(&r->trace, r->comm, path);
    if (st == VG_OK) vg_metrics_say(r->metrics, "%s has the first steps of every rank", path);
    if (st != VG_E_STORAGE) return st;
    vg_metrics_say(r->metrics, "warning: there is no trace: %s", vg_error_text());
    return VG_OK;
}

static vg_status train_step(vg_run *r)
{
    const vg_status st = vg_run_step(r);
    if (st == VG_E_STOPPED) return stop_here(r);
    VG_TRY(st);
    VG_TRY(after_step(r));
    return vg_trace_full(&r->trace, r->step - r->start_step) ? write_trace(r) : VG_OK;
}

/* Where a run ends on all ranks alike, the save that goes on behind the steps comes to its end, too. */
static vg_status train_stage(vg_run *r)
{
    vg_status st = VG_OK;
    while (st == VG_OK && r->stage_step < r->stage->stage->steps) st = train_step(r);
    if (st != VG_OK && !vg_comm_broken(r->comm)) VG_KEEP(st, vg_run_finish_save(r));
    return st;
}

/* ---- the schedule ---- */

/* Whether the last stage that the command is to train lies behind. */
static bool until_reached(const vg_run *r)
{
    const vg_options *o = r->o;
    int64_t until = o->n_stages - 1;
    for (int i = 0; i < o->n_stages; i++)
        if (*o->run_until && strcmp(o->schedule[i].name, o->run_until) == 0) until = i;
    return r->stage_index > until;
}

/* Nothing is left to do where the last step is evaluated, too. */
static bool is_finished(const vg_run *r)
{
    return r->step == vg_run_total_steps(r->o) && r->evaluated_step == r->step;
}

static vg_status train_schedule(vg_run *r, const char *checkpoint)
{
    if (is_finished(r)) {
        vg_metrics_say(r->metrics,
                       "the run is finished: step %lld is its last, acc@0.5 %.4f; `vlgtr eval` evaluates again",
                       (long long)r->step, r->accuracy);
        return VG_OK;
    }
    const bool at_end = checkpoint && r->stage_step == r->o->schedule[r->stage_index].steps;
    if (at_end && !r->evaluation_due && r->stage_index + 1 < r->o->n_stages) {
        r->stage_index++; /* saved at the end of a stage, with nothing left to do there: the next one starts afresh */
        r->stage_step = r->optimizer_steps = 0;
        checkpoint = NULL;
    }
    while (!until_reached(r)) {
        VG_TRY(vg_run_enter_stage(r));
        VG_TRY(vg_comm_agree(r->comm, vg_run_open_loader(r)));
        vg_run_set_mark(r);
        if (checkpoint) VG_TRY(vg_comm_agree(r->comm, vg_rank_moments_load(&r->moments, checkpoint)));
        checkpoint = NULL;
        VG_TRY(vg_comm_agree(r->comm, vg_stop_check()));
        VG_TRY(evaluate_where_due(r));
        VG_TRY(train_stage(r));
        vg_metrics_number(r->metrics, r->step, VG_METRIC_peak_bytes, (double)vg_peak_memory());
        if (r->stage_index + 1 == r->o->n_stages) {
            VG_TRY(vg_run_evaluate(r));
            return check_saved(r, "trained to the end");
        }
        VG_TRY(vg_run_bring_home(r));
        vg_run_leave_stage(r);
        r->stage_index++;
        r->stage_step = r->optimizer_steps = 0;
    }
    vg_metrics_say(r->metrics, "step %lld ends stage '%s', as run.until asked", (long long)r->step, r->o->run_until);
    return check_saved(r, "ended");
}

/* ---- opening a run ---- */

/* What a step writes on the host. */
static vg_status make_room(vg_run *r)
{
    const vg_batch_shape shape = vg_model_batch_shape(r->o);
    r->leaf_sums = vg_new0_array((size_t)(r->n_leaves + 1) * N_SUMS, sizeof *r->leaf_sums);
    r->key_counts = vg_new0_array((size_t)shape.images * (size_t)shape.phrases, sizeof *r->key_counts);
    r->rank_counts = vg_new0_array((size_t)vg_comm_size(r->comm) * N_COUNTS, sizeof *r->rank_counts);
    r->rank_phrases = vg_new0_array((size_t)vg_comm_size(r->comm), sizeof *r->rank_phrases);
    VG_CHECK(r->leaf_sums && r->key_counts && r->rank_counts && r->rank_phrases, VG_E_NOMEM,
             "no memory for the counts of a step");
    return vg_pace_init(&r->pace, vg_comm_size(r->comm));
}

static vg_status check_batches(vg_run *r)
{
    const vg_options *o = r->o;
    const int64_t leaves = o->train_global_batch / o->train_micro_batch;
    VG_CHECK(o->n_stages > 0, VG_E_CONFIG, "the schedule has no stage; add `schedule:` with at least one");
    VG_CHECK(vg_comm_size(r->comm) <= leaves, VG_E_CONFIG,
             "%d ranks, but a step has %lld micro-batches (train.global_batch / train.micro_batch); start at most %lld "
             "ranks",
             vg_comm_size(r->comm), (long long)leaves, (long long)leaves);
    r->n_all_leaves = (int)leaves;
    vg_leaves_of(r->n_all_leaves, vg_comm_size(r->comm), vg_comm_rank(r->comm), &r->first_leaf, &r->n_leaves);
    return VG_OK;
}

static vg_status open_run(vg_run *r)
{
    vg_text yaml = {0};
    VG_TRY(check_batches(r));
    VG_TRY(vg_options_hash(r->o, &r->configuration_hash));
    VG_TRY(vg_options_print(r->o, &yaml));
    r->configuration = yaml.data;
    VG_TRY(vg_params_new(&r->params));
    r->params->keep_average = r->o->train_average_decay > 0;
    VG_TRY(vg_model_declare(r->o, r->params));
    VG_TRY(vg_run_open_stream(r));
    return make_room(r);
}

/* Files of rank 0: the resolved configuration, metrics and log. */
static vg_status open_files(vg_run *r)
{
    char path[4096];
    if (vg_comm_rank(r->comm) != 0) return VG_OK;
    VG_TRY(vg_make_directories(r->o->run_folder));
    snprintf(path, sizeof path, "%s/config.yaml", r->o->run_folder);
    VG_TRY(vg_file_write_atomic(path, r->configuration, strlen(r->configuration)));
    return vg_metrics_open(r->o->run_folder, r->step, &r->metrics);
}

/* Rank 0 names hosts. Collective. */
static vg_status hear_hosts(vg_run *r)
{
    char host[sizeof *r->pace.hosts] = {0};
    snprintf(host, sizeof host, "%s", vg_comm_host(r->comm));
    return vg_comm_gather(r->comm, host, sizeof host, r->pace.hosts);
}

/* What a tower without its weights shows the heads means nothing, however long they learn from it. */
static void tell_random_towers(const vg_options *o)
{
    const char *const names[] = {"vision", "text"}, *const weights[] = {o->vision_weights, o->text_weights};
    for (int k = 0; k < 2; k++)
        if (!*weights[k] && !o->train_allow_from_scratch)
            vg_log_root("warning: %s.weights is not set, so the %s tower has random weights, and keeps them while "
                        "it is frozen; train.allow_from_scratch: true if that is meant",
                        names[k], names[k]);
}

/* Weights of a new run. Collective. */
static vg_status start_afresh(vg_run *r)
{
    char *path = NULL;
    if (!*r->o->model_weights) {
        tell_random_towers(r->o);
        return vg_comm_agree(r->comm, vg_model_init(r->o, r->params));
    }
    vg_status st = vg_trained_choose(r->comm, r->o->model_weights, &path);
    if (st == VG_OK) st = vg_comm_agree(r->comm, vg_trained_weights(path, r->params));
    free(path);
    return st == VG_OK ? VG_OK : vg_fail_at(st, "model.weights");
}

static vg_status same_data(const vg_run *r)
{
    const uint64_t hashes[] = {vg_split_hash(r->train_split), vg_split_hash(r->eval_split)};
    VG_TRY(vg_comm_same(r->comm, &hashes[0], sizeof hashes[0], "the data of data.train_split"));
    return vg_comm_same(r->comm, &hashes[1], sizeof hashes[1], "the data of data.eval_split");
}

/* What each rank reads for itself may lie on a disk of its host. */
static vg_status same_model(const vg_run *r)
{
    if (vg_comm_size(r->comm) == 1) return VG_OK;
    const uint64_t hashes[] = {vg_tokenizer_hash(r->tokenizer), vg_weights_hash(r->params, "")};
    VG_TRY(vg_comm_same(r->comm, &hashes[0], sizeof hashes[0], "the content of text.tokenizer"));
    return vg_comm_same(r->comm, &hashes[1], sizeof hashes[1], "the content of its weights");
}

static vg_status train(vg_run *r, bool allow_new_bits, char **checkpoint)
{
    VG_TRY(vg_same_program(r->comm));
    VG_TRY(vg_watch_ranks(r->comm, r->o)); /* before files are opened, whose server may hang */
    VG_TRY(vg_comm_agree(r->comm, open_run(r)));
    /* all of it: what shapes no bits still says when ranks meet */
    VG_TRY(vg_comm_same(r->comm, r->configuration, strlen(r->configuration), "the configuration"));
    VG_TRY(hear_hosts(r));
    const vg_compute_spec spec = {r->o->train_device, r->o->train_check, r->o->train_threads, vg_options_bf16(r->o)};
    VG_TRY(vg_compute_open(r->comm, &spec, &r->compute));
    VG_TRY(same_data(r));
    VG_TRY(vg_comm_agree(r->comm, vg_forecast_fits(r->o, r->comm, &r->compute, &r->host_need)));
    VG_TRY(vg_comm_agree(r->comm, vg_params_layout(r->params, NULL, 0)));
    const char *profile = vg_compute_profile(&r->compute);
    VG_TRY(vg_comm_same(r->comm, profile, strlen(profile), "the numerics profile"));
    VG_TRY(vg_run_resume(r, allow_new_bits, checkpoint));
    if (!*checkpoint) VG_TRY(start_afresh(r));
    VG_TRY(same_model(r));
    VG_TRY(vg_comm_agree(r->comm, vg_stop_check()));
    VG_TRY(vg_comm_agree(r->comm, open_files(r)));
    VG_TRY(vg_comm_agree(r->comm, vg_run_tell_start(r, *checkpoint)));
    r->start_step = r->step;
    VG_TRY(vg_trace_open(&r->trace, r->comm, r->o->run_trace_steps));
    r->start_s = vg_now_s();
    vg_status st = train_schedule(r, *checkpoint);
    if (r->trace.steps && (st == VG_OK || st == VG_E_STOPPED)) VG_KEEP(st, write_trace(r)); /* it was a shorter run */
    return st;
}

static void close_run(vg_run *r)
{
    vg_run_leave_stage(r);
    vg_run_close_stream(r);
    free(r->leaf_sums);
    free(r->key_counts);
    free(r->rank_counts);
    free(r->rank_phrases);
    vg_pace_release(&r->pace);
    vg_trace_release(&r->trace);
    free(r->configuration);
    free(r->told_stores.data);
    free(r->newest);
    vg_params_free(r->params);
    vg_compute_close(&r->compute);
    vg_metrics_close(r->metrics);
}

vg_status vg_train(vg_comm *comm, const vg_options *options, bool allow_new_bits, const vg_injections *faults)
{
    vg_run r = {.comm = comm, .o = options, .faults = faults};
    char *checkpoint = NULL;
    const vg_status st = train(&r, allow_new_bits, &checkpoint);
    const vg_error ended = vg_error_of(st); /* what closing cannot write any more is no reason */
    if (st != VG_OK) vg_metrics_note(r.metrics, vg_error_text());
    if (st == VG_E_CONFIG) vg_metrics_disown(r.metrics); /* once it trains, a run ends so when it is taken over */
    close_run(&r);
    free(checkpoint);
    return vg_error_raise(&ended);
}
