/* Saving a run and taking it up again. */
#include "trainer/loop_impl.h"
#include "trainer/trained.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <xxhash.h>

/* Numbers in a manifest: the run stopped before the evaluation of this step; positions whose sample was bad; images
 * that another set evaluates on, left out or not; hashes of what the bits follow from and the configuration only names.
 */
#define EVALUATION_DUE "evaluation_due"
#define BAD_SAMPLES    "bad_samples"
#define LEAKED_IMAGES  "leaked_images"
#define DATA           "train_data"
enum { MOST_NUMBERS = 5 };

static void checkpoints_folder(const vg_run *r, char path[4096])
{
    snprintf(path, 4096, "%s/checkpoints", r->o->run_folder);
}

vg_status vg_run_open_saves(vg_run *r)
{
    char folder[4096];
    checkpoints_folder(r, folder);
    const vg_checkpoint_retention keep = {.last = (int)r->o->run_checkpoint_keep,
                                          .every = r->o->run_checkpoint_keep_every,
                                          .best = r->o->run_checkpoint_keep_best};
    return vg_checkpoint_writer_open(r->comm, folder, r->params, &keep, r->compute.stream.n_threads, &r->writer);
}

/* What came of a save, in whichever part of it: a failed one is not the end yet. */
static vg_status judge_save(vg_run *r, vg_status st)
{
    if (st != VG_E_STORAGE) return st;
    r->failed_saves++;
    vg_metrics_say(r->metrics,
                   "warning: the checkpoint of step %lld is not saved: %s; older ones are intact, training goes on",
                   (long long)r->saving_step, vg_error_text());
    return r->failed_saves >= r->o->run_max_failed_saves
               ? vg_fail_at(st, "%lld saves in a row failed", (long long)r->failed_saves)
               : VG_OK;
}

/* Takes the path. */
static void set_newest(vg_run *r, char *path, int64_t step)
{
    free(r->newest);
    r->newest = path;
    r->newest_step = step;
}

static void say_saved(vg_run *r, const char *path)
{
    r->failed_saves = 0;
    vg_metrics_say(r->metrics, "checkpoint %s", path);
    vg_metrics_number(r->metrics, r->saving_step, VG_METRIC_checkpoint_step, (double)r->saving_step);
    vg_metrics_number(r->metrics, r->saving_step, VG_METRIC_save_stall_ms, 1e3 * r->save_stall_s);
}

/* Of what trains: all records in order, and with sets how many images each has. */
static uint64_t train_data(const vg_run *r)
{
    uint64_t parts[1 + VG_MAX_DATA_SETS] = {vg_split_hash(r->train_split)};
    const int n_sets = r->o->data_sets.n;
    for (int k = 0; k < n_sets; k++) parts[1 + k] = (uint64_t)r->stream_sets[k].n_images;
    return n_sets ? XXH3_64bits(parts, (size_t)(1 + n_sets) * sizeof *parts) : parts[0];
}

/* What a checkpoint of this step keeps beside its state; how many those are. */
static int numbers_of(const vg_run *r, vg_checkpoint_number numbers[MOST_NUMBERS])
{
    int n = 0;
    numbers[n++] = (vg_checkpoint_number){DATA, vg_hash_number(train_data(r))};
    numbers[n++] = (vg_checkpoint_number){VG_TOKENIZER_NUMBER, vg_hash_number(vg_tokenizer_hash(r->tokenizer))};
    if (r->bad_samples) numbers[n++] = (vg_checkpoint_number){BAD_SAMPLES, (double)r->bad_samples};
    if (vg_split_leaked(r->train_split))
        numbers[n++] = (vg_checkpoint_number){LEAKED_IMAGES, (double)vg_split_leaked(r->train_split)};
    if (r->evaluated_step == r->step)
        numbers[n++] = (vg_checkpoint_number){VG_CHECKPOINT_ACCURACY, r->accuracy};
    else if (r->evaluation_due)
        numbers[n++] = (vg_checkpoint_number){EVALUATION_DUE, 1};
    return n;
}

/* Moments of which each rank has its slices go to the piece that it writes, which is cut otherwise. */
static vg_status bring_moments(vg_run *r)
{
    int64_t first, count;
    float *moment1, *moment2;
    if (!r->params->moments_elsewhere) return VG_OK;
    vg_checkpoint_piece(r->writer, &first, &count, &moment1, &moment2);
    return vg_comm_leave(r->comm, vg_rank_moments_fetch(&r->moments, first, count, moment1, moment2));
}

