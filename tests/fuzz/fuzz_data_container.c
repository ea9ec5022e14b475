/* Any bytes as the file of a shard: refused with a sentence, or whole. Most of what runs here is libhdf5's, so by hand
 * it runs under limits of time and memory (tests/claims/damage); data/FORMAT.md says where our promise ends. */
#define _XOPEN_SOURCE 700 /* mkstemps */
#define _DEFAULT_SOURCE
#include "data/shard_impl.h"
#include "data/shard_tools.h"
#include "data/shard_writer.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* HDF5 loses memory over a damaged object header; the handles we must close are counted instead. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libhdf5";
}

static char path[] = "/dev/shm/vlgtr-fuzz-XXXXXX.h5"; /* HDF5 wants a name that realpath knows */
static int file = -1;

static void file_remove(void)
{
    unlink(path);
}

static vg_status verify(void)
{
    const char *name = path;
    vg_shard_verify_report report;
    const vg_status st = vg_shard_verify(&name, 1, false, &report);
    vg_shard_verify_report_release(&report);
    return st;
}

/* A whole shard must pass, or nothing that comes after means anything. */
static void file_make(void)
{
    const vg_new_sentence sentence = {.text = "dog", .text_bytes = 3, .split = "train", .kind = ""};
    const vg_new_image image = {.width = 4,
                                .height = 3,
                                .file_name = "a.jpg",
                                .bytes = (const unsigned char *)"bytes",
                                .n_bytes = 5,
                                .sentences = &sentence,
                                .n_sentences = 1};
    vg_shard_writer *w = NULL;
    file = mkstemps(path, 3);
    if (file < 0) abort();
    atexit(file_remove);
    if (vg_shard_writer_open(path, "fuzz", "", &w) != VG_OK || vg_shard_writer_add(w, &image) != VG_OK ||
        vg_shard_writer_close(w, 0) != VG_OK || verify() != VG_OK)
        abort();
    close(file);
    if ((file = open(path, O_RDWR | O_CLOEXEC)) < 0) abort(); /* the writer put another file in its place */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (file < 0) file_make();
    if (ftruncate(file, 0) != 0 || pwrite(file, data, size, 0) != (ssize_t)size) abort();
    const vg_status st = verify();
    if (st != VG_OK && (st != VG_E_DATA || !strstr(vg_error_text(), path))) abort();
    if (H5Fget_obj_count(H5F_OBJ_ALL, H5F_OBJ_ALL) != 0) abort();
    return 0;
}
