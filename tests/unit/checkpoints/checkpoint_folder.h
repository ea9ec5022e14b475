/* A folder for each test of checkpoints to save into, and what such tests do to files. */
#ifndef TESTS_CHECKPOINT_FOLDER_H
#define TESTS_CHECKPOINT_FOLDER_H

#include "checkpoint_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

typedef struct fixture {
    vg_comm *comm;
    char folder[64];
} fixture;

/* Each test works in a folder of its own and saves into it, under relative names. */
static inline int enter_folder(void **state)
{
    fixture *f = vg_new0(sizeof *f);
    *state = f;
    strcpy(f->folder, "/tmp/vlgtr-checkpoints-XXXXXX");
    return mkdtemp(f->folder) && chdir(f->folder) == 0 && vg_comm_open(&f->comm) == VG_OK ? 0 : -1;
}

static inline int leave_folder(void **state)
{
    fixture *f = *state;
    char command[128];
    snprintf(command, sizeof command, "cd / && rm -r %s", f->folder);
    vg_comm_close(f->comm);
    free(f);
    return system(command);
}

static inline vg_status save_step(fixture *f, int step, uint64_t generation, int keep, bool compress)
{
    vg_params *params = fixture_space(false, true);
    fixture_fill(params, step, 1, 0);
    vg_checkpoint_state s = fixture_state(step, generation);
    s.compress = compress;
    const vg_status st = fixture_save(f->comm, "runs", params, &s, keep, NULL);
    vg_params_free(params);
    return st;
}

/* A checkpoint of this step in "runs" that says how accurate it was. */
static inline void save_accurate(fixture *f, int step, double accuracy)
{
    vg_params *params = fixture_space(false, false);
    fixture_fill(params, step, 1, 0);
    const vg_checkpoint_number number = {VG_CHECKPOINT_ACCURACY, accuracy};
    vg_checkpoint_state s = fixture_state(step, 1);
    s.numbers = &number;
    s.n_numbers = accuracy >= 0;
    assert_int_equal(fixture_save(f->comm, "runs", params, &s, 0, NULL), VG_OK);
    vg_params_free(params);
}

static inline void says(const char *part)
{
    if (!strstr(vg_error_text(), part)) fail_msg("'%s' does not say '%s'", vg_error_text(), part);
}

/* Turns over one bit at `at` from the start, or from the end when negative. */
static inline void flip_bit(const char *path, long at)
{
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fseek(file, at, at < 0 ? SEEK_END : SEEK_SET), 0);
    const int byte = fgetc(file);
    assert_int_equal(fseek(file, -1, SEEK_CUR), 0);
    fputc(byte ^ 4, file);
    fclose(file);
}

#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, enter_folder, leave_folder)

#endif
