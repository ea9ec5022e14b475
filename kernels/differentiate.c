/* Gradients: from the losses backwards over the nodes, each node's rule hands contributions to its inputs.
 *
 * The contributions to a value are summed in the order in which they come, the reverse of the order of its readers:
 * through the `acc` operand of an operation that has one, else by an add node. Gradients of parameters are written in
 * place, the first use of each element with =, later ones with +=. */
#include "kernels/graph_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A run of elements of one parameter whose gradient some node writes. */
typedef struct written {
    int param;
    int64_t first, count;
    bool accumulate;
} written;

typedef struct backward {
    vg_graph *g;
    bool *needed;  /* [values before] the gradient of this value is wanted */
    int *gradient; /* [values before] the sum of the contributions so far, 0 for none */
    written *written;
    size_t n_written, written_capacity;
} backward;

static bool needed(const backward *b, int value)
{
    return value && b->needed[value];
}

static int new_like(backward *b, int value)
{
    const vg_graph_value *v = &b->g->values[value];
    return vg_graph_add_value(b->g, (vg_graph_value){.kind = VG_VALUE_NODE, .dtype = VG_F32, .shape = v->shape});
}

/* The place of a parameter's gradient; 0 where it is not wanted. */
static int new_parameter_gradient(backward *b, int value)
{
    if (!needed(b, value)) return 0;
    const vg_graph_value v = b->g->values[value];
    if (v.kind != VG_VALUE_PARAM) {
        vg_graph_blame(b->g, vg_fail(VG_E_BUG,
                                     "%s: an operand that only a parameter can be is computed and needs a "
                                     "gradient",
                                     b->g->scopes[b->g->scope]));
        return 0;
    }
    return vg_graph_add_value(
        b->g, (vg_graph_value){.kind = VG_VALUE_GRADIENT, .shape = v.shape, .param = v.param, .first = v.first});
}

/* --- parameter gradients: written once, then added to --- */

/* How many of count elements from first on are written already. */
static int64_t already_written(const backward *b, int param, int64_t first, int64_t count)
{
    int64_t sum = 0;
    for (size_t i = 0; i < b->n_written; i++) {
        const written *w = &b->written[i];
        if (w->param != param || w->accumulate) continue;
        const int64_t from = w->first > first ? w->first : first;
        const int64_t to = w->first + w->count < first + count ? w->first + w->count : first + count;
        if (to > from) sum += to - from;
    }
    return sum;
}

static vg_status record_output(backward *b, const vg_graph_value *v, bool *fresh, bool *again)
{
    const int64_t count = vg_shape_count(&v->shape);
    const int64_t before = already_written(b, v->param, v->first, count);
    VG_CHECK(before == 0 || before == count, VG_E_BUG,
             "the gradient of %s: elements %lld..%lld are written in part before; its views must not overlap",
             b->g->params->items[v->param].name, (long long)v->first, (long long)(v->first + count - 1));
    *(before ? again : fresh) = true;
    VG_TRY(vg_grow(&b->written, &b->written_capacity, b->n_written + 1, sizeof *b->written));
    b->written[b->n_written++] = (written){v->param, v->first, count, before > 0};
    return VG_OK;
}

/* Decides between = and += for the parameter gradients that a node writes. */
static vg_status record_outputs(backward *b, vg_graph_node *node)
{
    bool fresh = false, again = false;
    for (int i = 0; i < VG_MAX_OUT; i++) {
        const vg_graph_value v = b->g->values[node->out[i]];
        if (node->out[i] && v.kind == VG_VALUE_GRADIENT) VG_TRY(record_output(b, &v, &fresh, &again));
    }
    VG_CHECK(!fresh || !again, VG_E_BUG,
             "%s: %s would write one parameter's gradient and add to another's; share both parameters or neither",
             b->g->scopes[node->scope], vg_op_name(node->op));
    node->accumulate = again;
    return VG_OK;
}

/* Appends a gradient node. */
static void emit(backward *b, vg_graph_node node)
{
    node.scope = b->g->scope;
    if (b->g->status == VG_OK) vg_graph_blame(b->g, record_outputs(b, &node));
    vg_graph_add_node(b->g, &node);
}

/* --- contributions --- */

