#include "trainer/phrases.h"

#include "dist/health.h"
#include "trainer/weights_hash.h"

#include <stdlib.h>
#include <string.h>

static int64_t row_floats_of(const vg_options *o)
{
    const vg_batch_shape shape = vg_model_batch_shape(o);
    return (int64_t)vg_model_text_rows(o, &shape) * o->text_width;
}

static size_t row_bytes(const vg_options *o)
{
    return (size_t)row_floats_of(o) * sizeof(float);
}

static bool is_on_disk(const vg_options *o)
{
    return strcmp(o->features_phrases, "disk") == 0;
}

static bool fits_memory(const vg_options *o, int64_t n_rows)
{
    return (size_t)n_rows * row_bytes(o) <= (size_t)o->features_memory_mb << 20;
}

size_t vg_phrases_bytes(const vg_options *o, int64_t n_rows)
{
    const size_t slots = (size_t)(o->train_micro_batch * o->data_phrases);
    return slots * row_bytes(o) + (!is_on_disk(o) && fits_memory(o, n_rows) ? (size_t)n_rows * (row_bytes(o) + 1) : 0);
}

static vg_feature_key key_of(const vg_options *o, int64_t n_rows, const char *text)
{
    return (vg_feature_key){.text = text, .n_rows = n_rows, .row_floats = row_floats_of(o)};
}

size_t vg_phrases_store_bytes(const vg_options *o, int64_t n_rows)
{
    const vg_feature_key key = key_of(o, n_rows, "");
    return is_on_disk(o) ? vg_feature_store_bytes(&key) : 0;
}

/* ---- a store of all rows ---- */

typedef struct builder {
    vg_phrases *phrases;
    const vg_feature_source *source;
    vg_feature_store *store;
    int32_t *token_ids, *token_counts; /* [slots, Lt], [slots] */
    int64_t *rows;                     /* [slots] that are being encoded */
    int64_t n, next;                   /* so many of them; the first row not looked at */
    vg_feature_progress progress;
} builder;

static vg_status encode_rows(builder *b)
{
    vg_phrases *p = b->phrases;
    if (b->n == 0) return VG_OK;
    VG_TRY(vg_program_bind(p->encoder, "token_ids", b->token_ids));
    VG_TRY(vg_program_bind(p->encoder, "token_counts", b->token_counts));
    VG_TRY(vg_program_run(p->encoder));
    VG_TRY(vg_program_wait(p->encoder));
    const float *features = vg_program_output(p->encoder, "text_features", NULL);
    for (int64_t i = 0; i < b->n; i++) VG_TRY(vg_feature_store_put(b->store, b->rows[i], features + i * p->row_floats));
    b->n = 0;
    return VG_OK;
}

/* The tokens of a row into the next slot, as the loader fills one; what was in the slots before stays valid input. */
static vg_status add_row(builder *b, int64_t row)
{
    const vg_feature_source *s = b->source;
    const int tokens = vg_model_batch_shape(s->options).text_tokens;
    const vg_special_ids special = vg_tokenizer_special_ids(s->tokenizer);
    int32_t *ids = b->token_ids + b->n * tokens;
    int count = 2;
    const char *text = b->phrases->table.texts[row];
    for (int i = 0; i < tokens; i++) ids[i] = i == 0 ? special.bos : i == 1 ? special.eos : special.pad;
    if (!s->options->data_blind) VG_TRY(vg_tokenizer_encode(s->tokenizer, text, strlen(text), tokens, ids, &count));
    b->token_counts[b->n] = count;
    b->rows[b->n++] = row;
    return VG_OK;
}

static vg_status begin(void *context, vg_feature_store *store)
{
    builder *b = context;
    const size_t slots = (size_t)b->phrases->slots;
    const size_t tokens = (size_t)vg_model_batch_shape(b->source->options).text_tokens;
    b->store = store;
    b->next = vg_comm_rank(b->source->comm);
    b->token_ids = vg_new0_array(slots * tokens, sizeof *b->token_ids);
    b->token_counts = vg_new0_array(slots, sizeof *b->token_counts);
    b->rows = vg_new0_array(slots, sizeof *b->rows);
    VG_CHECK(b->token_ids && b->token_counts && b->rows, VG_E_NOMEM, "no memory to encode phrases");
    for (size_t i = 0; i < slots; i++) b->token_counts[i] = 2; /* of slots that no row fills */
    return VG_OK;
}

/* Those of this rank's next rows that are not there yet: at most a batch of them. */
static vg_status put_next(void *context, bool *more)
{
    builder *b = context;
    vg_phrases *p = b->phrases;
    const int64_t ranks = vg_comm_size(b->source->comm), n = p->table.n_rows;
    vg_health_phase(b->source->comm, VG_PHASE_start, -1, b->next);
    for (int64_t i = 0; i < p->slots && b->next < n; i++, b->next += ranks)
        if (!vg_features_row_is_whole(b->store, b->next, p->features)) VG_TRY(add_row(b, b->next));
    *more = b->next < n;
    VG_TRY(encode_rows(b));
    vg_features_tell(&b->progress, "phrase", n / ranks, p->slots);
    return VG_OK;
}

static void end(void *context)
{
    builder *b = context;
    free(b->token_ids);
    free(b->token_counts);
    free(b->rows);
}

