#ifndef VG_KERNELS_CUDA_ACTIVATION_H
#define VG_KERNELS_CUDA_ACTIVATION_H

#include "kernels/cuda/cuda_impl.h"

#ifdef __cplusplus
extern "C" {
#endif

/* y = act(z), numbers of one type; act is gelu or sigmoid. y may be z. */
void vg_cuda_activate(vg_stream *stream, vg_act act, const vg_operand *z, const vg_operand *y);

#ifdef __cplusplus
}
#endif

#endif
