/* test_ops [ROW]: every row of kernels/ops.def (or one) alone against what PyTorch gave, on the backend that
 * VLGTR_DEVICE names: README.md, "The file of operations". A row without a case or without a kernel fails. */
#include "checkpoints/safetensors.h"
#include "kernels/backend.h"
#include "tests/device_test.h"
#include "tests/parity/fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_HELD = VG_MAX_IN + VG_MAX_OUT };

/* One case: the node with its inputs and memory for its outputs, what they should hold, and what PyTorch is off by. */
typedef struct op_case {
    char title[96];
    vg_node node;
    void *want[VG_MAX_OUT];
    double error[VG_MAX_OUT];
    const char *names[MAX_HELD]; /* its tensors: one named twice is one buffer */
    vg_operand held[MAX_HELD];
    void *wanted[MAX_HELD];
    int n_held;
} op_case;

static vg_tensors *file;
static json_t *rows;
static const vg_backend *backend; /* under test */
static vg_stream stream;
static const char *only; /* this row; NULL for all */

/* ---- reading ---- */

static size_t bytes_of(const vg_operand *x)
{
    return x->data ? (size_t)vg_shape_count(&x->shape) * vg_dtype_bytes(x->dtype) : 0;
}

static vg_dtype dtype_of(vg_tensor_type type)
{
    switch (type) {
    case VG_TENSOR_F32: return VG_F32;
    case VG_TENSOR_F64: return VG_F64;
    case VG_TENSOR_I32: return VG_I32;
    case VG_TENSOR_U32: return VG_U32;
    case VG_TENSOR_U8: return VG_U8;
    default: fail_msg("a tensor of type %s", vg_tensor_type_name(type));
    }
    return VG_DTYPES;
}

/* The tensor `name`, absent for null. An input holds the values; of an output they are what is wanted. */
static vg_operand operand(op_case *c, const char *name, void **want)
{
    if (want) *want = NULL;
    if (!name) return (vg_operand){0};
    int k = 0;
    while (k < c->n_held && strcmp(c->names[k], name) != 0) k++;
    if (k == c->n_held) {
        const int i = vg_tensors_find(file, name);
        assert_true(i >= 0 && k < MAX_HELD);
        const vg_tensor_entry *e = vg_tensors_get(file, i);
        assert_in_range(e->rank, 1, VG_MAX_RANK);
        vg_operand x = {.data = vg_new0(e->bytes), .dtype = dtype_of(e->type), .shape = {.rank = e->rank}};
        for (int j = 0; j < e->rank; j++) x.shape.dim[j] = e->dim[j];
        if (want) c->wanted[k] = vg_new0(e->bytes);
        assert_int_equal(vg_tensors_read_bytes(file, i, want ? c->wanted[k] : x.data), VG_OK);
        c->names[k] = name;
        c->held[k] = x;
        c->n_held++;
    }
    if (want) *want = c->wanted[k];
    return c->held[k];
}

static const struct {
    const char *name;
    int n_in, n_out;
} table[VG_OP_COUNT] = {
#define VG_OP(op, n_inputs, n_outputs, shape, grad, cost) {#op, n_inputs, n_outputs},
#include "kernels/ops.def"
#undef VG_OP
};

static vg_op op_of(const char *name)
{
    for (int op = 0; op < VG_OP_COUNT; op++)
        if (strcmp(table[op].name, name) == 0) return (vg_op)op;
    fail_msg("ops.def has no row %s", name);
    return VG_OP_COUNT;
}

/* The fields of an attribute, taken out of the case as they are read: what is left was handed to nobody. */
static int whole(json_t *attr, const char *key)
{
    const int value = (int)json_integer_value(json_object_get(attr, key));
    json_object_del(attr, key);
    return value;
}

static float real(json_t *attr, const char *key)
{
    const float value = (float)json_number_value(json_object_get(attr, key));
    json_object_del(attr, key);
    return value;
}

static bool flag(json_t *attr, const char *key)
{
    const bool value = json_is_true(json_object_get(attr, key));
    json_object_del(attr, key);
    return value;
}

