#ifndef VG_KERNELS_CUDA_ACTIVATION_H
#define VG_KERNELS_CUDA_ACTIVATION_H

#include "kernels/cuda/cuda_impl.h"

#ifdef __cplusplus
extern "C" {
#endif

/* y = act(z), n numbers; act is gelu or sigmoid. y may be z. */
void vg_cuda_activate(vg_stream *stream, vg_act act, const float *z, float *y, int64_t n);

#ifdef __cplusplus
}
#endif

#endif
