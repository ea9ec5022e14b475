#include "data/shard_inspect_impl.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

enum { LONGEST_TOLD = 12 }; /* words of a phrase; those with more are told together */

static const struct {
    const char *title; /* for people */
    const char *key;   /* in JSON */
    int digits;
} measures[VG_N_MEASURED] = {
    [VG_MEASURED_WORDS] = {"words of a phrase", "phrase_words", 1},
    [VG_MEASURED_BOXES] = {"boxes of a phrase", "phrase_boxes", 1},
    [VG_MEASURED_AREA] = {"box area / image area", "box_area", 4},
    [VG_MEASURED_PHRASES] = {"phrases of an image", "image_phrases", 1},
    [VG_MEASURED_WIDTH] = {"image width, pixels", "image_width", 0},
    [VG_MEASURED_HEIGHT] = {"image height, pixels", "image_height", 0},
    [VG_MEASURED_BYTES] = {"image bytes", "image_bytes", 0},
};

static const struct {
    const char *title, *key;
    double q;
} quantiles[] = {{"least", "min", 0},   {"5 %", "p05", 0.05},  {"25 %", "p25", 0.25}, {"50 %", "p50", 0.5},
                 {"75 %", "p75", 0.75}, {"95 %", "p95", 0.95}, {"most", "max", 1}};

enum { N_QUANTILES = sizeof quantiles / sizeof *quantiles };

/* How many phrases have k words; for k = LONGEST_TOLD, that many or more. */
static void count_lengths(const vg_measured *words, size_t count[LONGEST_TOLD + 1])
{
    for (int k = 0; k <= LONGEST_TOLD; k++) count[k] = 0;
    for (size_t i = 0; i < words->n; i++) {
        const int k = (int)words->values[i];
        count[k < LONGEST_TOLD ? k : LONGEST_TOLD]++;
    }
}

/* ---- for people ---- */

/* Its lines, behind the line of the shard. */
static vg_status history_text(const char *history, vg_text *out)
{
    for (const char *line = history; *line;) {
        const int n = (int)strcspn(line, "\n");
        VG_TRY(vg_text_add(out, "  then: %.*s\n", n, line));
        line += n + (line[n] == '\n');
    }
    return VG_OK;
}

static vg_status shards_text(const vg_shard_statistics *s, vg_text *out)
{
    for (size_t i = 0; i < s->n_shards; i++) {
        const vg_shard_summary *shard = &s->shards[i];
        VG_TRY(vg_text_add(out, "%s: %s%s%s, %zu images in %.1f MiB", shard->path, shard->origin.source,
                           shard->origin.split_by[0] ? " by " : "", shard->origin.split_by, shard->n_images,
                           (double)shard->image_bytes / (1 << 20)));
        if (shard->n_absent) VG_TRY(vg_text_add(out, " (%zu absent)", shard->n_absent));
        VG_TRY(vg_text_add(out, ", %zu sentences, content %016llx\n", shard->n_sentences,
                           (unsigned long long)shard->content));
        VG_TRY(history_text(shard->origin.history, out));
    }
    return VG_OK;
}

static vg_status tally_text(const vg_tally *t, const char *title, vg_text *out)
{
    VG_TRY(vg_text_add(out, "%-12s %10s %10s %10s %10s\n", title, "images", "refs", "sentences", "boxes"));
    for (size_t i = 0; i < t->n; i++) {
        const vg_tally_row *row = &t->row[i];
        VG_TRY(vg_text_add(out, "%-12s %10lld %10lld %10lld %10lld\n", row->name[0] ? row->name : "(none)",
                           (long long)row->images, (long long)row->refs, (long long)row->sentences,
                           (long long)row->boxes));
    }
    return VG_OK;
}

static vg_status measures_text(const vg_shard_statistics *s, vg_text *out)
{
    VG_TRY(vg_text_add(out, "%-22s %8s", "", "mean"));
    for (int q = 0; q < N_QUANTILES; q++) VG_TRY(vg_text_add(out, " %8s", quantiles[q].title));
    for (int i = 0; i < VG_N_MEASURED; i++) {
        const vg_measured *m = &s->measured[i];
        const int digits = measures[i].digits;
        if (m->n == 0) continue;
        VG_TRY(vg_text_add(out, "\n%-22s %8.*f", measures[i].title, digits, vg_measured_mean(m)));
        for (int q = 0; q < N_QUANTILES; q++)
            VG_TRY(vg_text_add(out, " %8.*f", digits, vg_measured_quantile(m, quantiles[q].q)));
    }
    return vg_text_add(out, "\n");
}

