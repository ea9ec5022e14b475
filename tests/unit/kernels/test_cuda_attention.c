/* Attention and its gradient on the device beside the CPU's: lengths around the tiles, both segments and masks, slots
 * that share images, and everything that may be absent. */
#define _DEFAULT_SOURCE
#include "kernels/base/bf16.h"
#include "tests/unit/kernels/cuda_test.h"

/* Slots take their images and counts from these in turn; image 1 has no slot. */
static const int32_t images_of_slots[] = {0, 0, 2, 2, 2, 3};
enum { EVERY = -1, N_IMAGES = 4 };
static const int32_t seen_of_slots[] = {0, EVERY, 1, 5, 33, EVERY};

typedef struct variant {
    const char *name;
    int64_t slots, n_queries, n_first, n_second, heads, size;
    int64_t gap; /* columns of a row that no operand reads */
    bool packed, index, bias, counts, mask_second;
    bool apart; /* keys and values in tensors of their own, whose gradients are added to others */
    bool sums;  /* of the probabilities, which somebody uses */
    int fold;   /* 0: none */
    float dropout;
} variant;

static const variant variants[] = {
    {"whole tiles", .slots = 1, .n_queries = 64, .n_first = 64, .heads = 1, .size = 64, .packed = true},
    {"one key more than whole tiles", .slots = 1, .n_queries = 20, .n_first = 65, .heads = 1, .size = 64},
    {"self attention", .slots = 2, .n_queries = 70, .n_first = 70, .heads = 2, .size = 64, .packed = true},
    {"narrow heads, self", .slots = 2, .n_queries = 35, .n_first = 35, .heads = 3, .size = 8, .packed = true},
    {"one of each", .slots = 1, .n_queries = 1, .n_first = 1, .heads = 1, .size = 4},
    {"text", .slots = 6, .n_queries = 24, .n_first = 24, .heads = 2, .size = 16, .packed = true, .counts = true},
    {"few by many", .slots = 1, .n_queries = 10, .n_first = 161, .heads = 2, .size = 64},
    {"few by many, narrow", .slots = 1, .n_queries = 16, .n_first = 128, .heads = 1, .size = 32},
    {"one more than few", .slots = 1, .n_queries = 17, .n_first = 31, .heads = 1, .size = 32},
    {"few, hidden keys", .slots = 6, .n_queries = 5, .n_first = 100, .heads = 1, .size = 32, .counts = true,
     .index = true},
    {"few, shared images", .slots = 6, .n_queries = 10, .n_first = 150, .n_second = 34, .heads = 2, .size = 32,
     .index = true, .counts = true, .mask_second = true, .dropout = 0.1F},
    {"shared images", .slots = 6, .n_queries = 33, .n_first = 70, .n_second = 9, .heads = 1, .size = 40, .index = true,
     .counts = true, .mask_second = true, .dropout = 0.5F},
    {"a hole between what is seen", .slots = 6, .n_queries = 20, .n_first = 101, .n_second = 7, .heads = 1, .size = 12,
     .index = true, .counts = true, .bias = true, .dropout = 0.25F},
    {"a few, and a hole between what is seen", .slots = 6, .n_queries = 9, .n_first = 101, .n_second = 6, .heads = 2,
     .size = 48, .index = true, .counts = true, .bias = true},
    {"bias of whole fours", .slots = 3, .n_queries = 40, .n_first = 36, .heads = 2, .size = 20, .bias = true},
    {"rows out of line", .slots = 2, .n_queries = 18, .n_first = 34, .n_second = 3, .heads = 2, .size = 24, .gap = 3},
    {"rows out of line, few", .slots = 2, .n_queries = 3, .n_first = 34, .heads = 2, .size = 33, .gap = 1,
     .bias = true},
    {"a wide head, whole tiles", .slots = 1, .n_queries = 48, .n_first = 64, .heads = 1, .size = 256},
    {"a wide head over shared images", .slots = 6, .n_queries = 20, .n_first = 37, .n_second = 9, .heads = 1,
     .size = 256, .index = true, .counts = true, .mask_second = true, .apart = true, .sums = true, .fold = 4,
     .dropout = 0.1F},
    {"a wide head, hidden keys", .slots = 6, .n_queries = 50, .n_first = 70, .heads = 1, .size = 132, .index = true,
     .counts = true, .apart = true, .sums = true},
    {"wide heads, packed", .slots = 2, .n_queries = 33, .n_first = 33, .heads = 2, .size = 72, .packed = true,
     .dropout = 0.5F},
    {"wide heads, rows out of line", .slots = 2, .n_queries = 17, .n_first = 34, .n_second = 3, .heads = 2, .size = 67,
     .gap = 3, .bias = true, .sums = true, .dropout = 0.25F},
    {"folded narrow heads", .slots = 3, .n_queries = 18, .n_first = 40, .heads = 2, .size = 8, .fold = 3,
     .dropout = 0.5F},
    {"sums of narrow heads", .slots = 3, .n_queries = 5, .n_first = 40, .heads = 2, .size = 8, .apart = true,
     .bias = true, .sums = true, .dropout = 0.5F},
    {"an odd head", .slots = 1, .n_queries = 19, .n_first = 5, .heads = 3, .size = 6, .packed = true, .dropout = 0.3F},
};
enum { N_VARIANTS = sizeof variants / sizeof *variants };

