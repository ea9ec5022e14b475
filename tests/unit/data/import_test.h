/* What tests of importers share. The includer defines _XOPEN_SOURCE 700 first. */
#ifndef VG_TESTS_IMPORT_TEST_H
#define VG_TESTS_IMPORT_TEST_H

#include "data/import.h"
#include "data/shard.h"
#include "tests/unit/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/data/must.h"

#define IN_SCRATCH(test) cmocka_unit_test_setup_teardown(test, scratch_make, scratch_remove)

/* Where the pictures of the fixtures lie. */
#define PICTURES FIXTURES "/import/images/mscoco/images/train2014"

static inline void assert_split(const vg_import_report *report, const char *name, int images, int refs, int sentences)
{
    for (int i = 0; i < report->n_splits; i++) {
        const vg_import_split *s = &report->splits[i];
        if (strcmp(s->name, name) != 0) continue;
        if (s->images != images || s->refs != refs || s->sentences != sentences)
            fail_msg("%s: %lld images, %lld refs, %lld sentences instead of %d, %d, %d", name, (long long)s->images,
                     (long long)s->refs, (long long)s->sentences, images, refs, sentences);
        return;
    }
    fail_msg("no split '%s' was counted", name);
}

/* Copies a picture of the fixtures to folder/name, whose folder is made. */
static inline void picture_put(const char *picture, const char *folder, const char *below, const char *name)
{
    char path[512];
    char *bytes = NULL;
    size_t n = 0;
    snprintf(path, sizeof path, PICTURES "/%s", picture);
    MUST(vg_file_read(path, 1 << 20, &bytes, &n));
    snprintf(path, sizeof path, "%s/%s", folder, below);
    MUST(vg_make_directories(path));
    snprintf(path, sizeof path, "%s/%s/%s", folder, below, name);
    MUST(vg_file_write_atomic(path, bytes, n));
    free(bytes);
}

/* Imports into folder/out. */
static inline vg_import_report import_into(const char *set, const char *root, const char *folder,
                                           const vg_import_options *options)
{
    char out[512];
    vg_import_report report;
    snprintf(out, sizeof out, "%s/out", folder);
    MUST(vg_import(set, root, out, options, &report));
    return report;
}

/* Each of these lines was written where a record was set aside, and no other. */
static inline void assert_set_aside(const vg_import_report *report, const char *const *lines, size_t n)
{
    const char *bad = report->bad.data ? report->bad.data : "";
    size_t written = 0;
    for (size_t i = 0; i < n; i++)
        if (!strstr(bad, lines[i])) fail_msg("'%s' is not in\n%s", lines[i], bad);
    for (const char *at = bad; (at = strchr(at, '\n')); at++) written++;
    if (written != n) fail_msg("%zu lines instead of %zu:\n%s", written, n, bad);
}

/* The sentence with this id in a split of folder/out, through the shards; its texts and boxes live as long as *split.
 */
static inline vg_sentence sentence_of(const char *folder_of_out, const char *split_name, int64_t id, vg_split **split)
{
    vg_sentence s;
    char out[512];
    snprintf(out, sizeof out, "%s/out", folder_of_out);
    const char *folder = out;
    MUST(vg_split_open(&folder, 1, split_name, split));
    for (int64_t i = 0; i < vg_split_sentence_count(*split); i++) {
        vg_split_sentence(*split, i, &s);
        if (s.sentence_id == id) return s;
    }
    fail_msg("no sentence %lld in %s", (long long)id, split_name);
    return (vg_sentence){0};
}

#endif
