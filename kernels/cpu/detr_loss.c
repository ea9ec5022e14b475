/* Matching and the three losses of every decoder layer, one slot at a time; see the model specification, section 4. */
#include "kernels/cpu/boxes_impl.h"
#include "kernels/cpu/cpu_impl.h"
#include "kernels/cpu/matcher_impl.h"

#include <math.h>
#include <string.h>

typedef struct loss_args {
    const float *logits, *boxes, *targets, *scales;
    const int32_t *n_targets, *filled;
    double *parts;
    int32_t *match, *bad;
    float *dlogits, *dboxes;
    int64_t layers, slots;
    int queries, capacity; /* Q, T */
    float eos, cost_class, cost_l1, cost_giou;
} loss_args;

/* One slot of one layer. */
typedef struct loss_place {
    const float *logits, *boxes, *targets; /* [Q,2] [Q,4] [n_targets,4] */
    float *dlogits, *dboxes;               /* either may be NULL */
    int32_t *match;
    double *parts;
    int n_targets;
} loss_place;

static loss_args args_of(const vg_node *node)
{
    return (loss_args){.logits = node->in[0].data,
                       .boxes = node->in[1].data,
                       .targets = node->in[2].data,
                       .n_targets = node->in[3].data,
                       .filled = node->in[4].data,
                       .scales = node->in[5].data,
                       .parts = node->out[0].data,
                       .match = node->out[1].data,
                       .dlogits = node->out[2].data,
                       .dboxes = node->out[3].data,
                       .bad = node->out[4].data,
                       .layers = node->in[0].shape.dim[0],
                       .slots = node->in[0].shape.dim[1],
                       .queries = (int)node->in[0].shape.dim[2],
                       .capacity = (int)node->in[2].shape.dim[1],
                       .eos = node->attr.detr_loss.eos,
                       .cost_class = node->attr.detr_loss.cost_class,
                       .cost_l1 = node->attr.detr_loss.cost_l1,
                       .cost_giou = node->attr.detr_loss.cost_giou};
}

/* Per thread: the cost matrix, a row of matches for a caller that wants none, and the matcher's own. */
static size_t scratch_bytes(int queries, int capacity)
{
    return vg_round_up((size_t)queries * ((size_t)capacity * sizeof(float) + sizeof(int32_t)), 64) +
           vg_match_scratch_bytes(queries, capacity);
}

size_t vg_cpu_detr_loss_workspace(const vg_node *node, int n_threads)
{
    const loss_args a = args_of(node);
    return (size_t)n_threads * scratch_bytes(a.queries, a.capacity);
}

static float object_probability(const float logit[2])
{
    const float top = fmaxf(logit[0], logit[1]), object = expf(logit[0] - top), none = expf(logit[1] - top);
    return object / (object + none);
}

/* cost [Q,n_targets]; false when one is not finite. */
static bool fill_costs(const loss_args *a, const loss_place *p, float *cost)
{
    bool finite = true;
    for (int q = 0; q < a->queries; q++) {
        const float *box = p->boxes + 4 * q, probability = object_probability(p->logits + 2 * q);
        for (int t = 0; t < p->n_targets; t++) {
            const float *target = p->targets + 4 * t;
            const float c = a->cost_l1 * vg_box_l1(box, target) + a->cost_class * -probability +
                            a->cost_giou * -vg_box_giou(box, target);
            finite = finite && isfinite(c);
            *cost++ = c;
        }
    }
    return finite;
}

/* Cross-entropy of two logits: numerator with weights 1 and eos, gradient with the step's scales. */
static void class_loss(const loss_args *a, const loss_place *p, int q)
{
    const bool object = p->match[q] >= 0;
    const int own = object ? 0 : 1;
    const float *logit = p->logits + 2 * q, d = logit[1 - own] - logit[own];
    p->parts[0] += (double)((object ? 1.0F : a->eos) * (fmaxf(d, 0.0F) + log1pf(expf(-fabsf(d)))));
    if (!p->dlogits) return;
    const float g = a->scales[object ? 0 : 1] * (1.0F / (1.0F + expf(-d)));
    p->dlogits[2 * q + own] = -g;
    p->dlogits[2 * q + 1 - own] = g;
}

