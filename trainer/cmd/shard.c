#include "data/import.h"
#include "data/shard_tools.h"
#include "trainer/cmd/arguments.h"
#include "trainer/cmd/shard_verbs.h"
#include "trainer/vlgtr.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static vg_status share_read(const char *name, const char *text, double *out)
{
    if (!text) return VG_OK;
    char *end = NULL;
    const double value = strtod(text, &end);
    VG_CHECK(*text && !*end && value >= 0 && value <= 1, VG_E_USAGE, "%s: '%s' is not a share from 0 to 1", name, text);
    *out = value;
    return VG_OK;
}

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
    VG_TRY(share_read("--max-bad", max_bad, &share));
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

static vg_status rewrite(const vg_shard_rewrite_spec *spec)
{
    vg_shard_rewrite_report report;
    VG_TRY(vg_shard_rewrite(spec, &report));
    printf("%lld shards, %lld images, %lld sentences", (long long)report.shards, (long long)report.images,
           (long long)report.sentences);
    if (spec->from)
        printf("; %lld sentences of %lld images went from %s to %s", (long long)report.moved_sentences,
               (long long)report.moved_images, spec->from, spec->to);
    printf("\n");
    return VG_OK;
}

static vg_status merge(int argc, char **argv)
{
    const char *name = "merged", *shard_mb = NULL;
    const vg_argument table[] = {{.name = "--name", .text = &name}, {.name = "--shard-mb", .text = &shard_mb}};
    char *words[VG_MOST_SHARD_PATHS + 1];
    int n = 0;
    int64_t mb = 0;
    VG_TRY(vg_arguments_read(argc, argv, table, 2, words, VG_MOST_SHARD_PATHS + 1, &n));
    VG_CHECK(n >= 2, VG_E_USAGE, "vlgtr shard merge OUT SHARD... [--name NAME] [--shard-mb N]");
    VG_TRY(vg_argument_integer("--shard-mb", shard_mb, 1, 1 << 20, &mb));
    return rewrite(&(vg_shard_rewrite_spec){.paths = (const char *const *)words + 1,
                                            .n_paths = n - 1,
                                            .out = words[0],
                                            .name = name,
                                            .shard_bytes = (size_t)mb << 20});
}

static vg_status split(int argc, char **argv)
{
    const char *name = "split", *from = "train", *to = NULL, *share_text = NULL, *seed_text = NULL;
    const vg_argument table[] = {{.name = "--name", .text = &name},
                                 {.name = "--from", .text = &from},
                                 {.name = "--to", .text = &to},
                                 {.name = "--share", .text = &share_text},
                                 {.name = "--seed", .text = &seed_text}};
    char *words[VG_MOST_SHARD_PATHS + 1];
    int n = 0;
    double share = 0;
    int64_t seed = 1;
    VG_TRY(vg_arguments_read(argc, argv, table, sizeof table / sizeof *table, words, VG_MOST_SHARD_PATHS + 1, &n));
    VG_CHECK(n >= 2 && to && share_text, VG_E_USAGE,
             "vlgtr shard split OUT SHARD... --to SPLIT --share SHARE [--from SPLIT] [--seed N] [--name NAME]");
    VG_TRY(share_read("--share", share_text, &share));
    VG_TRY(vg_argument_integer("--seed", seed_text, 0, INT64_MAX, &seed));
    return rewrite(&(vg_shard_rewrite_spec){.paths = (const char *const *)words + 1,
                                            .n_paths = n - 1,
                                            .out = words[0],
                                            .name = name,
                                            .from = from,
                                            .to = to,
                                            .share = share,
                                            .seed = (uint64_t)seed});
}

/* A row per verb of `vlgtr shard`. */
static const struct {
    const char *name;
    vg_status (*run)(int argc, char **argv);
} verbs[] = {{"import", import},
             {"inspect", vg_shard_verb_inspect},
             {"verify", vg_shard_verb_verify},
             {"leakage", vg_shard_verb_leakage},
             {"merge", merge},
             {"split", split}};

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
    return vg_fail(
        VG_E_USAGE,
        "vlgtr shard import|inspect|verify|leakage|merge|split ...; each tells its arguments when called without");
}
