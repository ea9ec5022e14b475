#include "data/import.h"
#include "trainer/cmd/arguments.h"
#include "trainer/cmd/shard_verbs.h"
#include "trainer/vlgtr.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VG_SHARD_ARGUMENT(verb, argument, help)

static const struct verb {
    const char *name;
    vg_status (*run)(int argc, char **argv);
} verbs[] = {
#define VG_SHARD_VERB(name, words, help) {#name, vg_shard_verb_##name},
#include "trainer/shard_verbs.def"
#undef VG_SHARD_VERB
};

#undef VG_SHARD_ARGUMENT

enum { N_VERBS = sizeof verbs / sizeof *verbs };

/* A verb, or an argument of it. */
static const struct row {
    const char *verb, *text, *help;
    bool is_verb;
} rows[] = {
#define VG_SHARD_VERB(name, words, help)        {#name, words, help, true},
#define VG_SHARD_ARGUMENT(verb, argument, help) {#verb, argument, help, false},
#include "trainer/shard_verbs.def"
#undef VG_SHARD_VERB
#undef VG_SHARD_ARGUMENT
};

enum { N_ROWS = sizeof rows / sizeof *rows };

static vg_status usage_add(const char *verb, vg_text *out)
{
    VG_TRY(vg_text_add(out, "usage: vlgtr shard %s", verb));
    for (int i = 0; i < N_ROWS; i++)
        if (strcmp(rows[i].verb, verb) == 0) VG_TRY(vg_text_add(out, " %s", rows[i].text));
    return VG_OK;
}

vg_status vg_shard_usage(const char *verb)
{
    vg_text text = {0};
    vg_status st = usage_add(verb, &text);
    if (st == VG_OK) st = vg_fail(VG_E_USAGE, "%s", text.data);
    free(text.data);
    return st;
}

static vg_status verbs_tell(vg_text *out)
{
    VG_TRY(vg_text_add(out, "usage: vlgtr shard VERB ...\n\n"));
    for (int i = 0; i < N_ROWS; i++)
        if (rows[i].is_verb) VG_TRY(vg_text_add(out, "  %-10s %s\n", rows[i].verb, rows[i].help));
    return vg_text_add(out,
                       "\n`vlgtr shard VERB --help` tells what each takes. SHARD is a shard or a folder of them.\n");
}

static vg_status verb_tell(const char *verb, vg_text *out)
{
    VG_TRY(usage_add(verb, out));
    for (int i = 0; i < N_ROWS; i++) {
        const struct row *r = &rows[i];
        if (strcmp(r->verb, verb) != 0) continue;
        VG_TRY(r->is_verb ? vg_text_add(out, "\n\n%s\n\n", r->help)
                          : vg_text_add(out, "  %-41s %s\n", r->text, r->help));
    }
    if (strcmp(verb, "import") != 0) return VG_OK;
    VG_TRY(vg_text_add(out, "\nSET is one of\n"));
    return vg_import_sets_tell(out);
}

static vg_status help(const struct verb *verb)
{
    vg_text text = {0};
    const vg_status st = verb ? verb_tell(verb->name, &text) : verbs_tell(&text);
    if (st == VG_OK) fputs(text.data, stdout);
    free(text.data);
    return st;
}

vg_status vg_cmd_shard(vg_context *context, int argc, char **argv)
{
    (void)context;
    const char *names[N_VERBS];
    const struct verb *verb = NULL;
    for (int i = 0; i < N_VERBS; i++) {
        names[i] = verbs[i].name;
        if (argc > 1 && strcmp(argv[1], verbs[i].name) == 0) verb = &verbs[i];
    }
    if (vg_arguments_ask_help(argc, argv)) return help(verb);
    if (verb) return verb->run(argc - 1, argv + 1);
    VG_CHECK(argc > 1, VG_E_USAGE, "a verb of shards is missing; `vlgtr shard --help` lists them");
    const char *near = vg_nearest_word(argv[1], names, N_VERBS);
    VG_CHECK(!near, VG_E_USAGE, "no verb '%s'; did you mean '%s'?", argv[1], near);
    return vg_fail(VG_E_USAGE, "no verb '%s'; `vlgtr shard --help` lists them", argv[1]);
}
