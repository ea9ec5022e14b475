/* What was done to shards since they were imported: a line for each rewriting. Inside data/. */
#ifndef VG_DATA_SHARD_HISTORY_IMPL_H
#define VG_DATA_SHARD_HISTORY_IMPL_H

#include "data/shard_impl.h"
#include "data/shard_tools.h"

/* The line of a rewriting; empty where records stay as they are. Errors: VG_E_USAGE (too long), VG_E_NOMEM. */
vg_status vg_shard_history_line(const vg_shard_rewrite_spec *spec, char line[VG_SHARD_HISTORY_BYTES]);

/* Puts a line behind; the oldest ones go where there is no room. An empty line changes nothing. */
void vg_shard_history_extend(char history[VG_SHARD_HISTORY_BYTES], const char *line);

#endif
