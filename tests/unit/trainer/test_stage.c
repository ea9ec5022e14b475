/* What a stage compiles, as its options have it. Nothing is run. */
#include "trainer/stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* Whether a stage of a small model that trains `what` keeps phrase features, for which it has an encoder apart. */
static bool keeps_text(const char *what)
{
    static const char schedule[] = "schedule:\n  - name: one\n";
    const char *const sets[] = {"model.preset=tiny", "train.allow_from_scratch=true", "text.vocab=64", what};
    vg_options options;
    vg_params *params = NULL;
    vg_stage_run *run = NULL;
    const vg_status read = vg_options_parse(&options, schedule, strlen(schedule), "test", sets, 4);
    if (read != VG_OK) print_error("%s\n", vg_error_text());
    assert_int_equal(read, VG_OK);
    assert_int_equal(vg_params_new(&params), VG_OK);
    assert_int_equal(vg_model_declare(&options, params), VG_OK);
    assert_int_equal(vg_params_layout(params, NULL, 0), VG_OK);
    const vg_status st = vg_stage_compile(&options, 0, false, params, vg_backend_cpu(), 1, &run);
    if (st != VG_OK) print_error("%s: %s\n", what, vg_error_text());
    assert_int_equal(st, VG_OK);
    const bool keeps = run->text != NULL;
    vg_stage_leave(run);
    vg_params_free(params);
    vg_options_release(&options);
    return keeps;
}

static void phrases_are_encoded_anew_where_any_part_of_their_encoder_trains(void **state)
{
    (void)state;
    assert_true(keeps_text("schedule.0.train=heads=1"));
    assert_true(keeps_text("schedule.0.train=heads=1,vision.blocks.*=1"));
    assert_false(keeps_text("schedule.0.train=heads=1,text.encoder.layer.0.attention.*=1"));
    assert_false(keeps_text("schedule.0.train=heads=1,text.embeddings.position_embeddings.weight=1"));
    assert_false(keeps_text("schedule.0.train=*.bias=1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(phrases_are_encoded_anew_where_any_part_of_their_encoder_trains),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
