/* Checkpoints of one rank: what comes back, what is refused, what survives a failure. */
#define _GNU_SOURCE /* RTLD_NEXT */
#include "checkpoint_folder.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <xxhash.h>

static bool renames_fail, folders_fail, hashes_fail;

/* In the place of the C library's. */
int rename(const char *from, const char *to)
{
    errno = ENOSPC;
    return renames_fail ? -1 : renameat(AT_FDCWD, from, AT_FDCWD, to);
}

int mkdir(const char *path, mode_t mode)
{
    errno = ENOSPC;
    return folders_fail && strstr(path, "step-") ? -1 : mkdirat(AT_FDCWD, path, mode);
}

/* In the place of the library's. */
XXH3_state_t *XXH3_createState(void)
{
    XXH3_state_t *(*create)(void);
    *(void **)&create = dlsym(RTLD_NEXT, "XXH3_createState");
    return hashes_fail ? NULL : create();
}

static void assert_chosen(fixture *f, const char *name)
{
    char *path = NULL;
    assert_int_equal(vg_checkpoint_choose(f->comm, "runs", &path), VG_OK);
    if (!path || strcmp(strrchr(path, '/') + 1, name) != 0) fail_msg("%s was chosen, not %s", path, name);
    free(path);
}

static int count_listed(void)
{
    char **paths;
    int n;
    assert_int_equal(vg_checkpoint_list("runs", &paths, &n), VG_OK);
    vg_checkpoint_list_free(paths, n);
    return n;
}

static void everything_saved_comes_back(void **state)
{
    fixture *f = *state;
    for (int compress = 0; compress < 2; compress++) {
        assert_int_equal(save_step(f, 30 + compress, 2, 0, compress), VG_OK);
        char *path = NULL;
        assert_int_equal(vg_checkpoint_choose(f->comm, "runs", &path), VG_OK);
        vg_checkpoint_info *info = NULL;
        assert_int_equal(vg_checkpoint_open(path, &info), VG_OK);
        const vg_checkpoint_state s = fixture_state(30 + compress, 2);
        assert_true(info->step == s.step && info->stage == s.stage && info->stage_step == s.stage_step);
        assert_true(info->position == s.position && info->optimizer_steps == s.optimizer_steps);
        assert_true(info->skipped_steps == s.skipped_steps && info->seed == s.seed);
        assert_true(info->generation == s.generation);
        assert_string_equal(info->configuration, s.configuration);
        assert_string_equal(info->configuration_hash, s.configuration_hash);
        assert_string_equal(info->profile, s.profile);
        assert_true(vg_checkpoint_number_of(info, "loss_mean", 0) == 1.0 / 3);
        assert_true(vg_checkpoint_number_of(info, "absent", -1) == -1);
        assert_int_equal(info->n_files, 2);
        vg_checkpoint_info_free(info);
        for (int backwards = 0; backwards < 2; backwards++) { /* another order of the flat space */
            vg_params *params = fixture_space(backwards, true);
            assert_int_equal(vg_checkpoint_load_weights(path, params), VG_OK);
            assert_int_equal(vg_checkpoint_load_moments(path, params), VG_OK);
            assert_int_equal(fixture_differs(params, 30 + compress, true), 0);
            vg_params_free(params);
        }
        free(path);
    }
}

static void an_average_that_was_not_saved_starts_at_the_weights(void **state)
{
    fixture *f = *state;
    vg_params *params = fixture_space(false, false);
    fixture_fill(params, 30, 1, 0);
    const vg_checkpoint_state s = fixture_state(30, 0);
    assert_int_equal(fixture_save(f->comm, "runs", params, &s, 0, NULL), VG_OK);
    vg_params_free(params);
    params = fixture_space(false, true);
    const char *path = "runs/step-00000030";
    assert_int_equal(vg_checkpoint_load_weights(path, params), VG_OK);
    assert_int_equal(vg_checkpoint_load_moments(path, params), VG_OK);
    assert_memory_equal(params->average, params->master, (size_t)params->n_trainable * sizeof(float));
    vg_params_free(params);
}

