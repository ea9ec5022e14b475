/* What fuzzers of importers share: a folder of their own, and what the seam promises of every record. The includer
 * defines _XOPEN_SOURCE 700 first (mkdtemp). */
#ifndef VG_TESTS_IMPORT_FUZZ_H
#define VG_TESTS_IMPORT_FUZZ_H

#include "data/import.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A fresh file each time: writing over one makes some file systems wait for the disk. */
static inline void fuzz_write(const char *path, const void *data, size_t size)
{
    unlink(path);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
    close(fd);
}

/* With the eyes of a shard's reader. */
static inline void fuzz_check_record(const vg_import_record *r)
{
    if (r->n_sentences == 0 || strstr(r->file_name, "../") == r->file_name) abort();
    for (size_t i = 0; i < r->n_sentences; i++) {
        const vg_new_sentence *s = &r->sentences[i];
        if (s->text_bytes == 0 || memchr(s->text, '\0', s->text_bytes) || !*s->split || strlen(s->split) > 63) abort();
        for (int b = 0; b < s->n_boxes; b++) {
            const float *box = s->boxes + 4 * (ptrdiff_t)b;
            if (!(box[0] >= 0 && box[1] >= 0 && box[0] < box[2] && box[1] < box[3])) abort();
            if (r->width > 0 && !(box[2] <= (float)r->width)) abort();
            if (r->height > 0 && !(box[3] <= (float)r->height)) abort();
        }
    }
}

/* Reads all records of a set: refused with a sentence, or each as promised. */
static inline void fuzz_read(const char *set, const char *root, const char *split_by, const char *scratch)
{
    const vg_import_source source = {.set = set, .root = root, .split_by = split_by, .scratch = scratch};
    const vg_importer *importer = vg_import_set_find(set)->importer;
    const vg_import_options options = {.strict = false};
    vg_import_report report = {0};
    vg_import_log *log = vg_import_log_new(&report, &options);
    void *state = NULL;
    char taken[VG_IMPORT_NAME_BYTES] = "";
    if (!log) abort();
    vg_status st = importer->open(&source, log, &state, taken);
    for (bool more = st == VG_OK; more && st == VG_OK;) {
        vg_import_record record;
        st = importer->next(state, &record, &more);
        if (st == VG_OK && more) fuzz_check_record(&record);
    }
    if (st != VG_OK && st != VG_E_DATA) abort();
    if (state) importer->close(state);
    vg_import_log_free(log);
    vg_import_report_release(&report);
}

#endif
