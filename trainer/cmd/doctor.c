#include "trainer/examine.h"

#include "trainer/cmd/arguments.h"
#include "trainer/vlgtr.h"

#include <stdio.h>

vg_status vg_cmd_doctor(vg_context *context, int argc, char **argv)
{
    vg_argument_list sets = {0};
    const vg_argument table[] = {{.name = "--set", .list = &sets}};
    char *words[1];
    int n_words = 0;
    VG_TRY(vg_arguments_read(argc, argv, table, 1, words, 1, &n_words));
    VG_CHECK(n_words == 1, VG_E_USAGE, "a run configuration is missing: vlgtr doctor RUN.yaml");
    vg_options options;
    VG_TRY(vg_comm_agree(context->comm, vg_options_read(&options, words[0], sets.items, sets.n)));
    const vg_status st = vg_doctor(context->comm, &options);
    vg_options_release(&options);
    return st;
}