static vg_rng_key rng_key(json_t *attr)
{
    const json_t *words = json_object_get(attr, "key");
    const vg_rng_key key = {{(uint32_t)json_integer_value(json_array_get(words, 0)),
                             (uint32_t)json_integer_value(json_array_get(words, 1))}};
    json_object_del(attr, "key");
    return key;
}

static vg_act act(json_t *attr)
{
    static const char *const names[] = {"none", "relu", "gelu", "sigmoid"};
    const char *name = json_string_value(json_object_get(attr, "act"));
    vg_act found = VG_ACT_NONE;
    for (int i = 0; name && i < 4; i++)
        if (strcmp(name, names[i]) == 0) found = (vg_act)i;
    json_object_del(attr, "act");
    return found;
}

static vg_attr attribute(vg_op op, json_t *a)
{
    switch (op) {
    case VG_OP_patchify: return (vg_attr){.patchify = {whole(a, "patch")}};
    case VG_OP_linear:
    case VG_OP_act_grad: return (vg_attr){.linear = {act(a)}};
    case VG_OP_layernorm:
    case VG_OP_layernorm_grad: return (vg_attr){.layernorm = {real(a, "eps")}};
    case VG_OP_repeat: return (vg_attr){.repeat = {whole(a, "count")}};
    case VG_OP_attention:
    case VG_OP_attention_grad:
        return (vg_attr){.attention = {.heads = whole(a, "heads"),
                                       .head_size = whole(a, "head_size"),
                                       .fold = whole(a, "fold"),
                                       .q_col = whole(a, "q_col"),
                                       .k_col = whole(a, "k_col"),
                                       .v_col = whole(a, "v_col"),
                                       .k2_col = whole(a, "k2_col"),
                                       .v2_col = whole(a, "v2_col"),
                                       .scale = real(a, "scale"),
                                       .mask_second = flag(a, "mask_second"),
                                       .dropout = real(a, "dropout"),
                                       .key = rng_key(a)}};
    case VG_OP_heads_expand:
    case VG_OP_heads_contract:
    case VG_OP_heads_dw: return (vg_attr){.heads = {whole(a, "heads")}};
    case VG_OP_text_embed:
    case VG_OP_text_embed_grad: return (vg_attr){.embed = {whole(a, "pad")}};
    case VG_OP_slice_tokens:
    case VG_OP_slice_tokens_grad: return (vg_attr){.slice = {whole(a, "first"), whole(a, "count")}};
    case VG_OP_dropout: return (vg_attr){.dropout = {real(a, "p"), rng_key(a)}};
    case VG_OP_detr_loss:
        return (vg_attr){
            .detr_loss = {real(a, "eos"), real(a, "cost_class"), real(a, "cost_l1"), real(a, "cost_giou")}};
    case VG_OP_align_loss: return (vg_attr){.align = {whole(a, "gh"), whole(a, "gw")}};
    default: return (vg_attr){0};
    }
}

/* As attribute, which passes over nothing but what only ops.py needs: sizes, and which outputs there are. */
static vg_attr whole_attribute(const char *title, vg_op op, const json_t *attr)
{
    static const char *const of_the_oracle[] = {"patches", "words", "positions", "rows", "images", "tokens", "sums"};
    json_t *left = json_copy((json_t *)attr);
    const vg_attr read = attribute(op, left);
    for (size_t i = 0; i < sizeof of_the_oracle / sizeof *of_the_oracle; i++) json_object_del(left, of_the_oracle[i]);
    const char *key = json_object_iter_key(json_object_iter(left));
    if (key) fail_msg("%s: attribute() in test_ops.c does not hand on the case's '%s'", title, key);
    json_decref(left);
    return read;
}

static void open_case(size_t i, op_case *c)
{
    const json_t *row = json_array_get(rows, i), *in = json_object_get(row, "in"), *out = json_object_get(row, "out");
    const char *name = json_string_value(json_object_get(row, "op"));
    const vg_op op = op_of(name);
    *c = (op_case){.node = {.op = op, .n_in = table[op].n_in, .n_out = table[op].n_out}};
    snprintf(c->title, sizeof c->title, "%s, %s", name, json_string_value(json_object_get(row, "case")));
    c->node.attr = whole_attribute(c->title, op, json_object_get(row, "attr"));
    assert_in_range(json_array_size(in), 1, c->node.n_in);   /* those that a case does not name are absent */
    assert_in_range(json_array_size(out), 1, c->node.n_out); /* stack_grad has as many as were stacked */
    for (int k = 0; k < (int)json_array_size(in); k++)
        c->node.in[k] = operand(c, json_string_value(json_array_get(in, (size_t)k)), NULL);
    for (int k = 0; k < (int)json_array_size(out); k++) {
        c->node.out[k] = operand(c, json_string_value(json_array_get(out, (size_t)k)), &c->want[k]);
        c->error[k] = json_number_value(json_array_get(json_object_get(row, "error"), (size_t)k));
    }
}