static int32_t count_of(const variant *v, int64_t slot)
{
    const int32_t n = (int32_t)(v->mask_second ? v->n_second : v->n_first), count = seen_of_slots[slot];
    return count == EVERY || count > n ? n : count;
}

/* Forward, with outputs that are not yet written. */
static vg_node node_of(test_memory *m, const variant *v)
{
    const int64_t width = v->heads * v->size, images = v->index ? N_IMAGES : v->slots;
    const int64_t q_row = v->packed ? 3 * width : width + v->gap, kv_row = (v->apart ? 1 : 2) * width + v->gap;
    vg_node n = {.op = VG_OP_attention, .n_in = 9, .n_out = 3};
    n.in[0] = random_operand(m, VG_SHAPE(v->slots, v->n_queries, q_row), 1);
    n.in[1] = v->packed ? n.in[0] : random_operand(m, VG_SHAPE(images, v->n_first, kv_row), 2);
    n.in[2] = v->apart ? random_operand(m, n.in[1].shape, 5) : n.in[1];
    if (v->n_second) n.in[3] = n.in[4] = random_operand(m, VG_SHAPE(v->slots, v->n_second, 2 * width + v->gap), 3);
    int32_t counts[6];
    for (int64_t b = 0; b < v->slots; b++) counts[b] = count_of(v, b);
    if (v->counts) n.in[5] = int_operand(m, VG_SHAPE(v->slots), counts);
    if (v->bias) n.in[6] = random_operand(m, VG_SHAPE(v->heads, v->n_queries, v->n_first + v->n_second), 4);
    if (v->index) n.in[7] = int_operand(m, VG_SHAPE(v->slots), images_of_slots);
    if (v->dropout > 0) n.in[8] = key_operand(m, v->slots);
    n.out[0] = blank_operand(m, VG_F32, VG_SHAPE(v->slots, v->n_queries, width));
    n.out[1] = blank_operand(m, VG_F32, VG_SHAPE(v->slots, v->heads, v->n_queries));
    if (v->sums) n.out[2] = blank_operand(m, VG_F32, n.out[1].shape);
    n.attr.attention.heads = (int)v->heads;
    n.attr.attention.head_size = (int)v->size;
    n.attr.attention.fold = v->fold > 0 ? v->fold : 1;
    n.attr.attention.q_col = v->packed ? 0 : (int)v->gap;
    n.attr.attention.k_col = v->packed ? (int)width : 0;
    n.attr.attention.v_col = (int)(v->apart ? 0 : v->packed ? 2 * width : width);
    n.attr.attention.k2_col = (int)(width + v->gap);
    n.attr.attention.v2_col = 0;
    n.attr.attention.scale = (float)(1.0 / sqrt((double)v->size));
    n.attr.attention.mask_second = v->mask_second;
    n.attr.attention.dropout = v->dropout;
    n.attr.attention.key = vg_rng_key_of(3, 4);
    return n;
}

