/* Gradients on a tiny network of every plain operation, and what differentiate refuses. */
#include "tests/unit/kernels/reference_backend.h"

#include "tests/unit/kernels/gradient_check.h"

#include <stdio.h>

enum { B = 2, N = 3, C = 4, L = 2 };

static const double weights[4] = {1, 1, 1, 0};

static vg_value param(vg_graph *g, const char *scope, const char *name, vg_shape shape)
{
    char text[80];
    snprintf(text, sizeof text, "%s.%s", scope, name);
    return vg_graph_param(g, text, shape);
}

static vg_value norm(vg_graph *g, const char *scope, vg_value x, vg_value res)
{
    return vg_graph_layernorm(g, x, res, param(g, scope, "gamma", VG_SHAPE(C)), param(g, scope, "beta", VG_SHAPE(C)),
                              1e-5F);
}

/* A residual block of either kind over x [B,N,C]. */
static vg_value block(vg_graph *g, const char *scope, vg_value x, bool post_norm)
{
    vg_graph_scope(g, scope);
    const vg_value w1 = param(g, scope, "w1", VG_SHAPE(5, C)), b1 = param(g, scope, "b1", VG_SHAPE(5));
    const vg_value w2 = param(g, scope, "w2", VG_SHAPE(C, 5)), b2 = param(g, scope, "b2", VG_SHAPE(C));
    vg_value h = post_norm ? x : norm(g, scope, x, VG_NONE);
    h = vg_graph_linear(g, h, w1, b1, post_norm ? VG_ACT_SIGMOID : VG_ACT_GELU);
    if (post_norm) return norm(g, scope, vg_graph_linear(g, h, w2, b2, VG_ACT_NONE), x);
    return vg_graph_linear_residual(g, h, w2, b2, param(g, scope, "scale_gamma", VG_SHAPE(C)), x);
}

/* Two heads over a stack of two layers that share a norm; packed rows; queries that join twice; a slice. */
static vg_graph *network(vg_params *params)
{
    vg_graph *g = NULL;
    assert_int_equal(vg_graph_new(params, &g), VG_OK);
    vg_value x = vg_graph_input(g, "x", VG_F32, VG_SHAPE(B, N, C));
    x = vg_graph_linear(g, x, vg_graph_param(g, "embed.w", VG_SHAPE(C, C)), VG_NONE, VG_ACT_NONE);
    x = block(g, "trunk.0", x, false);
    x = block(g, "trunk.1", x, true);
    const vg_value slice = vg_graph_add(g, vg_graph_slice_tokens(g, x, 1, 2), vg_graph_slice_tokens(g, x, 0, 2));
    vg_graph_scope(g, "decoder");
    const vg_value query = vg_graph_param(g, "query", VG_SHAPE(2, C)),
                   packed = vg_graph_param(g, "packed", VG_SHAPE(2 * C, C));
    vg_value t = vg_graph_add(g, slice, vg_graph_repeat(g, query, B)), layers[L];
    for (int l = 0; l < L; l++) {
        const vg_value tq = vg_graph_add_rows(g, t, query);
        const vg_value a = vg_graph_linear(g, tq, vg_graph_param_rows(g, packed, 0, C), VG_NONE, VG_ACT_NONE);
        const vg_value b = vg_graph_linear(g, t, vg_graph_param_rows(g, packed, C, C), VG_NONE, VG_ACT_RELU);
        t = vg_graph_add(g, vg_graph_add(g, a, b), t);
        layers[l] = norm(g, "shared", t, VG_NONE);
    }
    const vg_value h = vg_graph_stack(g, layers, L);
    vg_graph_scope(g, "heads");
    const vg_value logits = vg_graph_linear(g, h, vg_graph_param(g, "class.w", VG_SHAPE(2, C)),
                                            vg_graph_param(g, "class.b", VG_SHAPE(2)), VG_ACT_NONE);
    const vg_value boxes = vg_graph_linear(g, h, vg_graph_param(g, "box.w", VG_SHAPE(4, C)), VG_NONE, VG_ACT_SIGMOID);
    vg_graph_detr_loss(g, &(vg_detr_loss){.logits = logits,
                                          .boxes = boxes,
                                          .targets = vg_graph_input(g, "targets", VG_F32, VG_SHAPE(B, 1, 4)),
                                          .n_targets = vg_graph_input(g, "n_targets", VG_I32, VG_SHAPE(B)),
                                          .filled = vg_graph_input(g, "filled", VG_I32, VG_SHAPE(B)),
                                          .scales = vg_graph_input(g, "scales", VG_F32, VG_SHAPE(8))});
    return g;
}

