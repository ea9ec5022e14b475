#include "trainer/cmd/arguments.h"
#include "trainer/loop.h"
#include "trainer/vlgtr.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

/* Below its row of verbs.def. */
static vg_status print_help(void)
{
    vg_text help = {0};
    VG_TRY(vg_options_help(&help));
    VG_TRY(vg_text_add(&help, "\nFaults of --inject NAME@RANK,STEP, to see what a run makes of them:\n"));
    VG_TRY(vg_injections_help(&help));
    printf("\n--set gives a list as a,b (data.shards=x,y) and a mapping as name=value,name=value\n"
           "(schedule.heads.mix=vg=1,refcoco=3).\n\n"
           "Options of RUN.yaml, written as `section:` with `key: value` lines below it:\n%s",
           help.data);
    free(help.data);
    return VG_OK;
}

vg_status vg_cmd_train(vg_context *context, int argc, char **argv)
{
    bool allow_new_bits = false;
    const char *device = NULL;
    char set[64];
    vg_argument_list sets = {0}, faults = {0};
    vg_injections injections = {0};
    const vg_argument table[] = {{.name = "--set", .list = &sets},
                                 {.name = "--device", .text = &device},
                                 {.name = "--allow-new-bits", .flag = &allow_new_bits},
                                 {.name = "--inject", .list = &faults}};
    char *words[1];
    int n_words = 0;
    if (vg_arguments_ask_help(argc, argv)) return print_help();
    VG_TRY(vg_arguments_read(argc, argv, table, sizeof table / sizeof *table, words, 1, &n_words));
    VG_CHECK(n_words == 1, VG_E_USAGE, "a run configuration is missing: vlgtr train RUN.yaml");
    for (int i = 0; i < faults.n; i++) VG_TRY(vg_injections_add(&injections, faults.items[i]));
    if (device) {
        VG_TRY(vg_argument_device(device));
        VG_CHECK(sets.n < VG_MAX_SETS, VG_E_USAGE, "--set: given more than %d times", VG_MAX_SETS - 1);
        snprintf(set, sizeof set, "train.device=%s", device);
        sets.items[sets.n++] = set;
    }
    vg_options options;
    VG_TRY(vg_comm_agree(context->comm, vg_options_read(&options, words[0], sets.items, sets.n)));
    signal(SIGPIPE, SIG_IGN); /* who reads the lines may go away: the run's folder has them, too */
    const vg_status st = vg_train(context->comm, &options, allow_new_bits, &injections);
    vg_options_release(&options);
    return st;
}
