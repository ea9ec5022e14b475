#include "data/import/split_rule_impl.h"

#include "data/import/file_window_impl.h"
#include "data/import/image_files_impl.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

typedef char split_name[VG_SHARD_NAME_BYTES];

/* An image of the list, by the hash of its id or file name. */
typedef struct listed {
    uint64_t image;
    int64_t line;
    int32_t split;
    bool met; /* the set has it */
} listed;

struct vg_split_rule {
    split_name splits[VG_IMPORT_MAX_SPLITS]; /* the first is that of what nothing else claims */
    double shares[VG_IMPORT_MAX_SPLITS];     /* of images that are not listed */
    int n_splits;
    listed *list; /* by hash */
    size_t n_list, list_capacity;
    vg_text name; /* of the line at hand */
    uint64_t seed;
};

/* The row of a split, added when it is new; -1 where there are too many. */
static int split_row(vg_split_rule *rule, const char *name, size_t n)
{
    for (int i = 0; i < rule->n_splits; i++)
        if (strlen(rule->splits[i]) == n && memcmp(rule->splits[i], name, n) == 0) return i;
    if (rule->n_splits == VG_IMPORT_MAX_SPLITS) return -1;
    memcpy(rule->splits[rule->n_splits], name, n);
    return rule->n_splits++;
}

/* ---- shares: "val=0.05,test=0.05" ---- */

static const double ROUNDING = 1e-9; /* of the whole, by which decimal fractions may miss it */

static vg_status shares_read(vg_split_rule *rule, const char *shares)
{
    bool named[VG_IMPORT_MAX_SPLITS] = {false};
    double sum = 0;
    for (const char *at = shares; at && *at;) {
        const size_t n = strcspn(at, "=,");
        char *end = NULL;
        const double share = at[n] == '=' ? strtod(at + n + 1, &end) : -1;
        const bool good = n >= 1 && n < VG_SHARD_NAME_BYTES && end && end > at + n + 1 && (*end == ',' || !*end) &&
                          share >= 0 && share <= 1;
        VG_CHECK(good, VG_E_USAGE, "--shares: '%s' is not like val=0.05,test=0.05", shares);
        const int row = split_row(rule, at, n);
        VG_CHECK(row >= 0, VG_E_USAGE, "--shares: more than %d splits", VG_IMPORT_MAX_SPLITS);
        VG_CHECK(!named[row], VG_E_USAGE, "--shares: '%s' gives split '%s' two shares", shares, rule->splits[row]);
        named[row] = true;
        rule->shares[row] = share;
        sum += share;
        at = *end ? end + 1 : end;
    }
    VG_CHECK(sum <= 1 + ROUNDING, VG_E_USAGE, "--shares: '%s' adds up to %g, more than the whole", shares, sum);
    VG_CHECK(!named[0] || sum >= 1 - ROUNDING, VG_E_USAGE,
             "--shares: '%s' adds up to %g, and the rest is %s, too: leave that out, or give it all of the rest",
             shares, sum, rule->splits[0]);
    return VG_OK;
}

/* ---- the list: a line for each image ---- */

static int by_image(const void *a, const void *b)
{
    const listed *x = a, *y = b;
    if (x->image != y->image) return x->image < y->image ? -1 : 1;
    return (x->line > y->line) - (x->line < y->line);
}

/* "<image id or file name> <split>", white space between, which the name may hold, too. */
static vg_status line_read(vg_split_rule *rule, const char *path, int64_t number, const char *line, size_t n)
{
    while (n > 0 && isspace((unsigned char)line[n - 1])) n--;
    size_t split = n;
    while (split > 0 && !isspace((unsigned char)line[split - 1])) split--;
    size_t image = split;
    while (image > 0 && isspace((unsigned char)line[image - 1])) image--;
    if (n == 0) return VG_OK;
    VG_CHECK(image > 0 && n - split < VG_SHARD_NAME_BYTES && !memchr(line, '\0', n), VG_E_DATA,
             "%s: line %lld is not an image id or file name, white space, and a split of up to %d bytes", path,
             (long long)number, VG_SHARD_NAME_BYTES - 1);
    const int row = split_row(rule, line + split, n - split);
    VG_CHECK(row >= 0, VG_E_DATA, "%s: line %lld: more than %d splits", path, (long long)number, VG_IMPORT_MAX_SPLITS);
    VG_TRY(vg_grow(&rule->list, &rule->list_capacity, rule->n_list + 1, sizeof *rule->list));
    VG_TRY(vg_name_plain(line, image, &rule->name));
    rule->list[rule->n_list++] =
        (listed){.image = XXH3_64bits(rule->name.data, rule->name.length), .line = number, .split = row};
    return VG_OK;
}

