/* Encoding: trim, split by the regular expression, then merge the bytes of each piece. Between two calls nothing is
 * remembered, so threads share a tokenizer without a lock. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "data/tokenizer_impl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include <pcre2.h>

/* The Unicode White_Space characters. Written out, because PCRE2's own \s also holds U+180E, which is none. */
#define WHITE_SPACE                                                                                     \
    " \t\n\v\f\r\xc2\x85\u00A0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200A" \
    "\u2028\u2029\u202F\u205F\u3000"

/* Source: vl-gtr-model 2.4, the pre-split; the alternatives are tried in this order. */
#define PIECE_PATTERN                                                             \
    "'(?:s|t|re|ve|m|ll|d)| ?\\p{L}+| ?\\p{N}+| ?[^" WHITE_SPACE "\\p{L}\\p{N}]+" \
    "|[" WHITE_SPACE "]+(?![^" WHITE_SPACE "])|[" WHITE_SPACE "]+"

enum { SMALL_TEXT_BYTES = 256 };

struct vg_tokenizer {
    vg_bpe bpe;
    pcre2_code *pattern;
};

static vg_status pattern_compile(vg_tokenizer *t)
{
    int error = 0;
    PCRE2_SIZE place = 0;
    t->pattern = pcre2_compile((PCRE2_SPTR)PIECE_PATTERN, PCRE2_ZERO_TERMINATED,
                               PCRE2_UTF | PCRE2_UCP | PCRE2_MATCH_INVALID_UTF | PCRE2_ANCHORED, &error, &place, NULL);
    VG_CHECK(t->pattern, VG_E_BUG, "the tokenizer's pattern cannot be compiled (PCRE2 error %d at %zu)", error, place);
    pcre2_jit_compile(t->pattern, PCRE2_JIT_COMPLETE); /* where it fails, matching is slower and the same */
    return VG_OK;
}

vg_status vg_tokenizer_open(const char *folder, vg_tokenizer **out)
{
    vg_tokenizer *t = vg_new0(sizeof *t);
    VG_CHECK(t, VG_E_NOMEM, "%s: no memory for a tokenizer", folder);
    vg_status st = vg_bpe_open(folder, &t->bpe);
    if (st == VG_OK) st = pattern_compile(t);
    if (st != VG_OK) {
        vg_tokenizer_close(t);
        return st;
    }
    *out = t;
    return VG_OK;
}

void vg_tokenizer_close(vg_tokenizer *t)
{
    if (!t) return;
    pcre2_code_free(t->pattern);
    vg_bpe_release(&t->bpe);
    free(t);
}

vg_special_ids vg_tokenizer_special_ids(const vg_tokenizer *t)
{
    return t->bpe.special;
}

int32_t vg_tokenizer_size(const vg_tokenizer *t)
{
    return t->bpe.size;
}

uint64_t vg_tokenizer_hash(const vg_tokenizer *t)
{
    return t->bpe.hash;
}

/* ---- white space at the ends ---- */

static size_t utf8_length(const char *c)
{
    const unsigned char lead = (unsigned char)*c;
    return lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
}

/* Bytes of the white-space character at the start (or the end) of text, 0 when there is none. */
static size_t space_at_edge(const char *text, size_t n, bool at_end)
{
    for (const char *space = WHITE_SPACE; *space; space += utf8_length(space)) {
        const size_t length = utf8_length(space);
        if (length <= n && memcmp(at_end ? text + n - length : text, space, length) == 0) return length;
    }
    return 0;
}

static void trim(const char **text, size_t *n)
{
    size_t length;
    while ((length = space_at_edge(*text, *n, false)) > 0) {
        *text += length;
        *n -= length;
    }
    while ((length = space_at_edge(*text, *n, true)) > 0) *n -= length;
}

/* ---- merging ---- */

enum { STALE = -2 }; /* a rank that must be looked up again */

/* A piece being merged: its symbols, and for each the rank of the merge with its right neighbour. */
typedef struct piece {
    int32_t *symbols, *ranks;
    size_t n;
} piece;

static void ranks_refresh(const vg_bpe *bpe, piece *p)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->ranks[i] == STALE)
            p->ranks[i] = i + 1 < p->n ? vg_bpe_find(bpe, p->symbols[i], p->symbols[i + 1]) : VG_NO_MERGE;
}