static void close_case(op_case *c)
{
    for (int k = 0; k < c->n_held; k++) {
        free(c->held[k].data);
        free(c->wanted[k]);
    }
}

/* ---- running ---- */

static void run(const op_case *c, const vg_backend *on, int n_threads)
{
    stream.n_threads = n_threads;
    const vg_status st = run_node_on(on, &stream, &c->node);
    if (st != VG_OK) print_error("%s: %s\n", c->title, vg_error_text());
    assert_int_equal(st, VG_OK);
}

static void fill_outputs(const op_case *c, int byte)
{
    for (int k = 0; k < c->node.n_out; k++)
        if (c->node.out[k].data) memset(c->node.out[k].data, byte, bytes_of(&c->node.out[k]));
}

static double element(const vg_operand *x, const void *data, int64_t i)
{
    return x->dtype == VG_F64 ? ((const double *)data)[i] : (double)((const float *)data)[i];
}

/* Whether output k holds what is wanted, on top of start[..] where it adds. Whole numbers must be the same, the others
 * within the bound that all parity tests share. */
static bool output_is_near(const op_case *c, int k, const float *start, bool verbose)
{
    const vg_operand *x = &c->node.out[k];
    const int64_t n = vg_shape_count(&x->shape);
    if (x->dtype != VG_F32 && x->dtype != VG_F64) return memcmp(x->data, c->want[k], bytes_of(x)) == 0;
    double largest = 0, worst = 0;
    for (int64_t i = 0; i < n; i++) {
        const double before = start ? (double)start[i] : 0, want = element(x, c->want[k], i) + before;
        const double off = fabs(element(x, x->data, i) - want);
        largest = fmax(largest, fmax(fabs(want), fabs(before)));
        worst = parity_worse(worst, off);
    }
    const double bound = parity_bound(c->error[k], largest, PARITY_UNITS * 0x1p-23);
    if (!(worst <= bound) && verbose)
        print_error("%s: output %d is off by %.3g, bound %.3g\n", c->title, k, worst, bound);
    return worst <= bound;
}

static bool is_near(const op_case *c, bool verbose)
{
    bool near = true;
    for (int k = 0; k < c->node.n_out; k++)
        if (c->node.out[k].data && !output_is_near(c, k, NULL, verbose)) near = false;
    return near;
}

/* ---- in bf16 ---- */

static float rounded(float x)
{
    return vg_bf16_to_float(vg_bf16_from(x));
}

/* Bits of the inputs (outputs) that are bf16 in a run of that precision. */
static unsigned bf16_inputs(const vg_node *node, vg_bf16_operands may)
{
    unsigned bits = may.tied.in | may.loose.in;
    const bool gamma = node->in[node->op == VG_OP_linear ? 3 : 2].data;
    if ((node->op == VG_OP_linear || node->op == VG_OP_linear_dx) && !gamma) bits |= 1u << 1;
    if (node->op == VG_OP_heads_expand || node->op == VG_OP_heads_contract) bits |= 1u << 1;
    if (node->op == VG_OP_linear && (may.tied.out & 1)) bits |= 1u << 2;
    return bits;
}

/* The buffer of an operand, its numbers rounded; to be replaced by to_bf16 where `becomes`. */
static void mark(op_case *c, const vg_operand *x, bool is_input, bool becomes[MAX_HELD])
{
    for (int k = 0; k < c->n_held; k++) {
        if (!x->data || x->dtype != VG_F32 || c->held[k].data != x->data || becomes[k]) continue;
        becomes[k] = true;
        float *v = x->data;
        for (int64_t i = 0; is_input && i < vg_shape_count(&x->shape); i++) v[i] = rounded(v[i]);
    }
}