static void the_average_takes_the_place_of_what_trained(void **state)
{
    fixture *f = *state;
    for (int compress = 0; compress < 2; compress++) {
        char path[64];
        assert_int_equal(save_step(f, 30 + compress, 2, 0, compress), VG_OK);
        snprintf(path, sizeof path, "runs/step-%08d", 30 + compress);
        vg_params *params = fixture_space(false, false);
        assert_int_equal(vg_params_layout(params, NULL, 0), VG_OK); /* as for answering: nothing trains */
        assert_int_equal(vg_checkpoint_load_weights(path, params), VG_OK);
        assert_int_equal(vg_checkpoint_load_average(path, params), VG_OK);
        for (int k = 0; k < params->n; k++) {
            const char *buffer = fixture_params[k].trainable ? "average" : "weight";
            for (int64_t i = 0; i < params->items[k].count; i++)
                assert_true(vg_params_data(params, k)[i] ==
                            fixture_value(buffer, params->items[k].name, i, 30 + compress));
        }
        vg_params_free(params);
    }
}

static void without_an_average_the_weights_stay(void **state)
{
    fixture *f = *state;
    vg_params *params = fixture_space(false, false);
    fixture_fill(params, 30, 1, 0);
    const vg_checkpoint_state s = fixture_state(30, 0);
    assert_int_equal(fixture_save(f->comm, "runs", params, &s, 0, NULL), VG_OK);
    assert_int_equal(vg_checkpoint_load_average("runs/step-00000030", params), VG_OK);
    assert_int_equal(fixture_differs(params, 30, false), 0);
    vg_params_free(params);
}

static void an_empty_or_absent_folder_means_start_afresh(void **state)
{
    fixture *f = *state;
    char *path = NULL;
    assert_int_equal(vg_checkpoint_choose(f->comm, "runs", &path), VG_OK);
    assert_null(path);
    assert_int_equal(mkdir("runs", 0755), 0);
    assert_int_equal(vg_checkpoint_choose(f->comm, "runs", &path), VG_OK);
    assert_null(path);
}

static void a_flipped_bit_is_found_and_an_older_checkpoint_chosen(void **state)
{
    fixture *f = *state;
    static const struct {
        const char *name;
        long at;
    } places[] = {{"weights.safetensors", -1}, {"weights.safetensors", 3},          {"optimizer-00000-of-00001", 2000},
                  {"manifest.json", 40},       {"optimizer-00000-of-00001", -5000}, {"manifest.json", -30}};
    assert_int_equal(save_step(f, 10, 0, 0, false), VG_OK);
    assert_int_equal(save_step(f, 20, 0, 0, false), VG_OK);
    const char *newest = "runs/step-00000020";
    char file[128];
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(file, sizeof file, "%s/%s", newest, places[i].name);
        flip_bit(file, places[i].at);
        assert_int_equal(vg_checkpoint_verify(newest), VG_E_STORAGE);
        says(file);
        assert_chosen(f, "step-00000010");
        flip_bit(file, places[i].at);
        assert_int_equal(vg_checkpoint_verify(newest), VG_OK);
        assert_chosen(f, "step-00000020");
    }
}

static void without_memory_to_verify_the_newest_no_older_one_is_chosen(void **state)
{
    fixture *f = *state;
    char *path = NULL;
    assert_int_equal(save_step(f, 10, 0, 0, false), VG_OK);
    assert_int_equal(save_step(f, 20, 0, 0, false), VG_OK);
    hashes_fail = true;
    const vg_status st = vg_checkpoint_choose(f->comm, "runs", &path);
    hashes_fail = false;
    assert_int_equal(st, VG_E_NOMEM);
    says("runs/step-00000020");
    assert_null(path);
    assert_chosen(f, "step-00000020"); /* for it is whole */
}

static void files_that_are_short_or_gone_are_named(void **state)
{
    fixture *f = *state;
    assert_int_equal(save_step(f, 10, 0, 0, false), VG_OK);
    const char *path = "runs/step-00000010", *piece = "runs/step-00000010/optimizer-00000-of-00001";
    assert_int_equal(truncate(piece, 500), 0);
    assert_int_equal(vg_checkpoint_verify(path), VG_E_STORAGE);
    says("500 bytes, ");
    assert_int_equal(unlink(piece), 0);
    assert_int_equal(vg_checkpoint_verify(path), VG_E_STORAGE);
    says(piece);
    char *none = NULL;
    assert_int_equal(vg_checkpoint_choose(f->comm, "runs", &none), VG_E_STORAGE); /* not silently afresh */
    assert_int_equal(vg_checkpoint_choose(f->comm, path, &none), VG_E_STORAGE);
    assert_null(none);
}

