#include "data/synth.h"
#include "trainer/cmd/arguments.h"
#include "trainer/vlgtr.h"

#include <limits.h>
#include <stdio.h>

vg_status vg_cmd_synth(vg_context *context, int argc, char **argv)
{
    const char *train = NULL, *val = NULL, *test = NULL, *seed = NULL, *side = NULL;
    const vg_argument table[] = {{.name = "--train", .text = &train},
                                 {.name = "--val", .text = &val},
                                 {.name = "--test", .text = &test},
                                 {.name = "--seed", .text = &seed},
                                 {.name = "--side", .text = &side}};
    char *words[1];
    int n_words = 0;
    (void)context;
    VG_TRY(vg_arguments_read(argc, argv, table, sizeof table / sizeof *table, words, 1, &n_words));
    VG_CHECK(n_words == 1, VG_E_USAGE, "a folder is missing: vlgtr synth FOLDER");
    vg_synth_spec spec = vg_synth_defaults(words[0]);
    int64_t n_train = spec.n_train, n_val = spec.n_val, n_test = spec.n_test, key = (int64_t)spec.seed,
            pixels = spec.side;
    VG_TRY(vg_argument_integer("--train", train, 0, 10000000, &n_train));
    VG_TRY(vg_argument_integer("--val", val, 0, 10000000, &n_val));
    VG_TRY(vg_argument_integer("--test", test, 0, 10000000, &n_test));
    VG_TRY(vg_argument_integer("--seed", seed, 0, INT64_MAX, &key));
    VG_TRY(vg_argument_integer("--side", side, 32, 2048, &pixels));
    spec.n_train = (int)n_train;
    spec.n_val = (int)n_val;
    spec.n_test = (int)n_test;
    spec.seed = (uint64_t)key;
    spec.side = (int)pixels;
    VG_TRY(vg_synth_write(&spec));
    printf("%s: %d training scenes, %d for val, %d each for testA and testB\n", words[0], spec.n_train, spec.n_val,
           spec.n_test);
    return VG_OK;
}
