#include "kernels/cpu/lanes_impl.h"

#include <string.h>

size_t vg_cpu_attention_grad_workspace(const vg_node *node, int n_threads)
{
    vg_attn a;
    vg_attn_of(node, 1, &a);
    return (size_t)n_threads * vg_lanes_get()->attention_grad_scratch(&a);
}

static vg_heads like(const vg_heads *x, const vg_operand *out)
{
    return (vg_heads){.data = out->data, .stride = x->stride, .column = x->column};
}

vg_status vg_cpu_attention_grad(vg_stream *stream, const vg_node *node)
{
    const vg_lanes *lanes = vg_lanes_get();
    vg_attn_grad g = {.d_o = node->in[0].data, .dbias = node->out[5].data};
    vg_attn_of(node, 1, &g.a);
    VG_TRY(vg_attn_check(&g.a));
    g.a.o = node->in[10].data;
    g.a.lse = node->in[11].data;
    g.a.sums = node->in[12].data;
    g.dsums = node->in[13].data;
    g.acc_k = like(&g.a.k, &node->in[14]);
    g.acc_v = like(&g.a.v, &node->in[15]);
    g.dq = like(&g.a.q, &node->out[0]);
    g.dk = like(&g.a.k, &node->out[1]);
    g.dv = like(&g.a.v, &node->out[2]);
    g.dk2 = like(&g.a.k2, &node->out[3]);
    g.dv2 = like(&g.a.v2, &node->out[4]);
    const size_t scratch = lanes->attention_grad_scratch(&g.a), row = (size_t)(g.a.n_queries * g.a.keys);
    /* All slots share the bias, so with its gradient the images of a head are one thread's work. */
    const int64_t units = g.a.images * g.a.heads, groups = g.dbias ? g.a.heads : units;
    const int64_t ahead = g.dbias ? groups : stream->n_threads;
#pragma omp parallel for num_threads(stream->n_threads) if (g.a.slots * g.a.heads * (int64_t)row * g.a.size > \
                                                            2 * VG_CPU_FEW) schedule(dynamic)
    for (int64_t group = 0; group < groups; group++) {
        float *mine = (float *)((char *)node->workspace + (size_t)vg_cpu_thread() * scratch);
        if (g.dbias) memset(g.dbias + (size_t)group * row, 0, row * sizeof(float));
        for (int64_t u = group; u < units; u += groups) {
            const vg_attn_part part = vg_attn_part_of(&g.a, 1, u), next = vg_attn_part_of(&g.a, 1, u + ahead);
            lanes->attention_grad(&g, &part, u + ahead < units ? &next : NULL, mine);
        }
    }
    return VG_OK;
}
