/* Checkpoints that several ranks write together. */
#define _DEFAULT_SOURCE /* mkdtemp */
#include "mpi_test.h"
#include "tests/unit/checkpoints/checkpoint_fixture.h"

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

static vg_comm *comm;

static char *folder;

static void make_folder(void)
{
    char name[] = "/tmp/vlgtr-mpi-checkpoint-XXXXXX";
    if (vg_comm_rank(comm) == 0) folder = vg_copy_string(mkdtemp(name));
    assert_int_equal(vg_comm_broadcast_text(comm, &folder, 0), VG_OK);
}

static void remove_folder(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", folder);
    assert_int_equal(vg_comm_barrier(comm), VG_OK);
    if (vg_comm_rank(comm) == 0) assert_int_equal(system(command), 0);
    assert_int_equal(vg_comm_barrier(comm), VG_OK);
    free(folder);
    folder = NULL;
}

static vg_status save_step(int step, int keep, bool compress, char **path)
{
    vg_params *params = fixture_space(false, true);
    fixture_fill(params, step, vg_comm_size(comm), vg_comm_rank(comm));
    vg_checkpoint_state s = fixture_state(step, 1);
    s.compress = compress;
    const vg_status st = fixture_save(comm, folder, params, &s, keep, path);
    vg_params_free(params);
    return st;
}

/* Each rank loads all pieces, as a run on one rank or on any other number would. */
static void the_pieces_of_all_ranks_load_on_each_alone(void **state)
{
    (void)state;
    make_folder();
    for (int compress = 0; compress < 2; compress++) {
        char *path = NULL;
        vg_checkpoint_info *info = NULL;
        assert_int_equal(save_step(10 + compress, 0, compress, &path), VG_OK);
        assert_int_equal(vg_checkpoint_open(path, &info), VG_OK);
        assert_int_equal(info->n_files, 1 + vg_comm_size(comm));
        vg_checkpoint_info_free(info);
        vg_params *params = fixture_space(true, true);
        assert_int_equal(vg_checkpoint_load_weights(path, params), VG_OK);
        assert_int_equal(vg_checkpoint_load_moments(path, params), VG_OK);
        assert_int_equal(fixture_differs(params, 10 + compress, true), 0);
        vg_params_free(params);
        free(path);
    }
    remove_folder();
}

/* Waits for the save of fixture step 10, which must load whole into `params`. */
static void finish_and_load_step_10(vg_checkpoint_writer *writer, vg_params *params)
{
    char *path = NULL;
    assert_int_equal(vg_checkpoint_finish(writer, &path), VG_OK);
    vg_checkpoint_writer_close(writer);
    assert_int_equal(vg_checkpoint_load_weights(path, params), VG_OK);
    assert_int_equal(vg_checkpoint_load_moments(path, params), VG_OK);
    assert_int_equal(fixture_differs(params, 10, true), 0);
    free(path);
}

static void what_is_written_behind_the_training_is_what_began(void **state)
{
    (void)state;
    make_folder();
    vg_params *params = fixture_space(false, true);
    fixture_fill(params, 10, vg_comm_size(comm), vg_comm_rank(comm));
    const vg_checkpoint_state s = fixture_state(10, 1);
    vg_checkpoint_writer *writer = NULL;
    assert_int_equal(vg_checkpoint_writer_open(comm, folder, params, &(vg_checkpoint_retention){0}, 1, &writer), VG_OK);
    assert_int_equal(vg_checkpoint_begin(writer, &s), VG_OK);
    for (int64_t i = 0; i < params->n_trainable; i++) /* the next step */
        params->master[i] = params->moment1[i] = params->moment2[i] = params->average[i] = 7;
    finish_and_load_step_10(writer, params);
    vg_params_free(params);
    remove_folder();
}