static void replace(const vg_operand *before, const vg_operand *after, vg_operand *operands, int n)
{
    for (int i = 0; i < n; i++)
        if (operands[i].data == before->data) {
            operands[i].data = after->data;
            operands[i].dtype = after->dtype;
        }
}

/* Gives the operands that share buffer k a bf16 copy of it. */
static void to_bf16(op_case *c, int k)
{
    vg_operand *held = &c->held[k], after = *held;
    const int64_t n = vg_shape_count(&held->shape);
    vg_bf16 *numbers = vg_new0_array((size_t)n, sizeof *numbers);
    for (int64_t i = 0; i < n; i++) numbers[i] = vg_bf16_from(((const float *)held->data)[i]);
    after.data = numbers;
    after.dtype = VG_BF16;
    replace(held, &after, c->node.in, c->node.n_in);
    replace(held, &after, c->node.out, c->node.n_out);
    free(held->data);
    *held = after;
}

/* What the CPU makes of the numbers that bf16 has, in fp32: the outputs are then what is wanted. */
static void want_of_rounded(op_case *c, bool becomes[MAX_HELD])
{
    const vg_node *node = &c->node;
    const vg_bf16_operands may =
        vg_op_bf16_operands(node->op, node->op == VG_OP_linear && (node->in[3].data || node->in[4].data));
    const unsigned in = bf16_inputs(node, may), out = may.tied.out | may.loose.out;
    for (int i = 0; i < node->n_in; i++)
        if ((in >> i) & 1) mark(c, &node->in[i], true, becomes);
    vg_stream host = {.n_threads = 1};
    assert_int_equal(run_node_on(vg_backend_cpu(), &host, node), VG_OK);
    for (int i = 0; i < node->n_out; i++) {
        const vg_operand *x = &node->out[i];
        if (x->data && x->dtype == VG_F32) memcpy(c->want[i], x->data, bytes_of(x));
        if ((out >> i) & 1) mark(c, x, false, becomes);
    }
}

/* How often a number is rounded, the last time as the result: attention rounds weights and gradients of scores, gelu
 * and sigmoid begin with the rounded z, a norm with the rounded sum, products with gamma W, heads with the bias. */
static int roundings(const vg_node *node, const vg_operand *x)
{
    const vg_operand *in = node->in;
    const int as_result = x->dtype == VG_BF16;
    switch (node->op) {
    case VG_OP_attention:
    case VG_OP_attention_grad: return 2;
    case VG_OP_layernorm: return as_result + (in[3].data != NULL);
    case VG_OP_heads_contract: return as_result + (in[2].data != NULL);
    case VG_OP_linear: return as_result + (in[3].data || node->attr.linear.act >= VG_ACT_GELU);
    case VG_OP_linear_dx: return as_result + (in[2].data != NULL);
    default: return as_result;
    }
}

/* A bf16 has 8 bits: to round is to err by 2^-8 at most. Products of two are exact in fp32. */
static double bf16_bound(const vg_node *node, const vg_operand *x, double largest)
{
    return parity_bound(0, largest, PARITY_UNITS * 0x1p-23) + roundings(node, x) * 0x1p-8 * largest;
}

static void check_bf16(op_case *c)
{
    bool becomes[MAX_HELD] = {false};
    want_of_rounded(c, becomes);
    for (int k = 0; k < c->n_held; k++)
        if (becomes[k]) to_bf16(c, k);
    fill_outputs(c, 0xff);
    run(c, backend, 1);
    for (int k = 0; k < c->node.n_out; k++) {
        const vg_operand *x = &c->node.out[k];
        if (!x->data || (x->dtype != VG_F32 && x->dtype != VG_BF16)) continue;
        double largest = 0, worst = 0;
        for (int64_t i = 0; i < vg_shape_count(&x->shape); i++) {
            const double want = (double)((const float *)c->want[k])[i];
            const float have =
                x->dtype == VG_BF16 ? vg_bf16_to_float(((const vg_bf16 *)x->data)[i]) : ((const float *)x->data)[i];
            largest = fmax(largest, fabs(want));
            worst = parity_worse(worst, fabs((double)have - want));
        }
        const double bound = bf16_bound(&c->node, x, largest);
        if (!(worst <= bound))
            print_error("%s in bf16: output %d is off by %.3g, bound %.3g\n", c->title, k, worst, bound);
        assert_true(worst <= bound);
    }
}

