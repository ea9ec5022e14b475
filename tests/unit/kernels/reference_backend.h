/* A backend of naive loops, for tests of the engine: what it computes is plain to see, how fast is of no interest. */
#ifndef REFERENCE_BACKEND_H
#define REFERENCE_BACKEND_H

#include "kernels/backend.h"

#include <math.h>
#include <string.h>

static inline const float *ref_in(const vg_node *n, int i)
{
    return n->in[i].data;
}

static inline float *ref_out(const vg_node *n, int i)
{
    return n->out[i].data;
}

static inline int64_t ref_count(const vg_operand *o)
{
    return vg_shape_count(&o->shape);
}

static inline float ref_act(vg_act act, float z)
{
    switch (act) {
    case VG_ACT_RELU: return z > 0 ? z : 0;
    case VG_ACT_GELU: return (float)(0.5 * z * (1 + erf(z / sqrt(2.0))));
    case VG_ACT_SIGMOID: return 1 / (1 + expf(-z));
    default: return z;
    }
}

static inline vg_status ref_linear(vg_stream *s, const vg_node *n)
{
    (void)s;
    const int64_t N = n->in[1].shape.dim[0], K = n->in[1].shape.dim[1], rows = vg_shape_rows(&n->in[0].shape);
    const float *x = ref_in(n, 0), *w = ref_in(n, 1), *b = ref_in(n, 2), *gamma = ref_in(n, 3), *res = ref_in(n, 4);
    float *y = ref_out(n, 0), *z = ref_out(n, 1);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t j = 0; j < N; j++) {
            float sum = b ? b[j] : 0;
            for (int64_t k = 0; k < K; k++) sum += x[r * K + k] * w[j * K + k];
            if (z) z[r * N + j] = sum;
            sum = ref_act(n->attr.linear.act, sum) * (gamma ? gamma[j] : 1);
            y[r * N + j] = res ? res[r * N + j] + sum : sum;
        }
    return VG_OK;
}

static inline vg_status ref_layernorm(vg_stream *s, const vg_node *n)
{
    (void)s;
    const int64_t C = vg_shape_last(&n->in[0].shape), rows = vg_shape_rows(&n->in[0].shape);
    const float *x = ref_in(n, 0), *gamma = ref_in(n, 1), *beta = ref_in(n, 2), *res = ref_in(n, 3);
    for (int64_t r = 0; r < rows; r++) {
        double mean = 0, var = 0;
        for (int64_t c = 0; c < C; c++) mean += (x[r * C + c] + (res ? res[r * C + c] : 0)) / (double)C;
        for (int64_t c = 0; c < C; c++) {
            const double d = x[r * C + c] + (res ? res[r * C + c] : 0) - mean;
            var += d * d / (double)C;
        }
        const double rstd = 1 / sqrt(var + (double)n->attr.layernorm.eps);
        for (int64_t c = 0; c < C; c++) {
            const float sum = x[r * C + c] + (res ? res[r * C + c] : 0);
            ref_out(n, 0)[r * C + c] = (float)((sum - mean) * rstd) * gamma[c] + beta[c];
            if (ref_out(n, 3)) ref_out(n, 3)[r * C + c] = sum;
        }
        if (ref_out(n, 1)) ref_out(n, 1)[r] = (float)mean;
        if (ref_out(n, 2)) ref_out(n, 2)[r] = (float)rstd;
    }
    return VG_OK;
}

/* add and add_rows: the second operand is repeated as often as it fits. */
static inline vg_status ref_add(vg_stream *s, const vg_node *n)
{
    (void)s;
    const int64_t count = ref_count(&n->in[0]), period = ref_count(&n->in[1]);
    for (int64_t i = 0; i < count; i++) ref_out(n, 0)[i] = ref_in(n, 0)[i] + ref_in(n, 1)[i % period];
    return VG_OK;
}

static inline vg_status ref_repeat(vg_stream *s, const vg_node *n)
{
    (void)s;
    const int64_t count = ref_count(&n->out[0]), period = ref_count(&n->in[0]);
    for (int64_t i = 0; i < count; i++) ref_out(n, 0)[i] = ref_in(n, 0)[i % period];
    return VG_OK;
}

static inline vg_status ref_stack(vg_stream *s, const vg_node *n)
{
    (void)s;
    const size_t each = (size_t)ref_count(&n->in[0]);
    for (int64_t i = 0; i < n->out[0].shape.dim[0]; i++)
        memcpy(ref_out(n, 0) + (size_t)i * each, ref_in(n, (int)i), each * sizeof(float));
    return VG_OK;
}

static inline vg_status ref_stack_grad(vg_stream *s, const vg_node *n)
{
    (void)s;
    const int64_t each = ref_count(&n->in[0]) / n->in[0].shape.dim[0];
    for (int64_t i = 0; i < n->in[0].shape.dim[0]; i++)
        if (n->out[i].data) memcpy(n->out[i].data, ref_in(n, 0) + i * each, (size_t)each * sizeof(float));
    return VG_OK;
}