static vg_status lines_read(vg_split_rule *rule, vg_file_window *w)
{
    int64_t number = 0;
    const char *line;
    size_t n;
    for (;;) {
        VG_TRY(vg_file_window_line(w, &line, &n));
        if (!line) break;
        VG_TRY(line_read(rule, w->path, ++number, line, n));
    }
    if (rule->n_list > 0) qsort(rule->list, rule->n_list, sizeof *rule->list, by_image);
    for (size_t i = 1; i < rule->n_list; i++)
        VG_CHECK(rule->list[i].image != rule->list[i - 1].image || rule->list[i].split == rule->list[i - 1].split,
                 VG_E_DATA, "%s: an image stands in both %s and %s", w->path, rule->splits[rule->list[i - 1].split],
                 rule->splits[rule->list[i].split]);
    return VG_OK;
}

static vg_status list_read(vg_split_rule *rule, const char *path)
{
    vg_file_window window;
    VG_TRY(vg_file_window_open(&window, path));
    const vg_status st = lines_read(rule, &window);
    vg_file_window_close(&window);
    return st;
}

/* ---- the rule ---- */

vg_status vg_split_rule_new(const vg_import_source *source, vg_split_rule **out)
{
    vg_split_rule *rule = vg_new0(sizeof *rule);
    VG_CHECK(rule, VG_E_NOMEM, "no memory for splits");
    rule->seed = source->seed;
    (void)split_row(rule, "train", strlen("train"));
    vg_status st = shares_read(rule, source->shares);
    if (st == VG_OK && source->splits) st = list_read(rule, source->splits);
    if (st != VG_OK) {
        vg_split_rule_free(rule);
        return st;
    }
    *out = rule;
    return VG_OK;
}

void vg_split_rule_free(vg_split_rule *rule)
{
    if (!rule) return;
    free(rule->list);
    free(rule->name.data);
    free(rule);
}

/* The first of the lines for this name, NULL when there is none; marks them all as met. */
static const listed *list_find(vg_split_rule *rule, const char *name)
{
    const uint64_t image = XXH3_64bits(name, strlen(name));
    const size_t first = vg_first_from(rule->list, rule->n_list, sizeof *rule->list, image);
    size_t end = first;
    while (end < rule->n_list && rule->list[end].image == image) rule->list[end++].met = true;
    return end > first ? &rule->list[first] : NULL;
}

static const char *by_share(const vg_split_rule *rule, int64_t image_id)
{
    uint32_t bits[4];
    vg_rng_block(vg_rng_key_of(rule->seed, vg_rng_purpose("import split")), (uint64_t)image_id, 0, 0, bits);
    double left = (double)vg_uniform(bits[0]);
    for (int i = 1; i < rule->n_splits; i++) {
        left -= rule->shares[i];
        if (left < 0) return rule->splits[i];
    }
    return rule->splits[0];
}

const char *vg_split_rule_of(vg_split_rule *rule, int64_t image_id, const char *file_name)
{
    char id[24];
    snprintf(id, sizeof id, "%lld", (long long)image_id);
    const listed *names[] = {list_find(rule, id), list_find(rule, file_name), list_find(rule, vg_base_name(file_name))};
    const listed *found = names[0] ? names[0] : names[1] ? names[1] : names[2];
    if (!found) return by_share(rule, image_id);
    return strcmp(rule->splits[found->split], "-") == 0 ? NULL : rule->splits[found->split];
}

vg_status vg_split_rule_unmet(const vg_split_rule *rule, int64_t *n, int64_t *first_line)
{
    *n = 0;
    for (size_t i = 0; i < rule->n_list; i++) {
        const listed *l = &rule->list[i];
        if (l->met) continue;
        if (*n == 0 || l->line < *first_line) *first_line = l->line;
        ++*n;
    }
    VG_CHECK(*n == 0 || *n < (int64_t)rule->n_list, VG_E_DATA,
             "--splits: none of the %lld lines names an image that the set has phrases of, by its id or file name",
             (long long)*n);
    return VG_OK;
}
