/* A small model of every differentiable operation on the CPU backend: what each kernel's gradient says, put together by
 * differentiate, is what finite differences measure. */
#include "tests/unit/kernels/gradient_check.h"

#include <stdio.h>

enum { IMAGES = 2, SLOTS = 3, SIDE = 28, PATCH = 14, P = 4, REG = 2, C = 8, HEADS = 2, Q = 3, TEXT = 4, LAYERS = 3 };

/* Loss = parts . weights + align; scales are what makes its gradients those of the kernels. */
static const double weights[4] = {0.5, 1.25, 0.5, 0.7 / SLOTS};
static float scales[8] = {0.5F, 0.05F, 1.25F, 0.5F, 0.7F / SLOTS};
static const float eos = 0.1F, dropout = 0.2F;

static vg_value param(vg_graph *g, const char *scope, const char *name, vg_shape shape)
{
    char text[80];
    snprintf(text, sizeof text, "%s.%s", scope, name);
    return vg_graph_param(g, text, shape);
}

static vg_value linear(vg_graph *g, const char *scope, vg_value x, int64_t n, vg_act act)
{
    const vg_shape shape = vg_graph_shape(g, x);
    const vg_value w = param(g, scope, "weight", VG_SHAPE(n, vg_shape_last(&shape)));
    return vg_graph_linear(g, x, w, param(g, scope, "bias", VG_SHAPE(n)), act);
}

static vg_value norm(vg_graph *g, const char *scope, vg_value x, vg_value res)
{
    return vg_graph_layernorm(g, x, res, param(g, scope, "gamma", VG_SHAPE(C)), param(g, scope, "beta", VG_SHAPE(C)),
                              1e-5F);
}

static vg_value keys(vg_graph *g)
{
    return vg_graph_input(g, "keys", VG_U32, VG_SHAPE(SLOTS, 4));
}

static vg_value drop(vg_graph *g, vg_value x, uint32_t purpose)
{
    return vg_graph_dropout(g, x, VG_NONE, keys(g), dropout, (vg_rng_key){{3, purpose}});
}

/* Patches, a prefix, one pre-norm block with LayerScale over packed qkv, the patches again. */
static vg_value vision(vg_graph *g)
{
    vg_graph_scope(g, "vision");
    vg_value x = vg_graph_patchify(g, vg_graph_input(g, "pixels", VG_U8, VG_SHAPE(IMAGES, SIDE, SIDE, 3)), PATCH);
    x = vg_graph_linear(g, x, vg_graph_param(g, "vision.proj", VG_SHAPE(C, 3, PATCH, PATCH)), VG_NONE, VG_ACT_NONE);
    x = vg_graph_vit_tokens(g, x, vg_graph_param(g, "vision.pos", VG_SHAPE(1, P, C)),
                            vg_graph_param(g, "vision.cls", VG_SHAPE(1, 1, C)),
                            vg_graph_param(g, "vision.reg", VG_SHAPE(1, REG, C)));
    const vg_value qkv = linear(g, "vision.qkv", norm(g, "vision.norm1", x, VG_NONE), 3 * C, VG_ACT_NONE);
    const vg_value o = vg_graph_attention(
        g, &(vg_attention){
               .q = qkv, .k = qkv, .v = qkv, .heads = HEADS, .head_size = C / HEADS, .k_col = C, .v_col = 2 * C});
    x = vg_graph_linear_residual(g, o, vg_graph_param(g, "vision.out", VG_SHAPE(C, C)),
                                 vg_graph_param(g, "vision.out_bias", VG_SHAPE(C)),
                                 vg_graph_param(g, "vision.ls1_gamma", VG_SHAPE(C)), x);
    const vg_value h = linear(g, "vision.fc1", norm(g, "vision.norm2", x, VG_NONE), 2 * C, VG_ACT_GELU);
    x = vg_graph_linear_residual(g, h, vg_graph_param(g, "vision.fc2", VG_SHAPE(C, 2 * C)), VG_NONE, VG_NONE, x);
    return vg_graph_slice_tokens(g, x, 1 + REG, P);
}

