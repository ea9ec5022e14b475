/* Byte-level BPE as RoBERTa uses it: UTF-8 text to token ids, `<s>` pieces `</s>`.
 *
 *     VG_TRY(vg_tokenizer_open("roberta-base", &t));            reads vocab.json and merges.txt of that folder
 *     int32_t ids[64];
 *     VG_TRY(vg_tokenizer_encode(t, "the red cup", 11, 64, ids, &n));
 *
 * Source: Radford et al. 2019 (GPT-2), section 2.2; the rules are those of hf/roberta/tokenization_roberta.py. */
#ifndef VG_DATA_TOKENIZER_H
#define VG_DATA_TOKENIZER_H

#include "kernels/base/base.h"

typedef struct vg_tokenizer vg_tokenizer;

enum { VG_TEXT_BYTES_MAX = 1 << 14 };

/* Ids of the five pieces every vocabulary must hold; `mask` may be absent (-1). */
typedef struct vg_special_ids {
    int32_t bos, pad, eos, unk, mask;
} vg_special_ids;

/* Opens folder/vocab.json and folder/merges.txt. Both are untrusted: ids must be unique and below 2^20, pieces must use
 * the byte alphabet, merges must name known pieces. Errors: VG_E_DATA naming file and line, VG_E_NOMEM. */
vg_status vg_tokenizer_open(const char *folder, vg_tokenizer **out);
void vg_tokenizer_close(vg_tokenizer *tokenizer);

/* Encodes n bytes of UTF-8 (leading and trailing white space is trimmed; case is kept; invalid bytes are encoded byte
 * by byte): the first max_tokens - 2 pieces between <s> and </s>. Of a longer text the first VG_TEXT_BYTES_MAX bytes
 * are read, far more than 512 tokens of prose need. ids holds max_tokens (at least 2); *n_ids is the count.
 * Special-token text inside a phrase is plain text. Safe to call from several threads. Errors: VG_E_NOMEM. */
vg_status vg_tokenizer_encode(const vg_tokenizer *tokenizer, const char *text, size_t n, int max_tokens, int32_t *ids,
                              int *n_ids);

vg_special_ids vg_tokenizer_special_ids(const vg_tokenizer *tokenizer);
int32_t vg_tokenizer_size(const vg_tokenizer *tokenizer);  /* largest id + 1 */
uint64_t vg_tokenizer_hash(const vg_tokenizer *tokenizer); /* XXH3 of both files; equal hash, equal ids */

#endif
