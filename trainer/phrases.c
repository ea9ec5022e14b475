#include "trainer/phrases.h"

#include <stdlib.h>
#include <string.h>

static size_t store_bytes(int64_t n_rows, int64_t row_floats)
{
    return (size_t)n_rows * (size_t)row_floats * sizeof(float);
}

static int64_t rows_for(int64_t n_sentences, bool swaps)
{
    return swaps ? 2 * n_sentences : n_sentences;
}

/* The row of a filled slot. */
static size_t row_of(const vg_phrases *p, const vg_batch *batch, int slot)
{
    return (size_t)(batch->sentences[slot] + (batch->swapped[slot] ? p->n_sentences : 0));
}

size_t vg_phrases_bytes(int64_t n_sentences, bool swaps, int64_t slots, int64_t row_floats, size_t max_bytes)
{
    const int64_t n_rows = rows_for(n_sentences, swaps);
    const size_t store = store_bytes(n_rows, row_floats);
    return store_bytes(slots, row_floats) + (store <= max_bytes ? store + (size_t)n_rows : 0);
}

vg_status vg_phrases_init(vg_phrases *p, vg_program *encoder, int64_t n_sentences, bool swaps, int64_t slots,
                          size_t max_bytes)
{
    vg_shape shape;
    VG_CHECK(vg_program_output(encoder, "text_features", &shape), VG_E_BUG, "the phrase encoder keeps no features");
    *p = (vg_phrases){.encoder = encoder, .n_sentences = n_sentences, .row_floats = vg_shape_count(&shape) / slots};
    p->features = vg_new0_array((size_t)(slots * p->row_floats), sizeof(float));
    const int64_t n_rows = rows_for(n_sentences, swaps);
    const bool keeps = store_bytes(n_rows, p->row_floats) <= max_bytes;
    if (keeps) {
        p->rows = vg_new0_array((size_t)(n_rows * p->row_floats), sizeof(float));
        p->known = vg_new0_array((size_t)n_rows, 1);
    }
    if (p->features && (!keeps || (p->rows && p->known))) return VG_OK;
    vg_phrases_release(p);
    return vg_fail(VG_E_NOMEM, "no memory for phrase features; lower train.cache_text_mb");
}

void vg_phrases_release(vg_phrases *p)
{
    free(p->rows);
    free(p->known);
    free(p->features);
    *p = (vg_phrases){0};
}

static bool all_known(const vg_phrases *p, const vg_batch *batch, int slots)
{
    if (!p->rows) return false;
    for (int i = 0; i < slots; i++)
        if (batch->filled[i] && !p->known[row_of(p, batch, i)]) return false;
    return true;
}

static vg_status encode(vg_phrases *p, const vg_batch *batch, int slots)
{
    VG_TRY(vg_program_bind(p->encoder, "token_ids", batch->token_ids));
    VG_TRY(vg_program_bind(p->encoder, "token_counts", batch->token_counts));
    VG_TRY(vg_program_run(p->encoder));
    VG_TRY(vg_program_wait(p->encoder));
    const size_t row = (size_t)p->row_floats;
    memcpy(p->features, vg_program_output(p->encoder, "text_features", NULL), (size_t)slots * row * sizeof(float));
    for (int i = 0; p->rows && i < slots; i++) {
        if (!batch->filled[i]) continue;
        memcpy(p->rows + row_of(p, batch, i) * row, p->features + (size_t)i * row, row * sizeof(float));
        p->known[row_of(p, batch, i)] = 1;
    }
    return VG_OK;
}

vg_status vg_phrases_of(vg_phrases *p, const vg_batch *batch, const float **features)
{
    const int slots = batch->shape.images * batch->shape.phrases;
    const size_t row = (size_t)p->row_floats;
    if (!all_known(p, batch, slots)) {
        VG_TRY(encode(p, batch, slots));
    } else {
        for (int i = 0; i < slots; i++) {
            float *to = p->features + (size_t)i * row;
            if (batch->filled[i])
                memcpy(to, p->rows + row_of(p, batch, i) * row, row * sizeof(float));
            else
                memset(to, 0, row * sizeof(float)); /* an empty slot reaches no loss */
        }
    }
    *features = p->features;
    return VG_OK;
}
