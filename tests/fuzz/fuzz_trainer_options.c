/* Run configurations: whatever the bytes, a status and no harm; what is accepted prints to what reads back. */
#include "trainer/options.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    vg_options o, again;
    if (vg_options_parse(&o, (const char *)data, size, "fuzz", NULL, 0) != VG_OK) return 0;
    vg_text text = {0};
    if (vg_options_print(&o, &text) != VG_OK) abort();
    if (vg_options_parse(&again, text.data, text.length, "printed", NULL, 0) != VG_OK) abort();
    vg_options_release(&again);
    vg_options_release(&o);
    free(text.data);
    return 0;
}