static vg_status key_text(const vg_feature_source *s, const vg_phrase_table *table, vg_text *text)
{
    const vg_options *o = s->options;
    return vg_text_add(text,
                       "features: phrase\nsplit: %s, %lld phrases, texts %016llx\nweights: text %016llx\n"
                       "model: width %lld, depth %lld, heads %lld\n"
                       "tokens: %d at most, %s kept, by tokenizer %016llx\ncomputed by: %s\ntype: fp32\n",
                       vg_split_name(s->split), (long long)table->n_rows, (unsigned long long)table->hash,
                       (unsigned long long)vg_weights_hash(s->params, "text."), (long long)o->text_width,
                       (long long)o->text_depth, (long long)o->text_heads, vg_model_batch_shape(o).text_tokens,
                       o->fusion_text_tokens, (unsigned long long)vg_tokenizer_hash(s->tokenizer),
                       vg_compute_profile(s->compute));
}

static vg_status open_store(vg_phrases *p, const vg_feature_source *s, bool swaps)
{
    vg_text text = {0};
    vg_status st = vg_comm_agree(s->comm, key_text(s, &p->table, &text));
    builder b = {.phrases = p, .source = s};
    const vg_feature_job job = {.what = "phrase",
                                .kind = swaps ? "-swapped" : "",
                                .key = key_of(s->options, p->table.n_rows, text.data),
                                .begin = begin,
                                .put = put_next,
                                .end = end,
                                .context = &b};
    if (st == VG_OK) st = vg_features_provide(s, &job, &p->store);
    free(text.data);
    return st;
}

/* ---- opening ---- */

static vg_status open_table(vg_phrases *p, const vg_feature_source *s, bool swaps)
{
    VG_TRY(vg_phrase_table_init(&p->table, s->split, s->options->data_blind, swaps));
    p->features = vg_new0_array((size_t)(p->slots * p->row_floats), sizeof(float));
    VG_CHECK(p->features, VG_E_NOMEM, "no memory for the phrase features of a batch");
    return VG_OK;
}

static vg_status open_memory(vg_phrases *p, const vg_options *o)
{
    if (p->store || !fits_memory(o, p->table.n_rows)) return VG_OK;
    p->rows = vg_new0_array((size_t)(p->table.n_rows * p->row_floats), sizeof(float));
    p->known = vg_new0_array((size_t)p->table.n_rows, 1);
    VG_CHECK(p->rows && p->known, VG_E_NOMEM, "no memory for phrase features; lower features.memory_mb");
    return VG_OK;
}

vg_status vg_phrases_open(vg_phrases *p, const vg_feature_source *source, bool swaps, vg_program *encoder)
{
    const vg_options *o = source->options;
    *p = (vg_phrases){
        .encoder = encoder, .row_floats = row_floats_of(o), .slots = o->train_micro_batch * o->data_phrases};
    vg_status st = vg_comm_agree(source->comm, open_table(p, source, swaps));
    if (st == VG_OK && is_on_disk(o)) st = open_store(p, source, swaps);
    if (st == VG_OK) st = vg_comm_agree(source->comm, open_memory(p, o));
    if (st != VG_OK) vg_phrases_release(p);
    return st;
}

void vg_phrases_release(vg_phrases *p)
{
    (void)vg_feature_store_close(p->store); /* it only read */
    vg_phrase_table_release(&p->table);
    free(p->rows);
    free(p->known);
    free(p->features);
    *p = (vg_phrases){0};
}

/* ---- the phrases of a batch ---- */

/* The row of a filled slot. */
static int64_t row_of(const vg_phrases *p, const vg_batch *batch, int64_t slot)
{
    return p->table.row_of[batch->sentences[slot] + (batch->swapped[slot] ? p->table.n_sentences : 0)];
}

static bool all_known(const vg_phrases *p, const vg_batch *batch)
{
    if (!p->rows) return p->store != NULL;
    for (int64_t i = 0; i < p->slots; i++)
        if (batch->filled[i] && !p->known[row_of(p, batch, i)]) return false;
    return true;
}

static vg_status encode(vg_phrases *p, const vg_batch *batch)
{
    VG_TRY(vg_program_bind(p->encoder, "token_ids", batch->token_ids));
    VG_TRY(vg_program_bind(p->encoder, "token_counts", batch->token_counts));
    VG_TRY(vg_program_run(p->encoder));
    VG_TRY(vg_program_wait(p->encoder));
    const size_t floats = (size_t)p->row_floats;
    memcpy(p->features, vg_program_output(p->encoder, "text_features", NULL),
           (size_t)p->slots * floats * sizeof(float));
    for (int64_t i = 0; p->rows && i < p->slots; i++) {
        if (!batch->filled[i]) continue;
        const int64_t row = row_of(p, batch, i);
        memcpy(p->rows + (size_t)row * floats, p->features + (size_t)i * floats, floats * sizeof(float));
        p->known[row] = 1;
    }
    return VG_OK;
}

static vg_status fetch(vg_phrases *p, const vg_batch *batch)
{
    const size_t floats = (size_t)p->row_floats;
    for (int64_t i = 0; i < p->slots; i++) {
        float *to = p->features + (size_t)i * floats;
        const int64_t row = batch->filled[i] ? row_of(p, batch, i) : -1;
        if (row < 0)
            memset(to, 0, floats * sizeof(float)); /* an empty slot reaches no loss */
        else if (p->store)
            VG_TRY(vg_feature_store_read(p->store, row, to));
        else
            memcpy(to, p->rows + (size_t)row * floats, floats * sizeof(float));
    }
    return VG_OK;
}

vg_status vg_phrases_of(vg_phrases *p, const vg_batch *batch, const float **features)
{
    VG_TRY(all_known(p, batch) ? fetch(p, batch) : encode(p, batch));
    *features = p->features;
    return VG_OK;
}
