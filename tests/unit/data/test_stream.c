/* The order of the stream: over many (images, phrases, ranks, workers, batch, start, mix), drawn at random, every
 * sample comes once an epoch, and what a position holds depends on no rank, worker or start. usage: test_stream [CASES]
 */
#include "data/draw.h"
#include "data/loader.h"
#include "data/sampler.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static long n_cases = 60;

/* ---- a split of any size: one tiny picture for all, up to three phrases each ---- */

struct vg_split {
    int64_t n_images, first_sentence[201];
    unsigned char *bytes;
    size_t n_bytes;
};

int64_t vg_split_image_count(const vg_split *s)
{
    return s->n_images;
}

int64_t vg_split_sentence_count(const vg_split *s)
{
    return s->first_sentence[s->n_images];
}

void vg_split_sentence(const vg_split *s, int64_t index, vg_sentence *out)
{
    (void)s;
    *out = (vg_sentence){.sentence_id = index, .text = "dog", .text_bytes = 3, .kind = ""};
}

void vg_split_image(const vg_split *s, int64_t index, vg_image_info *out)
{
    const int64_t first = s->first_sentence[index];
    *out = (vg_image_info){
        .width = 2, .height = 2, .first_sentence = first, .n_sentences = s->first_sentence[index + 1] - first};
}

const char *vg_split_name(const vg_split *s)
{
    (void)s;
    return "made";
}

vg_status vg_split_check_images(const vg_split *s)
{
    (void)s;
    return VG_OK;
}

vg_status vg_split_read_image(const vg_split *s, int64_t image, unsigned char **bytes, size_t *capacity, size_t *n)
{
    (void)image;
    VG_TRY(vg_grow(bytes, capacity, s->n_bytes, 1));
    memcpy(*bytes, s->bytes, s->n_bytes);
    *n = s->n_bytes;
    return VG_OK;
}

/* ---- cases ---- */

enum { MOST_LEAVES = 6, MOST_IMAGES = 4, MOST_PHRASES = 3, SLOTS = MOST_IMAGES * MOST_PHRASES };

typedef struct stream_case {
    vg_split split;
    vg_batch_shape shape;
    int leaves, ranks, workers;
    int64_t n_samples, n_steps;
    vg_loader_set sets[3];
    vg_loader_stage stage;
    int n_sets, total_weight;
} stream_case;

static int pick(long number, uint32_t what, int below)
{
    uint32_t word[4];
    vg_philox((const uint32_t[4]){(uint32_t)number, what, 0, 0}, (vg_rng_key){{91, 0}}, word);
    return (int)(word[0] % (uint32_t)below);
}

/* Two or three sets, the second of which may weigh nothing; or none. */
static void case_mix(stream_case *c, long number)
{
    c->n_sets = c->split.n_images >= 6 && pick(number, 9, 2) ? 2 + pick(number, 10, 2) : 0;
    for (int k = 0; k < c->n_sets; k++) {
        const int64_t first = c->split.n_images * k / c->n_sets;
        c->sets[k] = (vg_loader_set){first, c->split.n_images * (k + 1) / c->n_sets - first, "drawn"};
        c->stage.weights[k] = k == 1 ? pick(number, 11, 3) : 1 + pick(number, 12 + (uint32_t)k, 5);
        c->total_weight += c->stage.weights[k];
    }
}

static void case_make(stream_case *c, long number)
{
    *c = (stream_case){.split = {.n_images = 1 + pick(number, 0, number % 4 ? 40 : 200)},
                       .shape = {.images = 1 + pick(number, 1, MOST_IMAGES),
                                 .phrases = 1 + pick(number, 2, MOST_PHRASES),
                                 .side = 4,
                                 .text_tokens = 8,
                                 .max_targets = 1},
                       .leaves = 1 + pick(number, 3, MOST_LEAVES),
                       .workers = pick(number, 4, 4)};
    c->ranks = 1 + pick(number, 5, c->leaves < 4 ? c->leaves : 4);
    for (int64_t i = 0; i < c->split.n_images; i++)
        c->split.first_sentence[i + 1] = c->split.first_sentence[i] + 1 + pick(number, 100 + (uint32_t)i, 3);
    uint8_t pixels[12] = {0};
    const vg_image image = {pixels, 2, 2};
    assert_int_equal(vg_image_encode_png(&image, &c->split.bytes, &c->split.n_bytes), VG_OK);
    case_mix(c, number);
    c->n_samples = vg_loader_epoch_size(&c->split, c->shape.phrases);
    const int64_t batch = (int64_t)c->leaves * c->shape.images, span = 2 * c->n_samples + 3 * c->total_weight;
    c->n_steps = span / batch + 2;
}

