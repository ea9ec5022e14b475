/* What the linear layer and the gradient of its x need not make in every run: see vg_backend. */
#ifndef VG_KERNELS_CUDA_LINEAR_H
#define VG_KERNELS_CUDA_LINEAR_H

#include "kernels/cuda/cuda_impl.h"

#ifdef __cplusplus
extern "C" {
#endif

/* gamma W and gamma b of frozen parameters; 0 without gamma. */
size_t vg_cuda_linear_packed_bytes(const vg_node *node);
vg_status vg_cuda_linear_pack(vg_stream *stream, const vg_node *node, void *packed);

#ifdef __cplusplus
}
#endif

#endif