static float sign(float x)
{
    return x > 0.0F ? 1.0F : x < 0.0F ? -1.0F : 0.0F;
}

static void box_loss(const loss_args *a, const loss_place *p, int q)
{
    float dgiou[4] = {0};
    if (p->match[q] >= 0) {
        const float *box = p->boxes + 4 * q, *target = p->targets + 4 * p->match[q];
        p->parts[1] += (double)vg_box_l1(box, target);
        p->parts[2] += (double)(1.0F - vg_box_giou_grad(box, target, dgiou));
        if (p->dboxes)
            for (int k = 0; k < 4; k++)
                p->dboxes[4 * q + k] = a->scales[2] * sign(box[k] - target[k]) - a->scales[3] * dgiou[k];
    } else if (p->dboxes) {
        memset(p->dboxes + 4 * q, 0, 4 * sizeof(float));
    }
}

/* Returns whether all costs were finite; where not, query i stands with target i. */
static bool layer_loss(const loss_args *a, const loss_place *p, void *scratch)
{
    float *cost = scratch;
    const size_t cost_bytes = (size_t)a->queries * ((size_t)a->capacity * sizeof(float) + sizeof(int32_t));
    const bool finite = fill_costs(a, p, cost);
    if (finite)
        vg_match(cost, a->queries, p->n_targets, p->match, (char *)scratch + vg_round_up(cost_bytes, 64));
    else
        for (int q = 0; q < a->queries; q++) p->match[q] = q < p->n_targets ? q : -1;
    for (int q = 0; q < a->queries; q++) {
        class_loss(a, p, q);
        box_loss(a, p, q);
    }
    return finite;
}

static void empty_layer(const loss_args *a, const loss_place *p)
{
    for (int q = 0; q < a->queries; q++) p->match[q] = -1;
    if (p->dlogits) memset(p->dlogits, 0, (size_t)a->queries * 2 * sizeof(float));
    if (p->dboxes) memset(p->dboxes, 0, (size_t)a->queries * 4 * sizeof(float));
}

static void slot_loss(const loss_args *a, int64_t b, void *scratch)
{
    int32_t *spare_match = (int32_t *)((float *)scratch + (size_t)a->queries * (size_t)a->capacity), bad = 0;
    for (int64_t l = 0; l < a->layers; l++) {
        const int64_t first = (l * a->slots + b) * a->queries, layer = b * a->layers + l;
        double spare_parts[3];
        const loss_place p = {.logits = a->logits + 2 * first,
                              .boxes = a->boxes + 4 * first,
                              .targets = a->targets + b * a->capacity * 4,
                              .dlogits = a->dlogits ? a->dlogits + 2 * first : NULL,
                              .dboxes = a->dboxes ? a->dboxes + 4 * first : NULL,
                              .match = a->match ? a->match + layer * a->queries : spare_match,
                              .parts = a->parts ? a->parts + layer * 3 : spare_parts,
                              .n_targets = a->n_targets[b] < a->capacity ? a->n_targets[b] : a->capacity};
        memset(p.parts, 0, sizeof spare_parts);
        if (!a->filled[b])
            empty_layer(a, &p);
        else if (!layer_loss(a, &p, scratch) && !bad)
            bad = (int32_t)l + 1;
    }
    if (a->bad) a->bad[b] = bad;
}

vg_status vg_cpu_detr_loss(vg_stream *stream, const vg_node *node)
{
    const loss_args a = args_of(node);
    const size_t each = scratch_bytes(a.queries, a.capacity);
    /* A pair of boxes costs as much as moving dozens of floats. */
#pragma omp parallel for num_threads(stream->n_threads) if (a.slots * a.layers * a.queries * (1 + a.capacity) * 64 > \
                                                            VG_CPU_FEW)
    for (int64_t b = 0; b < a.slots; b++) slot_loss(&a, b, (char *)node->workspace + (size_t)vg_cpu_thread() * each);
    return VG_OK;
}