/* ---- the tests ---- */

static bool is_wanted(const char *row)
{
    return !only || strcmp(row, only) == 0;
}

static void for_each_case(void (*check)(op_case *))
{
    int n = 0;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        op_case c;
        if (!is_wanted(json_string_value(json_object_get(json_array_get(rows, i), "op")))) continue;
        open_case(i, &c);
        check(&c);
        close_case(&c);
        n++;
    }
    assert_true(n > 0);
}

static void every_row_of_ops_def_has_a_case(void **state)
{
    (void)state;
    for (int op = 0; op < VG_OP_COUNT; op++) {
        int n = 0;
        if (!is_wanted(table[op].name)) continue;
        for (size_t i = 0; i < json_array_size(rows); i++)
            n += strcmp(json_string_value(json_object_get(json_array_get(rows, i), "op")), table[op].name) == 0;
        if (n == 0)
            print_error("%s has no case in ops.safetensors; add one to tests/parity/ops.py and record it, as "
                        "tests/parity/README.md says\n",
                        table[op].name);
        assert_true(n > 0);
    }
}

static void the_backend_has_every_row(void **state)
{
    (void)state;
    bool all = true;
    for (int op = 0; op < VG_OP_COUNT; op++) {
        if (!is_wanted(table[op].name) || backend->kernels[op]) continue;
        print_error("the %s backend has no kernel for %s\n", backend->name, table[op].name);
        all = false;
    }
    assert_true(all);
}

static void check_result(op_case *c)
{
    fill_outputs(c, 0xff);
    run(c, backend, 2);
    assert_true(is_near(c, true));
}

static void each_operation_gives_what_pytorch_gives(void **state)
{
    (void)state;
    for_each_case(check_result);
}

/* The outputs of a run in one buffer after the other. */
static unsigned char *outputs(const op_case *c, size_t *n)
{
    *n = 0;
    for (int k = 0; k < c->node.n_out; k++) *n += bytes_of(&c->node.out[k]);
    unsigned char *all = vg_new0(*n), *at = all;
    for (int k = 0; k < c->node.n_out; k++) {
        if (!c->node.out[k].data) continue;
        memcpy(at, c->node.out[k].data, bytes_of(&c->node.out[k]));
        at += bytes_of(&c->node.out[k]);
    }
    return all;
}

static void check_bits(op_case *c)
{
    size_t n = 0;
    run(c, vg_backend_cpu(), 1);
    unsigned char *once = outputs(c, &n);
    const vg_backend *const backends[] = {vg_backend_cpu(), vg_backend_check()};
    for (int i = 0; i < 4; i++) {
        fill_outputs(c, 0xff);
        run(c, backends[i / 2], 1 + i % 2);
        unsigned char *again = outputs(c, &n);
        if (memcmp(once, again, n) != 0)
            print_error("%s: other bits on %d threads, %s backend\n", c->title, 1 + i % 2, backends[i / 2]->name);
        assert_memory_equal(once, again, n);
        free(again);
    }
    free(once);
}

static void check_repetition(op_case *c)
{
    size_t n = 0;
    unsigned char *bits[2];
    for (int i = 0; i < 2; i++) {
        fill_outputs(c, i ? 0xff : 0);
        run(c, backend, 1);
        bits[i] = outputs(c, &n);
    }
    assert_memory_equal(bits[0], bits[1], n);
    free(bits[0]);
    free(bits[1]);
}

static void bits_are_the_same_in_every_run(void **state)
{
    (void)state;
    for_each_case(check_repetition);
}

static void bits_are_the_same_on_one_and_two_threads_and_under_guard(void **state)
{
    (void)state;
    for_each_case(check_bits);
}

static void check_packed(op_case *c)
{
    const size_t bytes = vg_round_up(backend->packed_bytes(&c->node), 64);
    if (!bytes) return;
    size_t n = 0;
    run(c, backend, 1);
    unsigned char *plain = outputs(c, &n);
    void *packed = aligned_alloc(64, bytes);
    assert_int_equal(backend->pack(&stream, &c->node, packed), VG_OK);
    c->node.packed = packed;
    fill_outputs(c, 0xff);
    run(c, backend, 1);
    unsigned char *again = outputs(c, &n);
    assert_memory_equal(plain, again, n);
    free(again);
    free(packed);
    free(plain);
}

