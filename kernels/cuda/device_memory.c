/* A GPU as a device: which one, its memory, its queue. */
#include "kernels/cuda/device_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NOT_A_NUMBER = -1 };

/* Slurm's word counts for a process that knows of no neighbours: a batch script's own SLURM_LOCALID reaches all ranks
 * that mpirun starts from it. */
static int slurms_place(int place)
{
    if (place > 0) return place;
    const char *slurm = getenv("SLURM_LOCALID");
    char *end = NULL;
    const long told = slurm ? strtol(slurm, &end, 10) : NOT_A_NUMBER;
    return slurm && *slurm && !*end && told >= 0 ? (int)told : place;
}

/* The device at the rank's place; or the only one that CUDA_VISIBLE_DEVICES leaves, which is how launchers give each
 * rank one of its own. */
static vg_status choose_device(int place, int *device)
{
    int n = 0;
    const cudaError_t result = cudaGetDeviceCount(&n);
    VG_CHECK(result == cudaSuccess && n > 0, VG_E_DEVICE,
             "no GPU answers (%s); see nvidia-smi and CUDA_VISIBLE_DEVICES, or compute with --device cpu",
             result == cudaSuccess ? "the driver sees none" : cudaGetErrorString(result));
    *device = n == 1 && getenv("CUDA_VISIBLE_DEVICES") ? 0 : slurms_place(place);
    VG_CHECK(*device < n, VG_E_DEVICE,
             "rank %d of this host has no GPU (%d visible): start at most %d ranks a host, or see CUDA_VISIBLE_DEVICES",
             *device, n, n);
    return VG_OK;
}

static vg_status describe(int device, char profile[64])
{
    int major = 0, minor = 0, processors = 0, runtime = 0; /* cuBLASLt's choices hang on all of them */
    VG_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    VG_CUDA(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
    VG_CUDA(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device));
    VG_CUDA(cudaRuntimeGetVersion(&runtime));
    snprintf(profile, 64, "cuda sm_%d%d x%d, runtime %d, cublasLt %zu", major, minor, processors, runtime,
             cublasLtGetVersion());
    return VG_OK;
}