static void open_network(trial *t, vg_trainable trainable, const void *context, float x[B * N * C])
{
    static float zeros[64];
    trial_open(t, network, trainable, context, &reference_backend, 2);
    vg_fill_normal(x, B * N * C, (vg_rng_key){{1, 2}}, 0, 1);
    assert_int_equal(vg_program_bind(t->program, "x", x), VG_OK);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(
            vg_program_bind(t->program, (const char *[]){"targets", "n_targets", "filled", "scales"}[i], zeros), VG_OK);
}

static void gradients_are_finite_differences(void **state)
{
    (void)state;
    trial t;
    float x[B * N * C];
    open_network(&t, train_all, NULL, x);
    trial_check_gradients(&t, weights, 1e-2, 2e-3);
    trial_close(&t);
}

static bool train_decoder(const void *context, int index)
{
    (void)context;
    return index >= 14; /* what follows the two trunk blocks */
}

static void a_subset_has_the_gradients_of_the_full_set(void **state)
{
    (void)state;
    trial all, some;
    float x[B * N * C];
    open_network(&all, train_all, NULL, x);
    open_network(&some, train_decoder, NULL, x);
    trial_loss(&all, weights);
    trial_loss(&some, weights);
    int n = 0;
    for (int i = 0; i < some.params->n; i++) {
        const vg_param *p = &some.params->items[i];
        assert_int_equal(p->trainable, i >= 14);
        if (!p->trainable) continue;
        assert_memory_equal(trial_gradient(&all, p->name), trial_gradient(&some, p->name),
                            (size_t)p->count * sizeof(float));
        n++;
    }
    assert_int_equal(n, 7);
    trial_close(&all);
    trial_close(&some);
}

/* What a run told: the gradients as they were then. */
typedef struct progress {
    trial *t;
    float *seen;
    int64_t told[4];
    int n;
    bool early; /* some gradient was still missing at the first */
} progress;

static vg_status see_gradients(void *context, int64_t end)
{
    progress *p = context;
    const int64_t before = p->n ? p->told[p->n - 1] : 0;
    for (int i = 0; i < p->t->params->n; i++) {
        const vg_param *param = &p->t->params->items[i];
        const float *gradient = p->t->gradients + param->offset;
        if (param->offset >= end) p->early = p->early || isnan(gradient[0]);
        if (param->offset >= before && param->offset < end)
            memcpy(p->seen + param->offset, gradient, (size_t)param->count * sizeof(float));
    }
    p->told[p->n++] = end;
    return p->n == 4 ? vg_fail(VG_E_COMM, "enough") : VG_OK;
}

static void runs_tell_how_far_the_gradients_are(void **state)
{
    (void)state;
    trial t;
    float x[B * N * C];
    open_network(&t, train_all, NULL, x);
    const int64_t n = t.params->n_trainable, ends[] = {2 * VG_PARAM_BLOCK, n / 2 / VG_PARAM_BLOCK * VG_PARAM_BLOCK, n};
    progress p = {.t = &t, .seen = vg_new0_array((size_t)n, sizeof(float))};
    assert_int_equal(vg_program_tell(t.program, ends, 3, see_gradients, &p), VG_OK);
    for (int64_t i = 0; i < n; i++) t.gradients[i] = NAN;
    assert_int_equal(vg_program_run(t.program), VG_OK);
    assert_memory_equal(p.told, ends, sizeof ends);
    assert_true(p.early);
    for (int i = 0; i < t.params->n; i++) {
        const vg_param *param = &t.params->items[i];
        for (int64_t j = param->offset; j < param->offset + param->count; j++)
            assert_true(p.seen[j] == t.gradients[j]); /* a NaN would not */
    }
    assert_int_equal(vg_program_run(t.program), VG_E_COMM); /* the fourth word ends the run */
    assert_int_equal(vg_program_tell(t.program, NULL, 0, NULL, NULL), VG_OK);
    assert_int_equal(vg_program_run(t.program), VG_OK);
    assert_int_equal(p.n, 4);
    free(p.seen);
    trial_close(&t);
}

static int count_nodes(const vg_program *p, vg_op op)
{
    int n = 0;
    for (int i = 0; i < p->n_nodes; i++) n += p->nodes[i].op == op;
    return n;
}