static void a_folder_without_a_manifest_does_not_exist(void **state)
{
    fixture *f = *state;
    assert_int_equal(save_step(f, 10, 0, 0, false), VG_OK);
    assert_int_equal(save_step(f, 20, 0, 0, false), VG_OK);
    assert_int_equal(unlink("runs/step-00000020/manifest.json"), 0);
    assert_chosen(f, "step-00000010");
    assert_int_equal(count_listed(), 1);
    assert_int_equal(save_step(f, 30, 0, 0, false), VG_OK); /* and is tidied up by the next save */
    assert_int_not_equal(access("runs/step-00000020", F_OK), 0);
}

static void only_the_newest_are_kept(void **state)
{
    fixture *f = *state;
    for (int step = 10; step <= 50; step += 10) assert_int_equal(save_step(f, step, 0, 2, false), VG_OK);
    assert_int_equal(count_listed(), 2);
    assert_chosen(f, "step-00000050");
    assert_int_equal(access("runs/step-00000040/manifest.json", F_OK), 0);
}

static void a_full_disk_fails_the_save_and_leaves_the_older_ones(void **state)
{
    fixture *f = *state;
    assert_int_equal(save_step(f, 10, 0, 1, false), VG_OK);
    struct rlimit before;
    getrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, SIG_IGN);
    const rlim_t rooms[] = {1, 300, 5000, 20000, 40000}; /* marker, a header, weights, optimizer pieces */
    for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++) {
        const struct rlimit small = {.rlim_cur = rooms[i], .rlim_max = before.rlim_max};
        setrlimit(RLIMIT_FSIZE, &small);
        const vg_status st = save_step(f, 20, 0, 1, false);
        setrlimit(RLIMIT_FSIZE, &before);
        assert_int_equal(st, VG_E_STORAGE);
        says("step-00000020");
        says("File too large");
        assert_int_not_equal(access("runs/step-00000020", F_OK), 0);
        assert_chosen(f, "step-00000010");
    }
    assert_int_equal(save_step(f, 20, 0, 1, false), VG_OK); /* the next interval succeeds */
    assert_chosen(f, "step-00000020");
    assert_int_equal(count_listed(), 1);
}

static void a_folder_that_could_not_be_made_is_not_to_be_deleted(void **state)
{
    const int log = open("log", O_RDWR | O_CREAT, 0600), standard_error = dup(STDERR_FILENO);
    dup2(log, STDERR_FILENO);
    folders_fail = true;
    const vg_status st = save_step(*state, 10, 0, 1, false);
    folders_fail = false;
    dup2(standard_error, STDERR_FILENO);
    assert_int_equal(st, VG_E_STORAGE);
    says("runs/step-00000010: No space left");
    assert_int_equal(lseek(log, 0, SEEK_END), 0);
    close(standard_error);
    close(log);
}

static void an_older_generation_is_fenced_off(void **state)
{
    fixture *f = *state;
    assert_int_equal(save_step(f, 10, 7, 0, false), VG_OK);
    assert_int_equal(save_step(f, 20, 6, 0, false), VG_E_CONFIG);
    says("generation 7");
    assert_int_equal(count_listed(), 1);
    assert_int_equal(save_step(f, 20, 7, 0, false), VG_OK);
    /* a later one that has only begun to write */
    assert_int_equal(mkdir("runs/step-00000030", 0755), 0);
    FILE *marker = fopen("runs/step-00000030/generation", "w");
    fputs("8\n", marker);
    fclose(marker);
    assert_int_equal(save_step(f, 40, 7, 0, false), VG_E_CONFIG);
    says("generation 8");
    assert_int_equal(access("runs/step-00000030/generation", F_OK), 0);
}

