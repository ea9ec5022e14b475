/* Any bytes as a phrase: where it may be mirrored, mirroring it twice gives it back, and it still may be in between. */
#include "data/augment.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data;
    vg_text once = {0}, twice = {0};
    bool swapped = false, again = false;
    if (!vg_phrase_may_mirror(text, size)) return 0;
    if (vg_phrase_mirror(text, size, &once, &swapped) != VG_OK) abort();
    if (swapped) {
        if (!vg_phrase_may_mirror(once.data, once.length)) abort();
        if (vg_phrase_mirror(once.data, once.length, &twice, &again) != VG_OK || !again) abort();
        if (twice.length != size || memcmp(twice.data, text, size) != 0) abort();
    }
    free(once.data);
    free(twice.data);
    return 0;
}
