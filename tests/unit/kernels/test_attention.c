/* Attention and its gradient against fp64, on every instruction set. */
#define _DEFAULT_SOURCE /* setenv */
#include "tests/unit/kernels/kernel_test.h"

typedef struct variant {
    int64_t images, per_image, n_queries, n_first, n_second, heads, size, fold;
    bool packed, bias, mask, mask_second, large;
    float dropout;
} variant;

/* One problem; inputs of `node` are those of attention. */
typedef struct problem {
    test_memory memory;
    vg_node node;
    const variant *variant;
    int isa; /* it is tried on */
    int64_t slots, images, n_queries, n_first, n_second, keys, heads, size;
} problem;

static const variant variants[] = {
    {.images = 2, .per_image = 1, .n_queries = 7, .n_first = 7, .heads = 2, .size = 8, .packed = true},
    {.images = 1, .per_image = 1, .n_queries = 37, .n_first = 37, .heads = 1, .size = 64, .packed = true},
    {.images = 2, .per_image = 1, .n_queries = 24, .n_first = 24, .heads = 2, .size = 16, .packed = true, .mask = true},
    {.images = 2,
     .per_image = 3,
     .n_queries = 10,
     .n_first = 50,
     .n_second = 9,
     .heads = 2,
     .size = 32,
     .mask = true,
     .mask_second = true,
     .dropout = 0.1F},
    {.images = 1, .per_image = 2, .n_queries = 5, .n_first = 3, .n_second = 1, .heads = 3, .size = 12, .dropout = 0.5F},
    {.images = 3, .per_image = 1, .n_queries = 33, .n_first = 33, .heads = 1, .size = 20, .bias = true, .mask = true},
    {.images = 2,
     .per_image = 2,
     .n_queries = 17,
     .n_first = 21,
     .n_second = 6,
     .heads = 2,
     .size = 24,
     .bias = true,
     .dropout = 0.25F},
    {.images = 2, .per_image = 2, .n_queries = 16, .n_first = 70, .n_second = 5, .heads = 1, .size = 33, .mask = true},
    {.images = 1,
     .per_image = 1,
     .n_queries = 130,
     .n_first = 301,
     .heads = 1,
     .size = 40,
     .dropout = 0.1F,
     .large = true},
    {.images = 3,
     .per_image = 2,
     .n_queries = 33,
     .n_first = 80,
     .n_second = 10,
     .heads = 2,
     .size = 32,
     .mask = true,
     .mask_second = true,
     .dropout = 0.1F,
     .large = true}, /* enough work for several threads */
    {.images = 1, .per_image = 1, .n_queries = 1, .n_first = 1, .heads = 1, .size = 4},
    {.images = 2,
     .per_image = 2,
     .n_queries = 24,
     .n_first = 40,
     .n_second = 3,
     .heads = 1,
     .size = 100,
     .fold = 4,
     .mask = true,
     .mask_second = true,
     .dropout = 0.3F}, /* heads side by side in the queries of one wide head */
    {.images = 2,
     .per_image = 1,
     .n_queries = 16,
     .n_first = 35,
     .n_second = 3,
     .heads = 1,
     .size = 128,
     .fold = 4,
     .mask = true,
     .mask_second = true,
     .dropout = 0.3F}, /* so wide that its rows are read where they lie */
    {.images = 1, .per_image = 1, .n_queries = 5, .n_first = 34, .heads = 1, .size = 130}, /* nor whole */
    {.images = 1,
     .per_image = 2,
     .n_queries = 40,
     .n_first = 37,
     .n_second = 9,
     .heads = 1,
     .size = 144,
     .fold = 8,
     .mask = true,
     .dropout = 0.1F}, /* packed for two slots of an image, read in place for a slot that is alone: the same bits */
};
enum { N_VARIANTS = sizeof variants / sizeof *variants, MAX_SIZE = 144 };