static void a_run_that_was_taken_over_saves_nothing(void **state)
{
    fixture *f = *state;
    uint64_t first = 0, second = 0;
    assert_int_equal(vg_checkpoint_claim("runs", "job 1", &first), VG_OK);
    assert_int_equal(save_step(f, 10, first, 0, false), VG_OK);
    assert_int_equal(vg_checkpoint_claim("runs", "job 2, restart 1", &second), VG_OK);
    assert_true(second > first);
    assert_int_equal(save_step(f, 20, first, 0, false), VG_E_CONFIG); /* before the second one has saved anything */
    says("job 2, restart 1");
    assert_int_equal(count_listed(), 1);
    assert_int_equal(access("runs/step-00000020", F_OK), -1);
    assert_int_equal(save_step(f, 20, second, 0, false), VG_OK);
}

/* A process that waits for the others and claims the folder; it tells the generation through `out`. */
static void claim_in_child(int begin, int out)
{
    uint64_t generation = 0;
    char go;
    if (read(begin, &go, 1) != 0) _exit(1); /* the end of the pipe is for all at once */
    const bool good = vg_checkpoint_claim("runs", "one of many", &generation) == VG_OK;
    _exit(good && write(out, &generation, sizeof generation) == sizeof generation ? 0 : 1);
}

static void of_many_that_claim_at_once_each_gets_another_generation(void **state)
{
    enum { MANY = 16 };
    int begin[2], told[2];
    uint64_t generations[MANY], newest = 0;
    (void)state;
    assert_int_equal(pipe(begin), 0);
    assert_int_equal(pipe(told), 0);
    for (int i = 0; i < MANY; i++) {
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child > 0) continue;
        close(begin[1]);
        claim_in_child(begin[0], told[1]);
    }
    close(begin[1]);
    close(told[1]);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(read(told[0], &generations[i], sizeof generations[i]), sizeof generations[i]);
        for (int k = 0; k < i; k++) assert_true(generations[i] != generations[k]);
        if (generations[i] > newest) newest = generations[i];
    }
    for (int i = 0, status; i < MANY; i++) assert_true(wait(&status) > 0 && status == 0);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(vg_checkpoint_still_ours("runs", generations[i]),
                         generations[i] == newest ? VG_OK : VG_E_CONFIG);
    close(begin[0]);
    close(told[0]);
}

static void a_run_that_went_back_is_newer_than_what_it_left_behind(void **state)
{
    fixture *f = *state;
    for (int step = 10; step <= 30; step += 10) assert_int_equal(save_step(f, step, 1, 0, false), VG_OK);
    assert_int_equal(save_step(f, 20, 2, 0, false), VG_OK); /* the plain name is taken by generation 1 */
    assert_chosen(f, "step-00000020-g2");
    assert_int_equal(save_step(f, 25, 2, 2, false), VG_OK);
    assert_chosen(f, "step-00000025");
    assert_int_equal(count_listed(), 2);
}

static void the_same_step_again_is_kept_if_whole_and_replaced_if_not(void **state)
{
    fixture *f = *state;
    assert_int_equal(save_step(f, 10, 3, 0, false), VG_OK);
    const char *path = "runs/step-00000010", *weights = "runs/step-00000010/weights.safetensors";
    struct stat first, second;
    assert_int_equal(stat(weights, &first), 0);
    assert_int_equal(save_step(f, 10, 3, 0, false), VG_OK);
    assert_int_equal(stat(weights, &second), 0);
    assert_true(first.st_ino == second.st_ino);
    flip_bit(weights, -1);
    assert_int_equal(save_step(f, 10, 3, 0, false), VG_OK);
    assert_int_equal(vg_checkpoint_verify(path), VG_OK);
    assert_int_equal(count_listed(), 1);
}

