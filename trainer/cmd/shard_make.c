/* Shards from shards: merge, split, filter and repack. */
#include "data/shard_tools.h"
#include "trainer/cmd/arguments.h"
#include "trainer/cmd/shard_verbs.h"

#include <stdio.h>

enum { MOST_ARGUMENTS = 16, MOST_WORDS = VG_MOST_SHARD_PATHS + 1 };

static vg_status rewrite(const vg_shard_rewrite_spec *spec)
{
    vg_shard_rewrite_report report;
    vg_stop_on_signals();
    VG_TRY(vg_shard_rewrite(spec, &report));
    printf("%lld shards, %lld images, %lld sentences", (long long)report.shards, (long long)report.images,
           (long long)report.sentences);
    if (spec->from)
        printf("; %lld sentences of %lld images went from %s to %s", (long long)report.moved_sentences,
               (long long)report.moved_images, spec->from, spec->to);
    if (spec->without)
        printf("; %lld of %zu listed records were left out", (long long)report.left_out, spec->without->n);
    if (spec->side) printf("; %lld images were resized", (long long)report.repacked_images);
    if (report.repeated_sentences)
        printf("; %lld of the sentences repeat another one", (long long)report.repeated_sentences);
    printf("\n");
    return VG_OK;
}

/* What all of them take: OUT SHARD... --name NAME --shard-mb N; `own` are the arguments of one. *spec holds pointers
 * into `words`. */
static vg_status spec_read(int argc, char **argv, const vg_argument *own, int n_own, char *words[MOST_WORDS],
                           vg_shard_rewrite_spec *spec)
{
    const char *name = argv[0], *shard_mb = NULL;
    vg_argument table[MOST_ARGUMENTS] = {{.name = "--name", .text = &name}, {.name = "--shard-mb", .text = &shard_mb}};
    int n = 0;
    int64_t mb = 0;
    for (int i = 0; i < n_own; i++) table[2 + i] = own[i];
    VG_TRY(vg_arguments_read(argc, argv, table, 2 + n_own, words, MOST_WORDS, &n));
    if (n < 2) return vg_shard_usage(argv[0]);
    VG_TRY(vg_argument_integer("--shard-mb", shard_mb, 1, 1 << 20, &mb));
    *spec = (vg_shard_rewrite_spec){.paths = (const char *const *)words + 1,
                                    .n_paths = n - 1,
                                    .out = words[0],
                                    .name = name,
                                    .shard_bytes = (size_t)mb << 20};
    return VG_OK;
}

vg_status vg_shard_verb_merge(int argc, char **argv)
{
    char *words[MOST_WORDS];
    vg_shard_rewrite_spec spec;
    VG_TRY(spec_read(argc, argv, NULL, 0, words, &spec));
    return rewrite(&spec);
}

vg_status vg_shard_verb_split(int argc, char **argv)
{
    const char *from = "train", *to = NULL, *share = NULL, *seed_text = NULL;
    const vg_argument own[] = {{.name = "--from", .text = &from},
                               {.name = "--to", .text = &to},
                               {.name = "--share", .text = &share},
                               {.name = "--seed", .text = &seed_text}};
    char *words[MOST_WORDS];
    vg_shard_rewrite_spec spec;
    int64_t seed = 1;
    VG_TRY(spec_read(argc, argv, own, sizeof own / sizeof *own, words, &spec));
    if (!to || !share) return vg_shard_usage("split");
    VG_TRY(vg_argument_share("--share", share, &spec.share));
    VG_TRY(vg_argument_integer("--seed", seed_text, 0, INT64_MAX, &seed));
    spec.from = from;
    spec.to = to;
    spec.seed = (uint64_t)seed;
    return rewrite(&spec);
}

vg_status vg_shard_verb_filter(int argc, char **argv)
{
    const char *where = NULL, *without = NULL;
    const vg_argument own[] = {{.name = "--where", .text = &where}, {.name = "--without", .text = &without}};
    char *words[MOST_WORDS];
    vg_shard_rewrite_spec spec;
    vg_record_list list = {0};
    VG_TRY(spec_read(argc, argv, own, sizeof own / sizeof *own, words, &spec));
    VG_CHECK(where || without, VG_E_USAGE, "--where or --without is missing: which sentences stay, or go");
    vg_status st = without ? vg_record_list_read(without, &list) : VG_OK;
    spec.where = where;
    spec.without = without ? &list : NULL;
    if (st == VG_OK) st = rewrite(&spec);
    vg_record_list_release(&list);
    return st;
}

vg_status vg_shard_verb_repack(int argc, char **argv)
{
    const char *side_text = NULL, *quality_text = NULL;
    const vg_argument own[] = {{.name = "--side", .text = &side_text}, {.name = "--quality", .text = &quality_text}};
    char *words[MOST_WORDS];
    vg_shard_rewrite_spec spec;
    int64_t side = 0, quality = 90;
    VG_TRY(spec_read(argc, argv, own, sizeof own / sizeof *own, words, &spec));
    VG_CHECK(side_text || !quality_text, VG_E_USAGE, "--quality is of images that --side makes smaller; name a side");
    VG_TRY(vg_argument_integer("--side", side_text, 1, INT32_MAX, &side));
    VG_TRY(vg_argument_integer("--quality", quality_text, 1, 100, &quality));
    spec.side = (int)side;
    spec.quality = (int)quality;
    return rewrite(&spec);
}
