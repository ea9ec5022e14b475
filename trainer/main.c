/* The command line: finds the verb, opens the process group it needs, prints an error once, and leaves with its code.
 */
#include "trainer/cmd/arguments.h"
#include "trainer/vlgtr.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ONE, MANY };
enum { ROW, MORE, ITSELF };

static const struct verb {
    const char *name;
    int ranks, helper;
    const char *arguments, *help;
    vg_status (*run)(vg_context *context, int argc, char **argv);
} verbs[] = {
#define VG_VERB(name, ranks, helper, arguments, help) {#name, ranks, helper, arguments, help, vg_cmd_##name},
#include "trainer/verbs.def"
#undef VG_VERB
};

enum { N_VERBS = sizeof verbs / sizeof *verbs };

static void print_verb(FILE *to, const struct verb *verb)
{
    fprintf(to, "  %-10s %s\n             %svlgtr %s %s\n", verb->name, verb->help,
            verb->ranks == MANY ? "[mpirun -n R] " : "", verb->name, verb->arguments);
}

static void print_usage(FILE *to)
{
    fprintf(to, "usage: vlgtr VERB ...\n\n");
    for (int i = 0; i < N_VERBS; i++) print_verb(to, &verbs[i]);
    fprintf(to, "\nexit codes: 0 done, 64 usage, 65 data, 69 communication, 70 a bug of ours, 71 device or memory,\n"
                "            74 storage, 75 stopped at a checkpoint on request, 76 numerics, 78 configuration\n");
}

static const struct verb *find_verb(const char *name)
{
    const char *names[N_VERBS];
    for (int i = 0; i < N_VERBS; i++) {
        names[i] = verbs[i].name;
        if (strcmp(names[i], name) == 0) return &verbs[i];
    }
    const char *nearest = vg_nearest_word(name, names, N_VERBS);
    if (nearest)
        vg_fail(VG_E_USAGE, "unknown verb '%s'; did you mean '%s'?", name, nearest);
    else
        vg_fail(VG_E_USAGE, "unknown verb '%s'; `vlgtr --help` lists them", name);
    return NULL;
}

/* What was printed has arrived, or is no success. */
static vg_status flush_output(void)
{
    VG_CHECK(fflush(stdout) == 0, VG_E_STORAGE, "standard output: %s", strerror(errno));
    VG_CHECK(!ferror(stdout), VG_E_STORAGE, "standard output: a part of it could not be written");
    return VG_OK;
}

static vg_status run_verb(const struct verb *verb, int argc, char **argv)
{
    vg_context context = {0};
    vg_status st = vg_comm_open(&context.comm);
    if (st == VG_OK && verb->ranks == ONE && vg_comm_size(context.comm) > 1)
        st = vg_fail(VG_E_USAGE, "`vlgtr %s` runs alone, without mpirun", verb->name);
    if (st == VG_OK) st = verb->run(&context, argc, argv);
    if (st == VG_OK) st = flush_output();
    if (st != VG_OK && (!context.comm || vg_comm_speaks(context.comm)))
        fprintf(stderr, "vlgtr %s: %s\n", verb->name, vg_error_text());
    if (context.comm && vg_comm_broken(context.comm)) vg_comm_abort(context.comm, vg_exit_code(st));
    VG_KEEP(st, vg_comm_close(context.comm));
    return st;
}

int main(int argc, char **argv)
{
    if (argc < 2 || vg_argument_is_help(argv[1]) || strcmp(argv[1], "help") == 0) {
        print_usage(argc < 2 ? stderr : stdout);
        return argc < 2 ? vg_exit_code(VG_E_USAGE) : 0;
    }
    const struct verb *verb = find_verb(strcmp(argv[1], "--version") == 0 ? "version" : argv[1]);
    if (!verb) {
        fprintf(stderr, "vlgtr: %s\n", vg_error_text());
        return vg_exit_code(VG_E_USAGE);
    }
    if (verb->helper != ITSELF && vg_arguments_ask_help(argc - 1, argv + 1)) {
        print_verb(stdout, verb);
        if (verb->helper == ROW) return 0;
    }
    if (verb->ranks == MANY) vg_stop_on_signals();     /* before MPI starts: a request meanwhile is one, too */
    signal(SIGXFSZ, SIG_IGN);                          /* a file-size limit is a failed write, not a death */
    (void)setenv("HDF5_USE_FILE_LOCKING", "FALSE", 1); /* its word goes before the code's, which needs no such locks */
    return vg_exit_code(run_verb(verb, argc - 1, argv + 1));
}
