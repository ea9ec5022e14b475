/* Region-phrase alignment: each cell of an image scores each of its phrases; see the model specification, 4.4. */
#include "kernels/cpu/cpu_impl.h"

#include <math.h>
#include <string.h>

typedef struct align_args {
    const float *a, *u, *targets;
    const int32_t *n_targets, *filled;
    const vg_operand *index;
    float *da, *du;
    int64_t images, cells, width, slots, capacity;
    int gh, gw;
    float gain, shift, weight; /* weight: scales[4] / cells, of the gradients */
    double *sums;              /* [B,3] per slot: loss, gradient of the log gain, gradient of the shift */
    float *unit_u, *unit_du;   /* [B,C] u / |u|, and the gradient by it */
} align_args;

/* Workspace: sums and units of all slots, then per thread a cell's unit row and its gradient. */
static size_t shared_bytes(const vg_node *node)
{
    const size_t slots = (size_t)node->in[1].shape.dim[0], width = (size_t)vg_shape_last(&node->in[1].shape);
    return vg_round_up(slots * 3 * sizeof(double), 64) + vg_round_up(slots * width * 2 * sizeof(float), 64);
}

static size_t thread_bytes(const vg_node *node)
{
    return vg_round_up((size_t)vg_shape_last(&node->in[1].shape) * 2 * sizeof(float), 64);
}

size_t vg_cpu_align_loss_workspace(const vg_node *node, int n_threads)
{
    return shared_bytes(node) + (size_t)n_threads * thread_bytes(node);
}

/* Eight running sums, added as a tree: quick without leave to reorder, and the same bits on every path. */
static float dot(const float *x, const float *y, int64_t n)
{
    float s[8] = {0};
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++) s[k] += x[i + k] * y[i + k];
    for (int k = 0; i < n; i++, k++) s[k] += x[i] * y[i];
    return ((s[0] + s[4]) + (s[2] + s[6])) + ((s[1] + s[5]) + (s[3] + s[7]));
}

static const float least_norm = 1e-12F;

/* unit = x / max(|x|, 1e-12); returns |x|. */
static float normalise(const float *x, int64_t n, float *unit)
{
    const float norm = sqrtf(dot(x, x, n)), scale = 1.0F / fmaxf(norm, least_norm);
    for (int64_t c = 0; c < n; c++) unit[c] = x[c] * scale;
    return norm;
}

/* The gradient by x of normalise, from d by the unit; a clamped norm is a constant. */
static void normalise_grad(const float *unit, float norm, const float *d, int64_t n, float *dx)
{
    const float along = norm > least_norm ? dot(unit, d, n) : 0.0F, scale = 1.0F / fmaxf(norm, least_norm);
    for (int64_t c = 0; c < n; c++) dx[c] = (d[c] - unit[c] * along) * scale;
}

static float overlap(float lo, float hi, float centre, float size)
{
    return fmaxf(fminf(hi, centre + size / 2.0F) - fmaxf(lo, centre - size / 2.0F), 0.0F);
}

/* Share of a cell that the slot's boxes cover, at most 1. */
static float coverage(const align_args *g, int64_t slot, int64_t cell)
{
    const float w = 1.0F / (float)g->gw, h = 1.0F / (float)g->gh;
    const float x = (float)(cell % g->gw) * w, y = (float)(cell / g->gw) * h;
    float share = 0.0F;
    for (int64_t t = 0; t < g->n_targets[slot] && t < g->capacity; t++) {
        const float *box = g->targets + (slot * g->capacity + t) * 4;
        share += overlap(x, x + w, box[0], box[2]) * overlap(y, y + h, box[1], box[3]) / (w * h);
    }
    return fminf(share, 1.0F);
}

/* One cell against one slot: the loss, and the gradients of everything but the cell go to the slot's sums; adds the
 * gradient by the cell's unit to d_unit. */
static void cell_loss(const align_args *g, int64_t slot, int64_t cell, const float *unit, float *d_unit)
{
    const float *u = g->unit_u + slot * g->width;
    const float cosine = dot(unit, u, g->width), score = g->gain * cosine + g->shift, target = coverage(g, slot, cell);
    double *sums = g->sums + 3 * slot;
    sums[0] += (double)(fmaxf(score, 0.0F) - score * target + log1pf(expf(-fabsf(score))));
    const float d_score = (1.0F / (1.0F + expf(-score)) - target) * g->weight, d_cosine = d_score * g->gain;
    sums[1] += (double)d_cosine * (double)cosine;
    sums[2] += (double)d_score;
    float *du = g->unit_du + slot * g->width;
    for (int64_t c = 0; c < g->width; c++) {
        du[c] += d_cosine * unit[c];
        d_unit[c] += d_cosine * u[c];
    }
}

