#include "trainer/gpu_forecast.h"

#include <math.h>
#include <string.h>

#define VG_GPU_ASSUMED(name, value, unit, source)
#define VG_GPU(name, ...) {#name, __VA_ARGS__},
static const vg_gpu gpus[] = {
#include "trainer/devices.def"
};
#undef VG_GPU
#define VG_GPU(name, ...) " " #name
static const char names[] =
#include "trainer/devices.def"
    ;
#undef VG_GPU
#undef VG_GPU_ASSUMED

#define VG_GPU(...)
#define VG_GPU_ASSUMED(name, value, unit, source) ASSUMED_##name,
enum {
#include "trainer/devices.def"
    N_ASSUMED,
    N_GPUS = sizeof gpus / sizeof *gpus
};
#undef VG_GPU_ASSUMED
#define VG_GPU_ASSUMED(name, value, unit, source) {value, unit, source},
static const struct {
    double value;
    const char *unit, *source;
} assumed[N_ASSUMED] = {
#include "trainer/devices.def"
};
#undef VG_GPU_ASSUMED
#undef VG_GPU

static const double giga = 1e9, tera = 1e12, micro = 1e-6;

vg_status vg_gpu_find(const char *name, const vg_gpu **out)
{
    for (int i = 0; i < N_GPUS; i++)
        if (strcmp(gpus[i].name, name) == 0) {
            *out = &gpus[i];
            return VG_OK;
        }
    return vg_fail(VG_E_USAGE, "no GPU '%s' is known; known are:%s", name, names);
}

char *vg_gpu_assumptions(const vg_gpu *g)
{
    static const char *const what[N_ASSUMED] = {
        [ASSUMED_memory] = "memory",          [ASSUMED_fp32_products] = "products in fp32",
        [ASSUMED_start_us] = "start",         [ASSUMED_fp32_attention] = "attention in fp32",
        [ASSUMED_near] = "inside a host",     [ASSUMED_far] = "between hosts",
        [ASSUMED_exchange_us] = "collective",
    };
    vg_text text = {0};
    vg_text_add(&text, "%s: %.0f TFLOP/s in bf16, %.1f in fp32; memory %.0f GB/s, NVLink %.0f, network %.0f\n",
                g->title, g->bf16_tflops, g->fp32_tflops, g->memory_gb_s, g->near_gb_s, g->far_gb_s);
    vg_text_add(&text,
                "  products in bf16   %5.3g of the bf16 peak\n  attention in bf16  %5.3g of the bf16 peak\n    %s\n",
                g->bf16_products, g->bf16_attention, g->sources);
    for (int i = 0; i < N_ASSUMED; i++)
        vg_text_add(&text, "  %-18s %5.3g %s\n    measured: %s\n", what[i], assumed[i].value, assumed[i].unit,
                    assumed[i].source);
    return text.data;
}

const char *vg_gpu_part_name(vg_gpu_part part)
{
    static const char *const parts[VG_GPU_PARTS] = {
        [VG_GPU_PRODUCTS] = "products", [VG_GPU_ATTENTION] = "attention", [VG_GPU_MEMORY] = "memory bound",
        [VG_GPU_STARTS] = "starts",     [VG_GPU_MERGES] = "merges",       [VG_GPU_EXCHANGE] = "exchange",
        [VG_GPU_UPDATE] = "update"};
    return parts[part];
}

/* ---- kernels ---- */

static vg_gpu_part part_of(vg_op op)
{
    switch (op) {
    case VG_OP_linear:
    case VG_OP_linear_dx:
    case VG_OP_linear_dw:
    case VG_OP_heads_expand:
    case VG_OP_heads_contract:
    case VG_OP_heads_dw: return VG_GPU_PRODUCTS;
    case VG_OP_attention:
    case VG_OP_attention_grad: return VG_GPU_ATTENTION;
    default: return VG_GPU_MEMORY;
    }
}

static double peak_flops(const vg_gpu *gpu, bool bf16)
{
    return tera * (bf16 ? gpu->bf16_tflops : gpu->fp32_tflops);
}

static double reached_share(const vg_gpu_step *s, vg_gpu_part part, bool bf16)
{
    if (bf16) return part == VG_GPU_PRODUCTS ? s->gpu->bf16_products : s->gpu->bf16_attention;
    return assumed[part == VG_GPU_PRODUCTS ? ASSUMED_fp32_products : ASSUMED_fp32_attention].value;
}

/* Share of the processors that work when the pieces go out in rounds. */
static double busy_share(const vg_gpu *gpu, double pieces)
{
    return pieces > 0 ? pieces / (ceil(pieces / gpu->multiprocessors) * gpu->multiprocessors) : 1;
}

static double memory_s(const vg_gpu *gpu, double bytes)
{
    return bytes / (giga * gpu->memory_gb_s);
}