/* One empty image in front when several slots share images, so that the index has a hole. */
static problem problem_of(const variant *v)
{
    const bool shared = v->per_image > 1;
    problem p = {.variant = v,
                 .slots = v->images * v->per_image,
                 .images = v->images + (shared ? 1 : 0),
                 .n_queries = v->n_queries,
                 .n_first = v->n_first,
                 .n_second = v->n_second,
                 .keys = v->n_first + v->n_second,
                 .heads = v->heads,
                 .size = v->size};
    const int64_t width = v->heads * v->size, row = v->packed ? 3 * width : width;
    test_memory *m = &p.memory;
    int32_t index[64], counts[64];
    for (int32_t b = 0; b < p.slots; b++) {
        index[b] = b / (int32_t)v->per_image + 1;
        counts[b] = 1 + (b * 7 + 5) % (int32_t)(v->mask_second ? v->n_second : v->n_first);
    }
    vg_node *n = &p.node;
    *n = (vg_node){.op = VG_OP_attention, .n_in = 9, .n_out = 3};
    n->in[0] = random_operand(m, VG_SHAPE(p.slots, p.n_queries, row), 1);
    n->in[1] = v->packed ? n->in[0] : random_operand(m, VG_SHAPE(p.images, p.n_first, row + 3), 2);
    n->in[2] = v->packed ? n->in[0] : random_operand(m, VG_SHAPE(p.images, p.n_first, row), 3);
    if (v->n_second) {
        n->in[3] = random_operand(m, VG_SHAPE(p.slots, p.n_second, 2 * row), 4);
        n->in[4] = n->in[3];
    }
    if (v->mask) n->in[5] = int_operand(m, VG_SHAPE(p.slots), counts);
    if (v->bias) n->in[6] = random_operand(m, VG_SHAPE(p.heads, p.n_queries, p.keys), 5);
    if (shared) n->in[7] = int_operand(m, VG_SHAPE(p.slots), index);
    if (v->dropout > 0) n->in[8] = key_operand(m, p.slots);
    n->out[0] = blank_operand(m, VG_F32, VG_SHAPE(p.slots, p.n_queries, width));
    n->out[1] = blank_operand(m, VG_F32, VG_SHAPE(p.slots, p.heads, p.n_queries));
    n->out[2] = blank_operand(m, VG_F32, VG_SHAPE(p.slots, p.heads, p.n_queries));
    n->attr.attention.heads = (int)v->heads;
    n->attr.attention.head_size = (int)v->size;
    n->attr.attention.fold = v->fold ? (int)v->fold : 1;
    n->attr.attention.k_col = v->packed ? (int)width : 3;
    n->attr.attention.v_col = v->packed ? (int)(2 * width) : 0;
    n->attr.attention.v2_col = (int)width;
    n->attr.attention.scale = (float)(1.0 / sqrt((double)v->size));
    n->attr.attention.mask_second = v->mask_second;
    n->attr.attention.dropout = v->dropout;
    n->attr.attention.key = vg_rng_key_of(3, 4);
    return p;
}

/* A check of a problem whose forward has run on one thread, and the test that tries it on all of them. */
typedef void check(problem *p);

static void in_each_problem(void **state)
{
    check *checked = (check *)(uintptr_t)*state;
    for (int v = 0; v < N_VARIANTS; v++)
        for (int isa = 0; isa < N_ISAS; isa++) {
            use_isa(isa);
            problem p = problem_of(&variants[v]);
            p.isa = isa;
            run_node(&p.node, 1);
            checked(&p);
            release(&p.memory);
        }
}

static struct CMUnitTest tried(const char *name, check *checked)
{
    return (struct CMUnitTest){.name = name, .test_func = in_each_problem, .initial_state = (void *)(uintptr_t)checked};
}

#define IN_EACH_PROBLEM(f) tried(#f, f)

/* --- the definition, in fp64 --- */

static int64_t image_of(const problem *p, int64_t b)
{
    return p->node.in[7].data ? ((const int32_t *)p->node.in[7].data)[b] : b;
}

