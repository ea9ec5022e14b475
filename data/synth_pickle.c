/* Writing pickles, protocol 2, the way Python's own writer lays them out (without memo entries, which readers do not
 * need). Source: the opcode table of CPython's Lib/pickletools.py. */
#include "data/synth_impl.h"

#include <string.h>

static void pickle_put(synth_pickle *pickle, const void *bytes, size_t n)
{
    VG_KEEP(pickle->status, vg_text_add_bytes(&pickle->bytes, bytes, n));
}

static void pickle_put_u32(synth_pickle *pickle, uint32_t value)
{
    const unsigned char bytes[4] = {(unsigned char)value, (unsigned char)(value >> 8), (unsigned char)(value >> 16),
                                    (unsigned char)(value >> 24)};
    pickle_put(pickle, bytes, sizeof bytes);
}

void vg_synth_pickle_begin(synth_pickle *pickle)
{
    pickle_put(pickle, "\x80\x02", 2); /* PROTO 2 */
}

void vg_synth_pickle_list(synth_pickle *pickle)
{
    pickle_put(pickle, "](", 2); /* EMPTY_LIST MARK */
}

void vg_synth_pickle_dict(synth_pickle *pickle)
{
    pickle_put(pickle, "}(", 2); /* EMPTY_DICT MARK */
}

void vg_synth_pickle_list_end(synth_pickle *pickle)
{
    pickle_put(pickle, "e", 1); /* APPENDS */
}

void vg_synth_pickle_dict_end(synth_pickle *pickle)
{
    pickle_put(pickle, "u", 1); /* SETITEMS */
}

void vg_synth_pickle_int(synth_pickle *pickle, int32_t value)
{
    pickle_put(pickle, "J", 1); /* BININT */
    pickle_put_u32(pickle, (uint32_t)value);
}

void vg_synth_pickle_string(synth_pickle *pickle, const char *value)
{
    const size_t n = strlen(value);
    pickle_put(pickle, "X", 1); /* BINUNICODE */
    pickle_put_u32(pickle, (uint32_t)n);
    pickle_put(pickle, value, n);
}

void vg_synth_pickle_end(synth_pickle *pickle)
{
    pickle_put(pickle, ".", 1); /* STOP */
}
