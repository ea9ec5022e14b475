#include "data/import.h"
#include "trainer/cmd/arguments.h"
#include "trainer/cmd/shard_verbs.h"
#include "trainer/vlgtr.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void line_print(void *user, const char *line)
{
    (void)user;
    puts(line);
}

static vg_status import(int argc, char **argv)
{
    const char *images = NULL, *split_by = NULL, *shard_mb = NULL, *max_bad = NULL;
    const char *splits = NULL, *shares = NULL, *seed_text = NULL;
    bool strict = false, absent = false, merge = false, dry_run = false;
    const vg_argument table[] = {{.name = "--images", .text = &images},
                                 {.name = "--split-by", .text = &split_by},
                                 {.name = "--splits", .text = &splits},
                                 {.name = "--shares", .text = &shares},
                                 {.name = "--seed", .text = &seed_text},
                                 {.name = "--shard-mb", .text = &shard_mb},
                                 {.name = "--max-bad", .text = &max_bad},
                                 {.name = "--merge-boxes", .flag = &merge},
                                 {.name = "--dry-run", .flag = &dry_run},
                                 {.name = "--strict", .flag = &strict},
                                 {.name = "--allow-absent-images", .flag = &absent}};
    char *words[3];
    int n = 0;
    int64_t mb = 0, seed = 1;
    double share = 0.01;
    VG_TRY(vg_arguments_read(argc, argv, table, sizeof table / sizeof *table, words, 3, &n));
    VG_CHECK(
        n == 3, VG_E_USAGE,
        "vlgtr shard import SET ROOT OUT [--images FOLDER] [--split-by NAME] [--splits LIST] [--shares val=S,...] "
        "[--seed N] [--shard-mb N] [--max-bad SHARE] [--strict] [--merge-boxes] [--allow-absent-images] [--dry-run]");
    VG_TRY(vg_argument_integer("--seed", seed_text, 0, INT64_MAX, &seed));
    VG_TRY(vg_argument_integer("--shard-mb", shard_mb, 1, 1 << 20, &mb));
    VG_TRY(vg_argument_share("--max-bad", max_bad, &share));
    const vg_import_options options = {.images = images,
                                       .split_by = split_by,
                                       .splits = splits,
                                       .shares = shares,
                                       .seed = (uint64_t)seed,
                                       .tell_progress = true,
                                       .shard_bytes = (size_t)mb << 20,
                                       .max_bad = share,
                                       .strict = strict,
                                       .merge_boxes = merge,
                                       .dry_run = dry_run,
                                       .tell = dry_run ? line_print : NULL,
                                       .allow_absent = absent};
    vg_import_report report = {0};
    vg_text text = {0};
    vg_stop_on_signals();
    vg_status st = vg_import(words[0], words[1], words[2], &options, &report);
    if (dry_run) report.bad.length = 0; /* each line was told already */
    if (st == VG_OK || dry_run || report.bad.length)
        VG_KEEP(st, vg_import_report_text(&report, &text)); /* what was bad, and how bad */
    if (text.data) fputs(text.data, stdout);
    free(text.data);
    vg_import_report_release(&report);
    return st;
}

/* A row per verb of `vlgtr shard`. */
static const struct {
    const char *name;
    vg_status (*run)(int argc, char **argv);
} verbs[] = {{"import", import},
             {"inspect", vg_shard_verb_inspect},
             {"verify", vg_shard_verb_verify},
             {"leakage", vg_shard_verb_leakage},
             {"merge", vg_shard_verb_merge},
             {"split", vg_shard_verb_split},
             {"filter", vg_shard_verb_filter},
             {"repack", vg_shard_verb_repack}};

enum { N_VERBS = sizeof verbs / sizeof *verbs };

vg_status vg_cmd_shard(vg_context *context, int argc, char **argv)
{
    (void)context;
    const char *names[N_VERBS];
    for (int i = 0; i < N_VERBS; i++) {
        names[i] = verbs[i].name;
        if (argc > 1 && strcmp(argv[1], verbs[i].name) == 0) return verbs[i].run(argc - 1, argv + 1);
    }
    const char *near = argc > 1 ? vg_nearest_word(argv[1], names, N_VERBS) : NULL;
    VG_CHECK(!near, VG_E_USAGE, "no verb '%s'; did you mean '%s'?", argv[1], near);
    return vg_fail(VG_E_USAGE, "vlgtr shard import|inspect|verify|leakage|merge|split|filter|repack ...; each tells "
                               "its arguments when called without");
}
