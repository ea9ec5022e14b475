/* Any bytes as one of the two files of the RefCOCO layout, beside a good one of the other kind: instances.json when
 * they start with a brace, else refs(x).p. Refused with a sentence, or records that a shard takes. */
#define _XOPEN_SOURCE 700 /* mkdtemp */
#include "data/import.h"
#include "data/shard_impl.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char good_json[] =
    "{\"images\": [{\"id\": 1, \"file_name\": \"a.jpg\", \"width\": 40, \"height\": 30}], \"annotations\": [{\"id\": "
    "5, "
    "\"image_id\": 1, \"bbox\": [1, 2.5, 10, 11]}, {\"id\": 6, \"image_id\": 1, \"bbox\": [0, 0, 40, 30]}]}";

/* [{ref_id: 2, image_id: 1, ann_id: 5, ann_ids: [5, 6], split: "testAB", sentences: [{sent_id: 3, sent: "dog"}]}] */
static const char good_refs[] =
    "](dS'ref_id'\nI2\nsS'image_id'\nI1\nsS'ann_id'\nI5\nsS'ann_ids'\n(lI5\naI6\nasS'split'\n"
    "S'testAB'\nsS'sentences'\n(l(dS'sent_id'\nI3\nsS'sent'\nS'dog'\nsasa.";

static char folder[] = "/tmp/vlgtr-fuzz-XXXXXX";
static char json_path[64], refs_path[64];

static void folder_remove(void)
{
    unlink(json_path);
    unlink(refs_path);
    rmdir(folder);
}

static void folder_make(void)
{
    if (!mkdtemp(folder)) abort();
    snprintf(json_path, sizeof json_path, "%s/instances.json", folder);
    snprintf(refs_path, sizeof refs_path, "%s/refs(x).p", folder);
    atexit(folder_remove);
}

/* A fresh file each time: writing over one makes some file systems wait for the disk. */
static void write_file(const char *path, const void *data, size_t size)
{
    unlink(path);
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
    close(fd);
}

/* What the seam promises of a record, seen with the eyes of a shard's reader. */
static void check_record(const vg_import_record *r)
{
    if (r->n_sentences == 0 || strstr(r->file_name, "../") == r->file_name) abort();
    for (size_t i = 0; i < r->n_sentences; i++) {
        const vg_new_sentence *s = &r->sentences[i];
        if (s->text_bytes == 0 || memchr(s->text, '\0', s->text_bytes) || !*s->split || strlen(s->split) > 63) abort();
        for (int b = 0; b < s->n_boxes; b++) {
            const float *box = s->boxes + 4 * (ptrdiff_t)b;
            if (!(box[0] >= 0 && box[1] >= 0 && box[0] < box[2] && box[1] < box[3])) abort();
            if (!(box[2] <= (float)r->width && box[3] <= (float)r->height)) abort();
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!json_path[0]) folder_make();
    const bool is_json = size > 0 && data[0] == '{';
    write_file(is_json ? json_path : refs_path, data, size);
    if (is_json)
        write_file(refs_path, good_refs, sizeof good_refs - 1);
    else
        write_file(json_path, good_json, sizeof good_json - 1);
    const vg_import_source source = {.set = "refcoco", .root = folder, .split_by = "x"};
    const vg_importer *importer = vg_import_set_find("refcoco")->importer;
    vg_import_report report = {0};
    vg_import_log *log = vg_import_log_new(&report, false, false);
    void *state = NULL;
    const char *split_by = NULL;
    vg_status st = importer->open(&source, log, &state, &split_by);
    for (bool more = st == VG_OK; more && st == VG_OK;) {
        vg_import_record record;
        st = importer->next(state, &record, &more);
        if (st == VG_OK && more) check_record(&record);
    }
    if (st != VG_OK && st != VG_E_DATA) abort();
    importer->close(state);
    vg_import_log_free(log);
    vg_import_report_release(&report);
    return 0;
}