/* All cells of an image against its slots first .. end - 1; a slot belongs to one image, so images are independent. */
static void image_loss(const align_args *g, int64_t image, float *scratch)
{
    int64_t first = 0, end;
    while (first < g->slots && vg_cpu_image_of(g->index, first) < image) first++;
    for (end = first; end < g->slots && vg_cpu_image_of(g->index, end) == image;) end++;
    for (int64_t s = first; s < end; s++) normalise(g->u + s * g->width, g->width, g->unit_u + s * g->width);
    float *unit = scratch, *d_unit = scratch + g->width;
    for (int64_t p = 0; p < g->cells; p++) {
        const int64_t row = (image * g->cells + p) * g->width;
        const float norm = normalise(g->a + row, g->width, unit);
        memset(d_unit, 0, (size_t)g->width * sizeof *d_unit);
        for (int64_t s = first; s < end; s++)
            if (g->filled[s]) cell_loss(g, s, p, unit, d_unit);
        if (g->da) normalise_grad(unit, norm, d_unit, g->width, g->da + row);
    }
    for (int64_t s = first; s < end && g->du; s++) {
        const float *u = g->u + s * g->width, norm = sqrtf(dot(u, u, g->width));
        normalise_grad(g->unit_u + s * g->width, norm, g->unit_du + s * g->width, g->width, g->du + s * g->width);
    }
}

static align_args args_of(const vg_node *node)
{
    const float *scales = node->in[8].data;
    char *memory = node->workspace;
    align_args g = {.a = node->in[0].data,
                    .u = node->in[1].data,
                    .targets = node->in[4].data,
                    .n_targets = node->in[5].data,
                    .filled = node->in[6].data,
                    .index = &node->in[7],
                    .da = node->out[1].data,
                    .du = node->out[2].data,
                    .images = node->in[0].shape.dim[0],
                    .cells = node->in[0].shape.dim[1],
                    .width = node->in[0].shape.dim[2],
                    .slots = node->in[1].shape.dim[0],
                    .capacity = node->in[4].shape.dim[1],
                    .gh = node->attr.align.gh,
                    .gw = node->attr.align.gw,
                    .gain = expf(*(const float *)node->in[2].data),
                    .shift = *(const float *)node->in[3].data,
                    .sums = (double *)memory};
    g.weight = scales[4] / (float)g.cells;
    g.unit_u = (float *)(memory + vg_round_up((size_t)g.slots * 3 * sizeof(double), 64));
    g.unit_du = g.unit_u + g.slots * g.width;
    memset(memory, 0, shared_bytes(node));
    return g;
}

static void parameter_grad(const align_args *g, int which, bool accumulate, float *out)
{
    double sum = 0.0;
    for (int64_t s = 0; s < g->slots; s++) sum += g->sums[3 * s + which];
    *out = accumulate ? *out + (float)sum : (float)sum;
}

vg_status vg_cpu_align_loss(vg_stream *stream, const vg_node *node)
{
    const align_args g = args_of(node);
    VG_CHECK((int64_t)g.gh * g.gw == g.cells, VG_E_BUG, "%d x %d cells are not %lld", g.gh, g.gw, (long long)g.cells);
    VG_TRY(vg_cpu_check_index(g.index, g.slots, g.images));
    char *threads = (char *)node->workspace + shared_bytes(node);
#pragma omp parallel for num_threads(stream->n_threads) if (g.slots * g.cells * g.width > VG_CPU_FEW)
    for (int64_t i = 0; i < g.images; i++)
        image_loss(&g, i, (float *)(threads + (size_t)vg_cpu_thread() * thread_bytes(node)));
    double *parts = node->out[0].data;
    for (int64_t s = 0; parts && s < g.slots; s++) parts[s] = g.sums[3 * s] / (double)g.cells;
    if (node->out[3].data) parameter_grad(&g, 1, node->accumulate, node->out[3].data);
    if (node->out[4].data) parameter_grad(&g, 2, node->accumulate, node->out[4].data);
    return VG_OK;
}