static double key_value(const problem *p, int64_t b, int64_t h, int64_t j, int64_t d, bool value)
{
    const bool second = j >= p->n_first;
    const vg_operand *x = &p->node.in[(second ? 3 : 1) + (value ? 1 : 0)];
    const int column = second ? (value ? p->node.attr.attention.v2_col : p->node.attr.attention.k2_col)
                              : (value ? p->node.attr.attention.v_col : p->node.attr.attention.k_col);
    const int64_t row = second ? b * p->n_second + j - p->n_first : image_of(p, b) * p->n_first + j;
    return (double)((const float *)x->data)[row * vg_shape_last(&x->shape) + column + h * p->size + d];
}

static bool visible(const problem *p, int64_t b, int64_t j)
{
    const int32_t *counts = p->node.in[5].data;
    if (!counts) return true;
    const bool second = j >= p->n_first;
    if (second != p->node.attr.attention.mask_second) return true;
    return (second ? j - p->n_first : j) < counts[b];
}

/* 1 without dropout, else 0 or 1 / (1 - p). */
static double kept(const problem *p, int64_t b, int64_t h, int64_t i, int64_t j)
{
    const uint32_t *key = p->node.in[8].data;
    if (!key) return 1;
    const int64_t fold = p->node.attr.attention.fold, row = i % fold * (p->n_queries / fold) + i / fold;
    const int64_t e = (h * p->n_queries + row) * ((p->keys + 3) / 4 * 4) + j;
    uint32_t word[4];
    vg_rng_block(p->node.attr.attention.key, key[4 * b + 2] | (uint64_t)key[4 * b + 3] << 32, key[4 * b + 1],
                 (uint32_t)(e / 4), word);
    const float drop = p->node.attr.attention.dropout;
    return vg_uniform(word[e % 4]) >= drop ? 1 / (1 - (double)drop) : 0;
}

/* One row: its log-sum-exp, the sum of its kept probabilities, and o [D]. */
typedef struct reference {
    double lse, sum, o[MAX_SIZE];
} reference;

static reference reference_row(const problem *p, int64_t b, int64_t h, int64_t i)
{
    const float *q =
        (const float *)p->node.in[0].data + (b * p->n_queries + i) * vg_shape_last(&p->node.in[0].shape) + h * p->size;
    const float *bias = p->node.in[6].data;
    double *score = vg_new0_array((size_t)p->keys, sizeof *score), sum = 0;
    reference r = {0};
    for (int64_t j = 0; j < p->keys; j++) {
        for (int64_t d = 0; d < p->size; d++) score[j] += (double)q[d] * key_value(p, b, h, j, d, false);
        score[j] *= (double)p->node.attr.attention.scale;
        if (bias) score[j] += (double)bias[(h * p->n_queries + i) * p->keys + j];
        if (visible(p, b, j)) sum += exp(score[j]);
    }
    for (int64_t j = 0; j < p->keys; j++) {
        if (!visible(p, b, j)) continue;
        const double weight = exp(score[j]) / sum * kept(p, b, h, i, j);
        r.sum += weight;
        for (int64_t d = 0; d < p->size; d++) r.o[d] += weight * key_value(p, b, h, j, d, true);
    }
    free(score);
    r.lse = log(sum);
    return r;
}

/* sum of o * weight + sums * sum_weight over everything. */
static double reference_loss(const problem *p, const float *weight, const float *sum_weight)
{
    double loss = 0;
    for (int64_t b = 0; b < p->slots; b++)
        for (int64_t i = 0; i < p->n_queries; i++)
            for (int64_t h = 0; h < p->heads; h++) {
                const reference r = reference_row(p, b, h, i);
                for (int64_t d = 0; d < p->size; d++)
                    loss += r.o[d] * (double)weight[((b * p->n_queries + i) * p->heads + h) * p->size + d];
                loss += r.sum * (double)sum_weight[(b * p->heads + h) * p->n_queries + i];
            }
    return loss;
}

/* --- forward --- */

