#include "data/shard_history_impl.h"

#include <stdlib.h>
#include <string.h>

static vg_status line_add(const vg_shard_rewrite_spec *spec, vg_text *line)
{
    if (spec->from)
        VG_TRY(vg_text_add(line, "; split %s to %s, share %g, seed %llu", spec->from, spec->to, spec->share,
                           (unsigned long long)spec->seed));
    if (spec->where) VG_TRY(vg_text_add(line, "; filter where %s", spec->where));
    if (spec->without) VG_TRY(vg_text_add(line, "; filter without %zu records", spec->without->n));
    if (spec->side) VG_TRY(vg_text_add(line, "; repack side %d, quality %d", spec->side, spec->quality));
    return VG_OK;
}

vg_status vg_shard_history_line(const vg_shard_rewrite_spec *spec, char line[VG_SHARD_HISTORY_BYTES])
{
    const size_t separator = strlen("; ");
    vg_text text = {0};
    vg_status st = line_add(spec, &text);
    line[0] = '\0';
    if (st == VG_OK && text.length > separator) {
        const size_t n = text.length - separator;
        if (n < VG_SHARD_HISTORY_BYTES)
            memcpy(line, text.data + separator, n + 1);
        else
            st = vg_fail(VG_E_USAGE, "what is asked for takes %zu bytes in the history of a shard, more than %d", n,
                         VG_SHARD_HISTORY_BYTES - 1);
    }
    free(text.data);
    return st;
}

void vg_shard_history_extend(char history[VG_SHARD_HISTORY_BYTES], const char *line)
{
    const size_t n = strlen(line);
    size_t held = strlen(history), gone = 0;
    if (n == 0) return;
    while (gone < held && held - gone + 1 + n >= VG_SHARD_HISTORY_BYTES) {
        const char *feed = strchr(history + gone, '\n');
        gone = feed ? (size_t)(feed - history) + 1 : held;
    }
    memmove(history, history + gone, held - gone);
    held -= gone;
    if (held > 0) history[held++] = '\n';
    memcpy(history + held, line, n + 1);
}