/* The gradient of a node that has run. Operands in one tensor have their gradients in one. */
static vg_node gradient_of(test_memory *m, const vg_node *n)
{
    vg_node g = {.op = VG_OP_attention_grad, .n_in = 16, .n_out = 6, .attr = n->attr};
    g.in[0] = random_operand(m, n->out[0].shape, 9);
    memcpy(&g.in[1], n->in, 9 * sizeof *n->in);
    g.in[10] = n->out[0];
    g.in[11] = n->out[1];
    g.in[12] = n->out[2];
    if (n->out[2].data) g.in[13] = random_operand(m, n->out[2].shape, 10);
    if (n->in[1].data != n->in[2].data) { /* alone in their tensors, so are their gradients */
        g.in[14] = random_operand(m, n->in[1].shape, 11);
        g.in[15] = random_operand(m, n->in[2].shape, 12);
    }
    for (int k = 0; k < 5; k++) {
        int shared = 0;
        while (n->in[shared].data != n->in[k].data) shared++;
        if (n->in[k].data) g.out[k] = shared < k ? g.out[shared] : blank_operand(m, VG_F32, n->in[k].shape);
    }
    if (n->in[6].data) g.out[5] = blank_operand(m, VG_F32, n->in[6].shape);
    return g;
}

static double distance(float a, float b)
{
    if (memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b))) return 0; /* what neither has written too */
    return isfinite(a) && isfinite(b) ? fabs((double)a - (double)b) : INFINITY;
}

/* Each element may be off by some units in the last place of the largest of its tensor: the two sum in other orders.
 * Errors of longer sums grow as their root. */
enum { UNITS = 10, USUAL_HEAD = 64 };

static const double fp32_units[] = {UNITS, UNITS, UNITS, UNITS, UNITS, UNITS};

static void assert_alike(const char *name, const vg_node *device, const vg_node *cpu, const double units[])
{
    const double longer = sqrt(fmax(1, cpu->attr.attention.head_size / (double)USUAL_HEAD));
    for (int k = 0; k < cpu->n_out; k++) {
        const int64_t n = cpu->out[k].data ? vg_shape_count(&cpu->out[k].shape) : 0;
        const float *got = device->out[k].data, *want = cpu->out[k].data;
        double largest = 0, worst = 0;
        for (int64_t i = 0; i < n; i++) {
            if (isfinite(want[i])) largest = fmax(largest, fabs((double)want[i]));
            worst = fmax(worst, distance(got[i], want[i]));
        }
        const double bound = longer * units[k] * (double)FLT_EPSILON * largest;
        if (worst > bound) print_error("%s: output %d is off by %.3g, bound %.3g\n", name, k, worst, bound);
        assert_true(worst <= bound);
    }
}

/* A forward node that has run on the CPU, and its gradient on the device. */
typedef struct pass {
    test_memory m;
    vg_node forward, grad;
} pass;

static void begin_pass(pass *p, const variant *v)
{
    *p = (pass){0};
    p->forward = node_of(&p->m, v);
    run_node(&p->forward, 1);
    p->grad = gradient_of(&p->m, &p->forward);
}

static void forward_is_the_cpus(void **state)
{
    (void)state;
    for (int v = 0; v < N_VARIANTS; v++) {
        test_memory m = {0};
        vg_node cpu = node_of(&m, &variants[v]), device = fresh_outputs(&m, &cpu);
        run_node(&cpu, 1);
        cuda_run(&device);
        assert_alike(variants[v].name, &device, &cpu, fp32_units);
        release(&m);
    }
}

