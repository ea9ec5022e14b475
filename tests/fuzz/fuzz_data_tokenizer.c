/* Any bytes as a phrase; or, where they begin with '{', as vocab.json up to the first NUL and merges.txt behind it. */
#define _DEFAULT_SOURCE /* mkdtemp */
#include "data/tokenizer_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_TOKENS = 64 };

static void encode(const vg_tokenizer *t, const char *text, size_t n)
{
    const vg_special_ids special = vg_tokenizer_special_ids(t);
    for (int most = 2; most <= MOST_TOKENS; most *= 2) {
        int32_t ids[MOST_TOKENS];
        int count = 0;
        if (vg_tokenizer_encode(t, text, n, most, ids, &count) != VG_OK) abort();
        if (count < 2 || count > most || ids[0] != special.bos || ids[count - 1] != special.eos) abort();
        for (int k = 0; k < count; k++)
            if (ids[k] < 0 || ids[k] >= vg_tokenizer_size(t)) abort();
    }
}

static void put(const char *path, const uint8_t *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0) abort();
}

static char folder[] = "/tmp/vlgtr-fuzz-XXXXXX";

static void folder_remove(void)
{
    rmdir(folder);
}

static void open_files(const uint8_t *data, size_t size)
{
    static char vocab[64], merges[64];
    if (!*vocab) {
        if (!mkdtemp(folder)) abort();
        atexit(folder_remove);
        snprintf(vocab, sizeof vocab, "%s/vocab.json", folder);
        snprintf(merges, sizeof merges, "%s/merges.txt", folder);
    }
    const uint8_t *nul = memchr(data, 0, size);
    const size_t n_vocab = nul ? (size_t)(nul - data) : size;
    put(vocab, data, n_vocab);
    put(merges, nul ? nul + 1 : data, nul ? size - n_vocab - 1 : 0);
    vg_tokenizer *t = NULL;
    if (vg_tokenizer_open(folder, &t) == VG_OK) encode(t, "the red circle, it's 12", 23);
    vg_tokenizer_close(t);
    unlink(vocab);
    unlink(merges);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static vg_tokenizer *fixture;
    if (!fixture && vg_tokenizer_open(FIXTURES "/tokenizer", &fixture) != VG_OK) abort();
    encode(fixture, (const char *)data, size);
    if (size && data[0] == '{') open_files(data, size);
    return 0;
}