static void a_packed_weight_gives_the_same_bits(void **state)
{
    (void)state;
    for_each_case(check_packed);
}

/* The input whose place output k may take in this case, since no other input lies there; -1 for none. */
static int place_of_output(const op_case *c, int k)
{
    const vg_operand *in = c->node.in, *out = &c->node.out[k];
    const int i = out->data && backend->in_place ? backend->in_place(c->node.op, k) : -1;
    if (i < 0 || !in[i].data || bytes_of(&in[i]) != bytes_of(out)) return -1;
    for (int j = 0; j < c->node.n_in; j++)
        if (j != i && in[j].data == in[i].data) return -1;
    return i;
}

static void check_places(op_case *c)
{
    size_t n = 0;
    run(c, backend, 2);
    unsigned char *apart = outputs(c, &n);
    for (int k = 0; k < c->node.n_out; k++) {
        const int i = place_of_output(c, k);
        if (i < 0) continue;
        vg_operand *out = &c->node.out[k];
        void *own = out->data, *input = vg_new0(bytes_of(out));
        memcpy(input, c->node.in[i].data, bytes_of(out));
        out->data = c->node.in[i].data;
        run(c, backend, 2);
        unsigned char *in_place = outputs(c, &n);
        if (memcmp(apart, in_place, n) != 0)
            print_error("%s: other bits with output %d in the place of input %d\n", c->title, k, i);
        assert_memory_equal(apart, in_place, n);
        memcpy(out->data, input, bytes_of(out));
        out->data = own;
        free(in_place);
        free(input);
    }
    free(apart);
}

static void an_output_in_the_place_of_an_input_has_the_same_bits(void **state)
{
    (void)state;
    for_each_case(check_places);
}

/* The outputs that are gradients of parameters, as the rows of ops.def say: bit k stands for output k. */
static unsigned parameter_gradients(vg_op op)
{
    switch (op) {
    case VG_OP_linear_dw:
    case VG_OP_heads_dw: return 7;         /* dW, db, dgamma */
    case VG_OP_layernorm_grad: return 6;   /* dgamma, dbeta */
    case VG_OP_sum_rows: return 1;         /* dp */
    case VG_OP_vit_tokens_grad: return 14; /* dpos, dcls, dreg */
    case VG_OP_text_embed_grad: return 7;  /* dword, dpos, dtype */
    case VG_OP_align_loss: return 8 | 16;  /* dscale, dshift */
    default: return 0;
    }
}

static void check_accumulation(op_case *c)
{
    const unsigned added = parameter_gradients(c->node.op);
    float *start[VG_MAX_OUT] = {NULL};
    c->node.accumulate = true;
    fill_outputs(c, 0xff);
    for (int k = 0; k < c->node.n_out; k++) {
        const vg_operand *x = &c->node.out[k];
        if (!x->data || !((added >> k) & 1)) continue;
        vg_fill_uniform(x->data, vg_shape_count(&x->shape), vg_rng_key_of(1, (uint64_t)k), -1, 1);
        start[k] = vg_new0(bytes_of(x));
        memcpy(start[k], x->data, bytes_of(x));
    }
    run(c, backend->device == &vg_host_device ? vg_backend_check() : backend, 2);
    for (int k = 0; k < c->node.n_out; k++) {
        if (c->node.out[k].data) assert_true(output_is_near(c, k, start[k], true));
        free(start[k]);
    }
}

static void gradients_of_parameters_and_only_they_add_to_what_was_there(void **state)
{
    (void)state;
    for_each_case(check_accumulation);
}

/* Moves a float operand by about a thousandth of its largest element, up and down in turn (a layer norm does not see a
 * common shift); other operands become 1 throughout, or 0 where they were 1. Of what it divides by, relu's gradient
 * reads the sign alone, so that is turned. */
