/* Rows [slots, length] of which slot b has counts[b]; the rest is padding. Operands `counts` may be absent: then all
 * are rows. */
#ifndef VG_KERNELS_CPU_RAGGED_IMPL_H
#define VG_KERNELS_CPU_RAGGED_IMPL_H

#include "kernels/cpu/cpu_impl.h"
#include "kernels/cpu/gemm_impl.h"

/* Lists the rows that are no padding, in order, and returns how many they are; the bytes of the list. */
int64_t vg_ragged_rows(const vg_operand *x, const vg_operand *counts, int32_t *list);
size_t vg_ragged_bytes(const vg_operand *x, const vg_operand *counts);

/* The product of the rows that are no padding; those of padding become 0 in c and z. */
size_t vg_ragged_workspace(const vg_gemm *g, const vg_operand *x, const vg_operand *counts, int n_threads);
void vg_ragged_run(const vg_stream *stream, const vg_gemm *g, const vg_operand *x, const vg_operand *counts,
                   void *workspace);

#endif