static void another_stage_or_model_is_refused_by_parameter(void **state)
{
    fixture *f = *state;
    assert_int_equal(save_step(f, 10, 0, 0, false), VG_OK);
    const char *path = "runs/step-00000010";
    vg_params *params = fixture_space(false, false);
    const int all[] = {0, 1, 2, 3, 4, 5};
    assert_int_equal(vg_params_layout(params, all, 6), VG_OK); /* trains what was frozen then */
    assert_int_equal(vg_checkpoint_load_weights(path, params), VG_OK);
    assert_int_equal(vg_checkpoint_load_moments(path, params), VG_E_CONFIG);
    says("vision.blocks.0.norm1.weight");
    vg_params_free(params);

    int index;
    assert_int_equal(vg_params_new(&params), VG_OK);
    assert_int_equal(vg_params_add(params, "class_embed.bias", &VG_SHAPE(3), &index), VG_OK);
    assert_int_equal(vg_params_layout(params, NULL, 0), VG_OK);
    assert_int_equal(vg_checkpoint_load_weights(path, params), VG_E_CONFIG);
    says("class_embed.bias is [2], the configured model has [3]");
    vg_params_free(params);

    assert_int_equal(vg_params_new(&params), VG_OK);
    assert_int_equal(vg_params_add(params, "unheard.of", &VG_SHAPE(3), &index), VG_OK);
    assert_int_equal(vg_params_layout(params, NULL, 0), VG_OK);
    assert_int_equal(vg_checkpoint_load_weights(path, params), VG_E_CONFIG);
    says("no parameter unheard.of");
    vg_params_free(params);
}

static void the_newest_the_regular_and_the_best_are_kept(void **state)
{
    fixture *f = *state;
    static const struct {
        int step;
        double accuracy;
        bool kept;
    } cases[] = {{10, 0.5, false}, {20, 0.75, false}, {30, 0.75, true}, {35, 0.25, false},
                 {40, -1, true},   {45, -1, false},   {50, 0.5, true},  {60, -1, true}};
    enum { N = sizeof cases / sizeof *cases };
    for (int i = 0; i < N; i++) save_accurate(f, cases[i].step, cases[i].accuracy);
    assert_int_equal(vg_checkpoint_prune("runs", &(vg_checkpoint_retention){.last = 2, .every = 40, .best = true}),
                     VG_OK);
    for (int i = 0; i < N; i++) {
        char path[64];
        snprintf(path, sizeof path, "runs/step-%08d", cases[i].step);
        if ((access(path, F_OK) == 0) != cases[i].kept)
            fail_msg("%s should %sbe there", path, cases[i].kept ? "" : "not ");
    }
}

/* Goes on as soon as this rank is ready, as a run does between its steps. */
static vg_status save_between_steps(vg_checkpoint_writer *writer, char **path)
{
    for (bool saved = false; !saved;) {
        while (!vg_checkpoint_ready(writer)) usleep(1000);
        VG_TRY(vg_checkpoint_go_on(writer, &saved, path));
    }
    return VG_OK;
}

static void steps_that_follow_do_not_change_what_is_being_written(void **state)
{
    fixture *f = *state;
    vg_params *params = fixture_space(false, true);
    fixture_fill(params, 10, 1, 0);
    const vg_checkpoint_state s = fixture_state(10, 0);
    vg_checkpoint_writer *writer = NULL;
    char *path = NULL;
    assert_int_equal(vg_checkpoint_writer_open(f->comm, "runs", params, &(vg_checkpoint_retention){0}, 2, &writer),
                     VG_OK);
    assert_false(vg_checkpoint_busy(writer));
    assert_int_equal(vg_checkpoint_begin(writer, &s), VG_OK);
    assert_true(vg_checkpoint_busy(writer));
    assert_int_equal(vg_checkpoint_begin(writer, &s), VG_E_BUG); /* one at a time */
    const size_t bytes = (size_t)params->n_trainable * sizeof(float);
    memset(params->master, 0, bytes);
    memset(params->moment1, 0, bytes);
    memset(params->moment2, 0, bytes);
    memset(params->average, 0, bytes);
    while (!vg_checkpoint_ready(writer)) usleep(1000);
    assert_int_equal(count_listed(), 0); /* not before it is committed */
    assert_int_equal(save_between_steps(writer, &path), VG_OK);
    assert_false(vg_checkpoint_busy(writer));
    assert_string_equal(path, "runs/step-00000010");
    assert_int_equal(vg_checkpoint_load_weights(path, params), VG_OK);
    assert_int_equal(vg_checkpoint_load_moments(path, params), VG_OK);
    assert_int_equal(fixture_differs(params, 10, true), 0);
    free(path);
    assert_int_equal(vg_checkpoint_begin(writer, &s), VG_OK);
    bool saved = false;
    assert_int_equal(vg_checkpoint_go_on(writer, &saved, NULL), VG_OK);
    assert_true(saved); /* there already */
    vg_checkpoint_writer_close(writer);
    vg_params_free(params);
}