/* The node with bf16 inputs and result; the inputs of the node itself are rounded to the same values. */
static vg_node of_bf16(test_memory *m, vg_node *n)
{
    vg_node b = *n;
    for (int k = 0; k < 5; k++) {
        int shared = 0;
        while (n->in[shared].data != n->in[k].data) shared++;
        if (n->in[k].data) b.in[k] = shared < k ? b.in[shared] : rounded(m, &n->in[k]);
    }
    b.out[0] = blank_operand(m, VG_BF16, n->out[0].shape);
    b.out[1] = blank_operand(m, VG_F32, n->out[1].shape);
    return b;
}

/* A bf16 tensor as one of fp32. */
static vg_operand widened(test_memory *m, const vg_operand *x)
{
    const vg_operand wide = blank_operand(m, VG_F32, x->shape);
    for (int64_t i = 0; i < vg_shape_count(&x->shape); i++)
        ((float *)wide.data)[i] = vg_bf16_to_float(((const vg_bf16 *)x->data)[i]);
    return wide;
}

/* Products of bf16 are exact in fp32, so scores and their sum are the CPU's; weights and results are rounded to 8 bits.
 * Rounding errors of a row's weights are independent, hence little more than one unit of the largest result is enough
 * for both. */
static void forward_of_bf16_is_the_cpus_of_the_same_numbers(void **state)
{
    (void)state;
    for (int v = 0; v < N_VARIANTS; v++) {
        test_memory m = {0};
        vg_node cpu = node_of(&m, &variants[v]), device = of_bf16(&m, &cpu);
        run_node(&cpu, 1);
        cuda_run(&device);
        device.out[0] = widened(&m, &device.out[0]);
        assert_alike(variants[v].name, &device, &cpu,
                     (const double[]){1.5 * 0x1p-8 / (double)FLT_EPSILON, UNITS, UNITS});
        release(&m);
    }
}

static void gradients_are_the_cpus(void **state)
{
    (void)state;
    for (int v = 0; v < N_VARIANTS; v++) {
        pass p;
        begin_pass(&p, &variants[v]);
        vg_node cpu = gradient_of(&p.m, &p.forward);
        run_node(&cpu, 1);
        cuda_run(&p.grad);
        assert_alike(variants[v].name, &p.grad, &cpu, fp32_units);
        release(&p.m);
    }
}

/* The gradient with bf16 operands and results; what it reads is rounded in the node itself. */
static vg_node gradient_of_bf16(test_memory *m, vg_node *g)
{
    vg_node b = *g;
    b.in[0] = rounded(m, &g->in[0]);
    b.in[10] = rounded(m, &g->in[10]);
    for (int k = 14; k < 16; k++)
        if (g->in[k].data) b.in[k] = rounded(m, &g->in[k]);
    for (int k = 0; k < 5; k++) {
        int shared = 0;
        while (g->in[1 + shared].data != g->in[1 + k].data) shared++;
        if (!g->in[1 + k].data) continue;
        b.in[1 + k] = shared < k ? b.in[1 + shared] : rounded(m, &g->in[1 + k]);
        b.out[k] = shared < k ? b.out[shared] : blank_operand(m, VG_BF16, g->in[1 + k].shape);
    }
    if (g->out[5].data) b.out[5] = blank_operand(m, VG_F32, g->out[5].shape);
    return b;
}

/* Weights and gradients of scores are rounded to 8 bits before they are multiplied, and so are the results. */
static void gradients_of_bf16_are_the_cpus_of_the_same_numbers(void **state)
{
    (void)state;
    const double units = 2 * 0x1p-8 / (double)FLT_EPSILON, all[] = {units, units, units, units, units, units};
    for (int v = 0; v < N_VARIANTS; v++) {
        test_memory m = {0};
        vg_node forward = node_of(&m, &variants[v]);
        of_bf16(&m, &forward);
        run_node(&forward, 1);
        vg_node cpu = gradient_of(&m, &forward), device = gradient_of_bf16(&m, &cpu);
        run_node(&cpu, 1);
        cuda_run(&device);
        for (int k = 0; k < 5; k++)
            if (device.out[k].data) device.out[k] = widened(&m, &device.out[k]);
        assert_alike(variants[v].name, &device, &cpu, all);
        release(&m);
    }
}