/* Values are averages of normals: rounding of the score (4 sigma, D terms) times their spread. */
static const double tolerance = 4e-6;

static void outputs_match_their_definition(problem *p)
{
    const float *o = p->node.out[0].data, *lse = p->node.out[1].data, *sums = p->node.out[2].data;
    for (int64_t b = 0; b < p->slots; b++)
        for (int64_t h = 0; h < p->heads; h++)
            for (int64_t i = 0; i < p->n_queries; i++) {
                const reference expected = reference_row(p, b, h, i);
                const int64_t row = (b * p->heads + h) * p->n_queries + i;
                assert_near((double)lse[row], expected.lse, tolerance);
                if (p->node.in[8].data)
                    assert_near((double)sums[row], expected.sum, tolerance);
                else
                    assert_true(sums[row] == 1.0F);
                for (int64_t d = 0; d < p->size; d++)
                    assert_near((double)o[((b * p->n_queries + i) * p->heads + h) * p->size + d], expected.o[d],
                                tolerance);
            }
}

static void large_scores_neither_overflow_nor_lose_the_largest(void **state)
{
    (void)state;
    for (int isa = 0; isa < N_ISAS; isa++) {
        use_isa(isa);
        problem p = problem_of(&variants[0]);
        p.node.attr.attention.scale = 300;
        run_node(&p.node, 1);
        const float *o = p.node.out[0].data;
        for (int64_t i = 0; i < vg_shape_count(&p.node.out[0].shape); i++) assert_true(isfinite(o[i]));
        release(&p.memory);
    }
}

static void masked_keys_have_no_influence_at_all(problem *p)
{
    if (!p->variant->mask) return;
    /* Image and slot coincide unless an index says otherwise; there the fewest-masking slot decides. */
    const bool second = p->variant->mask_second;
    vg_operand *x[2] = {&p->node.in[second ? 3 : 1], &p->node.in[second ? 4 : 2]};
    for (int64_t b = 0; b < p->slots; b++) {
        const int64_t item = second ? b : image_of(p, b), rows = second ? p->n_second : p->n_first;
        int32_t most = 0;
        for (int64_t s = 0; s < p->slots; s++)
            if ((second ? s : image_of(p, s)) == item && ((int32_t *)p->node.in[5].data)[s] > most)
                most = ((int32_t *)p->node.in[5].data)[s];
        for (int k = 0; k < 2 && !p->variant->packed; k++)
            for (int64_t r = most; r < rows; r++)
                for (int64_t c = 0; c < vg_shape_last(&x[k]->shape); c++)
                    ((float *)x[k]->data)[(item * rows + r) * vg_shape_last(&x[k]->shape) + c] = NAN;
    }
    vg_node again = fresh_outputs(&p->memory, &p->node);
    run_node(&again, 1);
    same_outputs(&p->node, &again);
}

static void a_slot_that_sees_no_key_gives_zeros(void **state)
{
    (void)state;
    for (int isa = 0; isa < N_ISAS; isa++) {
        use_isa(isa);
        problem p = problem_of(&variants[2]);
        ((int32_t *)p.node.in[5].data)[0] = 0;
        run_node(&p.node, 1);
        const float *o = p.node.out[0].data;
        for (int64_t i = 0; i < p.n_queries * p.heads * p.size; i++) assert_true(o[i] == 0.0F);
        const float *sums = p.node.out[2].data;
        for (int64_t i = 0; i < p.n_queries * p.heads; i++) assert_true(sums[i] == 0.0F);
        release(&p.memory);
    }
}