static void frozen_parts_have_no_gradient_nodes_and_keep_nothing(void **state)
{
    (void)state;
    trial all, some;
    float x[B * N * C];
    open_network(&all, train_all, NULL, x);
    open_network(&some, train_decoder, NULL, x);
    assert_int_equal(count_nodes(all.program, VG_OP_layernorm_grad), 4);
    assert_int_equal(count_nodes(some.program, VG_OP_layernorm_grad), 2);
    assert_int_equal(count_nodes(some.program, VG_OP_slice_tokens_grad), 0);
    assert_true(vg_program_arena_bytes(some.program) < vg_program_arena_bytes(all.program));
    for (int i = 0; i < 2; i++) {
        const vg_program *p = i ? some.program : all.program;
        const vg_node *norm1 = &p->nodes[1], *fc1 = &p->nodes[2], *norm2 = &p->nodes[6];
        assert_true(norm1->op == VG_OP_layernorm && fc1->op == VG_OP_linear && norm2->op == VG_OP_layernorm);
        const void *statistics[] = {norm1->out[1].data, norm1->out[2].data, fc1->out[1].data, norm2->out[3].data};
        for (int j = 0; j < 4; j++) assert_int_equal(statistics[j] != NULL, i == 0); /* mean, rstd, z, sum */
        assert_int_equal(norm1->out[1].shape.rank, i ? 0 : 1);
    }
    trial_close(&all);
    trial_close(&some);
}

static void operations_that_can_add_save_the_add(void **state)
{
    (void)state;
    trial t;
    float x[B * N * C];
    open_network(&t, train_all, NULL, x);
    /* Forward 2 + 2 L; backward one a layer, where add_rows hands on what it got: all else goes through acc. */
    assert_int_equal(count_nodes(t.program, VG_OP_add), 2 + 2 * L + L);
    trial_close(&t);
}

static void gradients_are_complete_in_the_order_given(void **state)
{
    (void)state;
    trial t;
    float x[B * N * C];
    int order[32], n = 0;
    open_network(&t, train_all, NULL, x);
    vg_graph_gradient_order(t.g, order, &n);
    assert_int_equal(n, t.params->n);
    assert_string_equal(t.params->items[order[0]].name, "box.w");
    assert_string_equal(t.params->items[order[1]].name, "class.w");
    assert_string_equal(t.params->items[order[n - 1]].name, "embed.w");
    const int64_t query = t.params->items[vg_params_find(t.params, "query")].offset;
    assert_true(query > t.params->items[vg_params_find(t.params, "packed")].offset); /* it joins once more, before */
    assert_true(query < t.params->items[vg_params_find(t.params, "trunk.1.w2")].offset);
    trial_close(&t);
}

static void a_second_run_gives_the_same_gradients_and_leaves_padding_alone(void **state)
{
    (void)state;
    trial t;
    float x[B * N * C];
    open_network(&t, train_all, NULL, x);
    trial_loss(&t, weights);
    const size_t bytes = (size_t)t.params->n_trainable * sizeof(float);
    float *first = vg_new0(bytes);
    memcpy(first, t.gradients, bytes);
    trial_loss(&t, weights); /* the first writer of a run writes, it does not add */
    assert_memory_equal(first, t.gradients, bytes);
    for (int i = 0; i < t.params->n; i++) {
        const vg_param *p = &t.params->items[i];
        for (int64_t j = p->count; j < VG_PARAM_BLOCK; j++) assert_true(t.gradients[p->offset + j] == 0);
    }
    free(first);
    trial_close(&t);
}

static void temporaries_of_a_real_program_never_overlap(void **state)
{
    (void)state;
    trial t;
    float x[B * N * C];
    open_network(&t, train_all, NULL, x);
    const vg_program *p = t.program;
    size_t n = 0;
    for (size_t i = 0; i < p->n_temporaries; i++)
        for (size_t j = 0; j < i; j++) {
            const vg_temporary *a = &p->temporaries[i], *b = &p->temporaries[j];
            if (a->first > b->last || b->first > a->last) continue;
            assert_true(a->offset + a->bytes <= b->offset || b->offset + b->bytes <= a->offset);
            n++;
        }
    assert_true(n > 100);
    trial_close(&t);
}

/* --- what is refused --- */

typedef struct fixture {
    vg_params *params;
    vg_graph *g;
} fixture;

static int set_up(void **state)
{
    static fixture f;
    assert_int_equal(vg_params_new(&f.params), VG_OK);
    assert_int_equal(vg_graph_new(f.params, &f.g), VG_OK);
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    fixture *f = *state;
    vg_graph_free(f->g);
    vg_params_free(f->params);
    return 0;
}

/* A loss whose logits and boxes are both made from h [1,1,1,C]. */
static void add_loss(vg_graph *g, vg_value logits, vg_value boxes)
{
    vg_graph_detr_loss(g, &(vg_detr_loss){.logits = logits,
                                          .boxes = boxes,
                                          .targets = vg_graph_input(g, "targets", VG_F32, VG_SHAPE(1, 1, 4)),
                                          .n_targets = vg_graph_input(g, "n_targets", VG_I32, VG_SHAPE(1)),
                                          .filled = vg_graph_input(g, "filled", VG_I32, VG_SHAPE(1)),
                                          .scales = vg_graph_input(g, "scales", VG_F32, VG_SHAPE(8))});
}