/* Word embeddings, a post-norm step over masked self-attention. */
static vg_value text(vg_graph *g, vg_value counts)
{
    vg_graph_scope(g, "text");
    const vg_value ids = vg_graph_input(g, "ids", VG_I32, VG_SHAPE(SLOTS, TEXT));
    const vg_value x = vg_graph_text_embed(g, ids, counts, vg_graph_param(g, "text.word", VG_SHAPE(11, C)),
                                           vg_graph_param(g, "text.pos", VG_SHAPE(TEXT + 2, C)),
                                           vg_graph_param(g, "text.type", VG_SHAPE(1, C)));
    const vg_value q = linear(g, "text.q", x, C, VG_ACT_NONE), kv = linear(g, "text.kv", x, 2 * C, VG_ACT_NONE);
    const vg_value o = vg_graph_attention(
        g, &(vg_attention){
               .q = q, .k = kv, .v = kv, .counts = counts, .heads = HEADS, .head_size = C / HEADS, .v_col = C});
    return norm(g, "text.norm", drop(g, o, 1), vg_graph_add(g, x, q));
}

/* A memory that is read as it is, by the queries of all heads; its words are keys and values in one. */
static vg_value read_in_place(vg_graph *g, const char *scope, vg_value q, vg_value image, vg_value words,
                              vg_value counts, vg_value index)
{
    vg_value sums;
    const vg_attention a = {.q = vg_graph_heads_expand(g, q, param(g, scope, "w_key", VG_SHAPE(C, C)),
                                                       param(g, scope, "b_key", VG_SHAPE(C)), HEADS),
                            .k = vg_graph_add_rows(g, image, param(g, scope, "position", VG_SHAPE(P, C))),
                            .v = image,
                            .k2 = words,
                            .v2 = words,
                            .counts = counts,
                            .index = index,
                            .keys = keys(g),
                            .heads = 1,
                            .head_size = C,
                            .fold = HEADS,
                            .mask_second = true,
                            .scale = 0.5F,
                            .dropout = dropout,
                            .key = {{7, 7}},
                            .sums = &sums};
    const vg_value o = vg_graph_attention(g, &a);
    return vg_graph_heads_contract(g, o, param(g, scope, "w_value", VG_SHAPE(C, C)),
                                   param(g, scope, "b_value", VG_SHAPE(C)), sums, HEADS);
}

/* One decoder layer: packed rows as DETR names them; the memory is one tensor, two segments, or not projected. */
static vg_value decoder_layer(vg_graph *g, int layer, vg_value t, vg_value query, vg_value image, vg_value words,
                              vg_value counts, vg_value index)
{
    char scope[32], name[48];
    snprintf(scope, sizeof scope, "decoder.%d", layer);
    vg_graph_scope(g, scope);
    const vg_value w = param(g, scope, "in_w", VG_SHAPE(3 * C, C)), b = param(g, scope, "in_b", VG_SHAPE(3 * C));
    const vg_value qk = vg_graph_linear(g, vg_graph_add_rows(g, t, query), vg_graph_param_rows(g, w, 0, 2 * C),
                                        vg_graph_param_rows(g, b, 0, 2 * C), VG_ACT_NONE);
    const vg_value v =
        vg_graph_linear(g, t, vg_graph_param_rows(g, w, 2 * C, C), vg_graph_param_rows(g, b, 2 * C, C), VG_ACT_NONE);
    vg_attention a = {.q = qk,
                      .k = qk,
                      .v = v,
                      .keys = keys(g),
                      .heads = HEADS,
                      .head_size = C / HEADS,
                      .k_col = C,
                      .dropout = dropout,
                      .key = {{4, (uint32_t)layer}}};
    snprintf(name, sizeof name, "%s.norm1", scope);
    t = norm(g, name, drop(g, vg_graph_attention(g, &a), 2), t);
    snprintf(name, sizeof name, "%s.cross", scope);
    const vg_value q = linear(g, name, vg_graph_add_rows(g, t, query), C, VG_ACT_NONE);
    snprintf(name, sizeof name, "%s.memory", scope);
    if (layer == 2) return norm(g, scope, read_in_place(g, scope, q, image, words, counts, index), t);
    if (layer == 0) {
        const vg_value memory = linear(g, name, vg_graph_concat_tokens(g, image, words, index), 2 * C, VG_ACT_NONE);
        a = (vg_attention){.q = q, .k = memory, .v = memory, .keys = keys(g), .v_col = C};
    } else {
        const vg_value first = linear(g, name, image, 2 * C, VG_ACT_NONE);
        const vg_value second = linear(g, name, words, 2 * C, VG_ACT_NONE);
        a = (vg_attention){.q = q,
                           .k = first,
                           .v = first,
                           .k2 = second,
                           .v2 = second,
                           .v_col = C,
                           .v2_col = C,
                           .counts = counts,
                           .mask_second = true,
                           .index = index,
                           .keys = keys(g),
                           .bias = param(g, scope, "cross_bias", VG_SHAPE(HEADS, Q, P + TEXT))};
    }
    a.heads = HEADS;
    a.head_size = C / HEADS;
    a.dropout = dropout;
    a.key = (vg_rng_key){{5, (uint32_t)layer}};
    snprintf(name, sizeof name, "%s.norm2", scope);
    t = norm(g, name, vg_graph_attention(g, &a), t);
    snprintf(name, sizeof name, "%s.ffn1", scope);
    const vg_value h = drop(g, linear(g, name, t, 2 * C, VG_ACT_RELU), 7);
    snprintf(name, sizeof name, "%s.ffn2", scope);
    return vg_graph_dropout(g, linear(g, name, h, C, VG_ACT_RELU), t, keys(g), dropout, (vg_rng_key){{6, 6}});
}