static inline vg_status ref_slice_tokens(vg_stream *s, const vg_node *n)
{
    (void)s;
    const int64_t B = n->in[0].shape.dim[0], N = n->in[0].shape.dim[1], C = n->in[0].shape.dim[2];
    const int64_t first = n->attr.slice.first, count = n->attr.slice.count;
    for (int64_t b = 0; b < B; b++)
        memcpy(ref_out(n, 0) + b * count * C, ref_in(n, 0) + (b * N + first) * C, (size_t)(count * C) * sizeof(float));
    return VG_OK;
}

static inline vg_status ref_slice_tokens_grad(vg_stream *s, const vg_node *n)
{
    (void)s;
    const int64_t B = n->out[0].shape.dim[0], N = n->out[0].shape.dim[1], C = n->out[0].shape.dim[2];
    const int64_t first = n->attr.slice.first, count = n->attr.slice.count;
    for (int64_t b = 0; b < B; b++)
        for (int64_t t = 0; t < N; t++)
            for (int64_t c = 0; c < C; c++) {
                const bool inside = t >= first && t < first + count;
                const int64_t i = (b * N + t) * C + c;
                ref_out(n, 0)[i] = (n->in[1].data ? ref_in(n, 1)[i] : 0) +
                                   (inside ? ref_in(n, 0)[(b * count + t - first) * C + c] : 0);
            }
    return VG_OK;
}

/* A loss of the right signature that pulls every box coordinate and logit towards 0: parts = sums of squares / 2, each
 * gradient is the value itself. */
static inline vg_status ref_detr_loss(vg_stream *s, const vg_node *n)
{
    (void)s;
    const int64_t L = n->in[0].shape.dim[0], B = n->in[0].shape.dim[1], Q = n->in[0].shape.dim[2];
    double *parts = n->out[0].data;
    memset(parts, 0, (size_t)(B * L * 3) * sizeof *parts);
    memset(n->out[1].data, 0, (size_t)(B * L * Q) * sizeof(int32_t));
    memset(n->out[4].data, 0, (size_t)B * sizeof(int32_t));
    for (int input = 0; input < 2; input++) {
        const int64_t width = input ? 4 : 2;
        for (int64_t i = 0; i < L * B * Q * width; i++) {
            const int64_t l = i / (B * Q * width), b = i / (Q * width) % B;
            const float v = ref_in(n, input)[i];
            parts[(b * L + l) * 3 + input] += 0.5 * (double)v * (double)v;
            ref_out(n, 2 + input)[i] = v;
        }
    }
    return VG_OK;
}

static inline vg_status ref_act_grad(vg_stream *s, const vg_node *n)
{
    (void)s;
    for (int64_t i = 0; i < ref_count(&n->in[0]); i++) {
        const double v = ref_in(n, 1)[i];
        double slope = 1;
        if (n->attr.linear.act == VG_ACT_RELU) slope = v > 0;
        if (n->attr.linear.act == VG_ACT_SIGMOID) slope = v * (1 - v);
        if (n->attr.linear.act == VG_ACT_GELU)
            slope = 0.5 * (1 + erf(v / sqrt(2.0))) + v * exp(-0.5 * v * v) / sqrt(2 * 3.14159265358979323846);
        ref_out(n, 0)[i] = (float)(ref_in(n, 0)[i] * slope / (1 - (double)n->attr.linear.dropout));
    }
    return VG_OK;
}

static inline vg_status ref_linear_dx(vg_stream *s, const vg_node *n)
{
    (void)s;
    const int64_t N = n->in[1].shape.dim[0], K = n->in[1].shape.dim[1], rows = vg_shape_rows(&n->in[0].shape);
    const float *dz = ref_in(n, 0), *w = ref_in(n, 1), *gamma = ref_in(n, 2), *acc = ref_in(n, 3);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < K; k++) {
            float sum = 0;
            for (int64_t j = 0; j < N; j++) sum += dz[r * N + j] * (gamma ? gamma[j] : 1) * w[j * K + k];
            ref_out(n, 0)[r * K + k] = acc ? acc[r * K + k] + sum : sum;
        }
    return VG_OK;
}

static inline void ref_put(const vg_node *n, int i, int64_t at, float value)
{
    if (!n->out[i].data) return;
    ref_out(n, i)[at] = n->accumulate ? ref_out(n, i)[at] + value : value;
}