static vg_status phrases_text(const vg_shard_statistics *s, vg_text *out)
{
    size_t count[LONGEST_TOLD + 1];
    count_lengths(&s->measured[VG_MEASURED_WORDS], count);
    VG_TRY(vg_text_add(out, "%zu phrases, %zu of them distinct; by words:", s->n_phrases, s->n_distinct_phrases));
    for (int k = 0; k <= LONGEST_TOLD; k++)
        if (count[k])
            VG_TRY(vg_text_add(out, "  %d%s: %.1f %%", k, k == LONGEST_TOLD ? " or more" : "",
                               100.0 * (double)count[k] / (double)s->n_phrases));
    return vg_text_add(out, "\n");
}

vg_status vg_shard_statistics_text(const vg_shard_statistics *s, vg_text *out)
{
    VG_TRY(shards_text(s, out));
    VG_TRY(tally_text(&s->splits, "split", out));
    if (s->kinds.n > 1 || s->kinds.row[0].name[0]) VG_TRY(tally_text(&s->kinds, "kind", out));
    VG_TRY(measures_text(s, out));
    VG_TRY(phrases_text(s, out));
    VG_TRY(vg_text_add(out, "the first sentences:\n"));
    return vg_text_add_bytes(out, s->first.data, s->first.length);
}

/* ---- for programs ---- */

static json_t *hash_json(uint64_t hash)
{
    return json_sprintf("%016llx", (unsigned long long)hash); /* JSON's numbers have 53 bits in most readers */
}

static json_t *shards_json(const vg_shard_statistics *s)
{
    json_t *list = json_array();
    for (size_t i = 0; i < s->n_shards; i++) {
        const vg_shard_summary *shard = &s->shards[i];
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:I, s:I, s:I, s:I}", "path", shard->path, "source",
                            shard->origin.source, "split_by", shard->origin.split_by, "history", shard->origin.history,
                            "inputs_hash", hash_json(shard->origin.inputs), "content_hash", hash_json(shard->content),
                            "images", (json_int_t)shard->n_images, "absent", (json_int_t)shard->n_absent, "sentences",
                            (json_int_t)shard->n_sentences, "image_bytes", (json_int_t)shard->image_bytes));
    }
    return list;
}

static json_t *tally_json(const vg_tally *t)
{
    json_t *rows = json_object();
    for (size_t i = 0; i < t->n; i++) {
        const vg_tally_row *row = &t->row[i];
        json_object_set_new(rows, row->name,
                            json_pack("{s:I, s:I, s:I, s:I}", "images", (json_int_t)row->images, "refs",
                                      (json_int_t)row->refs, "sentences", (json_int_t)row->sentences, "boxes",
                                      (json_int_t)row->boxes));
    }
    return rows;
}

static json_t *measured_json(const vg_measured *m)
{
    json_t *values = json_pack("{s:I, s:f}", "n", (json_int_t)m->n, "mean", vg_measured_mean(m));
    for (int q = 0; q < N_QUANTILES; q++)
        json_object_set_new(values, quantiles[q].key, json_real(vg_measured_quantile(m, quantiles[q].q)));
    return values;
}

static json_t *phrases_json(const vg_shard_statistics *s)
{
    size_t count[LONGEST_TOLD + 1];
    json_t *lengths = json_array();
    count_lengths(&s->measured[VG_MEASURED_WORDS], count);
    for (int k = 0; k <= LONGEST_TOLD; k++) json_array_append_new(lengths, json_integer((json_int_t)count[k]));
    return json_pack("{s:I, s:I, s:o}", "all", (json_int_t)s->n_phrases, "distinct", (json_int_t)s->n_distinct_phrases,
                     "by_words", lengths);
}

vg_status vg_shard_statistics_json(const vg_shard_statistics *s, vg_text *out)
{
    json_t *root = json_pack("{s:o, s:o, s:o, s:o}", "shards", shards_json(s), "splits", tally_json(&s->splits),
                             "kinds", tally_json(&s->kinds), "phrases", phrases_json(s));
    for (int i = 0; i < VG_N_MEASURED; i++) json_object_set_new(root, measures[i].key, measured_json(&s->measured[i]));
    char *text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    json_decref(root);
    VG_CHECK(text, VG_E_NOMEM, "no memory for the statistics as JSON");
    const vg_status st = vg_text_add(out, "%s\n", text);
    free(text);
    return st;
}
