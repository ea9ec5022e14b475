/* The tokenizer's two halves: tokenizer_files.c reads the files into a vg_bpe, tokenizer.c encodes with it. */
#ifndef VG_DATA_TOKENIZER_IMPL_H
#define VG_DATA_TOKENIZER_IMPL_H

#include "data/tokenizer.h"

/* The symbols `left right` become `merged`; ids of the vocabulary. */
typedef struct vg_merge {
    int32_t left, right, merged;
} vg_merge;

typedef struct vg_bpe {
    int32_t byte_ids[256]; /* the symbol of each byte; -1 where the vocabulary has none: it is <unk> and never merges */
    vg_merge *merges;      /* [n_merges], in order of rank: the first is merged first */
    uint32_t n_merges;
    uint32_t *slots; /* [n_slots] a hash table with linear probing: rank + 1 of the pair kept here, 0 when free */
    uint32_t n_slots;
    int32_t size;
    vg_special_ids special;
    uint64_t hash;
} vg_bpe;

enum { VG_NO_MERGE = -1 };

/* Errors: as vg_tokenizer_open. After an error the bpe can only be released. */
vg_status vg_bpe_open(const char *folder, vg_bpe *bpe);
void vg_bpe_release(vg_bpe *bpe);

/* The rank of the merge of two symbols, or VG_NO_MERGE. */
int32_t vg_bpe_find(const vg_bpe *bpe, int32_t left, int32_t right);

/* vg_tokenizer_encode, but white space at both ends is kept. */
vg_status vg_tokenizer_encode_untrimmed(const vg_tokenizer *tokenizer, const char *text, size_t n, int max_tokens,
                                        int32_t *ids, int *n_ids);

#endif
