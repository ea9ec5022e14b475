/* Command lines of verbs: positional words, flags and `--name value` pairs, described by a table.
 *
 *     const char *out = NULL; bool all = false;
 *     const vg_argument table[] = {{"--out", &out, NULL, NULL}, {"--all-queries", NULL, &all, NULL}};
 *     VG_TRY(vg_arguments_read(argc, argv, table, 2, words, 3, &n_words));  */
#ifndef VG_TRAINER_CMD_ARGUMENTS_H
#define VG_TRAINER_CMD_ARGUMENTS_H

#include "kernels/base/base.h"

enum { VG_MAX_SETS = 64 };

/* Values of an argument that may be given several times. */
typedef struct vg_argument_list {
    const char *items[VG_MAX_SETS];
    int n;
} vg_argument_list;

typedef struct vg_argument {
    const char *name;       /* "--out" */
    const char **text;      /* takes a value; or */
    bool *flag;             /* takes none; or */
    vg_argument_list *list; /* takes a value, again and again */
} vg_argument;

/* Reads argv[1..]. Words that are no argument of the table are positional. `--name=value` is read too. Errors:
 * VG_E_USAGE (unknown argument with the nearest known one, a missing value, more than max_words words). */
vg_status vg_arguments_read(int argc, char **argv, const vg_argument *table, int n_table, char **words, int max_words,
                            int *n_words);

/* Whether --help, or -h for short, stands in argv[1..]. */
bool vg_argument_is_help(const char *word);
bool vg_arguments_ask_help(int argc, char **argv);

/* One of auto, cpu and cuda. Errors: VG_E_USAGE. */
vg_status vg_argument_device(const char *text);

/* A whole number in [min, max]; NULL leaves *out. Errors: VG_E_USAGE. */
vg_status vg_argument_integer(const char *name, const char *text, int64_t min, int64_t max, int64_t *out);

/* That a file can be put where an argument says, which is known before the work whose end it is: its folder is there
 * and may be written to. NULL is fine. Errors: VG_E_STORAGE. */
vg_status vg_argument_file(const char *name, const char *path);

/* A share, 0 to 1; NULL leaves *out. Errors: VG_E_USAGE. */
vg_status vg_argument_share(const char *name, const char *text, double *out);

#endif
