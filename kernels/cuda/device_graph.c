/* Work recorded once and replayed: a CUDA graph of one queue. */
#include "kernels/cuda/device_impl.h"

#include <stdlib.h>

struct vg_capture {
    cudaGraphExec_t exec;
};

vg_status vg_cuda_capture_begin(vg_stream *stream)
{
    VG_CUDA(cudaStreamBeginCapture(vg_cuda_queue(stream), cudaStreamCaptureModeThreadLocal));
    return VG_OK;
}

static vg_status instantiate(cudaGraph_t graph, vg_capture **out)
{
    vg_capture *capture = vg_new0(sizeof *capture);
    VG_CHECK(capture, VG_E_NOMEM, "no memory for a recorded run");
    const vg_status st = vg_cuda_status(cudaGraphInstantiate(&capture->exec, graph, 0), "cudaGraphInstantiate");
    if (st != VG_OK) {
        free(capture);
        return st;
    }
    *out = capture;
    return VG_OK;
}

vg_status vg_cuda_capture_end(vg_stream *stream, vg_capture **out)
{
    cudaGraph_t graph = NULL;
    VG_CUDA(cudaStreamEndCapture(vg_cuda_queue(stream), &graph));
    const vg_status st = instantiate(graph, out);
    cudaGraphDestroy(graph);
    return st;
}

vg_status vg_cuda_replay(vg_stream *stream, vg_capture *capture)
{
    VG_CUDA(cudaGraphLaunch(capture->exec, vg_cuda_queue(stream)));
    return VG_OK;
}

void vg_cuda_capture_free(vg_capture *capture)
{
    if (!capture) return;
    cudaGraphExecDestroy(capture->exec);
    free(capture);
}