static vg_value head(vg_graph *g, vg_value w)
{
    return vg_graph_linear(g, vg_graph_input(g, "h", VG_F32, VG_SHAPE(1, 1, 1, C)), w, VG_NONE, VG_ACT_NONE);
}

static void a_parameter_that_reaches_no_loss_is_named(void **state)
{
    vg_graph *g = ((fixture *)*state)->g;
    vg_graph_param(g, "orphan", VG_SHAPE(3));
    add_loss(g, head(g, vg_graph_param(g, "w", VG_SHAPE(2, C))), head(g, vg_graph_param(g, "v", VG_SHAPE(4, C))));
    assert_int_equal(vg_graph_differentiate(g, train_all, NULL), VG_E_BUG);
    assert_string_equal(vg_error_text(), "trainable parameter orphan reaches no loss; freeze it or use it");
}

static void a_parameter_used_in_part_is_named(void **state)
{
    vg_graph *g = ((fixture *)*state)->g;
    const vg_value w = vg_graph_param(g, "w", VG_SHAPE(8, C));
    add_loss(g, head(g, vg_graph_param_rows(g, w, 0, 2)), head(g, vg_graph_param_rows(g, w, 4, 4)));
    assert_int_equal(vg_graph_differentiate(g, train_all, NULL), VG_E_BUG);
    assert_string_equal(vg_error_text(), "trainable parameter w: only 24 of 32 elements reach a loss");
}

static void views_that_overlap_are_refused(void **state)
{
    vg_graph *g = ((fixture *)*state)->g;
    const vg_value w = vg_graph_param(g, "w", VG_SHAPE(5, C));
    const vg_value logits = head(g, vg_graph_param_rows(g, w, 0, 2));
    add_loss(g, logits, head(g, vg_graph_param_rows(g, w, 1, 4)));
    assert_int_equal(vg_graph_differentiate(g, train_all, NULL), VG_E_BUG);
    assert_non_null(strstr(vg_error_text(), "the gradient of w: elements 0..7 are written in part before"));
}

static void packed_columns_that_nobody_reads_are_refused(void **state)
{
    vg_graph *g = ((fixture *)*state)->g;
    const vg_value x = vg_graph_input(g, "x", VG_F32, VG_SHAPE(1, 1, C));
    vg_graph_scope(g, "attn");
    const vg_value qkv = vg_graph_linear(g, x, vg_graph_param(g, "w", VG_SHAPE(4 * C, C)), VG_NONE, VG_ACT_NONE);
    const vg_value o = vg_graph_attention(
        g, &(vg_attention){.q = qkv, .k = qkv, .v = qkv, .heads = 1, .head_size = C, .k_col = C, .v_col = 2 * C});
    const vg_value h = vg_graph_stack(g, &o, 1);
    add_loss(g, vg_graph_linear(g, h, vg_graph_param(g, "c", VG_SHAPE(2, C)), VG_NONE, VG_ACT_NONE), h);
    assert_int_equal(vg_graph_differentiate(g, train_all, NULL), VG_E_BUG);
    assert_non_null(strstr(vg_error_text(), "attn: attention has a gradient for a packed tensor only when"));
}

static void a_graph_is_differentiated_once(void **state)
{
    vg_graph *g = ((fixture *)*state)->g;
    add_loss(g, head(g, vg_graph_param(g, "w", VG_SHAPE(2, C))), head(g, vg_graph_param(g, "v", VG_SHAPE(4, C))));
    assert_int_equal(vg_graph_differentiate(g, train_all, NULL), VG_OK);
    assert_int_equal(vg_graph_differentiate(g, train_all, NULL), VG_E_BUG);
}

#define REFUSAL(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_finite_differences),
        cmocka_unit_test(a_subset_has_the_gradients_of_the_full_set),
        cmocka_unit_test(runs_tell_how_far_the_gradients_are),
        cmocka_unit_test(frozen_parts_have_no_gradient_nodes_and_keep_nothing),
        cmocka_unit_test(operations_that_can_add_save_the_add),
        cmocka_unit_test(gradients_are_complete_in_the_order_given),
        cmocka_unit_test(a_second_run_gives_the_same_gradients_and_leaves_padding_alone),
        cmocka_unit_test(temporaries_of_a_real_program_never_overlap),
        REFUSAL(a_parameter_that_reaches_no_loss_is_named),
        REFUSAL(a_parameter_used_in_part_is_named),
        REFUSAL(views_that_overlap_are_refused),
        REFUSAL(packed_columns_that_nobody_reads_are_refused),
        REFUSAL(a_graph_is_differentiated_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
