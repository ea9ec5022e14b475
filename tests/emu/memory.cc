/* Device memory, pinned memory and copies between them and the host. */
#include "emu/heap.h"
#include "emu/report.h"
#include "emu/runtime.h"

#include <cstdlib>
#include <cstring>
#include <map>

using namespace emu;

namespace
{

struct pinned_range {
    size_t bytes;
    bool own; /* allocated here, not registered */
};

/* Made at the first call, which may come before any constructor of this library. */
std::map<const char *, pinned_range> &pinned()
{
    static auto *all = new std::map<const char *, pinned_range>;
    return *all;
}

bool is_pinned(const void *p, size_t n)
{
    auto it = pinned().upper_bound((const char *)p);
    if (it == pinned().begin()) return false;
    --it;
    return (const char *)p + n <= it->first + it->second.bytes;
}

/* Memory that goes away while work is queued: the work may need it. A device would wait, or crash; a program that
 * relies on the wait has forgotten who uses its memory. */
void expect_idle(const char *what, const void *p)
{
    const char *work = queued_work();
    if (work == nullptr) return;
    report("misuse", nullptr, "%s(%p) while %s is still queued: wait for the device first", what, p, work);
    run_until_idle();
}

bool holds(const char *what, const char *role, const void *p, size_t n)
{
    if (heap_holds(p, n)) return true;
    const allocation *a = heap_find(p);
    if (a != nullptr)
        report("out of bounds", nullptr, "%s: the %s, %zu bytes at %zu of allocation %d, passes its end at %zu", what,
               role, n, (size_t)((const char *)p - a->base), a->number, a->bytes);
    else if (heap_contains(p))
        report("use after free", nullptr, "%s: the %s %p is no allocation (freed?)", what, role, p);
    else
        report("misuse", nullptr, "%s: the %s %p is host memory, not the device's", what, role, p);
    return false;
}

bool host_side(const char *what, const char *role, const void *p)
{
    if (!heap_contains(p)) return true;
    report("misuse", nullptr, "%s: the %s %p is device memory, not the host's", what, role, p);
    return false;
}

struct copy {
    const char *what;
    char *to;
    const char *from;
    size_t bytes;
    bool to_device, from_device;
};

bool copy_is_right(const copy &c)
{
    const bool to = c.to_device ? holds(c.what, "destination", c.to, c.bytes) : host_side(c.what, "destination", c.to);
    const bool from = c.from_device ? holds(c.what, "source", c.from, c.bytes) : host_side(c.what, "source", c.from);
    return to && from;
}

outcome run_copy(const copy &c)
{
    if (!copy_is_right(c)) {
        lose_device(cudaErrorIllegalAddress);
        return outcome::done;
    }
    const heap_open open;
    if (c.from_device && !c.to_device) heap_reads(c.from, c.bytes, c.what);
    memmove(c.to, c.from, c.bytes);
    if (c.to_device && c.from_device)
        heap_copied(c.to, c.from, c.bytes);
    else if (c.to_device)
        heap_wrote(c.to, c.bytes);
    return outcome::done;
}

copy make_copy(const char *what, void *to, const void *from, size_t n, cudaMemcpyKind kind)
{
    copy c = {what, (char *)to, (const char *)from, n, heap_contains(to), heap_contains(from)};
    if (kind != cudaMemcpyDefault) {
        c.to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
        c.from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
    }
    return c;
}

/* Pinned memory is read and written when the device gets there. Pageable memory is read before the call returns, and
 * written before it returns. */
cudaError_t queue_copy(const copy &c, cudaStream_t stream, bool wait)
{
    if (c.bytes == 0) return cudaSuccess;
    if (!copy_is_right(c)) return cudaErrorInvalidValue;
    const std::shared_ptr<queue> q = queue_of(stream);
    const bool pageable_from = !c.from_device && !is_pinned(c.from, c.bytes);
    const bool pageable_to = !c.to_device && !is_pinned(c.to, c.bytes);
    if (q->record && (pageable_from || pageable_to)) {
        q->record->invalid = true;
        return cudaErrorStreamCaptureUnsupported;
    }
    cudaError_t error;
    if (pageable_from) {
        const auto staged = std::make_shared<std::vector<char>>(c.from, c.from + c.bytes);
        error = enqueue(stream, c.what, [c, staged] {
            copy late = c;
            late.from = staged->data();
            return run_copy(late);
        });
    } else {
        error = enqueue(stream, c.what, [c] { return run_copy(c); });
    }
    if (error == cudaSuccess && (wait || pageable_to)) run_until({q, q->issued});
    return error;
}

cudaError_t queue_set(const char *what, void *to, int value, size_t n, cudaStream_t stream)
{
    if (n == 0) return cudaSuccess;
    if (!holds(what, "memory", to, n)) return cudaErrorInvalidValue;
    return enqueue(stream, what, [=] {
        if (!holds(what, "memory", to, n)) {
            lose_device(cudaErrorIllegalAddress);
            return outcome::done;
        }
        const heap_open open;
        memset(to, value, n);
        heap_wrote(to, n);
        return outcome::done;
    });
}

cudaError_t free_pinned(const char *what, void *p, bool own)
{
    if (p == nullptr) return own ? cudaSuccess : cudaErrorInvalidValue;
    const auto it = pinned().find((const char *)p);
    if (it == pinned().end() || it->second.own != own)
        return own ? cudaErrorInvalidValue : cudaErrorHostMemoryNotRegistered;
    expect_idle(what, p);
    pinned().erase(it);
    if (own) free(p);
    return cudaSuccess;
}

} // namespace