/* A rate that the number of a weight equals: element `lane` of slot 0. Of its word the device compares all 32 bits, so
 * the lowest 8 are 0; the rate is between a quarter and a half. */
static void dropout_on_the_bound(vg_node *n, uint32_t lane)
{
    const uint32_t *slot = n->in[8].data;
    uint32_t word[4];
    uint64_t purpose = 0;
    do {
        n->attr.attention.key = vg_rng_key_of(3, ++purpose);
        vg_rng_block(n->attr.attention.key, slot[2] | (uint64_t)slot[3] << 32, slot[1], 0, word);
    } while ((word[lane] & 0xff) || word[lane] >> 30 != 1);
    n->attr.attention.dropout = vg_uniform(word[lane]);
}

static void a_weight_on_the_bound_of_dropout_is_kept(void **state)
{
    (void)state;
    const variant v = {"on the bound", .slots = 1, .n_queries = 5, .n_first = 8,
                       .heads = 1,     .size = 8,  .dropout = 0.5F};
    for (uint32_t lane = 0; lane < 4; lane++) {
        pass p = {0};
        p.forward = node_of(&p.m, &v);
        dropout_on_the_bound(&p.forward, lane);
        vg_node device = fresh_outputs(&p.m, &p.forward);
        run_node(&p.forward, 1);
        cuda_run(&device);
        assert_alike(v.name, &device, &p.forward, fp32_units);
        p.grad = gradient_of(&p.m, &p.forward);
        vg_node cpu = gradient_of(&p.m, &p.forward);
        run_node(&cpu, 1);
        cuda_run(&p.grad);
        assert_alike(v.name, &p.grad, &cpu, fp32_units);
        release(&p.m);
    }
}

static void the_log_sum_exp_may_be_absent(void **state)
{
    (void)state;
    for (int v = 0; v < N_VARIANTS; v++) {
        test_memory m = {0};
        vg_node all = node_of(&m, &variants[v]), alone = fresh_outputs(&m, &all);
        cuda_run(&all);
        alone.out[1] = (vg_operand){0};
        cuda_run(&alone);
        assert_memory_equal(alone.out[0].data, all.out[0].data, operand_bytes(&all.out[0]));
        release(&m);
    }
}

/* The columns of one head-wide operand, or everything of the bias. */
static bool covers(const vg_node *g, int k, int64_t column)
{
    const int first[5] = {g->attr.attention.q_col, g->attr.attention.k_col, g->attr.attention.v_col,
                          g->attr.attention.k2_col, g->attr.attention.v2_col};
    const int64_t width = (int64_t)g->attr.attention.heads * g->attr.attention.head_size;
    return k == 5 || (column >= first[k] && column < first[k] + width);
}

/* Every second variant has each kernel among them, and the others would take as long again. */
static void a_gradient_alone_has_the_same_bits_and_nothing_else_is_written(void **state)
{
    (void)state;
    for (int v = 0; v < N_VARIANTS; v += 2) {
        pass p;
        begin_pass(&p, &variants[v]);
        cuda_run(&p.grad);
        for (int k = 0; k < 6; k++) {
            if (!p.grad.out[k].data) continue;
            vg_node alone = p.grad;
            memset(alone.out, 0, sizeof alone.out);
            alone.out[k] = blank_operand(&p.m, VG_F32, p.grad.out[k].shape);
            const vg_operand untouched = blank_operand(&p.m, VG_F32, p.grad.out[k].shape);
            cuda_run(&alone);
            const int64_t n = vg_shape_count(&p.grad.out[k].shape), last = vg_shape_last(&p.grad.out[k].shape);
            for (int64_t i = 0; i < n; i++) {
                const vg_operand *want = covers(&p.grad, k, i % last) ? &p.grad.out[k] : &untouched;
                assert_memory_equal((float *)alone.out[k].data + i, (float *)want->data + i, sizeof(float));
            }
        }
        release(&p.m);
    }
}