static void moments_that_are_elsewhere_are_written_to_the_piece(void **state)
{
    (void)state;
    make_folder();
    vg_params *params = fixture_space(false, true);
    fixture_fill(params, 10, vg_comm_size(comm), vg_comm_rank(comm));
    vg_params without = *params;
    without.moments_elsewhere = true;
    without.moment1 = without.moment2 = NULL;
    const vg_checkpoint_state s = fixture_state(10, 1);
    vg_checkpoint_writer *writer = NULL;
    int64_t first, count;
    float *moment1, *moment2;
    assert_int_equal(vg_checkpoint_writer_open(comm, folder, &without, &(vg_checkpoint_retention){0}, 1, &writer),
                     VG_OK);
    vg_checkpoint_piece(writer, &first, &count, &moment1, &moment2);
    if (count) memcpy(moment1, params->moment1 + first, (size_t)count * sizeof *moment1);
    if (count) memcpy(moment2, params->moment2 + first, (size_t)count * sizeof *moment2);
    assert_int_equal(vg_checkpoint_begin(writer, &s), VG_OK);
    finish_and_load_step_10(writer, params);
    vg_params_free(params);
    remove_folder();
}

static void all_ranks_choose_the_same_and_fall_back_together(void **state)
{
    (void)state;
    make_folder();
    char *path = NULL, *last = NULL;
    assert_int_equal(save_step(10, 0, false, NULL), VG_OK);
    assert_int_equal(save_step(20, 0, false, &last), VG_OK);
    assert_int_equal(vg_checkpoint_choose(comm, folder, &path), VG_OK);
    assert_string_equal(path, last);
    free(path);
    if (vg_comm_rank(comm) == 0) {
        char weights[256];
        snprintf(weights, sizeof weights, "%s/weights.safetensors", last);
        assert_int_equal(truncate(weights, 100), 0);
    }
    assert_int_equal(vg_comm_barrier(comm), VG_OK);
    assert_int_equal(vg_checkpoint_choose(comm, folder, &path), VG_OK);
    assert_non_null(strstr(path, "step-00000010"));
    free(path);
    free(last);
    remove_folder();
}

static void a_disk_that_is_full_for_one_rank_fails_the_save_on_all(void **state)
{
    (void)state;
    make_folder();
    struct rlimit before;
    const int last = vg_comm_size(comm) - 1;
    getrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(save_step(10, 0, false, NULL), VG_OK);
    const struct rlimit small = {.rlim_cur = 100, .rlim_max = before.rlim_max};
    if (vg_comm_rank(comm) == last) setrlimit(RLIMIT_FSIZE, &small);
    const vg_status st = save_step(20, 1, false, NULL);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(st, VG_E_STORAGE);
    assert_non_null(strstr(vg_error_text(), "File too large"));
    char who[32], path[256];
    snprintf(who, sizeof who, "rank %d on ", last);
    assert_int_equal(last > 0, strncmp(vg_error_text(), who, strlen(who)) == 0);
    assert_int_equal(vg_comm_barrier(comm), VG_OK);
    snprintf(path, sizeof path, "%s/step-00000020", folder);
    assert_int_not_equal(access(path, F_OK), 0);
    snprintf(path, sizeof path, "%s/step-00000010", folder);
    assert_int_equal(vg_checkpoint_verify(path), VG_OK);
    assert_int_equal(vg_comm_barrier(comm), VG_OK); /* all have looked */
    assert_int_equal(save_step(20, 1, false, NULL), VG_OK);
    remove_folder();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_pieces_of_all_ranks_load_on_each_alone),
        cmocka_unit_test(what_is_written_behind_the_training_is_what_began),
        cmocka_unit_test(moments_that_are_elsewhere_are_written_to_the_piece),
        cmocka_unit_test(all_ranks_choose_the_same_and_fall_back_together),
        cmocka_unit_test(a_disk_that_is_full_for_one_rank_fails_the_save_on_all),
    };
    return mpi_run("checkpoint", tests, sizeof tests / sizeof *tests, &comm);
}