static void add_moves(vg_gpu_step *s, vg_gpu_part part, double kernels, double bytes)
{
    vg_gpu_line *line = &s->lines[part];
    line->kernels += kernels;
    line->bytes += bytes;
    line->peak_s += memory_s(s->gpu, bytes);
    line->reached_s += memory_s(s->gpu, bytes) / assumed[ASSUMED_memory].value;
    line->expected_s = line->reached_s;
}

void vg_gpu_add_kernel(void *context, vg_op op, const vg_cost *cost)
{
    vg_gpu_step *s = context;
    const vg_gpu_part part = part_of(op);
    const double compute = cost->flops / peak_flops(s->gpu, cost->bf16), moves = memory_s(s->gpu, cost->bytes);
    const double share = part == VG_GPU_MEMORY ? 1 : reached_share(s, part, cost->bf16);
    const double busy = busy_share(s->gpu, cost->pieces), moved = moves / assumed[ASSUMED_memory].value;
    const double partial = memory_s(s->gpu, cost->partial) / assumed[ASSUMED_memory].value; /* one way */
    const double expected = fmax(compute / (share * busy), moved + partial) + partial;
    vg_gpu_line *line = &s->lines[part];
    line->kernels += cost->kernels * s->leaves;
    line->flops += cost->flops * s->leaves;
    line->bytes += (cost->bytes + 2 * cost->partial) * s->leaves;
    line->peak_s += fmax(compute, moves) * s->leaves;
    line->reached_s += fmax(compute / share, moved) * s->leaves;
    line->expected_s += expected * s->leaves;
    /* Attention's scores are computed again in backward: one product of five that no model asks for. */
    s->model_flops += cost->flops * s->leaves * (op == VG_OP_attention_grad ? 0.8 : 1);
    if (vg_op_is_backward(op)) s->backward_s += expected + cost->kernels * assumed[ASSUMED_start_us].value * micro;
}

/* ---- between ranks ---- */

vg_network vg_gpu_network(const vg_gpu *g)
{
    return (vg_network){
        .host_ranks = g->host_gpus,
        .near = {.beta = giga * g->near_gb_s * assumed[ASSUMED_near].value},
        .far = {.beta = giga * g->far_gb_s * assumed[ASSUMED_far].value * g->host_gpus},
        .start_s = assumed[ASSUMED_exchange_us].value * micro,
    };
}

/* Buckets leave while the last micro-batch's backward goes on; the message of flags and losses follows. */
static void add_exchange(vg_gpu_step *s, double bytes)
{
    const vg_network network = vg_gpu_network(s->gpu);
    const vg_sum_shape shape = vg_sum_shape_of(s->ranks * s->leaves, s->ranks, network.host_ranks);
    const vg_exchange_plan plan = {.bytes = bytes, .bucket_bytes = s->bucket_bytes, .backward_s = s->backward_s};
    if (s->ranks == 1) return;
    const vg_exchange exchange = vg_network_exchange(&network, &shape, &plan);
    s->exchange_s = exchange.total_s;
    s->hidden_s = exchange.hidden_s;
    s->lines[VG_GPU_EXCHANGE].bytes = bytes;
    s->lines[VG_GPU_EXCHANGE].expected_s =
        exchange.total_s - exchange.hidden_s + vg_network_messages_s(&network, &shape);
}

void vg_gpu_finish(vg_gpu_step *s, double n_trainable)
{
    enum { MERGE_FLOATS = 3, UPDATE_FLOATS = 8 }; /* a + b; the norm reads the gradient, AdamW reads 4 and writes 3 */
    const bool bf16 = s->precision == VG_PRECISION_BF16;
    const double bytes = n_trainable * sizeof(float), copied = bf16 ? bytes + n_trainable * sizeof(vg_bf16) : 0;
    add_moves(s, VG_GPU_MERGES, s->leaves - 1, MERGE_FLOATS * bytes * (s->leaves - 1));
    add_moves(s, VG_GPU_UPDATE, 3 + bf16, UPDATE_FLOATS * bytes + copied);
    add_exchange(s, bytes);
    double work_peak = 0, work_reached = 0, kernels = 0;
    for (int i = 0; i < VG_GPU_PARTS; i++) {
        kernels += s->lines[i].kernels;
        work_peak += s->lines[i].peak_s;
        s->step_s += s->lines[i].expected_s;
    }
    for (int i = 0; i <= VG_GPU_MEMORY; i++) work_reached += s->lines[i].reached_s;
    work_reached += s->lines[VG_GPU_UPDATE].reached_s;
    work_peak -= s->lines[VG_GPU_MERGES].peak_s;
    s->lines[VG_GPU_STARTS].kernels = kernels;
    s->lines[VG_GPU_STARTS].expected_s = kernels * assumed[ASSUMED_start_us].value * micro;
    s->step_s += s->lines[VG_GPU_STARTS].expected_s;
    s->mfu = s->model_flops / (s->step_s * peak_flops(s->gpu, bf16));
    s->of_peak = work_peak / s->step_s;
    s->of_reachable = work_reached / s->step_s;
}
