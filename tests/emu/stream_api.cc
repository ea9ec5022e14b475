/* Streams and events, as cuda_runtime_api.h has them. An event is a position in a stream. */
#include "emu/runtime.h"

#include <algorithm>
#include <time.h>

using namespace emu;

struct CUevent_st {
    bool timed;
    bool recorded = false;
    position place;                    /* outside capture */
    std::shared_ptr<double> reached_s; /* when the device got there; negative before */
    std::shared_ptr<capture> captured; /* in capture: the nodes it stands for */
    std::vector<int> nodes;
};

namespace
{

/* Made at the first call, which may come before any constructor of this library. */
std::vector<std::unique_ptr<CUevent_st>> &events()
{
    static auto *all = new std::vector<std::unique_ptr<CUevent_st>>;
    return *all;
}

CUevent_st &event_of(cudaEvent_t event)
{
    for (const auto &e : events())
        if (e.get() == event) return *e;
    misuse("the event %p does not exist (destroyed, or never made)", (void *)event);
}

double now_s()
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A call that a capturing stream cannot serve; it spoils the capture. */
bool spoils_capture(const std::shared_ptr<queue> &q)
{
    if (q->record) q->record->invalid = true;
    return q->record != nullptr;
}

cudaError_t record_event(CUevent_st &e, cudaStream_t stream)
{
    const std::shared_ptr<queue> q = queue_of(stream);
    if (q->record) {
        if (q->record->invalid) return cudaErrorStreamCaptureInvalidated;
        e.captured = q->record;
        e.nodes = q->tail;
        e.recorded = true;
        return cudaSuccess;
    }
    const auto stamp = std::make_shared<double>(-1);
    const cudaError_t error = enqueue(stream, "cudaEventRecord", [stamp] {
        *stamp = now_s();
        return outcome::done;
    });
    if (error != cudaSuccess) return error;
    e.recorded = true;
    e.captured = nullptr;
    e.place = {q, q->issued};
    e.reached_s = stamp;
    return cudaSuccess;
}

void add_missing(std::vector<int> &to, const std::vector<int> &more)
{
    for (const int n : more)
        if (std::find(to.begin(), to.end(), n) == to.end()) to.push_back(n);
}

/* A stream that waits for a captured event joins the capture. */
cudaError_t wait_captured(const std::shared_ptr<queue> &q, const CUevent_st &e)
{
    const bool over = std::find(captures().begin(), captures().end(), e.captured) == captures().end();
    if (over) return cudaErrorCapturedEvent;
    if (q->record && q->record != e.captured) {
        q->record->invalid = e.captured->invalid = true;
        return cudaErrorStreamCaptureMerge;
    }
    if (!q->record) {
        q->record = e.captured;
        e.captured->members.push_back(q);
    }
    add_missing(q->tail, e.nodes);
    return cudaSuccess;
}

cudaError_t wait_event(cudaStream_t stream, const CUevent_st &e)
{
    if (!e.recorded) return cudaSuccess;
    const std::shared_ptr<queue> q = queue_of(stream);
    if (e.captured) return wait_captured(q, e);
    if (q->record) {
        q->record->invalid = true;
        return cudaErrorStreamCaptureIsolation;
    }
    q->awaited.push_back(e.place);
    return enqueue(stream, "cudaStreamWaitEvent", [] { return outcome::done; });
}

} // namespace

extern "C" {

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    return call(in_capture::fine, [=] {
        *stream = new_stream(flags);
        return cudaSuccess;
    });
}

cudaError_t cudaStreamCreate(cudaStream_t *stream)
{
    return cudaStreamCreateWithFlags(stream, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned flags, int)
{
    return cudaStreamCreateWithFlags(stream, flags);
}

/* One priority fits all: the emulator's order of streams is drawn. */
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    return call(in_capture::fine, [=] {
        *least = 0;
        *greatest = -5;
        return cudaSuccess;
    });
}

/* What is queued still runs. */
cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    return call(in_capture::fine, [=] {
        if (stream == nullptr) return cudaErrorInvalidResourceHandle;
        if (spoils_capture(queue_of(stream))) return cudaErrorStreamCaptureUnsupported;
        drop_stream(stream);
        return cudaSuccess;
    });
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    return call(in_capture::forbidden, [=] {
        const std::shared_ptr<queue> q = queue_of(stream);
        if (spoils_capture(q)) return cudaErrorStreamCaptureUnsupported;
        run_until_empty(q);
        return cudaSuccess;
    });
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    return call(in_capture::forbidden, [=] {
        const std::shared_ptr<queue> q = queue_of(stream);
        if (spoils_capture(q)) return cudaErrorStreamCaptureUnsupported;
        run_a_little();
        return q->fifo.empty() ? cudaSuccess : cudaErrorNotReady;
    });
}

cudaError_t cudaDeviceSynchronize()
{
    return call(in_capture::forbidden, [] {
        for (const auto &c : captures()) c->invalid = true;
        if (!captures().empty()) return cudaErrorStreamCaptureUnsupported;
        run_until_idle();
        return cudaSuccess;
    });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    return call(in_capture::fine, [=] {
        events().push_back(std::make_unique<CUevent_st>());
        events().back()->timed = !(flags & cudaEventDisableTiming);
        *event = events().back().get();
        return cudaSuccess;
    });
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    return call(in_capture::fine, [=] {
        event_of(event);
        events().erase(std::find_if(events().begin(), events().end(), [=](const auto &e) { return e.get() == event; }));
        return cudaSuccess;
    });
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    return call(in_capture::fine, [=] { return record_event(event_of(event), stream); });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    return call(in_capture::fine, [=] { return wait_event(stream, event_of(event)); });
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    return call(in_capture::forbidden, [=] {
        const CUevent_st &e = event_of(event);
        if (e.captured) return cudaErrorCapturedEvent;
        run_until(e.place);
        return cudaSuccess;
    });
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    return call(in_capture::forbidden, [=] {
        const CUevent_st &e = event_of(event);
        if (e.captured) return cudaErrorCapturedEvent;
        if (!reached(e.place)) run_a_little();
        return reached(e.place) ? cudaSuccess : cudaErrorNotReady;
    });
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    return call(in_capture::fine, [=] {
        const CUevent_st &a = event_of(start), &b = event_of(end);
        if (!a.timed || !b.timed || !a.recorded || !b.recorded || a.captured || b.captured)
            return cudaErrorInvalidResourceHandle;
        if (!reached(a.place) || !reached(b.place)) return cudaErrorNotReady;
        *ms = (float)(1e3 * (*b.reached_s - *a.reached_s));
        return cudaSuccess;
    });
}

} // extern "C"