static void a_disk_that_fills_up_behind_the_training_is_told_at_the_end(void **state)
{
    fixture *f = *state;
    struct rlimit before;
    getrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, SIG_IGN);
    vg_params *params = fixture_space(false, false);
    fixture_fill(params, 10, 1, 0);
    const vg_checkpoint_state s = fixture_state(10, 0);
    const struct rlimit small = {.rlim_cur = 20000, .rlim_max = before.rlim_max};
    vg_checkpoint_writer *writer = NULL;
    assert_int_equal(vg_checkpoint_writer_open(f->comm, "runs", params, &(vg_checkpoint_retention){0}, 2, &writer),
                     VG_OK);
    setrlimit(RLIMIT_FSIZE, &small);
    const vg_status began = vg_checkpoint_begin(writer, &s);
    const vg_status ended = began == VG_OK ? save_between_steps(writer, NULL) : began;
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(began, VG_OK);
    assert_int_equal(ended, VG_E_STORAGE);
    says("File too large");
    assert_int_not_equal(access("runs/step-00000010", F_OK), 0);
    assert_int_equal(vg_checkpoint_begin(writer, &s), VG_OK); /* the next save is one of its own */
    assert_int_equal(save_between_steps(writer, NULL), VG_OK);
    assert_int_equal(count_listed(), 1);
    vg_checkpoint_writer_close(writer);
    vg_params_free(params);
}

static void a_number_that_is_not_finite_is_not_saved(void **state)
{
    fixture *f = *state;
    vg_params *params = fixture_space(false, false);
    const vg_checkpoint_number bad = {"loss", NAN};
    vg_checkpoint_state s = fixture_state(10, 0);
    s.numbers = &bad;
    s.n_numbers = 1;
    assert_int_equal(fixture_save(f->comm, "runs", params, &s, 0, NULL), VG_E_BUG);
    assert_int_equal(count_listed(), 0);
    vg_params_free(params);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(everything_saved_comes_back),
        IN_FOLDER(an_average_that_was_not_saved_starts_at_the_weights),
        IN_FOLDER(the_average_takes_the_place_of_what_trained),
        IN_FOLDER(without_an_average_the_weights_stay),
        IN_FOLDER(an_empty_or_absent_folder_means_start_afresh),
        IN_FOLDER(the_newest_the_regular_and_the_best_are_kept),
        IN_FOLDER(a_flipped_bit_is_found_and_an_older_checkpoint_chosen),
        IN_FOLDER(without_memory_to_verify_the_newest_no_older_one_is_chosen),
        IN_FOLDER(files_that_are_short_or_gone_are_named),
        IN_FOLDER(a_folder_without_a_manifest_does_not_exist),
        IN_FOLDER(only_the_newest_are_kept),
        IN_FOLDER(a_full_disk_fails_the_save_and_leaves_the_older_ones),
        IN_FOLDER(a_folder_that_could_not_be_made_is_not_to_be_deleted),
        IN_FOLDER(an_older_generation_is_fenced_off),
        IN_FOLDER(a_run_that_was_taken_over_saves_nothing),
        IN_FOLDER(of_many_that_claim_at_once_each_gets_another_generation),
        IN_FOLDER(a_run_that_went_back_is_newer_than_what_it_left_behind),
        IN_FOLDER(the_same_step_again_is_kept_if_whole_and_replaced_if_not),
        IN_FOLDER(another_stage_or_model_is_refused_by_parameter),
        IN_FOLDER(steps_that_follow_do_not_change_what_is_being_written),
        IN_FOLDER(a_disk_that_fills_up_behind_the_training_is_told_at_the_end),
        IN_FOLDER(a_number_that_is_not_finite_is_not_saved),
    };
    return cmocka_run_group_tests_name("checkpoint", tests, NULL, NULL);
}