/* Else the first kernel would fail, long after the data was read. */
static vg_status check_code(int device)
{
    int major = 0, minor = 0;
    if (vg_cuda_has_code()) return VG_OK;
    VG_CUDA(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
    VG_CUDA(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
    return vg_fail(VG_E_DEVICE,
                   "this build has no code for GPU %d, of compute capability %d.%d: from 8.0 on "
                   "-DVLGTR_CUDA_ARCHITECTURES=%d%d builds it, or compute with --device cpu",
                   device, major, minor, major, minor);
}

static vg_status make_event(vg_cuda *cuda)
{
    VG_CUDA(cudaEventCreateWithFlags(&cuda->here, cudaEventDisableTiming));
    return VG_OK;
}

static vg_status fill(vg_cuda *cuda, int device)
{
    VG_TRY(describe(device, cuda->profile));
    VG_CUDA(cudaSetDevice(device));
    VG_TRY(check_code(device));
    cuda->device = device;
    VG_CUDA(cudaStreamCreateWithFlags(&cuda->compute, cudaStreamNonBlocking));
    VG_TRY(make_event(cuda));
    VG_CUDA_BLAS(cublasLtCreate(&cuda->blas));
    return VG_OK;
}

static void close_device(vg_stream *stream)
{
    vg_cuda *cuda = stream->cuda;
    if (!cuda) return;
    vg_matmul_plans_free(cuda->plans);
    if (cuda->blas) cublasLtDestroy(cuda->blas);
    if (cuda->compute) cudaStreamDestroy(cuda->compute);
    if (cuda->here) cudaEventDestroy(cuda->here);
    free(cuda);
    stream->cuda = NULL;
}

static vg_status open_device(vg_stream *stream, int place)
{
    int device = 0;
    VG_TRY(choose_device(place, &device));
    stream->cuda = vg_new0(sizeof *stream->cuda);
    VG_CHECK(stream->cuda, VG_E_NOMEM, "no memory for a GPU's queue");
    const vg_status st = fill(stream->cuda, device);
    if (st != VG_OK) close_device(stream);
    return st;
}

/* For copies and sums: products need a handle of their own. Its kernels go first, else what other ranks wait for stood
 * behind all blocks of a product. */
static vg_status fill_beside(vg_cuda *cuda, int device)
{
    int least = 0, greatest = 0;
    cuda->device = device;
    VG_CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    VG_CUDA(cudaStreamCreateWithPriority(&cuda->compute, cudaStreamNonBlocking, greatest));
    return make_event(cuda);
}

static vg_status open_beside(const vg_stream *stream, vg_stream *beside)
{
    beside->n_threads = stream->n_threads;
    beside->cuda = vg_new0(sizeof *beside->cuda);
    VG_CHECK(beside->cuda, VG_E_NOMEM, "no memory for a GPU's queue");
    const vg_status st = fill_beside(beside->cuda, stream->cuda->device);
    if (st != VG_OK) close_device(beside);
    return st;
}

/* A wait takes the event as it is then: the next record does not move it. */
static vg_status follow(vg_stream *stream, vg_stream *earlier)
{
    VG_CUDA(cudaEventRecord(earlier->cuda->here, vg_cuda_queue(earlier)));
    VG_CUDA(cudaStreamWaitEvent(vg_cuda_queue(stream), earlier->cuda->here, 0));
    return VG_OK;
}

static vg_status address(const vg_stream *stream, char text[VG_ADDRESS_BYTES])
{
    VG_CUDA(cudaDeviceGetPCIBusId(text, VG_ADDRESS_BYTES, stream->cuda->device));
    return VG_OK;
}

static void *queue(const vg_stream *stream)
{
    return vg_cuda_queue(stream);
}

static vg_status out_of_memory(cudaError_t result, size_t bytes)
{
    size_t free_bytes = 0, total = 0;
    VG_CHECK(result == cudaErrorMemoryAllocation, VG_E_DEVICE, "GPU memory: %s", cudaGetErrorString(result));
    cudaGetLastError(); /* it is told here, and not once more by the next call */
    cudaMemGetInfo(&free_bytes, &total);
    return vg_fail(VG_E_NOMEM,
                   "the GPU has no %zu MiB of memory left (%zu of %zu MiB are free); lower train.micro_batch",
                   bytes >> 20, free_bytes >> 20, total >> 20);
}

static vg_status allocate(vg_stream *stream, size_t bytes, vg_arena *out)
{
    void *memory = NULL;
    const size_t size = bytes ? bytes : 1;
    const cudaError_t result = cudaMalloc(&memory, size);
    if (result != cudaSuccess) return out_of_memory(result, size);
    const vg_status st = vg_cuda_status(cudaMemsetAsync(memory, 0, size, vg_cuda_queue(stream)), "cudaMemsetAsync");
    if (st != VG_OK) {
        cudaFree(memory);
        return st;
    }
    *out = (vg_arena){.base = memory, .size_bytes = size};
    return VG_OK;
}

static void release(vg_stream *stream, vg_arena *memory)
{
    (void)stream;
    cudaDeviceSynchronize(); /* its users may still run, and cudaFree does not promise to wait */
    if (memory->base) cudaFree(memory->base);
    *memory = (vg_arena){0};
}

static vg_status allocate_staging(vg_stream *stream, size_t bytes, vg_arena *out)
{
    void *memory = NULL;
    const size_t size = bytes ? bytes : 1;
    (void)stream;
    const cudaError_t result = cudaMallocHost(&memory, size);
    VG_CHECK(result == cudaSuccess, VG_E_NOMEM, "no %zu MiB of page-locked host memory (%s); see `ulimit -l`",
             size >> 20, cudaGetErrorString(result));
    memset(memory, 0, size);
    *out = (vg_arena){.base = memory, .size_bytes = size};
    return VG_OK;
}

static void release_staging(vg_stream *stream, vg_arena *memory)
{
    (void)stream;
    cudaDeviceSynchronize(); /* copies may still read it */
    if (memory->base) cudaFreeHost(memory->base);
    *memory = (vg_arena){0};
}

static vg_status transfer(vg_stream *stream, void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    if (!bytes) return VG_OK;
    return vg_cuda_status(cudaMemcpyAsync(to, from, bytes, kind, vg_cuda_queue(stream)), "cudaMemcpyAsync");
}

static vg_status upload(vg_stream *stream, void *to, const void *from_host, size_t bytes)
{
    return transfer(stream, to, from_host, bytes, cudaMemcpyHostToDevice);
}

static vg_status download(vg_stream *stream, void *to_host, const void *from, size_t bytes)
{
    return transfer(stream, to_host, from, bytes, cudaMemcpyDeviceToHost);
}

static vg_status copy(vg_stream *stream, void *to, const void *from, size_t bytes)
{
    return transfer(stream, to, from, bytes, cudaMemcpyDeviceToDevice);
}

static vg_status zero(vg_stream *stream, void *to, size_t bytes)
{
    if (!bytes) return VG_OK;
    return vg_cuda_status(cudaMemsetAsync(to, 0, bytes, vg_cuda_queue(stream)), "cudaMemsetAsync");
}

static vg_status wait(vg_stream *stream)
{
    return vg_cuda_status(cudaStreamSynchronize(vg_cuda_queue(stream)), "cudaStreamSynchronize");
}

const char *vg_cuda_profile(const vg_stream *stream)
{
    return stream->cuda->profile;
}

static void version_text(const char *name, int version, char text[64])
{
    if (version > 0)
        snprintf(text, 64, "%s %d.%d", name, version / 1000, version / 10 % 100);
    else
        snprintf(text, 64, "no %s", name);
}

/* A driver does for every runtime of its own major version. */
int vg_cuda_libraries(vg_library out[VG_MAX_LIBRARIES])
{
    int driver = 0, runtime = 0;
    if (cudaDriverGetVersion(&driver) != cudaSuccess) driver = 0;
    if (cudaRuntimeGetVersion(&runtime) != cudaSuccess) runtime = 0;
    out[0] = (vg_library){.what = "driver", .fits = driver / 1000 >= CUDART_VERSION / 1000};
    out[1] = (vg_library){.what = "cuda", .fits = runtime == CUDART_VERSION};
    out[2] = (vg_library){.what = "cublas", .fits = cublasLtGetVersion() == CUBLAS_VERSION};
    version_text("CUDA", CUDART_VERSION, out[0].built);
    version_text("driver for CUDA", driver, out[0].running);
    version_text("CUDA", CUDART_VERSION, out[1].built);
    version_text("CUDA", runtime, out[1].running);
    snprintf(out[2].built, sizeof out[2].built, "cuBLASLt %d", CUBLAS_VERSION);
    snprintf(out[2].running, sizeof out[2].running, "cuBLASLt %zu", cublasLtGetVersion());
    return 3;
}

static vg_status room(vg_stream *stream, size_t *free_bytes)
{
    size_t total = 0;
    (void)stream;
    return vg_cuda_status(cudaMemGetInfo(free_bytes, &total), "cudaMemGetInfo");
}

const vg_device_ops vg_cuda_device = {
    .open = open_device,
    .open_beside = open_beside,
    .close = close_device,
    .follow = follow,
    .address = address,
    .queue = queue,
    .allocate = allocate,
    .release = release,
    .allocate_staging = allocate_staging,
    .release_staging = release_staging,
    .upload = upload,
    .download = download,
    .copy = copy,
    .zero = zero,
    .wait = wait,
    .room = room,
    .capture_begin = vg_cuda_capture_begin,
    .capture_end = vg_cuda_capture_end,
    .replay = vg_cuda_replay,
    .capture_free = vg_cuda_capture_free,
};