/* dp = the sum of dy over its leading axes, in the place of a parameter's gradient or as a value of its own. */
static int sum_rows(backward *b, int dy, int p)
{
    const bool is_param = b->g->values[p].kind == VG_VALUE_PARAM;
    const int dp = is_param ? new_parameter_gradient(b, p) : new_like(b, p);
    emit(b, (vg_graph_node){.op = VG_OP_sum_rows, .in = {dy}, .out = {dp}});
    return dp;
}

/* Adds d to the gradient of a value. */
static void give(backward *b, int value, int d)
{
    if (!needed(b, value) || b->g->status != VG_OK) return;
    if (b->g->values[value].kind == VG_VALUE_PARAM) { /* it served as an activation: its gradient is moved home */
        sum_rows(b, d, value);
        return;
    }
    if (b->gradient[value]) {
        const int sum = new_like(b, value);
        emit(b, (vg_graph_node){.op = VG_OP_add, .in = {b->gradient[value], d}, .out = {sum}});
        d = sum;
    }
    b->gradient[value] = d;
}

/* The contributions so far, for an operation that adds them itself; the sum comes back by give. */
static int take(backward *b, int value)
{
    const int sum = b->gradient[value];
    b->gradient[value] = 0;
    return sum;
}

/* The dropout that alone reads what a ReLU layer puts out, or NULL. Where it left something positive, both let the
 * gradient pass: act_grad does the two at once, without making the mask again and without what was before it. */
static const vg_graph_node *dropout_of_relu(const backward *b, int y)
{
    const vg_graph *g = b->g;
    const vg_graph_node *reader = NULL;
    int n_readers = 0;
    bool is_relu = false;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const vg_graph_node *n = &g->nodes[i];
        is_relu = is_relu || (n->op == VG_OP_linear && n->out[0] == y && n->attr.linear.act == VG_ACT_RELU);
        for (int j = 0; j < VG_MAX_IN; j++)
            if (n->in[j] == y) {
                reader = n;
                n_readers++;
            }
    }
    return is_relu && n_readers == 1 && reader->op == VG_OP_dropout && !reader->in[2] ? reader : NULL;
}

/* --- gradient rules: n is a forward node, dy the gradient of its first output --- */

static void grad_none(backward *b, const vg_graph_node *n, int dy)
{
    (void)b;
    (void)n;
    (void)dy;
}

static void grad_linear(backward *b, const vg_graph_node *n, int dy)
{
    enum { X, W, B, GAMMA, RES, COUNTS, DW_COUNTS = 5 };
    const int *in = n->in;
    const vg_act act = n->attr.linear.act;
    const vg_graph_node *dropout = act == VG_ACT_RELU ? dropout_of_relu(b, n->out[0]) : NULL;
    int dz = dy;
    if (act != VG_ACT_NONE && (needed(b, in[X]) || needed(b, in[W]) || needed(b, in[B]))) {
        dz = new_like(b, dy);
        const int seen = act == VG_ACT_GELU ? n->out[1] : dropout ? dropout->out[0] : n->out[0];
        const vg_attr attr = {.linear = {act, dropout ? dropout->attr.dropout.p : 0.0F}};
        emit(b, (vg_graph_node){.op = VG_OP_act_grad, .attr = attr, .in = {dy, seen}, .out = {dz}});
    }
    if (needed(b, in[W]) || needed(b, in[B]) || needed(b, in[GAMMA])) {
        vg_graph_node dw = {.op = VG_OP_linear_dw, .attr = n->attr, .in = {dz, in[X]}};
        if (in[GAMMA]) memcpy(&dw.in[2], &in[W], 3 * sizeof *in); /* W, b, gamma */
        dw.in[DW_COUNTS] = in[COUNTS];
        for (int i = 0; i < 3; i++) dw.out[i] = new_parameter_gradient(b, in[W + i]);
        emit(b, dw);
    }
    give(b, in[RES], dy);
    if (needed(b, in[X])) {
        const int acc = take(b, in[X]), dx = new_like(b, in[X]);
        emit(b,
             (vg_graph_node){
                 .op = VG_OP_linear_dx, .attr = n->attr, .in = {dz, in[W], in[GAMMA], acc, in[COUNTS]}, .out = {dx}});
        give(b, in[X], dx);
    }
}