static void two_segments_equal_one_of_both(void **state)
{
    (void)state;
    const variant two = {.images = 2,
                         .per_image = 2,
                         .n_queries = 10,
                         .n_first = 50,
                         .n_second = 9,
                         .heads = 2,
                         .size = 32,
                         .dropout = 0.1F};
    for (int isa = 0; isa < N_ISAS; isa++) {
        use_isa(isa);
        problem p = problem_of(&two);
        run_node(&p.node, 1);
        vg_node one = fresh_outputs(&p.memory, &p.node);
        const int64_t width = two.heads * two.size;
        float *joined = hold(&p.memory, (size_t)(p.slots * p.keys * 2 * width) * sizeof *joined);
        for (int64_t b = 0; b < p.slots; b++)
            for (int64_t j = 0; j < p.keys; j++)
                for (int64_t c = 0; c < width; c++)
                    for (int value = 0; value < 2; value++)
                        joined[((b * p.keys + j) * 2 + value) * width + c] =
                            (float)key_value(&p, b, c / two.size, j, c % two.size, value);
        one.in[1] = one.in[2] = (vg_operand){.data = joined, .shape = VG_SHAPE(p.slots, p.keys, 2 * width)};
        memset(&one.in[3], 0, 2 * sizeof one.in[3]);
        memset(&one.in[7], 0, sizeof one.in[7]);
        one.attr.attention.k_col = 0;
        one.attr.attention.v_col = (int)width;
        run_node(&one, 1);
        same_outputs(&p.node, &one);
        release(&p.memory);
    }
}

static void bits_do_not_depend_on_the_thread_count(problem *p)
{
    vg_node three = fresh_outputs(&p->memory, &p->node);
    run_node(&three, 3);
    same_outputs(&p->node, &three);
}

/* Item `item` of an operand as one of a single item. */
static vg_operand item_of(const vg_operand *x, int64_t item)
{
    vg_operand one = *x;
    one.shape.dim[0] = 1;
    one.data = (char *)x->data + (size_t)item * operand_bytes(&one);
    return one;
}

static void a_slot_has_the_same_bits_alone(problem *p)
{
    vg_node alone = fresh_outputs(&p->memory, &p->node);
    const int64_t b = p->slots - 1, image = image_of(p, b);
    const int32_t zero = 0;
    for (int k = 0; k < 9; k++)
        if (k != 6 && alone.in[k].data) alone.in[k] = item_of(&alone.in[k], k == 1 || k == 2 ? image : b);
    if (alone.in[7].data) alone.in[7] = int_operand(&p->memory, VG_SHAPE(1), &zero);
    for (int k = 0; k < 3; k++) alone.out[k].shape.dim[0] = 1;
    run_node(&alone, 1);
    for (int k = 0; k < 3; k++) {
        const size_t bytes = operand_bytes(&alone.out[k]);
        assert_memory_equal(alone.out[k].data, (char *)p->node.out[k].data + (size_t)b * bytes, bytes);
    }
}

/* --- gradient --- */

/* The gradient node of a problem whose forward has run: do and dsums are random, gradients are blank. */
static vg_node gradient_of(problem *p)
{
    vg_node g = {.op = VG_OP_attention_grad, .n_in = 16, .n_out = 6, .attr = p->node.attr};
    g.in[0] = random_operand(&p->memory, p->node.out[0].shape, 9);
    for (int k = 0; k < 9; k++) g.in[1 + k] = p->node.in[k];
    g.in[10] = p->node.out[0];
    g.in[11] = p->node.out[1];
    g.in[12] = p->node.out[2];
    g.in[13] = random_operand(&p->memory, p->node.out[2].shape, 10);
    for (int k = 0; k < 5; k++) {
        if (!p->node.in[k].data) continue;
        int shared = k;
        while (shared > 0 && p->node.in[shared - 1].data == p->node.in[k].data) shared--;
        g.out[k] = shared < k ? g.out[shared] : blank_operand(&p->memory, VG_F32, p->node.in[k].shape);
    }
    if (p->node.in[6].data) g.out[5] = blank_operand(&p->memory, VG_F32, p->node.in[6].shape);
    return g;
}

static bool in_some_head(const problem *p, int k, int64_t column)
{
    const int first[5] = {p->node.attr.attention.q_col, p->node.attr.attention.k_col, p->node.attr.attention.v_col,
                          p->node.attr.attention.k2_col, p->node.attr.attention.v2_col};
    return column >= first[k] && column < first[k] + p->heads * p->size;
}

