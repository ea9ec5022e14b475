/* Matching and the three losses of every decoder layer; see the model specification, section 4. */
#include "kernels/cuda/boxes.h"
#include "kernels/cuda/cuda_impl.h"
#include "kernels/cuda/matcher.h"

enum { WARPS = 6 }; /* of a block: the decoder has 6 layers */

struct detr_args {
    const float *logits, *boxes, *targets, *scales;
    const int32_t *n_targets, *filled;
    double *parts;
    int32_t *match, *bad;
    float *dlogits, *dboxes;
    char *workspace;
    size_t place_bytes;
    int64_t slots;
    int layers, queries, capacity; /* L, Q, T */
    float eos, cost_class, cost_l1, cost_giou;
};

/* One slot of one layer, a warp's work. */
struct detr_place {
    const float2 *logits;          /* [Q] */
    const float4 *boxes, *targets; /* [Q] [n_targets] */
    float2 *dlogits;               /* either may be NULL */
    float4 *dboxes;
    int32_t *match; /* [Q] */
    float *cost;    /* [Q,n_targets] */
    void *matching; /* the matcher's own */
    int n_targets;
};

/* Scratch of a place: the matcher's, the cost matrix, and a row of matches for a caller that wants none. */
static size_t place_bytes(int queries, int capacity)
{
    return match_scratch_bytes(queries, capacity) +
           vg_round_up((size_t)queries * ((size_t)capacity * sizeof(float) + sizeof(int32_t)), 64);
}

static __device__ detr_place place_of(const detr_args &a, int64_t slot, int layer)
{
    const int64_t first = (layer * a.slots + slot) * a.queries, at = slot * a.layers + layer;
    detr_place p;
    p.logits = (const float2 *)a.logits + first;
    p.boxes = (const float4 *)a.boxes + first;
    p.targets = (const float4 *)a.targets + slot * a.capacity;
    p.dlogits = a.dlogits ? (float2 *)a.dlogits + first : nullptr;
    p.dboxes = a.dboxes ? (float4 *)a.dboxes + first : nullptr;
    char *end = a.workspace + (size_t)(at + 1) * a.place_bytes;
    int32_t *spare_match = (int32_t *)end - a.queries;
    p.match = a.match ? a.match + at * a.queries : spare_match;
    p.cost = (float *)spare_match - (int64_t)a.queries * a.capacity;
    p.matching = a.workspace + (size_t)at * a.place_bytes;
    p.n_targets = min(a.n_targets[slot], a.capacity);
    return p;
}

static __device__ float object_probability(float2 logit)
{
    const float top = fmaxf(logit.x, logit.y), object = expf(logit.x - top), none = expf(logit.y - top);
    return object / (object + none);
}

/* The cost matrix; false when one is not finite. */
static __device__ bool fill_costs(const detr_args &a, const detr_place &p, int lane)
{
    bool finite = true;
    for (int i = lane; i < a.queries * p.n_targets; i += WARP) {
        const int q = i / p.n_targets;
        const float4 box = p.boxes[q], target = p.targets[i - q * p.n_targets];
        const float c = a.cost_l1 * box_l1(box, target) + a.cost_class * -object_probability(p.logits[q]) +
                        a.cost_giou * -box_giou(box, target, nullptr);
        finite = finite && isfinite(c);
        p.cost[i] = c;
    }
    return __all_sync(ALL_LANES, finite);
}

/* Cross-entropy of two logits: returns the numerator with weights 1 and eos; the gradient has the step's scales. */
static __device__ float class_loss(const detr_args &a, const detr_place &p, int q)
{
    const bool object = p.match[q] >= 0;
    const float2 logit = p.logits[q];
    const float d = object ? logit.y - logit.x : logit.x - logit.y;
    if (p.dlogits) {
        const float g = a.scales[object ? 0 : 1] * (1.0F / (1.0F + expf(-d)));
        p.dlogits[q] = object ? make_float2(-g, g) : make_float2(g, -g);
    }
    return (object ? 1.0F : a.eos) * (fmaxf(d, 0.0F) + log1pf(expf(-fabsf(d))));
}

static __device__ float sign(float x)
{
    return x > 0.0F ? 1.0F : x < 0.0F ? -1.0F : 0.0F;
}

/* The numerators of L1 and GIoU of query q, 0 without a target. */
static __device__ float2 box_loss(const detr_args &a, const detr_place &p, int q)
{
    float4 dbox = make_float4(0, 0, 0, 0);
    float2 loss = make_float2(0, 0);
    if (p.match[q] >= 0) {
        const float4 box = p.boxes[q], target = p.targets[p.match[q]];
        float4 dgiou;
        loss = make_float2(box_l1(box, target), 1.0F - box_giou(box, target, &dgiou));
        dbox.x = a.scales[2] * sign(box.x - target.x) - a.scales[3] * dgiou.x;
        dbox.y = a.scales[2] * sign(box.y - target.y) - a.scales[3] * dgiou.y;
        dbox.z = a.scales[2] * sign(box.z - target.z) - a.scales[3] * dgiou.z;
        dbox.w = a.scales[2] * sign(box.w - target.w) - a.scales[3] * dgiou.w;
    }
    if (p.dboxes) p.dboxes[q] = dbox;
    return loss;
}

