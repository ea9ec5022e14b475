#include "data/perceptual_hash.h"

#include <stdlib.h>

enum { PARTS = 4, PART_BITS = 16, BUCKETS = 1 << PART_BITS };

/* Bucket b of a part holds the codes[places[begin[b] .. begin[b + 1])], by rising place. */
typedef struct part {
    uint32_t *begin; /* [BUCKETS + 1] */
    uint32_t *places;
} part;

struct vg_hamming_index {
    const uint64_t *codes;
    size_t n;
    part parts[PARTS];
};

static unsigned bucket_of(uint64_t code, int p)
{
    return (unsigned)(code >> (PART_BITS * p)) & (BUCKETS - 1);
}

/* Counting sort by bucket. */
static vg_status part_fill(vg_hamming_index *index, int p)
{
    part *t = &index->parts[p];
    t->begin = vg_new0_array(BUCKETS + 1, sizeof *t->begin);
    t->places = vg_new0_array(index->n, sizeof *t->places);
    VG_CHECK(t->begin && (t->places || index->n == 0), VG_E_NOMEM, "no memory for an index of %zu codes", index->n);
    for (size_t i = 0; i < index->n; i++) t->begin[bucket_of(index->codes[i], p) + 1]++;
    for (int b = 0; b < BUCKETS; b++) t->begin[b + 1] += t->begin[b];
    for (size_t i = index->n; i-- > 0;) { /* from behind, each bucket's end becomes its begin of the next one */
        const unsigned b = bucket_of(index->codes[i], p);
        t->places[--t->begin[b + 1]] = (uint32_t)i;
    }
    for (int b = 0; b < BUCKETS; b++) t->begin[b] = t->begin[b + 1];
    t->begin[BUCKETS] = (uint32_t)index->n;
    return VG_OK;
}

vg_status vg_hamming_index_new(const uint64_t *codes, size_t n, vg_hamming_index **out)
{
    vg_hamming_index *index = vg_new0(sizeof *index);
    VG_CHECK(index, VG_E_NOMEM, "no memory for an index of %zu codes", n);
    index->codes = codes;
    index->n = n;
    for (int p = 0; p < PARTS; p++) {
        const vg_status st = part_fill(index, p);
        if (st == VG_OK) continue;
        vg_hamming_index_free(index);
        return st;
    }
    *out = index;
    return VG_OK;
}

void vg_hamming_index_free(vg_hamming_index *index)
{
    if (!index) return;
    for (int p = 0; p < PARTS; p++) {
        free(index->parts[p].begin);
        free(index->parts[p].places);
    }
    free(index);
}

/* A search under way. */
typedef struct search {
    const vg_hamming_index *index;
    const part *part;
    uint64_t code;
    int least; /* bits of the nearest so far */
    size_t which;
} search;

static void bucket_look(search *s, unsigned b)
{
    for (uint32_t k = s->part->begin[b]; k < s->part->begin[b + 1]; k++) {
        const size_t i = s->part->places[k];
        const int bits = __builtin_popcountll(s->index->codes[i] ^ s->code);
        if (bits > s->least || (bits == s->least && i >= s->which)) continue;
        s->least = bits;
        s->which = i;
    }
}

/* The bucket, and those that differ from it in up to `flips` of the bits from `first` on. */
static void buckets_look(search *s, unsigned b, int first, int flips)
{
    bucket_look(s, b);
    for (int bit = first; bit < PART_BITS && flips > 0; bit++) buckets_look(s, b ^ 1u << bit, bit + 1, flips - 1);
}

int vg_hamming_index_nearest(const vg_hamming_index *index, uint64_t code, int max_bits, size_t *which)
{
    search s = {.index = index, .code = code, .least = max_bits + 1, .which = 0};
    for (int p = 0; p < PARTS; p++) {
        s.part = &index->parts[p];
        buckets_look(&s, bucket_of(code, p), 0, max_bits / PARTS);
    }
    if (s.least > max_bits) return -1;
    *which = s.which;
    return s.least;
}
