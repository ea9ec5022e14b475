/* Between the files of the CUDA backend's device. */
#ifndef VG_KERNELS_CUDA_DEVICE_IMPL_H
#define VG_KERNELS_CUDA_DEVICE_IMPL_H

#include "kernels/cuda/cuda_impl.h"

#ifdef __cplusplus
extern "C" {
#endif

bool vg_cuda_has_code(void); /* this build, for the current device */

vg_status vg_cuda_capture_begin(vg_stream *stream);
vg_status vg_cuda_capture_end(vg_stream *stream, vg_capture **out);
vg_status vg_cuda_replay(vg_stream *stream, vg_capture *capture);
void vg_cuda_capture_free(vg_capture *capture);

#ifdef __cplusplus
}
#endif

#endif