static void grad_layernorm(backward *b, const vg_graph_node *n, int dy)
{
    enum { X, GAMMA, BETA, RES, MEAN = 1, RSTD, SUM };
    const int *in = n->in;
    const bool both = needed(b, in[X]) && needed(b, in[RES]);
    const int only = both ? 0 : needed(b, in[X]) ? in[X] : needed(b, in[RES]) ? in[RES] : 0;
    const int acc = only ? take(b, only) : 0; /* one dx serves both inputs, so it adds only where there is one */
    const int dx = both || only ? new_like(b, in[X]) : 0;
    emit(b, (vg_graph_node){.op = VG_OP_layernorm_grad,
                            .attr = n->attr,
                            .in = {dy, in[RES] ? n->out[SUM] : in[X], in[GAMMA], n->out[MEAN], n->out[RSTD], acc},
                            .out = {dx, new_parameter_gradient(b, in[GAMMA]), new_parameter_gradient(b, in[BETA])}});
    give(b, in[RES], dx);
    give(b, in[X], dx);
}

static void grad_add(backward *b, const vg_graph_node *n, int dy)
{
    give(b, n->in[0], dy);
    give(b, n->in[1], dy);
}

static void grad_add_rows(backward *b, const vg_graph_node *n, int dy)
{
    give(b, n->in[0], dy);
    if (!needed(b, n->in[1])) return;
    const int dp = sum_rows(b, dy, n->in[1]);
    if (b->g->values[n->in[1]].kind != VG_VALUE_PARAM) give(b, n->in[1], dp);
}

static void grad_repeat(backward *b, const vg_graph_node *n, int dy)
{
    const int dp = sum_rows(b, dy, n->in[0]);
    if (b->g->values[n->in[0]].kind != VG_VALUE_PARAM) give(b, n->in[0], dp);
}

/* The columns of one packed tensor that q, k and v read must be all it has: each is then written once. */
static void check_columns(backward *b, const vg_graph_node *n, int value, const int columns[5])
{
    const int64_t width = (int64_t)n->attr.attention.heads * n->attr.attention.head_size;
    int64_t covered = 0;
    for (int i = 0; i < 5; i++) {
        if (n->in[i] != value) continue;
        covered += width;
        for (int j = 0; j < i; j++) {
            const int64_t distance = columns[i] > columns[j] ? columns[i] - columns[j] : columns[j] - columns[i];
            if (n->in[j] == value && distance < width) covered = -1;
        }
    }
    if (covered != vg_shape_last(&b->g->values[value].shape))
        vg_graph_blame(b->g, vg_fail(VG_E_BUG,
                                     "%s: attention has a gradient for a packed tensor only when its operands cover "
                                     "the columns of that tensor once",
                                     b->g->scopes[n->scope]));
}

/* Gradients of q, k, v, k2 and v2. Operands that lie side by side in one tensor share its gradient; one that has all
 * columns of its tensor has a gradient of its own, even where another reads the same ones. */
static void new_gradients_of_operands(backward *b, const vg_graph_node *n, vg_graph_node *grad)
{
    enum { N_OPERANDS = 5 };
    const int64_t width = (int64_t)n->attr.attention.heads * n->attr.attention.head_size;
    const int columns[N_OPERANDS] = {n->attr.attention.q_col, n->attr.attention.k_col, n->attr.attention.v_col,
                                     n->attr.attention.k2_col, n->attr.attention.v2_col};
    for (int i = 0; i < N_OPERANDS; i++) {
        if (!needed(b, n->in[i])) continue;
        const bool whole = vg_shape_last(&b->g->values[n->in[i]].shape) == width;
        for (int j = 0; j < i && !whole; j++)
            if (n->in[j] == n->in[i]) grad->out[i] = grad->out[j];
        if (grad->out[i]) continue;
        if (!whole) check_columns(b, n, n->in[i], columns);
        grad->out[i] = new_like(b, n->in[i]);
    }
}