/* Losses of all queries; every lane ends with their sums, added in the order of the queries. */
static __device__ void query_losses(const detr_args &a, const detr_place &p, int lane, double parts[3])
{
    for (int first = 0; first < a.queries; first += WARP) {
        const int q = first + lane, n = min(WARP, a.queries - first);
        const float in_class = lane < n ? class_loss(a, p, q) : 0.0F;
        const float2 in_box = lane < n ? box_loss(a, p, q) : make_float2(0, 0);
        for (int i = 0; i < n; i++) {
            parts[0] += (double)__shfl_sync(ALL_LANES, in_class, i);
            parts[1] += (double)__shfl_sync(ALL_LANES, in_box.x, i);
            parts[2] += (double)__shfl_sync(ALL_LANES, in_box.y, i);
        }
    }
}

/* Returns whether all costs were finite; where not, query i stands with target i. */
static __device__ bool layer_loss(const detr_args &a, const detr_place &p, int lane, double parts[3])
{
    const bool finite = fill_costs(a, p, lane);
    __syncwarp();
    if (finite)
        match_queries(p.cost, a.queries, p.n_targets, p.match, p.matching, lane);
    else
        for (int q = lane; q < a.queries; q += WARP) p.match[q] = q < p.n_targets ? q : -1;
    __syncwarp();
    query_losses(a, p, lane, parts);
    return finite;
}

static __device__ void empty_layer(const detr_args &a, const detr_place &p, int lane)
{
    for (int q = lane; q < a.queries; q += WARP) {
        p.match[q] = -1;
        if (p.dlogits) p.dlogits[q] = make_float2(0, 0);
        if (p.dboxes) p.dboxes[q] = make_float4(0, 0, 0, 0);
    }
}

/* A slot per block, a layer per warp in turn: nobody waits for the host, and a slot's bits hang on the slot alone.
 * Bound by latency: a few kilobytes a slot, and for T > 1 min(Q,T) rounds of augmenting paths. */
KERNEL(WARPS *WARP, 1) void detr_losses(const struct detr_args a)
{
    SHARED(int32_t, bad, [WARPS]); /* 1 + the first layer of each warp with a cost that is not finite, or 0 */
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    const int64_t slot = blockIdx.x;
    int32_t first_bad = 0;
    for (int layer = warp; layer < a.layers; layer += WARPS) {
        const detr_place p = place_of(a, slot, layer);
        double parts[3] = {0, 0, 0};
        if (!a.filled[slot])
            empty_layer(a, p, lane);
        else if (!layer_loss(a, p, lane, parts) && !first_bad)
            first_bad = layer + 1;
        double *out = a.parts + 3 * (slot * a.layers + layer);
        for (int k = 0; a.parts && lane == 0 && k < 3; k++) out[k] = parts[k];
    }
    if (lane == 0) bad[warp] = first_bad;
    __syncthreads();
    if (threadIdx.x || !a.bad) return;
    for (int w = 1; w < WARPS; w++)
        if (bad[w] && (!first_bad || bad[w] < first_bad)) first_bad = bad[w];
    a.bad[slot] = first_bad;
}
KERNEL_ENTRY(detr_losses, struct detr_args)

static int dim(const vg_operand *x, int axis)
{
    return (int)x->shape.dim[axis];
}

extern "C" size_t vg_cuda_detr_loss_workspace(const vg_node *node)
{
    const size_t places = (size_t)dim(&node->in[0], 0) * (size_t)dim(&node->in[0], 1);
    return places * place_bytes(dim(&node->in[0], 2), dim(&node->in[2], 1));
}

extern "C" vg_status vg_cuda_detr_loss(vg_stream *stream, const vg_node *node)
{
    const vg_operand *in = node->in, *out = node->out;
    detr_args a;
    a.logits = (const float *)in[0].data;
    a.boxes = (const float *)in[1].data;
    a.targets = (const float *)in[2].data;
    a.n_targets = (const int32_t *)in[3].data;
    a.filled = (const int32_t *)in[4].data;
    a.scales = (const float *)in[5].data;
    a.parts = (double *)out[0].data;
    a.match = (int32_t *)out[1].data;
    a.dlogits = (float *)out[2].data;
    a.dboxes = (float *)out[3].data;
    a.bad = (int32_t *)out[4].data;
    a.layers = dim(&in[0], 0);
    a.slots = dim(&in[0], 1);
    a.queries = dim(&in[0], 2);
    a.capacity = dim(&in[2], 1);
    a.workspace = (char *)node->workspace;
    a.place_bytes = place_bytes(a.queries, a.capacity);
    a.eos = node->attr.detr_loss.eos;
    a.cost_class = node->attr.detr_loss.cost_class;
    a.cost_l1 = node->attr.detr_loss.cost_l1;
    a.cost_giou = node->attr.detr_loss.cost_giou;
    LAUNCH(detr_losses, (unsigned)a.slots, WARPS * WARP, 0, vg_cuda_queue(stream), a);
    return VG_CUDA_LAUNCHED("detr_loss");
}