static void losses(vg_graph *g, vg_value h, vg_value image, vg_value words, vg_value index)
{
    vg_graph_scope(g, "heads");
    const vg_value targets = vg_graph_input(g, "targets", VG_F32, VG_SHAPE(SLOTS, 2, 4));
    const vg_value n_targets = vg_graph_input(g, "n_targets", VG_I32, VG_SHAPE(SLOTS));
    const vg_value filled = vg_graph_input(g, "filled", VG_I32, VG_SHAPE(SLOTS));
    const vg_value scale = vg_graph_input(g, "scales", VG_F32, VG_SHAPE(8));
    vg_graph_detr_loss(g, &(vg_detr_loss){.logits = linear(g, "class", h, 2, VG_ACT_NONE),
                                          .boxes = linear(g, "box", h, 4, VG_ACT_SIGMOID),
                                          .targets = targets,
                                          .n_targets = n_targets,
                                          .filled = filled,
                                          .scales = scale,
                                          .eos = eos,
                                          .cost_class = 1,
                                          .cost_l1 = 5,
                                          .cost_giou = 2});
    vg_graph_align_loss(g, &(vg_align_loss){.a = linear(g, "align", image, C, VG_ACT_NONE),
                                            .u = vg_graph_slice_tokens(g, words, 0, 1),
                                            .scale = vg_graph_param(g, "align_scale", VG_SHAPE(1)),
                                            .shift = vg_graph_param(g, "align_shift", VG_SHAPE(1)),
                                            .targets = targets,
                                            .n_targets = n_targets,
                                            .filled = filled,
                                            .index = index,
                                            .scales = scale,
                                            .gh = 2,
                                            .gw = 2});
}

static vg_graph *model(vg_params *params)
{
    vg_graph *g = NULL;
    assert_int_equal(vg_graph_new(params, &g), VG_OK);
    const vg_value counts = vg_graph_input(g, "counts", VG_I32, VG_SHAPE(SLOTS));
    const vg_value index = vg_graph_input(g, "index", VG_I32, VG_SHAPE(SLOTS));
    const vg_value kind = vg_graph_param(g, "modality", VG_SHAPE(2, C));
    const vg_value image = vg_graph_add_rows(g, vision(g), vg_graph_param_rows(g, kind, 0, 1));
    const vg_value words = vg_graph_add_rows(g, text(g, counts), vg_graph_param_rows(g, kind, 1, 1));
    const vg_value query = vg_graph_param(g, "query", VG_SHAPE(Q, C));
    vg_value t = vg_graph_repeat(g, query, SLOTS), layers[LAYERS];
    for (int l = 0; l < LAYERS; l++) {
        t = decoder_layer(g, l, t, query, image, words, counts, index);
        layers[l] = norm(g, "decoder.norm", t, VG_NONE);
    }
    losses(g, vg_graph_stack(g, layers, LAYERS), image, words, index);
    return g;
}

