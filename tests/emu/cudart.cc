/* Devices, kernels and errors of the emulated runtime. */
#include "emu/exec.h"
#include "emu/heap.h"
#include "emu/runtime.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

using namespace emu;

enum { KIB = 1024, DYNAMIC_SHARED_UNASKED = 48 * KIB, DYNAMIC_SHARED_MOST = 227 * KIB };

/* A kernel of the program, as nvcc's registration names it. */
struct CUkern_st {
    const char *name;
    size_t dynamic_shared = DYNAMIC_SHARED_UNASKED;
};

namespace
{

/* By the address of the host function that stands for the kernel. Made at the first registration, which comes before
 * the constructors of this library. */
std::map<const void *, CUkern_st> &registered()
{
    static auto *all = new std::map<const void *, CUkern_st>;
    return *all;
}

/* The host function, or what __cudaGetKernel made of it. */
CUkern_st *find_registered(const void *function)
{
    const auto it = registered().find(function);
    if (it != registered().end()) return &it->second;
    for (auto &[host, kernel] : registered())
        if (&kernel == function) return &kernel;
    return nullptr;
}

const kernel &body_of(const CUkern_st &k)
{
    const kernel *body = kernel_find(k.name);
    if (body != nullptr) return *body;
    misuse("no kernel %s in the emulator: is its plug-in in LD_PRELOAD, and has it a KERNEL_ENTRY?", k.name);
}

/* VG_EMU_LOST: the device is lost when it comes to the n-th kernel of the process, or to one of this name. */
bool lost_now(const kernel &body)
{
    static const char *const text = getenv("VG_EMU_LOST");
    static const std::string lost = text != nullptr ? text : "";
    static long long run = 0;
    return std::to_string(++run) == lost || lost == body.name;
}

outcome run_kernel(const kernel &body, dim3 grid, dim3 block, size_t shared_bytes, const void *args)
{
    const heap_open open;
    if (lost_now(body))
        lose_device(cudaErrorLaunchFailure);
    else if (!run({&body, grid, block, shared_bytes, args}))
        lose_device(cudaErrorIllegalAddress);
    return outcome::done;
}

/* VG_EMU_NO_CODE: the program was not compiled for this device. */
cudaError_t code_of(const CUkern_st *k)
{
    static const bool none = setting("VG_EMU_NO_CODE", 0) != 0;
    if (k == nullptr) return cudaErrorInvalidDeviceFunction;
    return none ? cudaErrorNoKernelImageForDevice : cudaSuccess;
}

cudaError_t launch_kernel(const CUkern_st *k, dim3 grid, dim3 block, void **args, size_t shared_bytes,
                          cudaStream_t stream)
{
    if (const cudaError_t error = code_of(k)) return error;
    if (shared_bytes > k->dynamic_shared) return cudaErrorInvalidValue;
    const kernel &body = body_of(*k);
    const char *wrong = launch_error({&body, grid, block, shared_bytes, args[0]});
    if (wrong != nullptr) {
        fprintf(stderr, "vg-emu: %s: %s\n", k->name, wrong);
        return cudaErrorInvalidConfiguration;
    }
    const auto copy = std::make_shared<std::vector<char>>((char *)args[0], (char *)args[0] + body.args_bytes);
    return enqueue(stream, k->name, [=, &body] { return run_kernel(body, grid, block, shared_bytes, copy->data()); });
}

struct configuration {
    dim3 grid, block;
    size_t shared_bytes;
    cudaStream_t stream;
};
thread_local std::vector<configuration> configurations;
thread_local int current_device = 0;

bool exists(int device)
{
    return device >= 0 && device < device_count();
}

/* What the program may ask of a device: the figures of an H100 SXM. */
const std::map<cudaDeviceAttr, int> &attributes()
{
    static const std::map<cudaDeviceAttr, int> h100 = {
        {cudaDevAttrMaxThreadsPerBlock, 1024},
        {cudaDevAttrMaxBlockDimX, 1024},
        {cudaDevAttrMaxBlockDimY, 1024},
        {cudaDevAttrMaxBlockDimZ, 64},
        {cudaDevAttrMaxGridDimX, 2147483647},
        {cudaDevAttrMaxGridDimY, 65535},
        {cudaDevAttrMaxGridDimZ, 65535},
        {cudaDevAttrMaxSharedMemoryPerBlock, DYNAMIC_SHARED_UNASKED},
        {cudaDevAttrMaxSharedMemoryPerBlockOptin, DYNAMIC_SHARED_MOST},
        {cudaDevAttrMaxSharedMemoryPerMultiprocessor, 228 * KIB},
        {cudaDevAttrReservedSharedMemoryPerBlock, KIB},
        {cudaDevAttrMaxRegistersPerBlock, 65536},
        {cudaDevAttrMaxRegistersPerMultiprocessor, 65536},
        {cudaDevAttrMaxThreadsPerMultiProcessor, 2048},
        {cudaDevAttrMultiProcessorCount, 132},
        {cudaDevAttrWarpSize, 32},
        {cudaDevAttrL2CacheSize, 50 * KIB * KIB},
        {cudaDevAttrComputeCapabilityMajor, 9},
        {cudaDevAttrComputeCapabilityMinor, 0},
        {cudaDevAttrAsyncEngineCount, 3},
        {cudaDevAttrConcurrentKernels, 1},
        {cudaDevAttrUnifiedAddressing, 1},
        {cudaDevAttrClockRate, 1980000},
        {cudaDevAttrMemoryClockRate, 2619000},
        {cudaDevAttrGlobalMemoryBusWidth, 5120},
    };
    return h100;
}

void describe(cudaDeviceProp &p)
{
    const auto &a = attributes();
    p = {};
    strcpy(p.name, "emulated device");
    p.totalGlobalMem = heap_capacity();
    p.sharedMemPerBlock = (size_t)a.at(cudaDevAttrMaxSharedMemoryPerBlock);
    p.sharedMemPerBlockOptin = (size_t)a.at(cudaDevAttrMaxSharedMemoryPerBlockOptin);
    p.sharedMemPerMultiprocessor = (size_t)a.at(cudaDevAttrMaxSharedMemoryPerMultiprocessor);
    p.reservedSharedMemPerBlock = (size_t)a.at(cudaDevAttrReservedSharedMemoryPerBlock);
    p.regsPerBlock = a.at(cudaDevAttrMaxRegistersPerBlock);
    p.regsPerMultiprocessor = a.at(cudaDevAttrMaxRegistersPerMultiprocessor);
    p.warpSize = a.at(cudaDevAttrWarpSize);
    p.maxThreadsPerBlock = a.at(cudaDevAttrMaxThreadsPerBlock);
    p.maxThreadsPerMultiProcessor = a.at(cudaDevAttrMaxThreadsPerMultiProcessor);
    p.major = a.at(cudaDevAttrComputeCapabilityMajor);
    p.minor = a.at(cudaDevAttrComputeCapabilityMinor);
    p.multiProcessorCount = a.at(cudaDevAttrMultiProcessorCount);
    p.l2CacheSize = a.at(cudaDevAttrL2CacheSize);
    p.memoryBusWidth = a.at(cudaDevAttrGlobalMemoryBusWidth);
    p.asyncEngineCount = a.at(cudaDevAttrAsyncEngineCount);
    p.concurrentKernels = a.at(cudaDevAttrConcurrentKernels);
    p.unifiedAddressing = a.at(cudaDevAttrUnifiedAddressing);
}

struct error_text {
    const char *name, *sentence;
};

const std::map<cudaError_t, error_text> &error_texts()
{
#define ERROR(code, sentence) \
    {                         \
        code,                 \
        {                     \
#code, sentence   \
        }                     \
    }
    static const std::map<cudaError_t, error_text> texts = {
        ERROR(cudaSuccess, "no error"),
        ERROR(cudaErrorInvalidValue, "invalid argument"),
        ERROR(cudaErrorMemoryAllocation, "out of memory"),
        ERROR(cudaErrorInvalidConfiguration, "invalid configuration argument"),
        ERROR(cudaErrorInvalidDeviceFunction, "invalid device function"),
        ERROR(cudaErrorNoDevice, "no CUDA-capable device is detected"),
        ERROR(cudaErrorNoKernelImageForDevice, "no kernel image is available for execution on the device"),
        ERROR(cudaErrorInvalidDevice, "invalid device ordinal"),
        ERROR(cudaErrorInvalidResourceHandle, "invalid resource handle"),
        ERROR(cudaErrorIllegalState, "the operation cannot be performed in the present state"),
        ERROR(cudaErrorNotReady, "device not ready"),
        ERROR(cudaErrorNotSupported, "operation not supported"),
        ERROR(cudaErrorIllegalAddress, "an illegal memory access was encountered"),
        ERROR(cudaErrorLaunchFailure, "unspecified launch failure"),
        ERROR(cudaErrorHostMemoryAlreadyRegistered, "part or all of the requested memory range is already mapped"),
        ERROR(cudaErrorHostMemoryNotRegistered, "pointer does not correspond to a registered memory region"),
        ERROR(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing"),
        ERROR(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture"),
        ERROR(cudaErrorStreamCaptureMerge, "operation would result in a merge of separate capture sequences"),
        ERROR(cudaErrorStreamCaptureUnmatched, "capture was not ended in the same stream as it began"),
        ERROR(cudaErrorStreamCaptureUnjoined, "capturing stream has unjoined work"),
        ERROR(cudaErrorStreamCaptureIsolation, "dependency created on uncaptured work in another stream"),
        ERROR(cudaErrorStreamCaptureImplicit,
              "operation would make the legacy stream depend on a capturing blocking stream"),
        ERROR(cudaErrorCapturedEvent, "operation not permitted on an event last recorded in a capturing stream"),
        ERROR(cudaErrorStreamCaptureWrongThread,
              "attempt to terminate a thread-local capture sequence from another thread"),
    };
#undef ERROR
    return texts;
}

} // namespace

/* CUDA_VISIBLE_DEVICES lists devices by number; the first that does not exist hides those behind it. */
static int count_visible(const char *list, int n_there)
{
    int n = 0;
    for (char *end; *list != '\0'; list = end + (*end == ',')) {
        const long device = strtol(list, &end, 10);
        if (end == list || device < 0 || device >= n_there) break;
        n++;
    }
    return n;
}

/* Which device of the machine is the program's number `device`. */
static int place_of(int device)
{
    const char *list = getenv("CUDA_VISIBLE_DEVICES");
    if (list == nullptr) return device;
    char *end;
    long place = strtol(list, &end, 10);
    for (int i = 0; i < device; i++) place = strtol(end + 1, &end, 10);
    return (int)place;
}

int emu::device_count()
{
    static const int n = [] {
        const int n_there = (int)setting("VG_EMU_DEVICES", 8);
        const char *visible = getenv("CUDA_VISIBLE_DEVICES");
        return visible ? count_visible(visible, n_there) : n_there;
    }();
    return n;
}

extern "C" {

/* --- registration: what nvcc's start-up code and launch stubs call --- */

void **__cudaRegisterFatBinary(void *)
{
    static void *handle;
    return &handle;
}

void __cudaRegisterFatBinaryEnd(void **)
{
}

void __cudaUnregisterFatBinary(void **)
{
}

char __cudaInitModule(void **)
{
    return 1;
}

void __cudaRegisterFunction(void **, const char *host, char *, const char *name, int, uint3 *, uint3 *, dim3 *, dim3 *,
                            int *)
{
    registered()[host].name = name;
}

unsigned __cudaPushCallConfiguration(dim3 grid, dim3 block, size_t shared_bytes, CUstream_st *stream)
{
    configurations.push_back({grid, block, shared_bytes, stream});
    return 0;
}

cudaError_t __cudaPopCallConfiguration(dim3 *grid, dim3 *block, size_t *shared_bytes, void *stream)
{
    const configuration c = configurations.back();
    configurations.pop_back();
    *grid = c.grid;
    *block = c.block;
    *shared_bytes = c.shared_bytes;
    *(cudaStream_t *)stream = c.stream;
    return cudaSuccess;
}

cudaError_t __cudaGetKernel(cudaKernel_t *kernel, const void *function)
{
    *kernel = find_registered(function);
    return *kernel == nullptr ? cudaErrorInvalidDeviceFunction : cudaSuccess;
}

cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3 grid, dim3 block, void **args, size_t shared_bytes,
                               cudaStream_t stream)
{
    return call(in_capture::fine, [=] { return launch_kernel(kernel, grid, block, args, shared_bytes, stream); });
}

/* --- kernels --- */

cudaError_t cudaLaunchKernel(const void *function, dim3 grid, dim3 block, void **args, size_t shared_bytes,
                             cudaStream_t stream)
{
    return __cudaLaunchKernel(find_registered(function), grid, block, args, shared_bytes, stream);
}

cudaError_t cudaFuncSetAttribute(const void *function, cudaFuncAttribute attribute, int value)
{
    return call(in_capture::fine, [=] {
        CUkern_st *k = find_registered(function);
        if (k == nullptr) return cudaErrorInvalidDeviceFunction;
        if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
        if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaErrorNotSupported;
        if (value < 0 || value > DYNAMIC_SHARED_MOST) return cudaErrorInvalidValue;
        k->dynamic_shared = (size_t)value;
        return cudaSuccess;
    });
}

/* Registers and local memory are the compiler's business; they read as 0 here. */
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *out, const void *function)
{
    return call(in_capture::fine, [=] {
        const CUkern_st *k = find_registered(function);
        if (const cudaError_t error = code_of(k)) return error;
        *out = {};
        out->maxThreadsPerBlock = (int)body_of(*k).max_threads;
        out->maxDynamicSharedSizeBytes = (int)k->dynamic_shared;
        return cudaSuccess;
    });
}

/* --- devices --- */

cudaError_t cudaGetDeviceCount(int *n)
{
    *n = device_count();
    return keep_error(*n > 0 ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device)
{
    return call(in_capture::fine, [=] {
        if (!exists(device)) return cudaErrorInvalidDevice;
        current_device = device;
        return cudaSuccess;
    });
}

cudaError_t cudaGetDevice(int *device)
{
    return call(in_capture::fine, [=] {
        *device = current_device;
        return cudaSuccess;
    });
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    return call(in_capture::fine, [=] {
        if (!exists(device)) return cudaErrorInvalidDevice;
        const auto it = attributes().find(attribute);
        if (it == attributes().end()) return cudaErrorNotSupported;
        *value = it->second;
        return cudaSuccess;
    });
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int bytes, int device)
{
    return call(in_capture::fine, [=] {
        if (!exists(device) || bytes <= 0) return cudaErrorInvalidDevice;
        snprintf(text, (size_t)bytes, "0000:%02x:00.0", 0x1b + place_of(device));
        return cudaSuccess;
    });
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device)
{
    return call(in_capture::fine, [=] {
        if (!exists(device)) return cudaErrorInvalidDevice;
        describe(*properties);
        return cudaSuccess;
    });
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

/* --- errors --- */

const char *cudaGetErrorName(cudaError_t error)
{
    const auto it = error_texts().find(error);
    return it == error_texts().end() ? "unrecognized error code" : it->second.name;
}

const char *cudaGetErrorString(cudaError_t error)
{
    const auto it = error_texts().find(error);
    return it == error_texts().end() ? "unrecognized error code" : it->second.sentence;
}

} // extern "C"