static void grad_attention(backward *b, const vg_graph_node *n, int dy)
{
    enum { K = 1, V = 2, N_OPERANDS = 5, BIAS = 6, LSE = 1, SUMS = 2, ACC_K = 14 };
    vg_graph_node grad = {.op = VG_OP_attention_grad, .attr = n->attr, .in = {dy}};
    memcpy(&grad.in[1], n->in, 9 * sizeof *n->in);
    grad.in[10] = n->out[0];
    grad.in[11] = n->out[LSE];
    grad.in[13] = b->gradient[n->out[SUMS]];
    grad.in[12] = grad.in[13] ? n->out[SUMS] : 0;
    new_gradients_of_operands(b, n, &grad);
    for (int i = K; i <= V; i++) { /* long ones, which many layers read: they are added up on the way */
        bool shared = !grad.out[i];
        for (int j = 0; j < N_OPERANDS; j++) shared = shared || (j != i && grad.out[j] == grad.out[i]);
        if (!shared) grad.in[ACC_K + i - K] = take(b, n->in[i]);
    }
    if (needed(b, n->in[BIAS])) grad.out[5] = new_like(b, n->in[BIAS]);
    emit(b, grad);
    for (int i = 0; i < N_OPERANDS; i++) {
        bool given = false;
        for (int j = 0; j < i; j++) given = given || grad.out[j] == grad.out[i];
        if (!given) give(b, n->in[i], grad.out[i]);
    }
    give(b, n->in[BIAS], grad.out[5]);
}

/* The gradient of s [B,1,Q*H] of a forward node, which nobody reads: a softmax does not see the bias in it, yet every
 * trainable parameter has its gradient written. */
static int zeros_for_s(backward *b, const vg_graph_node *n)
{
    char name[48];
    snprintf(name, sizeof name, "zeros.%zu", b->g->n_nodes);
    const vg_shape y = b->g->values[n->out[0]].shape, shape = VG_SHAPE(y.dim[0], 1, y.dim[1]);
    float *data = vg_new0_array((size_t)vg_shape_count(&shape), sizeof *data);
    if (!data) vg_graph_blame(b->g, vg_fail(VG_E_NOMEM, "no memory for a gradient that is 0"));
    const int zeros = data ? vg_graph_const(b->g, name, shape, data).id : 0;
    free(data);
    return zeros;
}

static void grad_heads_expand(backward *b, const vg_graph_node *n, int dy)
{
    enum { X, W, B };
    const int *in = n->in;
    if (needed(b, in[W]) || needed(b, in[B])) {
        const int s = needed(b, in[B]) ? zeros_for_s(b, n) : 0;
        emit(b, (vg_graph_node){.op = VG_OP_heads_dw,
                                .attr = n->attr,
                                .in = {in[X], dy, s},
                                .out = {new_parameter_gradient(b, in[W]), new_parameter_gradient(b, in[B])}});
    }
    if (!needed(b, in[X])) return;
    const int dx = new_like(b, in[X]);
    emit(b, (vg_graph_node){.op = VG_OP_heads_contract, .attr = n->attr, .in = {dy, in[W]}, .out = {dx}});
    give(b, in[X], dx);
}

static void grad_heads_contract(backward *b, const vg_graph_node *n, int dy)
{
    enum { X, W, B, S };
    const int *in = n->in;
    if (needed(b, in[W]) || needed(b, in[B]))
        emit(b, (vg_graph_node){.op = VG_OP_heads_dw,
                                .attr = n->attr,
                                .in = {dy, in[X], in[S]},
                                .out = {new_parameter_gradient(b, in[W]), new_parameter_gradient(b, in[B])}});
    if (!needed(b, in[X]) && !needed(b, in[S])) return;
    const int dx = new_like(b, in[X]), ds = in[B] && needed(b, in[S]) ? new_like(b, in[S]) : 0;
    emit(b, (vg_graph_node){
                .op = VG_OP_heads_expand, .attr = n->attr, .in = {dy, in[W], ds ? in[B] : 0}, .out = {dx, ds}});
    give(b, in[X], dx);
    give(b, in[S], ds);
}