static vg_status begin_save(vg_run *r)
{
    char hash[24];
    vg_checkpoint_number numbers[MOST_NUMBERS];
    snprintf(hash, sizeof hash, "%016" PRIx64, r->configuration_hash);
    VG_TRY(vg_run_bring_home(r));
    VG_TRY(bring_moments(r));
    const vg_checkpoint_state state = {.step = r->step,
                                       .stage = r->stage_index,
                                       .stage_step = r->stage_step,
                                       .position = r->step * r->o->train_global_batch,
                                       .optimizer_steps = r->optimizer_steps,
                                       .skipped_steps = r->skipped,
                                       .seed = (uint64_t)r->o->train_seed,
                                       .generation = r->generation,
                                       .configuration = r->configuration,
                                       .configuration_hash = hash,
                                       .profile = vg_compute_profile(&r->compute),
                                       .numbers = numbers,
                                       .n_numbers = numbers_of(r, numbers)};
    return vg_checkpoint_begin(r->writer, &state);
}

bool vg_run_may_save(const vg_run *r)
{
    const double share = r->o->run_checkpoint_overhead;
    const double least_s = r->failed_saves ? 60 : 0; /* a full disk may be cleared meanwhile */
    return share > 0 && !vg_checkpoint_busy(r->writer) &&
           vg_now_s() - r->saving_s >= fmax(least_s, r->save_stall_s / share);
}

vg_status vg_run_save(vg_run *r)
{
    VG_TRY(vg_run_finish_save(r));
    const double start_s = vg_now_s();
    vg_run_phase(r, VG_PHASE_save);
    r->saving_step = r->step;
    const vg_status st = begin_save(r);
    r->saving_s = vg_now_s();
    r->save_stall_s = r->saving_s - start_s;
    return st;
}

/* The next part of the save under way, waiting for this one. */
static vg_status go_on(vg_run *r)
{
    const double start_s = vg_now_s();
    bool saved = false;
    char *path = NULL;
    const vg_status st = vg_checkpoint_go_on(r->writer, &saved, &path);
    r->save_stall_s += vg_now_s() - start_s;
    if (saved) say_saved(r, path);
    if (saved) vg_trace_add(&r->trace, VG_LANE_SAVING, "checkpoint", r->saving_s, vg_now_s());
    if (saved) set_newest(r, path, r->saving_step);
    return judge_save(r, st);
}

vg_status vg_run_go_on_saving(vg_run *r)
{
    return vg_checkpoint_busy(r->writer) && r->all_ready ? go_on(r) : VG_OK;
}

vg_status vg_run_finish_save(vg_run *r)
{
    if (vg_checkpoint_busy(r->writer)) vg_run_phase(r, VG_PHASE_save);
    while (vg_checkpoint_busy(r->writer)) VG_TRY(go_on(r));
    return VG_OK;
}

static vg_status add_accuracy(const vg_run *r)
{
    vg_checkpoint_number numbers[MOST_NUMBERS];
    VG_TRY(vg_run_still_ours(r));
    const vg_status st = vg_checkpoint_set_numbers(r->newest, numbers, numbers_of(r, numbers));
    if (st != VG_E_STORAGE) return st;
    vg_metrics_say(r->metrics, "warning: %s does not tell its accuracy: %s", r->newest, vg_error_text());
    return VG_OK;
}

vg_status vg_run_add_accuracy(vg_run *r)
{
    const bool there = r->newest && r->newest_step == r->step && r->evaluated_step == r->step;
    return vg_comm_agree(r->comm, there && vg_comm_rank(r->comm) == 0 ? add_accuracy(r) : VG_OK);
}

/* Checkpoints of older versions do not tell. */
static vg_status check_same_input(const vg_checkpoint_info *info, const char *path, const char *key, uint64_t hash,
                                  const char *what)
{
    const double now = vg_hash_number(hash);
    VG_CHECK(vg_checkpoint_number_of(info, key, now) == now, VG_E_CONFIG,
             "%s was trained with other content of %s; bring that back, choose another run.folder, or add "
             "--allow-new-bits to go on from it",
             path, what);
    return VG_OK;
}

/* Also what other sets evaluate on decides what trains. */
static vg_status check_same_train_data(const vg_run *r, const vg_checkpoint_info *info, const char *path)
{
    char what[128] = "data.train_split";
    const long long leaked = (long long)vg_split_leaked(r->train_split);
    if (leaked)
        snprintf(what, sizeof what, "data.train_split (data.leaked is %s, with %lld such images now)",
                 r->o->data_leaked, leaked);
    return check_same_input(info, path, DATA, train_data(r), what);
}

/* Programs of another time may have hashed other options. */
static vg_status check_same_configuration(const vg_run *r, const vg_checkpoint_info *info, const char *path)
{
    char hash[24];
    vg_options then;
    vg_text difference = {0};
    snprintf(hash, sizeof hash, "%016" PRIx64, r->configuration_hash);
    if (strcmp(info->configuration_hash, hash) == 0) return VG_OK;
    vg_status st = vg_options_parse(&then, info->configuration, strlen(info->configuration), "configuration", NULL, 0);
    if (st != VG_OK) return vg_fail_at(st, "%s", path);
    st = vg_options_difference(&then, r->o, &difference);
    if (st == VG_OK && difference.length)
        st = vg_fail(VG_E_CONFIG,
                     "%s was trained with another configuration: %s; choose another run.folder, or add "
                     "--allow-new-bits to go on from it",
                     path, difference.data);
    free(difference.data);
    vg_options_release(&then);
    return st;
}