static int32_t rank_lowest(const piece *p)
{
    uint32_t lowest = (uint32_t)VG_NO_MERGE; /* as unsigned it is the largest */
    for (size_t i = 0; i < p->n; i++)
        if ((uint32_t)p->ranks[i] < lowest) lowest = (uint32_t)p->ranks[i];
    return (int32_t)lowest;
}

/* Merges every pair of this rank, left to right; in "aaa" the first two a's are taken. */
static void merge_all(const vg_bpe *bpe, piece *p, int32_t rank)
{
    size_t kept = 0;
    for (size_t i = 0; i < p->n; i++, kept++) {
        const bool here = p->ranks[i] == rank;
        p->symbols[kept] = here ? bpe->merges[rank].merged : p->symbols[i];
        p->ranks[kept] = here ? STALE : p->ranks[i];
        if (here && kept > 0) p->ranks[kept - 1] = STALE;
        if (here) i++;
    }
    p->n = kept;
    ranks_refresh(bpe, p);
}

static void piece_merge(const vg_bpe *bpe, const char *bytes, size_t n, piece *p)
{
    p->n = n;
    for (size_t i = 0; i < n; i++) {
        p->symbols[i] = bpe->byte_ids[(unsigned char)bytes[i]];
        p->ranks[i] = STALE;
    }
    ranks_refresh(bpe, p);
    for (int32_t rank; (rank = rank_lowest(p)) != VG_NO_MERGE;) merge_all(bpe, p, rank);
}

/* ---- encoding ---- */

/* Bytes of the piece at text[at]; a byte that is not UTF-8 is a piece of its own. Without JIT, PCRE2 leaps over such
 * bytes even in an anchored pattern, so where the match starts is looked at. */
static vg_status piece_length(const vg_tokenizer *t, const char *text, size_t n, size_t at, pcre2_match_data *match,
                              size_t *length)
{
    const int rc = pcre2_match(t->pattern, (PCRE2_SPTR)text, n, at, 0, match, NULL);
    VG_CHECK(rc > 0 || rc == PCRE2_ERROR_NOMATCH, VG_E_NOMEM, "splitting a phrase of %zu bytes failed (PCRE2 error %d)",
             n, rc);
    const PCRE2_SIZE *found = pcre2_get_ovector_pointer(match);
    *length = rc > 0 && found[0] == at ? found[1] - at : 1;
    return VG_OK;
}

static vg_status encode_pieces(const vg_tokenizer *t, const char *text, size_t n, int max_tokens, piece *p,
                               pcre2_match_data *match, int32_t *ids, int *n_ids)
{
    int count = 0;
    ids[count++] = t->bpe.special.bos;
    for (size_t at = 0, length = 0; at < n && count < max_tokens - 1; at += length) {
        VG_TRY(piece_length(t, text, n, at, match, &length));
        piece_merge(&t->bpe, text + at, length, p);
        for (size_t i = 0; i < p->n && count < max_tokens - 1; i++)
            ids[count++] = p->symbols[i] >= 0 ? p->symbols[i] : t->bpe.special.unk;
    }
    ids[count++] = t->bpe.special.eos;
    *n_ids = count;
    return VG_OK;
}

vg_status vg_tokenizer_encode_untrimmed(const vg_tokenizer *t, const char *text, size_t n, int max_tokens, int32_t *ids,
                                        int *n_ids)
{
    assert(max_tokens >= 2);
    if (n > VG_TEXT_BYTES_MAX) n = VG_TEXT_BYTES_MAX;
    int32_t small[2 * SMALL_TEXT_BYTES];
    int32_t *large = n > SMALL_TEXT_BYTES ? vg_new0_array(n, 2 * sizeof *large) : NULL;
    VG_CHECK(large || n <= SMALL_TEXT_BYTES, VG_E_NOMEM, "no memory to tokenize %zu bytes", n);
    piece p = {.symbols = large ? large : small};
    p.ranks = p.symbols + n;
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    const vg_status st = match ? encode_pieces(t, text, n, max_tokens, &p, match, ids, n_ids)
                               : vg_fail(VG_E_NOMEM, "no memory to tokenize %zu bytes", n);
    pcre2_match_data_free(match);
    free(large);
    return st;
}

vg_status vg_tokenizer_encode(const vg_tokenizer *t, const char *text, size_t n, int max_tokens, int32_t *ids,
                              int *n_ids)
{
    trim(&text, &n);
    return vg_tokenizer_encode_untrimmed(t, text, n, max_tokens, ids, n_ids);
}