static void grad_vit_tokens(backward *b, const vg_graph_node *n, int dy)
{
    vg_graph_node grad = {.op = VG_OP_vit_tokens_grad, .in = {dy}};
    /* The patches tell where the registers end, so their gradient is there whenever that of the registers is. */
    if (needed(b, n->in[0]) || needed(b, n->in[3])) grad.out[0] = new_like(b, n->in[0]);
    for (int i = 1; i < 4; i++) grad.out[i] = new_parameter_gradient(b, n->in[i]);
    emit(b, grad);
    give(b, n->in[0], grad.out[0]);
}

static void grad_text_embed(backward *b, const vg_graph_node *n, int dy)
{
    vg_graph_node grad = {.op = VG_OP_text_embed_grad, .attr = n->attr, .in = {dy, n->in[0], n->in[1]}};
    for (int i = 0; i < 3; i++) grad.out[i] = new_parameter_gradient(b, n->in[2 + i]);
    emit(b, grad);
}

static void grad_slice_tokens(backward *b, const vg_graph_node *n, int dy)
{
    const int acc = take(b, n->in[0]), dx = new_like(b, n->in[0]);
    emit(b, (vg_graph_node){.op = VG_OP_slice_tokens_grad, .attr = n->attr, .in = {dy, acc}, .out = {dx}});
    give(b, n->in[0], dx);
}

static void grad_concat_tokens(backward *b, const vg_graph_node *n, int dy)
{
    vg_graph_node grad = {.op = VG_OP_concat_tokens_grad, .in = {dy, n->in[2]}};
    for (int i = 0; i < 2; i++)
        if (needed(b, n->in[i])) grad.out[i] = new_like(b, n->in[i]);
    emit(b, grad);
    for (int i = 0; i < 2; i++) give(b, n->in[i], grad.out[i]);
}

static void grad_stack(backward *b, const vg_graph_node *n, int dy)
{
    vg_graph_node grad = {.op = VG_OP_stack_grad, .in = {dy}};
    for (int i = 0; i < VG_MAX_IN; i++)
        if (needed(b, n->in[i])) grad.out[i] = new_like(b, n->in[i]);
    emit(b, grad);
    for (int i = 0; i < VG_MAX_IN; i++) give(b, n->in[i], grad.out[i]);
}

/* The mask is a function of the keys: dropout of the gradient drops the same elements. */
static void grad_dropout(backward *b, const vg_graph_node *n, int dy)
{
    give(b, n->in[2], dy);
    if (!needed(b, n->in[0])) return;
    if (dropout_of_relu(b, n->in[0])) {
        give(b, n->in[0], dy); /* the layer before does both */
        return;
    }
    const int dx = new_like(b, n->in[0]);
    emit(b, (vg_graph_node){.op = VG_OP_dropout, .attr = n->attr, .in = {dy, n->in[1]}, .out = {dx}});
    give(b, n->in[0], dx);
}

/* A loss wrote the gradients of its inputs itself. */
static void grad_detr_loss(backward *b, const vg_graph_node *n, int dy)
{
    (void)dy;
    give(b, n->in[0], n->out[2]);
    give(b, n->in[1], n->out[3]);
}

static void grad_align_loss(backward *b, const vg_graph_node *n, int dy)
{
    (void)dy;
    give(b, n->in[0], n->out[1]);
    give(b, n->in[1], n->out[2]);
}

typedef void (*gradient_rule)(backward *b, const vg_graph_node *n, int dy);

static const gradient_rule rules[VG_OP_COUNT] = {
#define VG_OP(name, n_in, n_out, shape, grad, cost) [VG_OP_##name] = grad,
#include "kernels/ops.def"
#undef VG_OP
};

/* --- the sweep --- */

static bool is_loss(vg_op op)
{
    return op == VG_OP_detr_loss || op == VG_OP_align_loss;
}

static vg_status find_needed(backward *b, vg_trainable trainable, const void *context)
{
    const vg_graph *g = b->g;
    b->needed = vg_new0_array(g->n_values, sizeof *b->needed);
    b->gradient = vg_new0_array(g->n_values, sizeof *b->gradient);
    VG_CHECK(b->needed && b->gradient, VG_E_NOMEM, "no memory to differentiate %zu values", g->n_values);
    for (size_t i = 1; i < g->n_values; i++)
        if (g->values[i].kind == VG_VALUE_PARAM) b->needed[i] = trainable(context, g->values[i].param);
    for (size_t i = 0; i < g->n_nodes; i++) {
        bool any = false;
        for (int j = 0; j < VG_MAX_IN; j++) any = any || needed(b, g->nodes[i].in[j]);
        if (!any || rules[g->nodes[i].op] == grad_none) continue;
        b->needed[g->nodes[i].out[0]] = true;
        if (g->nodes[i].op == VG_OP_attention) b->needed[g->nodes[i].out[2]] = true; /* sums */
    }
    return VG_OK;
}