/* The stream's stages begin where the schedule has them, so what came before the checkpoint's stage is as long as it
 * was. */
static vg_status check_same_place(const vg_options *o, const vg_checkpoint_info *info, const char *path)
{
    VG_CHECK(info->stage < o->n_stages && info->stage_step <= o->schedule[info->stage].steps, VG_E_CONFIG,
             "%s stands at step %lld of stage %lld, which the schedule does not have", path,
             (long long)info->stage_step, (long long)info->stage);
    int64_t before = 0;
    for (int i = 0; i < info->stage; i++) before += o->schedule[i].steps;
    VG_CHECK(info->step - info->stage_step == before, VG_E_CONFIG,
             "%s: its stage '%s' began after step %lld, in this schedule after %lld; leave earlier stages as long as "
             "they were, or begin a new run with model.weights: %s",
             path, o->schedule[info->stage].name, (long long)(info->step - info->stage_step), (long long)before, path);
    return VG_OK;
}

static vg_status check_same_run(const vg_run *r, const vg_checkpoint_info *info, const char *path, bool allow_new_bits)
{
    const char *profile = vg_compute_profile(&r->compute);
    if (strcmp(info->profile, profile) != 0)
        vg_log_root(
            "warning: %s was computed with '%s', this run goes on with '%s': its bits are those of neither alone", path,
            info->profile, profile);
    if (!allow_new_bits) {
        VG_TRY(check_same_configuration(r, info, path));
        VG_TRY(check_same_train_data(r, info, path));
        VG_TRY(check_same_input(info, path, VG_TOKENIZER_NUMBER, vg_tokenizer_hash(r->tokenizer), "text.tokenizer"));
    }
    return check_same_place(r->o, info, path);
}

static vg_status take_over(vg_run *r, const char *path, bool allow_new_bits)
{
    vg_checkpoint_info *info = NULL;
    VG_TRY(vg_checkpoint_open(path, &info));
    vg_status st = check_same_run(r, info, path, allow_new_bits);
    if (st == VG_OK) st = vg_checkpoint_load_weights(path, r->params);
    if (st == VG_OK) {
        r->step = info->step;
        r->stage_index = info->stage;
        r->stage_step = info->stage_step;
        r->optimizer_steps = info->optimizer_steps;
        r->skipped = info->skipped_steps;
        r->bad_samples = (int64_t)vg_checkpoint_number_of(info, BAD_SAMPLES, 0);
        r->evaluation_due = vg_checkpoint_number_of(info, EVALUATION_DUE, 0) != 0;
        r->accuracy = vg_checkpoint_number_of(info, VG_CHECKPOINT_ACCURACY, -1);
        r->evaluated_step = r->accuracy >= 0 ? r->step : 0;
    }
    vg_checkpoint_info_free(info);
    return st;
}

/* From here on saves of an earlier start of this run, which may go on somewhere unseen, are refused. Collective. */
static vg_status claim(vg_run *r, const char *folder)
{
    char process[128];
    const char *job = getenv("VLGTR_JOB");
    snprintf(process, sizeof process, "process %ld on %s", (long)getpid(), vg_comm_host(r->comm));
    const bool root = vg_comm_rank(r->comm) == 0;
    vg_status st = root ? vg_checkpoint_claim(folder, job ? job : process, &r->generation) : VG_OK;
    if (st != VG_OK) st = vg_fail_at(st, "run.folder");
    VG_TRY(vg_comm_agree(r->comm, st));
    return vg_comm_broadcast(r->comm, &r->generation, sizeof r->generation, 0);
}

vg_status vg_run_still_ours(const vg_run *r)
{
    char folder[4096];
    checkpoints_folder(r, folder);
    const vg_status st = vg_checkpoint_still_ours(folder, r->generation);
    return st == VG_E_STORAGE ? VG_OK : st; /* the saves judge the storage */
}

vg_status vg_run_resume(vg_run *r, bool allow_new_bits, char **checkpoint)
{
    char folder[4096];
    checkpoints_folder(r, folder);
    VG_TRY(vg_checkpoint_choose(r->comm, folder, checkpoint));
    if (*checkpoint) {
        VG_TRY(vg_comm_agree(r->comm, take_over(r, *checkpoint, allow_new_bits)));
        set_newest(r, vg_copy_string(*checkpoint), r->step);
    }
    return claim(r, folder);
}
