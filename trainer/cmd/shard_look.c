/* Looking at shards: inspect, leakage and verify. */
#include "data/shard_leakage.h"
#include "data/shard_tools.h"
#include "trainer/cmd/arguments.h"
#include "trainer/cmd/shard_verbs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

vg_status vg_shard_verb_inspect(int argc, char **argv)
{
    const char *split = NULL, *sample = NULL, *seed_text = NULL, *png = NULL;
    bool json = false;
    const vg_argument table[] = {{.name = "--split", .text = &split},
                                 {.name = "--json", .flag = &json},
                                 {.name = "--sample", .text = &sample},
                                 {.name = "--seed", .text = &seed_text},
                                 {.name = "--png", .text = &png}};
    char *words[VG_MOST_SHARD_PATHS];
    int n = 0;
    int64_t n_sample = 0, seed = 1;
    VG_TRY(vg_arguments_read(argc, argv, table, sizeof table / sizeof *table, words, VG_MOST_SHARD_PATHS, &n));
    if (n < 1) return vg_shard_usage("inspect");
    VG_CHECK(!png == !sample, VG_E_USAGE, "--sample N and --png FILE.png go together: how many to draw, and where to");
    VG_TRY(vg_argument_integer("--sample", sample, 1, INT32_MAX, &n_sample));
    VG_TRY(vg_argument_integer("--seed", seed_text, 0, INT64_MAX, &seed));
    VG_TRY(vg_argument_file("--png", png));
    const char *const *paths = (const char *const *)words;
    vg_text text = {0};
    const vg_status st = vg_shard_inspect(paths, n, split, json, &text);
    if (st == VG_OK) fputs(text.data, stdout);
    free(text.data);
    return st == VG_OK && sample ? vg_shard_sample(paths, n, split, (int)n_sample, (uint64_t)seed, png) : st;
}

/* Some of id, name and pixels, with commas between. */
static vg_status criteria_read(const char *text, vg_leakage_spec *spec)
{
    if (!text) text = "id,name,pixels";
    for (const char *at = text; *at;) {
        const size_t n = strcspn(at, ",");
        const bool id = n == 2 && strncmp(at, "id", n) == 0, name = n == 4 && strncmp(at, "name", n) == 0;
        const bool pixels = n == 6 && strncmp(at, "pixels", n) == 0;
        VG_CHECK(id || name || pixels, VG_E_USAGE, "--by: '%.*s' is none of id, name and pixels", (int)n, at);
        spec->by_id = spec->by_id || id;
        spec->by_name = spec->by_name || name;
        spec->by_pixels = spec->by_pixels || pixels;
        at += n + (at[n] == ',');
    }
    return VG_OK;
}

vg_status vg_shard_verb_leakage(int argc, char **argv)
{
    enum { USUAL_BITS = 8 };
    const char *train = NULL, *by = NULL, *distance = NULL, *out = NULL;
    vg_argument_list against = {.n = 0};
    const vg_argument table[] = {{.name = "--against", .list = &against},
                                 {.name = "--train", .text = &train},
                                 {.name = "--by", .text = &by},
                                 {.name = "--distance", .text = &distance},
                                 {.name = "--out", .text = &out}};
    char *words[VG_MOST_SHARD_PATHS];
    int n = 0;
    int64_t bits = USUAL_BITS;
    VG_TRY(vg_arguments_read(argc, argv, table, sizeof table / sizeof *table, words, VG_MOST_SHARD_PATHS, &n));
    if (n < 1) return vg_shard_usage("leakage");
    VG_TRY(vg_argument_integer("--distance", distance, 0, INT32_MAX, &bits));
    VG_TRY(vg_argument_file("--out", out));
    vg_leakage_spec spec = {.paths = (const char *const *)words,
                            .n_paths = n,
                            .against = against.items,
                            .n_against = against.n,
                            .train = train,
                            .max_bits = (int)bits};
    VG_TRY(criteria_read(by, &spec));
    vg_leakage_report report;
    vg_status st = vg_shard_leakage(&spec, &report);
    if (report.text.data) fputs(report.text.data, stdout);
    if (out && report.text.data && (st == VG_OK || st == VG_E_DATA))
        VG_KEEP(st, vg_file_write_atomic(out, report.list.data, report.list.length));
    vg_leakage_report_release(&report);
    return st;
}

static void verified_tell(const vg_shard_verify_report *r)
{
    printf("%lld shards, %lld images, %lld sentences, %.1f MB; %lld bad", (long long)r->shards, (long long)r->images,
           (long long)r->sentences, (double)r->image_bytes * 1e-6, (long long)r->bad);
    if (r->absent) printf(", %lld images absent", (long long)r->absent);
    printf("\n");
}

vg_status vg_shard_verb_verify(int argc, char **argv)
{
    const char *quarantine = NULL;
    bool no_decode = false;
    const vg_argument table[] = {{.name = "--no-decode", .flag = &no_decode},
                                 {.name = "--quarantine", .text = &quarantine}};
    char *words[VG_MOST_SHARD_PATHS];
    int n = 0;
    VG_TRY(vg_arguments_read(argc, argv, table, sizeof table / sizeof *table, words, VG_MOST_SHARD_PATHS, &n));
    if (n < 1) return vg_shard_usage("verify");
    VG_TRY(vg_argument_file("--quarantine", quarantine));
    vg_shard_verify_report r = {0};
    vg_status st = vg_shard_verify((const char *const *)words, n, !no_decode, &r);
    if (r.lines.data) fputs(r.lines.data, stdout);
    if (r.shards > 0) verified_tell(&r);
    if (quarantine && r.shards > 0 && (st == VG_OK || st == VG_E_DATA))
        VG_KEEP(st, vg_file_write_atomic(quarantine, r.quarantine.data, r.quarantine.length));
    vg_shard_verify_report_release(&r);
    return st;
}