/* The loader of one rank, from step `start` on: sentences[position][slot] of its leaves, for all steps. */
static void read_rank(const stream_case *c, const vg_tokenizer *tokenizer, int ranks, int rank, int workers,
                      int64_t start, int64_t *sentences)
{
    const int first = c->leaves * rank / ranks, n = c->leaves * (rank + 1) / ranks - first;
    vg_batch batches[4] = {0};
    vg_loader *loader = NULL;
    const vg_loader_spec spec = {.split = &c->split,
                                 .tokenizer = tokenizer,
                                 .shape = c->shape,
                                 .seed = 5,
                                 .shuffle = true,
                                 .stages = &c->stage,
                                 .n_stages = 1,
                                 .sets = c->sets,
                                 .n_sets = c->n_sets,
                                 .n_workers = workers};
    for (int k = 0; k < 4; k++) assert_int_equal(vg_batch_init(&batches[k], &c->shape), VG_OK);
    if (vg_loader_open(&spec, batches, 4, &loader) != VG_OK) fail_msg("%s", vg_error_text());
    for (int64_t step = start; step < c->n_steps; step++) {
        for (int i = 0; i < n; i++)
            assert_int_equal(vg_loader_want(loader, (step * c->leaves + first + i) * c->shape.images), VG_OK);
        for (int i = 0; i < n; i++) {
            vg_batch *batch = NULL;
            assert_int_equal(vg_loader_take(loader, &batch), VG_OK);
            const size_t slots = (size_t)c->shape.images * (size_t)c->shape.phrases;
            memcpy(sentences + batch->first_position * c->shape.phrases, batch->sentences, slots * sizeof *sentences);
            vg_loader_give_back(loader, batch);
        }
    }
    vg_loader_close(loader);
    for (int k = 0; k < 4; k++) vg_batch_release(&batches[k]);
}

/* ---- what must hold ---- */

/* Every sentence of images [first, end) once among the slots of the n positions that `wanted` names. */
static void assert_once(const stream_case *c, const int64_t *sentences, const int64_t *positions, int64_t n,
                        int64_t first_image, int64_t end_image)
{
    char seen[700] = {0};
    const int64_t first = c->split.first_sentence[first_image], end = c->split.first_sentence[end_image];
    for (int64_t k = 0; k < n; k++)
        for (int j = 0; j < c->shape.phrases; j++) {
            const int64_t s = sentences[positions[k] * c->shape.phrases + j];
            if (s < 0) continue;
            assert_true(s >= first && s < end);
            assert_false(seen[s]);
            seen[s] = 1;
        }
    for (int64_t s = first; s < end; s++) assert_true(seen[s]);
}

/* Plain: positions [e n, (e + 1) n). Mixed: the set's positions are found by walking the stream, which also shows that
 * every block holds each set as often as it weighs. */
static void assert_epochs(const stream_case *c, const int64_t *sentences)
{
    static int64_t positions[20000];
    const int64_t end = c->n_steps * c->leaves * c->shape.images;
    for (int k = 0; k < (c->n_sets ? c->n_sets : 1); k++) {
        const vg_loader_set whole = {0, c->split.n_images, "whole"}, set = c->n_sets ? c->sets[k] : whole;
        int64_t samples = 0, n = 0;
        for (int64_t i = set.first_image; i < set.first_image + set.n_images; i++)
            samples +=
                (c->split.first_sentence[i + 1] - c->split.first_sentence[i] + c->shape.phrases - 1) / c->shape.phrases;
        for (int64_t p = 0; p < end; p++) { /* in the set's own order, which within a block is not the stream's */
            if (!c->n_sets) positions[n++] = p;
            if (!c->n_sets) continue;
            const vg_mixed m = vg_sampler_mix(5, c->stage.weights, c->n_sets, p);
            if (m.set != k) continue;
            assert_in_range(m.position, 0, 19999);
            positions[m.position] = p;
            n++;
        }
        if (c->n_sets) n = end / c->total_weight * c->stage.weights[k]; /* of whole blocks */
        for (int64_t epoch = 0; (epoch + 1) * samples <= n; epoch++)
            assert_once(c, sentences, positions + epoch * samples, samples, set.first_image,
                        set.first_image + set.n_images);
    }
}

