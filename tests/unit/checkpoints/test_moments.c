/* The pieces of the optimizer, read without trust. */
#define _DEFAULT_SOURCE /* mkdtemp */
#include "checkpoint_fixture.h"
#include "checkpoints/checkpoint_impl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/vlgtr-moments-XXXXXX";

static int enter_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static int leave_folder(void **state)
{
    (void)state;
    return chdir("/") == 0 && rmdir(folder) == 0 ? 0 : -1;
}

/* A piece with one tensor of n elements; reads it over what `covered` says is there. */
static vg_status read_piece(const char *name, vg_tensor_type type, int64_t n, const void *data, int64_t *covered)
{
    vg_tensor_writer *w = NULL;
    vg_params *params = fixture_space(false, true);
    assert_int_equal(vg_tensor_writer_new(&w), VG_OK);
    assert_int_equal(vg_tensor_writer_add(w, name, type, 1, &n), VG_OK);
    assert_int_equal(vg_tensor_writer_start(w, "piece"), VG_OK);
    assert_int_equal(vg_tensor_writer_write(w, data, (size_t)n * vg_tensor_type_bytes(type)), VG_OK);
    assert_int_equal(vg_tensor_writer_finish(w, NULL, NULL), VG_OK);
    vg_tensor_writer_free(w);
    const vg_status st = vg_moments_read("piece", params, covered);
    vg_params_free(params);
    assert_int_equal(unlink("piece"), 0);
    return st;
}

static void a_run_that_does_not_fit_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name, *because;
        vg_tensor_type type;
        int64_t n;
    } lies[] = {
        {"moment3:0:2:class_embed.bias", "not the name of a run", VG_TENSOR_F32, 2},
        {"moment1", "not the name of a run", VG_TENSOR_F32, 2},
        {"moment1::2:class_embed.bias", "not the name of a run", VG_TENSOR_F32, 2},
        {"moment1:-1:2:class_embed.bias", "not the name of a run", VG_TENSOR_F32, 2},
        {"moment1:0:99999999999999999999:class_embed.bias", "not the name of a run", VG_TENSOR_F32, 2},
        {"moment1:0:3:class_embed.bias", "has 2 values", VG_TENSOR_F32, 3},
        {"moment1:9223372036854775807:1:class_embed.bias", "has 2 values", VG_TENSOR_F32, 1},
        {"moment1:1:1:class_embed.bias", "the pieces before it end at 0", VG_TENSOR_F32, 1},
        {"moment1:0:2:class_embed.bias", "1 values and not 2", VG_TENSOR_F32, 1},
        {"moment1:0:2:class_embed.bias", "type I32", VG_TENSOR_I32, 2},
        {"moment1:0:2:class_embed.bias", "zstd", VG_TENSOR_U8, 8},
    };
    const float data[4] = {1, 2, 3, 4};
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        int64_t covered[VG_MOMENT_BUFFERS * N_FIXTURE_PARAMS] = {0};
        assert_int_equal(read_piece(lies[i].name, lies[i].type, lies[i].n, data, covered), VG_E_STORAGE);
        if (!strstr(vg_error_text(), lies[i].because))
            fail_msg("'%s' does not say '%s'", vg_error_text(), lies[i].because);
        assert_non_null(strstr(vg_error_text(), lies[i].name));
    }
}

static void a_run_that_fits_counts_and_what_nobody_trains_is_passed_over(void **state)
{
    (void)state;
    const float data[2] = {1, 2};
    int64_t covered[VG_MOMENT_BUFFERS * N_FIXTURE_PARAMS] = {0};
    assert_int_equal(read_piece("moment2:0:2:class_embed.bias", VG_TENSOR_F32, 2, data, covered), VG_OK);
    assert_int_equal(read_piece("moment2:0:2:text.embeddings.weight", VG_TENSOR_F32, 2, data, covered), VG_OK);
    assert_int_equal(read_piece("moment2:0:2:unheard.of", VG_TENSOR_F32, 2, data, covered), VG_OK);
    int64_t sum = 0;
    for (int i = 0; i < VG_MOMENT_BUFFERS * N_FIXTURE_PARAMS; i++) sum += covered[i];
    assert_int_equal(sum, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_run_that_does_not_fit_is_refused),
        cmocka_unit_test(a_run_that_fits_counts_and_what_nobody_trains_is_passed_over),
    };
    return cmocka_run_group_tests_name("moments", tests, enter_folder, leave_folder);
}