/* Fixed inputs; slot 2 has no target and slots 0 and 1 share an image. */
static void bind_inputs(vg_program *p)
{
    static uint8_t pixels[IMAGES * SIDE * SIDE * 3];
    static int32_t ids[SLOTS * TEXT] = {2, 5, 7, 3, 4, 4, 1, 1, 10, 1, 1, 1}, counts[SLOTS] = {4, 2, 1};
    static int32_t index[SLOTS] = {0, 0, 1}, n_targets[SLOTS] = {2, 1, 0}, filled[SLOTS] = {1, 1, 1};
    static uint32_t rng[SLOTS * 4] = {0, 0, 40, 0, 0, 1, 40, 0, 0, 0, 41, 0};
    static float targets[SLOTS * 8] = {0.3F, 0.4F, 0.2F, 0.3F, 0.8F, 0.7F, 0.1F, 0.3F, 0.6F, 0.2F, 0.5F, 0.25F};
    for (size_t i = 0; i < sizeof pixels; i++) pixels[i] = (uint8_t)(i * 2654435761u >> 24);
    const struct {
        const char *name;
        void *data;
    } inputs[] = {{"pixels", pixels}, {"ids", ids},  {"counts", counts},   {"index", index},  {"n_targets", n_targets},
                  {"filled", filled}, {"keys", rng}, {"targets", targets}, {"scales", scales}};
    for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
        assert_int_equal(vg_program_bind(p, inputs[i].name, inputs[i].data), VG_OK);
}

static const vg_params *names; /* of the trial that is being opened */

static vg_graph *model_noted(vg_params *params)
{
    names = params;
    return model(params);
}

/* A softmax does not see a bias of keys that is the same for all of them. */
static bool train_what_matters(const void *context, int param)
{
    (void)context;
    return strstr(names->items[param].name, "b_key") == NULL;
}

static void gradients_are_finite_differences(void **state)
{
    (void)state;
    trial t;
    trial_open(&t, model_noted, train_what_matters, NULL, vg_backend_cpu(), 1);
    bind_inputs(t.program);
    trial_check_gradients(&t, weights, 2e-3, 2.5e-3);
    trial_close(&t);
}

static void the_model_has_every_operation_with_a_gradient(void **state)
{
    (void)state;
    static const char *const rules[VG_OP_COUNT] = {
#define VG_OP(name, n_in, n_out, shape, grad, cost) #grad,
#include "kernels/ops.def"
#undef VG_OP
    };
    vg_params *params = NULL;
    bool has[VG_OP_COUNT] = {false}, all = true;
    assert_int_equal(vg_params_new(&params), VG_OK);
    vg_graph *g = model(params);
    for (size_t i = 0; i < g->n_nodes; i++) has[g->nodes[i].op] = true;
    for (int op = 0; op < VG_OP_COUNT; op++) {
        if (has[op] || strcmp(rules[op], "grad_none") == 0) continue;
        print_error("no %s is in the model: nothing holds %s against finite differences\n", vg_op_name((vg_op)op),
                    rules[op]);
        all = false;
    }
    assert_true(all);
    vg_graph_free(g);
    vg_params_free(params);
}

static void a_bias_of_keys_has_the_gradient_0(void **state)
{
    (void)state;
    trial t;
    trial_open(&t, model, train_all, NULL, vg_backend_cpu(), 1);
    bind_inputs(t.program);
    memset(t.gradients, 0xff, (size_t)t.params->n_trainable * sizeof(float));
    trial_loss(&t, weights);
    for (int c = 0; c < C; c++) assert_true(trial_gradient(&t, "decoder.2.b_key")[c] == 0);
    trial_close(&t);
}