static void check_case(long number, const vg_tokenizer *tokenizer)
{
    stream_case c;
    case_make(&c, number);
    const size_t cells = (size_t)(c.n_steps * c.leaves * c.shape.images * c.shape.phrases);
    int64_t *alone = calloc(cells, sizeof *alone), *together = calloc(cells, sizeof *together);
    read_rank(&c, tokenizer, 1, 0, 0, 0, alone);
    assert_epochs(&c, alone);
    const int64_t batch = (int64_t)c.leaves * c.shape.images, last = (c.n_samples - 1) / batch;
    const int64_t starts[] = {0, last, last + 1, pick(number, 20, (int)c.n_steps)};
    for (int k = 0; k < 4; k++) {
        if (starts[k] >= c.n_steps) continue;
        const size_t before = (size_t)(starts[k] * batch * c.shape.phrases);
        memset(together, 0xff, cells * sizeof *together);
        for (int rank = 0; rank < c.ranks; rank++)
            read_rank(&c, tokenizer, c.ranks, rank, k % 2 ? c.workers : 1, starts[k], together);
        assert_memory_equal(together + before, alone + before, (cells - before) * sizeof *alone);
    }
    free(alone);
    free(together);
    free(c.split.bytes);
}

static void the_stream_depends_on_its_position_alone(void **state)
{
    (void)state;
    vg_tokenizer *tokenizer = NULL;
    assert_int_equal(vg_tokenizer_open(FIXTURES "/tokenizer", &tokenizer), VG_OK);
    for (long i = 0; i < n_cases; i++) check_case(i, tokenizer);
    vg_tokenizer_close(tokenizer);
    print_message("%ld cases, each from 4 starts\n", n_cases);
}

/* ---- how well it shuffles ---- */

/* Over 20 epochs of 10007 samples: chi square over 16 x 16 cells of (place, sample) has 225 degrees of freedom for a
 * random permutation (standard deviation 21); neighbours that stay neighbours number about 2 an epoch (Poisson). */
static void epochs_are_as_well_shuffled_as_random_ones(void **state)
{
    (void)state;
    enum { N = 10007, EPOCHS = 20, CELLS = 16 };
    double chi = 0, distance = 0;
    int neighbours = 0;
    for (int epoch = 0; epoch < EPOCHS; epoch++) {
        int counts[CELLS][CELLS] = {{0}};
        int64_t before = -2;
        for (int64_t i = 0; i < N; i++) {
            const int64_t x = vg_sampler_place(1, N, (int64_t)epoch * N + i).sample;
            counts[i * CELLS / N][x * CELLS / N]++;
            distance += fabs((double)(x - i)) / N / N / EPOCHS;
            neighbours += llabs(x - before) == 1;
            before = x;
        }
        const double mean = (double)N / CELLS / CELLS;
        for (int a = 0; a < CELLS; a++)
            for (int b = 0; b < CELLS; b++) chi += (counts[a][b] - mean) * (counts[a][b] - mean) / mean / EPOCHS;
    }
    print_message(
        "shuffle: chi square %.0f of 225 expected, samples move %.4f of the set (1/3 expected), %.2f neighbours "
        "an epoch stay together (2 expected)\n",
        chi, distance, (double)neighbours / EPOCHS);
    assert_true(fabs(chi - 225) < 5 * 21.2 / sqrt(EPOCHS));
    assert_true(fabs(distance - 1.0 / 3) < 0.005);
    assert_in_range(neighbours, 40 - 5 * 6, 40 + 5 * 6);
}

int main(int argc, char **argv)
{
    if (argc > 1) n_cases = strtol(argv[1], NULL, 10);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_stream_depends_on_its_position_alone),
        cmocka_unit_test(epochs_are_as_well_shuffled_as_random_ones),
    };
    return cmocka_run_group_tests_name("stream", tests, NULL, NULL);
}