/* Two elements of input k, each moved both ways in fp64's loss; every instruction set takes others. */
static void compare_gradient(problem *p, const vg_node *g, int k)
{
    float *x = p->node.in[k].data;
    const float *dx = g->out[k < 5 ? k : 5].data, *weight = g->in[0].data, *sum_weight = g->in[13].data;
    const int64_t n = vg_shape_count(&p->node.in[k].shape), last = vg_shape_last(&p->node.in[k].shape);
    for (uint32_t tried = (uint32_t)p->isa * 100, done = 0; done < 2; tried++) {
        const int64_t at = random_word(20 + (uint64_t)k, tried) % n;
        if (k < 5 && !in_some_head(p, k, at % last)) continue;
        done++;
        const float old = x[at];
        x[at] = old + 0x1p-8F;
        double slope = reference_loss(p, weight, sum_weight);
        const double step = (double)x[at];
        x[at] = old - 0x1p-8F;
        slope = (slope - reference_loss(p, weight, sum_weight)) / (step - (double)x[at]);
        x[at] = old;
        assert_near((double)dx[at], slope, 1e-4 * (1 + fabs(slope))); /* third derivative times 2^-16 */
    }
}

static void every_gradient_matches_finite_differences(problem *p)
{
    if (p->variant->large) return; /* fp64 slopes of it would take seconds */
    vg_node g = gradient_of(p);
    run_node(&g, 2);
    for (int k = 0; k < 7; k++)
        if (k != 5 && p->node.in[k].data) compare_gradient(p, &g, k);
}

static void every_gradient_element_is_written(problem *p)
{
    vg_node g = gradient_of(p);
    run_node(&g, 2);
    for (int k = 0; k < 5; k++) {
        const float *dx = g.out[k].data;
        const int64_t last = vg_shape_last(&g.out[k].shape);
        for (int64_t i = 0; dx && i < vg_shape_count(&g.out[k].shape); i++)
            if (in_some_head(p, k, i % last)) assert_true(isfinite(dx[i]));
    }
}

static void gradient_bits_do_not_depend_on_the_thread_count(problem *p)
{
    vg_node one = gradient_of(p), three = gradient_of(p);
    run_node(&one, 1);
    run_node(&three, 3);
    same_outputs(&one, &three);
}

static void a_gradient_that_nobody_wants_is_left_out(problem *p)
{
    if (p->variant->packed) return;
    vg_node all = gradient_of(p);
    run_node(&all, 1);
    for (int only = 0; only < 6; only++) {
        if (!all.out[only].data || only == 3 || only == 4) continue; /* k2 and v2 share a tensor here */
        vg_node one = all;
        memset(one.out, 0, sizeof one.out);
        one.out[only] = blank_operand(&p->memory, VG_F32, all.out[only].shape);
        if (only == 1) memset(one.out[only].data, 0xff, operand_bytes(&one.out[only]));
        run_node(&one, 1);
        same_outputs(&one, &all);
    }
}

/* Packed with others of its image, or read in place when it is alone. */
static void a_slot_has_the_same_gradient_of_queries_alone(problem *p)
{
    enum { K = 2, V = 3, BIAS = 7, INDEX = 8, N_IN = 14 };
    if (p->variant->packed) return;
    vg_node all = gradient_of(p);
    run_node(&all, 1);
    vg_node alone = one_output(&p->memory, &all, 0);
    const int64_t b = p->slots - 1;
    const int32_t zero = 0;
    for (int k = 0; k < N_IN; k++)
        if (k != BIAS && alone.in[k].data) alone.in[k] = item_of(&alone.in[k], k == K || k == V ? image_of(p, b) : b);
    if (alone.in[INDEX].data) alone.in[INDEX] = int_operand(&p->memory, VG_SHAPE(1), &zero);
    alone.out[0].shape.dim[0] = 1;
    run_node(&alone, 1);
    const size_t bytes = operand_bytes(&alone.out[0]);
    assert_memory_equal(alone.out[0].data, (char *)all.out[0].data + (size_t)b * bytes, bytes);
}