static void a_mask_right_after_relu_is_not_made_again(void **state)
{
    (void)state;
    trial t;
    trial_open(&t, model, train_all, NULL, vg_backend_cpu(), 1);
    int n_at_once = 0;
    for (int i = 0; i < t.program->n_nodes; i++) {
        const vg_node *node = &t.program->nodes[i];
        n_at_once += node->op == VG_OP_act_grad && node->attr.linear.dropout > 0;
    }
    assert_int_equal(n_at_once, LAYERS - 1); /* the last has none; and not where a residual came in between */
    trial_close(&t);
}

static void bits_do_not_depend_on_the_number_of_threads(void **state)
{
    (void)state;
    trial one, three;
    trial_open(&one, model, train_all, NULL, vg_backend_cpu(), 1);
    trial_open(&three, model, train_all, NULL, vg_backend_cpu(), 3);
    bind_inputs(one.program);
    bind_inputs(three.program);
    assert_true(trial_loss(&one, weights) == trial_loss(&three, weights));
    assert_memory_equal(one.gradients, three.gradients, (size_t)one.params->n_trainable * sizeof(float));
    trial_close(&one);
    trial_close(&three);
}

static void kernels_write_all_they_promise_and_leave_their_inputs_alone(void **state)
{
    (void)state;
    trial plain, guarded;
    trial_open(&plain, model, train_all, NULL, vg_backend_cpu(), 2);
    trial_open(&guarded, model, train_all, NULL, vg_backend_check(), 2);
    bind_inputs(plain.program);
    bind_inputs(guarded.program);
    assert_true(trial_loss(&plain, weights) == trial_loss(&guarded, weights));
    assert_memory_equal(plain.gradients, guarded.gradients, (size_t)plain.params->n_trainable * sizeof(float));
    trial_close(&plain);
    trial_close(&guarded);
}

/* What trains is a list of name prefixes, separated by spaces. */
static bool train_listed(const void *context, int param)
{
    const char *name = names->items[param].name;
    for (const char *at = context; *at;) {
        const size_t n = strcspn(at, " ");
        if (strncmp(name, at, n) == 0) return true;
        at += n + strspn(at + n, " ");
    }
    return false;
}

static void any_subset_has_the_gradients_of_the_full_set(void **state)
{
    (void)state;
    const char *const subsets[] = {"vision.reg",
                                   "vision.ls1 align_shift",
                                   "text.pos text.kv decoder.norm",
                                   "decoder.1.cross",
                                   "query class",
                                   "decoder.2.b_ decoder.2.position",
                                   "decoder.2.w_key",
                                   "vision.out_bias text.q",
                                   "modality",
                                   "decoder. box."};
    trial all;
    trial_open(&all, model, train_all, NULL, vg_backend_cpu(), 1);
    bind_inputs(all.program);
    trial_loss(&all, weights);
    for (size_t i = 0; i < sizeof subsets / sizeof *subsets; i++) {
        trial some;
        trial_open(&some, model_noted, train_listed, subsets[i], vg_backend_cpu(), 1);
        bind_inputs(some.program);
        trial_loss(&some, weights);
        assert_true(some.program->n_nodes < all.program->n_nodes &&
                    some.program->arena_bytes <= all.program->arena_bytes);
        for (int j = 0; j < some.params->n; j++) {
            const vg_param *p = &some.params->items[j];
            assert_int_equal(p->trainable, train_listed(subsets[i], j));
            if (p->trainable)
                assert_memory_equal(trial_gradient(&all, p->name), trial_gradient(&some, p->name),
                                    (size_t)p->count * sizeof(float));
        }
        trial_close(&some);
    }
    trial_close(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_are_finite_differences),
        cmocka_unit_test(the_model_has_every_operation_with_a_gradient),
        cmocka_unit_test(a_mask_right_after_relu_is_not_made_again),
        cmocka_unit_test(a_bias_of_keys_has_the_gradient_0),
        cmocka_unit_test(bits_do_not_depend_on_the_number_of_threads),
        cmocka_unit_test(kernels_write_all_they_promise_and_leave_their_inputs_alone),
        cmocka_unit_test(any_subset_has_the_gradients_of_the_full_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