/* The losses write the gradients of their own parameters while they run forward, before all other writers. */
static vg_status adopt_loss_parameters(backward *b)
{
    vg_graph *g = b->g;
    for (size_t i = 0; i < g->n_nodes; i++) {
        vg_graph_node *n = &g->nodes[i];
        if (n->op != VG_OP_align_loss) continue;
        for (int j = 0; j < 2; j++) { /* scale, shift */
            const int v = n->in[2 + j];
            if (!needed(b, v)) continue;
            VG_CHECK(g->values[v].kind == VG_VALUE_PARAM, VG_E_BUG, "align_loss: scale and shift must be parameters");
            vg_graph_value *d = &g->values[n->out[3 + j]];
            *d = (vg_graph_value){VG_VALUE_GRADIENT, .shape = d->shape, .param = g->values[v].param};
            d->first = g->values[v].first;
        }
        VG_TRY(record_outputs(b, n));
    }
    return VG_OK;
}

static void sweep(backward *b)
{
    vg_graph *g = b->g;
    for (size_t i = g->n_nodes; i-- > 0 && g->status == VG_OK;) {
        const vg_graph_node n = g->nodes[i]; /* a copy: the nodes move as gradient nodes are appended */
        const int dy = is_loss(n.op) ? 0 : b->gradient[n.out[0]];
        if (!is_loss(n.op) && (!dy || !b->needed[n.out[0]])) continue;
        g->scope = n.scope;
        rules[n.op](b, &n, dy);
    }
}

static vg_status check_coverage(const backward *b, vg_trainable trainable, const void *context)
{
    const vg_params *params = b->g->params;
    for (int i = 0; i < params->n; i++) {
        if (!trainable(context, i)) continue;
        const int64_t count = params->items[i].count, have = already_written(b, i, 0, count);
        VG_CHECK(have > 0, VG_E_BUG, "trainable parameter %s reaches no loss; freeze it or use it",
                 params->items[i].name);
        VG_CHECK(have == count, VG_E_BUG, "trainable parameter %s: only %lld of %lld elements reach a loss",
                 params->items[i].name, (long long)have, (long long)count);
    }
    return VG_OK;
}

vg_status vg_graph_differentiate(vg_graph *g, vg_trainable trainable, const void *context)
{
    VG_TRY(vg_graph_status(g));
    VG_CHECK(!g->differentiated, VG_E_BUG, "a graph is differentiated once; build it anew for another stage");
    g->differentiated = true;
    backward b = {.g = g};
    vg_graph_blame(g, find_needed(&b, trainable, context));
    if (g->status == VG_OK) vg_graph_blame(g, adopt_loss_parameters(&b));
    if (g->status == VG_OK) sweep(&b);
    if (g->status == VG_OK) vg_graph_blame(g, check_coverage(&b, trainable, context));
    free(b.needed);
    free(b.gradient);
    free(b.written);
    return vg_graph_status(g);
}

void vg_graph_gradient_order(const vg_graph *g, int *order, int *n)
{
    int count = 0;
    for (size_t i = g->n_nodes; i-- > 0;) /* from the end: a parameter is complete at its last writer */
        for (int j = VG_MAX_OUT; j-- > 0;) {
            const vg_graph_value *v = &g->values[g->nodes[i].out[j]];
            if (v->kind != VG_VALUE_GRADIENT) continue;
            bool known = false;
            for (int k = 0; k < count; k++) known = known || order[k] == v->param;
            if (!known) order[count++] = v->param;
        }
    for (int i = 0; i < count / 2; i++) {
        const int swap = order[i];
        order[i] = order[count - 1 - i];
        order[count - 1 - i] = swap;
    }
    *n = count;
}
