/* The parameters of the model: how many, and under which names. Nothing is laid out or run. */
#include "trainer/stage.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

typedef struct declared {
    vg_options options;
    vg_params *params;
} declared;

static declared declare(const char *preset)
{
    declared d = {0};
    static const char schedule[] = "schedule:\n  - name: heads\n";
    const vg_status st = vg_options_parse(&d.options, schedule, strlen(schedule), "test", &preset, 1);
    if (st != VG_OK) print_error("%s\n", vg_error_text());
    assert_int_equal(st, VG_OK);
    assert_int_equal(vg_params_new(&d.params), VG_OK);
    assert_int_equal(vg_model_declare(&d.options, d.params), VG_OK);
    return d;
}

static void forget(declared *d)
{
    vg_params_free(d->params);
    vg_options_release(&d->options);
}

static int64_t elements(const declared *d, const char *prefix)
{
    int64_t n = 0;
    for (int i = 0; i < d->params->n; i++)
        if (strncmp(d->params->items[i].name, prefix, strlen(prefix)) == 0) n += d->params->items[i].count;
    return n;
}

static int64_t trainable(const declared *d)
{
    int64_t n = 0;
    for (int i = 0; i < d->params->n; i++)
        if (vg_stage_lr_of(&d->options, &d->options.schedule[0], d->params->items[i].name) > 0)
            n += d->params->items[i].count;
    return n;
}

static void the_towers_have_the_published_number_of_parameters(void **state)
{
    (void)state;
    declared d = declare("model.preset=seed");
    assert_int_equal(elements(&d, "vision."), 22057344);
    assert_int_equal(elements(&d, "text."), 124055040);
    forget(&d);
}

static void stage_one_trains_9905670_parameters_in_layers_of_1578752(void **state)
{
    (void)state;
    declared d = declare("model.preset=seed");
    for (int i = 0; i < 6; i++) {
        char prefix[32];
        snprintf(prefix, sizeof prefix, "decoder.layers.%d.", i);
        assert_int_equal(elements(&d, prefix), 1578752);
    }
    assert_int_equal(elements(&d, "decoder.layers.6."), 0);
    assert_int_equal(trainable(&d), 9905670);
    assert_int_equal(trainable(&d), elements(&d, "") - elements(&d, "vision.") - elements(&d, "text."));
    forget(&d);
}

/* An encoder layer is a decoder layer without cross-attention and its norm: 4 (256 x 256 + 256) and 2 x 256 fewer. */
static void the_strong_preset_adds_three_encoder_layers(void **state)
{
    (void)state;
    declared seed = declare("model.preset=seed"), strong = declare("model.preset=strong");
    const int64_t layer = 1578752 - 4 * (256 * 256 + 256) - 2 * 256;
    assert_int_equal(elements(&strong, "encoder.layers.2."), layer);
    assert_int_equal(trainable(&strong), trainable(&seed) + 3 * layer);
    forget(&seed);
    forget(&strong);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_towers_have_the_published_number_of_parameters),
        cmocka_unit_test(stage_one_trains_9905670_parameters_in_layers_of_1578752),
        cmocka_unit_test(the_strong_preset_adds_three_encoder_layers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