static inline vg_status ref_linear_dw(vg_stream *s, const vg_node *n)
{
    (void)s;
    const int64_t N = vg_shape_last(&n->in[0].shape), K = vg_shape_last(&n->in[1].shape);
    const int64_t rows = vg_shape_rows(&n->in[0].shape);
    const float *dz = ref_in(n, 0), *x = ref_in(n, 1), *w = ref_in(n, 2), *b = ref_in(n, 3), *gamma = ref_in(n, 4);
    for (int64_t j = 0; j < N; j++) {
        float total = 0, inner = 0;
        for (int64_t r = 0; r < rows; r++) total += dz[r * N + j];
        for (int64_t k = 0; k < K; k++) {
            float g = 0;
            for (int64_t r = 0; r < rows; r++) g += dz[r * N + j] * x[r * K + k];
            if (w) inner += w[j * K + k] * g;
            ref_put(n, 0, j * K + k, gamma ? gamma[j] * g : g);
        }
        ref_put(n, 1, j, gamma ? gamma[j] * total : total);
        ref_put(n, 2, j, inner + (b ? b[j] * total : 0));
    }
    return VG_OK;
}

static inline vg_status ref_layernorm_grad(vg_stream *s, const vg_node *n)
{
    (void)s;
    const int64_t C = vg_shape_last(&n->in[0].shape), rows = vg_shape_rows(&n->in[0].shape);
    const float *dy = ref_in(n, 0), *x = ref_in(n, 1), *gamma = ref_in(n, 2), *mean = ref_in(n, 3);
    const float *rstd = ref_in(n, 4), *acc = ref_in(n, 5);
    for (int64_t c = 0; c < C; c++) {
        float dgamma = 0, dbeta = 0;
        for (int64_t r = 0; r < rows; r++) {
            dgamma += dy[r * C + c] * (x[r * C + c] - mean[r]) * rstd[r];
            dbeta += dy[r * C + c];
        }
        ref_put(n, 1, c, dgamma);
        ref_put(n, 2, c, dbeta);
    }
    for (int64_t r = 0; n->out[0].data && r < rows; r++) {
        double a = 0, b = 0;
        for (int64_t c = 0; c < C; c++) {
            const double g = dy[r * C + c] * gamma[c], xhat = (x[r * C + c] - mean[r]) * rstd[r];
            a += g / (double)C;
            b += g * xhat / (double)C;
        }
        for (int64_t c = 0; c < C; c++) {
            const double g = dy[r * C + c] * gamma[c], xhat = (x[r * C + c] - mean[r]) * rstd[r];
            const double dx = (double)rstd[r] * (g - a - xhat * b);
            ref_out(n, 0)[r * C + c] = (float)dx + (acc ? acc[r * C + c] : 0);
        }
    }
    return VG_OK;
}

static inline vg_status ref_sum_rows(vg_stream *s, const vg_node *n)
{
    (void)s;
    const int64_t period = ref_count(&n->out[0]), count = ref_count(&n->in[0]);
    for (int64_t i = 0; i < period; i++) {
        float sum = 0;
        for (int64_t at = i; at < count; at += period) sum += ref_in(n, 0)[at];
        ref_put(n, 0, i, sum);
    }
    return VG_OK;
}

/* A workspace and packed weights, only so that the engine has some to place. */
static inline size_t ref_workspace_bytes(const vg_node *n, int n_threads)
{
    return n->op == VG_OP_linear_dw ? (size_t)n_threads * 100 : 0;
}

static inline size_t ref_packed_bytes(const vg_node *n)
{
    return n->op == VG_OP_linear ? (size_t)ref_count(&n->in[1]) * sizeof(float) : 0;
}

static inline vg_status ref_pack(vg_stream *s, const vg_node *n, void *packed)
{
    (void)s;
    memcpy(packed, n->in[1].data, ref_packed_bytes(n));
    return VG_OK;
}

static const vg_backend reference_backend = {
    .name = "reference",
    .kernels =
        {
            [VG_OP_linear] = ref_linear,
            [VG_OP_layernorm] = ref_layernorm,
            [VG_OP_add] = ref_add,
            [VG_OP_add_rows] = ref_add,
            [VG_OP_repeat] = ref_repeat,
            [VG_OP_slice_tokens] = ref_slice_tokens,
            [VG_OP_stack] = ref_stack,
            [VG_OP_detr_loss] = ref_detr_loss,
            [VG_OP_act_grad] = ref_act_grad,
            [VG_OP_linear_dx] = ref_linear_dx,
            [VG_OP_linear_dw] = ref_linear_dw,
            [VG_OP_layernorm_grad] = ref_layernorm_grad,
            [VG_OP_sum_rows] = ref_sum_rows,
            [VG_OP_slice_tokens_grad] = ref_slice_tokens_grad,
            [VG_OP_stack_grad] = ref_stack_grad,
        },
    .device = &vg_host_device,
    .workspace_bytes = ref_workspace_bytes,
    .packed_bytes = ref_packed_bytes,
    .pack = ref_pack,
};

#endif