/* The other contributions to the gradients of keys and values are added once all slots have theirs. */
static void what_was_there_is_added_to(problem *p)
{
    if (p->variant->packed) return;
    vg_node alone = gradient_of(p);
    run_node(&alone, 1);
    vg_node added = fresh_outputs(&p->memory, &alone);
    for (int k = 1; k <= 2; k++) added.in[13 + k] = random_operand(&p->memory, p->node.in[k].shape, 30 + (uint64_t)k);
    run_node(&added, 1);
    for (int k = 1; k <= 2; k++) {
        const float *acc = added.in[13 + k].data, *dx = alone.out[k].data, *sum = added.out[k].data;
        const int64_t n = vg_shape_count(&alone.out[k].shape), last = vg_shape_last(&alone.out[k].shape);
        for (int64_t i = 0; i < n; i++) /* one rounding more or less */
            if (in_some_head(p, k, i % last))
                assert_near((double)sum[i], (double)acc[i] + (double)dx[i],
                            0x1p-23 * (fabs((double)acc[i]) + fabs((double)dx[i])));
    }
}

static void a_sum_so_far_may_lie_where_the_new_one_goes(problem *p)
{
    if (p->variant->packed) return;
    vg_node apart = gradient_of(p), over = apart;
    for (int k = 1; k <= 2; k++) {
        apart.in[13 + k] = random_operand(&p->memory, p->node.in[k].shape, 30 + (uint64_t)k);
        over.in[13 + k] = over.out[k] = random_operand(&p->memory, p->node.in[k].shape, 30 + (uint64_t)k);
    }
    run_node(&apart, 1);
    run_node(&over, 2);
    for (int k = 1; k <= 2; k++) {
        const float *x = apart.out[k].data, *y = over.out[k].data;
        const int64_t n = vg_shape_count(&apart.out[k].shape), last = vg_shape_last(&apart.out[k].shape);
        for (int64_t i = 0; i < n; i++)
            if (in_some_head(p, k, i % last)) assert_memory_equal(&x[i], &y[i], sizeof *x);
    }
}

static void an_index_out_of_order_is_refused(void **state)
{
    (void)state;
    problem p = problem_of(&variants[3]);
    ((int32_t *)p.node.in[7].data)[0] = 2;
    vg_stream stream = {.n_threads = 1};
    assert_int_equal(vg_backend_cpu()->kernels[VG_OP_attention](&stream, &p.node), VG_E_BUG);
    release(&p.memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_EACH_PROBLEM(outputs_match_their_definition),
        cmocka_unit_test(large_scores_neither_overflow_nor_lose_the_largest),
        IN_EACH_PROBLEM(masked_keys_have_no_influence_at_all),
        cmocka_unit_test(a_slot_that_sees_no_key_gives_zeros),
        cmocka_unit_test(two_segments_equal_one_of_both),
        IN_EACH_PROBLEM(bits_do_not_depend_on_the_thread_count),
        IN_EACH_PROBLEM(a_slot_has_the_same_bits_alone),
        IN_EACH_PROBLEM(every_gradient_matches_finite_differences),
        IN_EACH_PROBLEM(every_gradient_element_is_written),
        IN_EACH_PROBLEM(gradient_bits_do_not_depend_on_the_thread_count),
        IN_EACH_PROBLEM(a_gradient_that_nobody_wants_is_left_out),
        IN_EACH_PROBLEM(a_slot_has_the_same_gradient_of_queries_alone),
        IN_EACH_PROBLEM(what_was_there_is_added_to),
        IN_EACH_PROBLEM(a_sum_so_far_may_lie_where_the_new_one_goes),
        cmocka_unit_test(an_index_out_of_order_is_refused),
    };
    return cmocka_run_group_tests_name("attention", tests, NULL, NULL);
}