/* Slot b of a batched operand, or image `image` of one by images. */
static void take_slot(vg_operand *x, int64_t item)
{
    if (!x->data) return;
    x->data = (char *)x->data + (size_t)item * (operand_bytes(x) / (size_t)x->shape.dim[0]);
    x->shape.dim[0] = 1;
}

static void a_slot_has_the_same_bits_alone(void **state)
{
    (void)state;
    for (int v = 0; v < N_VARIANTS; v += 2) {
        pass p;
        begin_pass(&p, &variants[v]);
        vg_node all = fresh_outputs(&p.m, &p.forward), alone = all, alone_grad = p.grad;
        const int64_t b = variants[v].slots - 1, image = variants[v].index ? images_of_slots[b] : b;
        const int32_t zero = 0;
        cuda_run(&all);
        cuda_run(&p.grad);
        for (int k = 0; k < 16; k++)
            if (k != 7) take_slot(&alone_grad.in[k], k == 2 || k == 3 || k >= 14 ? image : b);
        if (alone.in[7].data) alone_grad.in[8] = int_operand(&p.m, VG_SHAPE(1), &zero);
        memcpy(alone.in, &alone_grad.in[1], 9 * sizeof *alone.in);
        for (int k = 0; k < 3; k++) {
            take_slot(&all.out[k], b);
            if (all.out[k].data) alone.out[k] = blank_operand(&p.m, VG_F32, all.out[k].shape);
        }
        cuda_run(&alone);
        same_outputs(&alone, &all);
        memset(&alone_grad.out[1], 0, 5 * sizeof *alone_grad.out); /* the others add slots */
        take_slot(&p.grad.out[0], b);
        alone_grad.out[0] = blank_operand(&p.m, VG_F32, p.grad.out[0].shape);
        cuda_run(&alone_grad);
        const int64_t n = vg_shape_count(&p.grad.out[0].shape), last = vg_shape_last(&p.grad.out[0].shape);
        for (int64_t i = 0; i < n; i++)
            if (covers(&p.grad, 0, i % last))
                assert_memory_equal((float *)alone_grad.out[0].data + i, (float *)p.grad.out[0].data + i,
                                    sizeof(float));
        release(&p.m);
    }
}

/* Rows of x, keys or values, that no slot sees become NaN. */
static void hide_in(const variant *v, vg_operand *operand)
{
    const int64_t items = operand->shape.dim[0], rows = operand->shape.dim[1], last = vg_shape_last(&operand->shape);
    float *x = operand->data;
    for (int64_t item = 0; item < items; item++) {
        int64_t seen = 0;
        for (int64_t b = 0; b < v->slots; b++)
            if ((v->index && !v->mask_second ? images_of_slots[b] : b) == item && count_of(v, b) > seen)
                seen = count_of(v, b);
        for (int64_t i = seen * last; i < rows * last; i++) x[item * rows * last + i] = NAN;
    }
}

static void hide(const variant *v, vg_node *n)
{
    const int first = v->mask_second ? 3 : 1;
    hide_in(v, &n->in[first]);
    hide_in(v, &n->in[first + 1]);
}

static void hidden_keys_have_no_influence_at_all(void **state)
{
    (void)state;
    int n_hidden = 0;
    for (int v = 0; v < N_VARIANTS; v++) {
        if (!variants[v].counts || variants[v].packed) continue;
        pass p;
        begin_pass(&p, &variants[v]);
        vg_node forward = fresh_outputs(&p.m, &p.forward), hidden = fresh_outputs(&p.m, &p.forward);
        vg_node grad = gradient_of(&p.m, &p.forward);
        cuda_run(&forward);
        cuda_run(&grad);
        hide(&variants[v], &p.forward);
        cuda_run(&hidden);
        cuda_run(&p.grad);
        same_outputs(&hidden, &forward);
        same_outputs(&p.grad, &grad);
        n_hidden++;
        release(&p.m);
    }
    assert_true(n_hidden > 0);
}

