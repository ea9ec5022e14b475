/* What `vlgtr checkpoint` makes of checkpoints of one rank: exports, averages, differences. */
#define _GNU_SOURCE
#include "checkpoint_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "checkpoints/safetensors.h"

static bool renames_fail;

/* In the place of the C library's. */
int rename(const char *from, const char *to)
{
    errno = ENOSPC;
    return renames_fail ? -1 : renameat(AT_FDCWD, from, AT_FDCWD, to);
}

static void an_export_strips_the_tower(void **state)
{
    fixture *f = *state;
    assert_int_equal(save_step(f, 10, 0, 0, false), VG_OK);
    const char *path = "runs/step-00000010", *out = "vision.safetensors";
    assert_int_equal(vg_checkpoint_export(path, "vision.", out), VG_OK);
    vg_tensors *t = NULL;
    assert_int_equal(vg_tensors_open(out, &t), VG_OK);
    assert_int_equal(vg_tensors_count(t), 1);
    assert_string_equal(vg_tensors_get(t, 0)->name, "blocks.0.norm1.weight");
    float x[384];
    assert_int_equal(vg_tensors_read_f32(t, 0, x), VG_OK);
    assert_true(x[7] == fixture_value("weight", "vision.blocks.0.norm1.weight", 7, 10));
    vg_tensors_close(t);
    assert_int_equal(vg_checkpoint_export(path, "audio.", out), VG_E_USAGE);
    assert_int_equal(vg_checkpoint_export(path, NULL, out), VG_OK);
    assert_int_equal(vg_tensors_open(out, &t), VG_OK);
    assert_int_equal(vg_tensors_count(t), N_FIXTURE_PARAMS);
    vg_tensors_close(t);
}

static void damaged_weights_are_neither_exported_nor_compared(void **state)
{
    fixture *f = *state;
    int64_t differ = 0;
    const char *path = "runs/step-00000010";
    assert_int_equal(save_step(f, 10, 0, 0, false), VG_OK);
    flip_bit("runs/step-00000010/weights.safetensors", -5);
    assert_int_equal(vg_checkpoint_export(path, NULL, "all.safetensors"), VG_E_STORAGE);
    says("weights.safetensors: its bytes have the hash");
    assert_int_not_equal(access("all.safetensors", F_OK), 0);
    assert_int_equal(vg_checkpoint_diff(path, path, NULL, NULL, &differ), VG_E_STORAGE);
}

static void nothing_takes_the_place_of_a_device(void **state)
{
    fixture *f = *state;
    struct stat info;
    assert_int_equal(save_step(f, 10, 0, 0, false), VG_OK);
    assert_int_equal(mkfifo("pipe", 0600), 0);
    assert_int_equal(vg_checkpoint_export("runs/step-00000010", NULL, "pipe"), VG_E_USAGE);
    says("pipe: a pipe or a device");
    assert_true(stat("pipe", &info) == 0 && S_ISFIFO(info.st_mode));
}

static void an_average_is_the_mean_and_answers_only(void **state)
{
    fixture *f = *state;
    const char *paths[] = {"runs/step-00000010", "runs/step-00000020", "runs/step-00000030"};
    for (int i = 0; i < 3; i++) save_accurate(f, 10 * (i + 1), -1);
    assert_int_equal(vg_checkpoint_average(paths, 3, "mean"), VG_OK);
    assert_int_equal(vg_checkpoint_verify("mean"), VG_OK);
    vg_params *params = fixture_space(false, false);
    assert_int_equal(vg_checkpoint_load_weights("mean", params), VG_OK);
    for (int k = 0; k < params->n; k++)
        for (int64_t i = 0; i < params->items[k].count; i++) {
            double sum = 0;
            for (int step = 10; step <= 30; step += 10) sum += fixture_value("weight", params->items[k].name, i, step);
            assert_true(vg_params_data(params, k)[i] == (float)(sum / 3));
        }
    assert_int_equal(vg_checkpoint_load_moments("mean", params), VG_E_CONFIG);
    assert_int_equal(vg_checkpoint_average(paths, 3, "mean"), VG_E_STORAGE); /* there already */
    says("File exists");
    flip_bit("runs/step-00000020/weights.safetensors", -5);
    assert_int_equal(vg_checkpoint_average(paths, 3, "other"), VG_E_STORAGE);
    says("step-00000020");
    assert_int_not_equal(access("other", F_OK), 0);
    vg_params_free(params);
}

static void an_average_that_fails_leaves_nothing(void **state)
{
    fixture *f = *state;
    const char *paths[] = {"runs/step-00000010"};
    save_accurate(f, 10, -1);
    renames_fail = true;
    assert_int_equal(vg_checkpoint_average(paths, 1, "mean"), VG_E_STORAGE);
    renames_fail = false;
    says("No space left");
    assert_int_equal(vg_checkpoint_average(paths, 1, "mean"), VG_OK);
}

static void count_difference(void *context, const vg_checkpoint_difference *d)
{
    int64_t *values = context;
    *values += d->values;
    assert_true(d->where || d->largest > 0);
}

static void a_difference_is_told_by_parameter(void **state)
{
    fixture *f = *state;
    int64_t differ = -1, values = 0;
    save_accurate(f, 10, -1);
    save_accurate(f, 20, -1);
    assert_int_equal(vg_checkpoint_diff("runs/step-00000010", "runs/step-00000010", count_difference, &values, &differ),
                     VG_OK);
    assert_true(differ == 0 && values == 0);
    assert_int_equal(vg_checkpoint_diff("runs/step-00000010", "runs/step-00000020", count_difference, &values, &differ),
                     VG_OK);
    assert_int_equal(differ, N_FIXTURE_PARAMS);
    assert_true(values > 5000);
    assert_int_equal(vg_checkpoint_diff("runs/step-00000010", "nowhere", count_difference, &values, &differ),
                     VG_E_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_FOLDER(an_export_strips_the_tower),           IN_FOLDER(damaged_weights_are_neither_exported_nor_compared),
        IN_FOLDER(nothing_takes_the_place_of_a_device),  IN_FOLDER(an_average_is_the_mean_and_answers_only),
        IN_FOLDER(an_average_that_fails_leaves_nothing), IN_FOLDER(a_difference_is_told_by_parameter),
    };
    return cmocka_run_group_tests_name("checkpoint tools", tests, NULL, NULL);
}