extern "C" {

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    return call(in_capture::forbidden, [=] {
        *p = bytes == 0 ? nullptr : heap_alloc(bytes);
        return *p == nullptr && bytes > 0 ? cudaErrorMemoryAllocation : cudaSuccess;
    });
}

cudaError_t cudaFree(void *p)
{
    return call(in_capture::forbidden, [=] {
        if (p == nullptr) return cudaSuccess;
        expect_idle("cudaFree", p);
        return heap_free(p) ? cudaSuccess : cudaErrorInvalidValue;
    });
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    return call(in_capture::fine, [=] {
        *total = heap_capacity();
        *available = heap_capacity() - heap_in_use();
        return cudaSuccess;
    });
}

cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned)
{
    return call(in_capture::forbidden, [=] {
        enum { PAGE = 4096 };
        *p = bytes == 0 ? nullptr : aligned_alloc(PAGE, (bytes + PAGE - 1) / PAGE * PAGE);
        if (*p == nullptr) return bytes > 0 ? cudaErrorMemoryAllocation : cudaSuccess;
        memset(*p, 0xff, bytes); /* no number until somebody writes one */
        pinned()[(const char *)*p] = {bytes, true};
        return cudaSuccess;
    });
}

cudaError_t cudaMallocHost(void **p, size_t bytes)
{
    return cudaHostAlloc(p, bytes, cudaHostAllocDefault);
}

cudaError_t cudaFreeHost(void *p)
{
    return call(in_capture::forbidden, [=] { return free_pinned("cudaFreeHost", p, true); });
}

cudaError_t cudaHostRegister(void *p, size_t bytes, unsigned)
{
    return call(in_capture::forbidden, [=] {
        if (p == nullptr || bytes == 0) return cudaErrorInvalidValue;
        if (is_pinned(p, 1)) return cudaErrorHostMemoryAlreadyRegistered;
        pinned()[(const char *)p] = {bytes, false};
        return cudaSuccess;
    });
}

cudaError_t cudaHostUnregister(void *p)
{
    return call(in_capture::forbidden, [=] { return free_pinned("cudaHostUnregister", p, false); });
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *p)
{
    return call(in_capture::fine, [=] {
        const bool on_device = heap_find(p) != nullptr, on_host = is_pinned(p, 1);
        attributes->type = on_device ? cudaMemoryTypeDevice : on_host ? cudaMemoryTypeHost : cudaMemoryTypeUnregistered;
        attributes->device = 0;
        attributes->devicePointer = on_device ? (void *)p : nullptr;
        attributes->hostPointer = on_host ? (void *)p : nullptr;
        return cudaSuccess;
    });
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, cudaMemcpyKind kind, cudaStream_t stream)
{
    return call(in_capture::fine,
                [=] { return queue_copy(make_copy("cudaMemcpyAsync", to, from, n, kind), stream, false); });
}

/* The host waits, unless it has no part in it. */
cudaError_t cudaMemcpy(void *to, const void *from, size_t n, cudaMemcpyKind kind)
{
    return call(in_capture::forbidden, [=] {
        const copy c = make_copy("cudaMemcpy", to, from, n, kind);
        return queue_copy(c, nullptr, !(c.to_device && c.from_device));
    });
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t n, cudaStream_t stream)
{
    return call(in_capture::fine, [=] { return queue_set("cudaMemsetAsync", to, value, n, stream); });
}

cudaError_t cudaMemset(void *to, int value, size_t n)
{
    return call(in_capture::forbidden, [=] { return queue_set("cudaMemset", to, value, n, nullptr); });
}

} // extern "C"