static void a_bias_may_hide_whole_tiles(void **state)
{
    (void)state;
    for (int few = 0; few < 2; few++) {
        const variant v = {"a bias that hides", .slots = 1,  .n_queries = few ? 4 : 20, .n_first = 140, .heads = 1,
                           .size = 32,          .bias = true};
        test_memory m = {0};
        vg_node cpu = node_of(&m, &v);
        float *bias = cpu.in[6].data;
        for (int64_t i = 0; i < v.n_queries; i++)
            for (int64_t j = 0; j < v.n_first; j++)
                if (j < 40 + i || j > 130) bias[i * v.n_first + j] = -INFINITY;
        vg_node device = fresh_outputs(&m, &cpu);
        run_node(&cpu, 1);
        cuda_run(&device);
        assert_alike(v.name, &device, &cpu, fp32_units);
        release(&m);
    }
}

static void large_scores_do_not_overflow(void **state)
{
    (void)state;
    for (int v = 0; v < N_VARIANTS; v++) {
        test_memory m = {0};
        vg_node n = node_of(&m, &variants[v]);
        n.attr.attention.scale = 300;
        vg_node bf16 = of_bf16(&m, &n);
        cuda_run(&n);
        cuda_run(&bf16);
        const vg_operand wide = widened(&m, &bf16.out[0]);
        for (int64_t i = 0; i < vg_shape_count(&n.out[0].shape); i++)
            assert_true(isfinite(((const float *)n.out[0].data)[i]) && isfinite(((const float *)wide.data)[i]));
        release(&m);
    }
}

static void what_is_not_a_number_stays_none(void **state)
{
    (void)state;
    test_memory m = {0};
    vg_node n = node_of(&m, &variants[1]);
    ((float *)n.in[0].data)[0] = NAN;
    cuda_run(&n);
    assert_true(isnan(((float *)n.out[0].data)[0]));
    assert_true(isnan(((float *)n.out[1].data)[0]));
    assert_true(isfinite(((float *)n.out[0].data)[n.out[0].shape.dim[2]]));
    release(&m);
}

static void what_it_cannot_do_is_refused(void **state)
{
    (void)state;
    test_memory m = {0};
    const variant wide = {.slots = 1, .n_queries = 2, .n_first = 2, .heads = 1, .size = 260};
    vg_node n = node_of(&m, &wide);
    assert_int_equal(run_node_on(vg_backend_cuda(), &cuda_stream, &n), VG_E_CONFIG);
    assert_non_null(strstr(vg_error_text(), "260"));
    n = node_of(&m, &variants[0]);
    n.attr.attention.dropout = 0.5F;
    assert_int_equal(run_node_on(vg_backend_cuda(), &cuda_stream, &n), VG_E_BUG);
    vg_node g = gradient_of(&m, &n);
    assert_int_equal(run_node_on(vg_backend_cuda(), &cuda_stream, &g), VG_E_BUG);
    release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_is_the_cpus),
        cmocka_unit_test(forward_of_bf16_is_the_cpus_of_the_same_numbers),
        cmocka_unit_test(gradients_are_the_cpus),
        cmocka_unit_test(gradients_of_bf16_are_the_cpus_of_the_same_numbers),
        cmocka_unit_test(a_weight_on_the_bound_of_dropout_is_kept),
        cmocka_unit_test(the_log_sum_exp_may_be_absent),
        cmocka_unit_test(a_gradient_alone_has_the_same_bits_and_nothing_else_is_written),
        cmocka_unit_test(a_slot_has_the_same_bits_alone),
        cmocka_unit_test(hidden_keys_have_no_influence_at_all),
        cmocka_unit_test(a_bias_may_hide_whole_tiles),
        cmocka_unit_test(large_scores_do_not_overflow),
        cmocka_unit_test(what_is_not_a_number_stays_none),
        cmocka_unit_test(what_it_cannot_do_is_refused),
    };
    cuda_open();
    return cmocka_run_group_tests_name("attention on the device", tests, NULL, NULL);
}
