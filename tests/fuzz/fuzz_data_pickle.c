/* Any bytes as a pickle: refused with a sentence, or a tree that a plain recursive walk gets through. */
#include "data/pickle.h"
#include "data/utf8.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static long walked;

static void walk(const vg_pickle_value *v, int depth)
{
    size_t n = 0;
    if (!v || depth > VG_PICKLE_DEPTH || walked++ > VG_PICKLE_WEIGHT) abort();
    const char *text = vg_pickle_text(v, &n);
    if (text && (text[n] != '\0' || !vg_utf8_valid(text, n))) abort();
    for (size_t i = 0; i < vg_pickle_count(v) && walked < 100000; i++) {
        const vg_pickle_value *key = NULL, *item = vg_pickle_item(v, i);
        if (vg_pickle_pair(v, i, &key, &item)) walk(key, depth + 1);
        walk(item, depth + 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    vg_pickle *pickle = NULL;
    const vg_status st = vg_pickle_parse("input", data, size, &pickle);
    if (st != VG_OK) {
        if (st != VG_E_DATA || strncmp(vg_error_text(), "input: byte ", 12) != 0) abort();
        return 0;
    }
    walked = 0;
    walk(vg_pickle_root(pickle), 0);
    vg_pickle_free(pickle);
    return 0;
}