static void disturb(const op_case *c, int k)
{
    const vg_operand *x = &c->node.in[k];
    const int64_t n = vg_shape_count(&x->shape);
    const bool sign_alone = c->node.op == VG_OP_act_grad && k == 1 && c->node.attr.linear.act == VG_ACT_RELU;
    if (x->dtype == VG_F32) {
        float *v = x->data, largest = 0;
        for (int64_t i = 0; i < n; i++) largest = fmaxf(largest, fabsf(v[i]));
        for (int64_t i = 0; i < n; i++) v[i] = sign_alone ? 1 - v[i] : v[i] + (i % 2 ? 1e-3F : -1e-3F) * largest;
        return;
    }
    const size_t width = vg_dtype_bytes(x->dtype);
    unsigned char one[8] = {1}, *bytes = x->data;
    bool ones = true;
    for (int64_t i = 0; i < n; i++) ones = ones && memcmp(bytes + (size_t)i * width, one, width) == 0;
    one[0] = !ones;
    for (int64_t i = 0; i < n; i++) memcpy(bytes + (size_t)i * width, one, width);
}

/* The counts of a linear layer say what need not be computed; a device may compute it all the same. */
static bool may_go_unread(vg_op op, int k)
{
    const bool counts =
        (op == VG_OP_linear && k == 5) || (op == VG_OP_linear_dx && k == 4) || (op == VG_OP_linear_dw && k == 5);
    return counts && backend->device != &vg_host_device;
}

static void check_teeth(op_case *c)
{
    for (int k = 0; k < c->node.n_in; k++) {
        const vg_operand *x = &c->node.in[k];
        if (!x->data || may_go_unread(c->node.op, k)) continue;
        void *kept = vg_new0(bytes_of(x));
        memcpy(kept, x->data, bytes_of(x));
        disturb(c, k);
        run(c, backend, 1);
        if (is_near(c, false)) print_error("%s: a change of input %d goes unnoticed\n", c->title, k);
        assert_false(is_near(c, false));
        memcpy(x->data, kept, bytes_of(x));
        free(kept);
    }
}

static void a_small_change_of_any_input_is_noticed(void **state)
{
    (void)state;
    for_each_case(check_teeth);
}

static void operations_in_bf16_give_what_the_cpu_makes_of_the_same_numbers(void **state)
{
    (void)state;
    for_each_case(check_bf16);
}

static int open_file(void **state)
{
    (void)state;
    if (vg_tensors_open(FIXTURES "/ops.safetensors", &file) != VG_OK) return -1;
    const char *text = vg_tensors_metadata(file, "case");
    rows = text ? json_loads(text, 0, NULL) : NULL;
    return rows ? 0 : -1;
}

static int close_file(void **state)
{
    (void)state;
    json_decref(rows);
    return vg_tensors_close(file) == VG_OK ? 0 : -1;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_of_ops_def_has_a_case),
        cmocka_unit_test(the_backend_has_every_row),
        cmocka_unit_test(each_operation_gives_what_pytorch_gives),
        cmocka_unit_test(bits_are_the_same_in_every_run),
        cmocka_unit_test(gradients_of_parameters_and_only_they_add_to_what_was_there),
    };
    const struct CMUnitTest host_tests[] = {
        cmocka_unit_test(bits_are_the_same_on_one_and_two_threads_and_under_guard),
        cmocka_unit_test(a_packed_weight_gives_the_same_bits),
        cmocka_unit_test(an_output_in_the_place_of_an_input_has_the_same_bits),
    };
    const struct CMUnitTest bf16_tests[] = {
        cmocka_unit_test(operations_in_bf16_give_what_the_cpu_makes_of_the_same_numbers),
    };
    const struct CMUnitTest teeth[] = {cmocka_unit_test(a_small_change_of_any_input_is_noticed)}; /* the longest */
    only = argc > 1 ? argv[1] : NULL;
    backend = backend_under_test(1, 0, &stream);
    int failed = cmocka_run_group_tests(tests, open_file, close_file);
    if (backend->device == &vg_host_device) failed += cmocka_run_group_tests(host_tests, open_file, close_file);
    if (backend->to_bf16) failed += cmocka_run_group_tests(bf16_tests, open_file, close_file);
    failed += cmocka_run_group_tests(teeth, open_file, close_file);
    backend->device->close(&stream);
    return failed;
}
