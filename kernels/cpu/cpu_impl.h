/* Inside the CPU backend: the kernels by name, the instruction set they run on, and who needs scratch memory. */
#ifndef VG_KERNELS_CPU_CPU_IMPL_H
#define VG_KERNELS_CPU_CPU_IMPL_H

#include "kernels/backend.h"

#define VG_OP(name, n_in, n_out, shape, grad, cost) vg_status vg_cpu_##name(vg_stream *stream, const vg_node *node);
#include "kernels/ops.def"
#undef VG_OP

/* Instruction sets with kernels of their own; the bits differ between them, never within one. */
typedef enum vg_isa { VG_ISA_BASE, VG_ISA_AVX2, VG_ISA_AVX512 } vg_isa;

/* The best one this machine has; the environment variable VLGTR_ISA (base, avx2 or avx512) lowers it, so that unlike
 * machines can agree on one. */
vg_isa vg_cpu_isa(void);

/* Scratch bytes that a kernel wants in node->workspace; kernels without a line here want none. */
size_t vg_cpu_linear_workspace(const vg_node *node, int n_threads);
size_t vg_cpu_linear_dx_workspace(const vg_node *node, int n_threads);
size_t vg_cpu_linear_dw_workspace(const vg_node *node, int n_threads);
size_t vg_cpu_heads_workspace(const vg_node *node, int n_threads); /* heads_expand, heads_contract, heads_dw */
size_t vg_cpu_attention_workspace(const vg_node *node, int n_threads);
size_t vg_cpu_attention_grad_workspace(const vg_node *node, int n_threads);
size_t vg_cpu_layernorm_grad_workspace(const vg_node *node, int n_threads);
size_t vg_cpu_detr_loss_workspace(const vg_node *node, int n_threads);
size_t vg_cpu_align_loss_workspace(const vg_node *node, int n_threads);

/* The prepared form of a frozen weight. */
size_t vg_cpu_linear_packed_bytes(const vg_node *node);
void vg_cpu_linear_pack(const vg_node *node, void *packed);
size_t vg_cpu_linear_dx_packed_bytes(const vg_node *node);
void vg_cpu_linear_dx_pack(const vg_node *node, void *packed);

/* A kernel that touches no more floats than this runs on one thread: waking the others would take longer. */
enum { VG_CPU_FEW = 16384 };

/* The number of this thread inside a parallel region, 0 .. n_threads - 1: it names the thread's scratch, never a
 * result. */
int vg_cpu_thread(void);

/* out[c] = the sum over i = 0..n-1, in order, of x[i * stride + c], for c < columns; added to what is there when
 * `accumulate`. */
void vg_cpu_sum_slices(const vg_stream *stream, const float *x, int64_t n, int64_t stride, int64_t columns,
                       bool accumulate, float *out);

/* An index operand [n_slots] must name images 0..n_images-1 in order; without one, slot b is image b. */
vg_status vg_cpu_check_index(const vg_operand *index, int64_t n_slots, int64_t n_images);
static inline int64_t vg_cpu_image_of(const vg_operand *index, int64_t slot)
{
    return index->data ? ((const int32_t *)index->data)[slot] : slot;
}

#endif
