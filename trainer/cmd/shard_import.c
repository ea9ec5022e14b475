#include "data/import.h"
#include "trainer/cmd/arguments.h"
#include "trainer/cmd/shard_verbs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void line_print(void *user, const char *line)
{
    (void)user;
    puts(line);
}

/* NULL leaves *out. */
static vg_status boxes_read(const char *text, vg_import_boxes *out)
{
    if (!text) return VG_OK;
    const bool merged = strcmp(text, "merged") == 0;
    VG_CHECK(merged || strcmp(text, "all") == 0, VG_E_USAGE, "--boxes '%s': all or merged", text);
    *out = merged ? VG_BOXES_MERGED : VG_BOXES_ALL;
    return VG_OK;
}

vg_status vg_shard_verb_import(int argc, char **argv)
{
    const char *images = NULL, *split_by = NULL, *shard_mb = NULL, *max_bad = NULL;
    const char *splits = NULL, *shares = NULL, *seed_text = NULL, *boxes_text = NULL;
    bool strict = false, absent = false, dry_run = false;
    const vg_argument table[] = {{.name = "--images", .text = &images},
                                 {.name = "--split-by", .text = &split_by},
                                 {.name = "--splits", .text = &splits},
                                 {.name = "--shares", .text = &shares},
                                 {.name = "--seed", .text = &seed_text},
                                 {.name = "--shard-mb", .text = &shard_mb},
                                 {.name = "--max-bad", .text = &max_bad},
                                 {.name = "--boxes", .text = &boxes_text},
                                 {.name = "--dry-run", .flag = &dry_run},
                                 {.name = "--strict", .flag = &strict},
                                 {.name = "--allow-absent-images", .flag = &absent}};
    char *words[3];
    int n = 0;
    int64_t mb = 0, seed = 1;
    double share = 0.01;
    vg_import_boxes boxes = VG_BOXES_USUAL;
    VG_TRY(vg_arguments_read(argc, argv, table, sizeof table / sizeof *table, words, 3, &n));
    if (n != 3) return vg_shard_usage("import");
    VG_TRY(vg_argument_integer("--seed", seed_text, 0, INT64_MAX, &seed));
    VG_TRY(vg_argument_integer("--shard-mb", shard_mb, 1, 1 << 20, &mb));
    VG_TRY(boxes_read(boxes_text, &boxes));
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
                                       .boxes = boxes,
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
