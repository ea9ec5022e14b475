/* The distinct phrases of a split: sentences with the same text share a row. Where pictures may be mirrored, so do
 * sentences with left and right exchanged. */
#ifndef VG_TRAINER_PHRASE_TABLE_H
#define VG_TRAINER_PHRASE_TABLE_H

#include "data/shard.h"

typedef struct vg_phrase_table {
    int64_t *row_of;    /* [n_sentences] of the split, then, with swaps, the same of its swapped sentences */
    const char **texts; /* [n_rows] in order of first appearance; the split's, or one of: */
    char **swapped;     /* [n_sentences] own copies, NULL where a phrase has nothing to exchange; NULL without swaps */
    int64_t n_sentences, n_rows;
    uint64_t hash; /* of the texts */
} vg_phrase_table;

/* `blind`: all sentences are read as the empty phrase and share one row. The split is kept until release. Errors:
 * VG_E_NOMEM. */
vg_status vg_phrase_table_init(vg_phrase_table *table, const vg_split *split, bool blind, bool swaps);
void vg_phrase_table_release(vg_phrase_table *table);

#endif
