/* Queues of the emulated device: what waits, what runs next, and what calls do around it. */
#include "emu/heap.h"
#include "emu/report.h"
#include "emu/runtime.h"

#include <algorithm>
#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <time.h>

namespace emu
{

namespace
{

/* All state hangs here; it is made at the first call, which may come before any constructor of this library. */
struct device {
    std::recursive_mutex lock;
    std::vector<std::shared_ptr<queue>> queues; /* [0] is the default stream; a destroyed one stays until it is empty */
    std::vector<std::unique_ptr<CUstream_st>> streams;
    std::vector<std::shared_ptr<capture>> captures;
    uint64_t random;
    bool opposite, steady;
    cudaError_t lost = cudaSuccess;
    std::atomic<int> callers{0}; /* threads in a call, or before one */
    std::atomic<uint64_t> n_calls{0};
    bool over = false; /* the process ends */
};

} // namespace
} // namespace emu

struct CUstream_st {
    std::shared_ptr<emu::queue> queue;
};

namespace emu
{
namespace
{

thread_local cudaError_t last_error = cudaSuccess;
thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

uint32_t draw_word(device &d)
{
    d.random += 0x9e3779b97f4a7c15u; /* splitmix64 */
    uint64_t z = d.random;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)((z ^ (z >> 31)) >> 32);
}

/* Streams run in the order of their priorities. An odd seed draws the opposite of the even one before it: of two
 * streams, each comes first on one of them. */
uint32_t draw_priority_of(device &d)
{
    const uint32_t word = draw_word(d);
    return d.opposite ? ~word : word;
}

/* Now and then a stream gets another priority: long stretches of one stream while another stands still show a missing
 * wait far oftener than a fair choice at each operation. On the first two seeds it keeps what it has. */
bool draw_change(device &d)
{
    enum { STRETCH = 16 };
    return draw_word(d) % STRETCH == 0 && !d.steady;
}

std::shared_ptr<queue> new_queue(device &d, bool blocking)
{
    auto q = std::make_shared<queue>();
    q->blocking = blocking;
    q->priority = draw_priority_of(d);
    d.queues.push_back(q);
    return q;
}

/* A device goes on by itself. Here it does when no thread has called it for so long: the host waits elsewhere (for
 * other ranks, which may wait for this one's device), and runs see an order of events that the seed alone decides as
 * long as it does not. 0: never. */
enum { ALONE_MS = 20 };

void go_on_alone(device &d, long alone_ms);

device &the_device()
{
    static device *d = [] {
        auto *made = new device;
        const uint64_t seed = (uint64_t)setting("VG_EMU_SEED", 0);
        made->random = seed / 2;
        made->opposite = seed % 2;
        made->steady = seed < 2;
        new_queue(*made, true);
        const long alone_ms = (long)setting("VG_EMU_ALONE_MS", ALONE_MS);
        if (alone_ms > 0) std::thread(go_on_alone, std::ref(*made), alone_ms).detach();
        return made;
    }();
    return *d;
}

struct caller {
    device &d;
    explicit caller(device &called) : d(called)
    {
        d.callers++;
        d.n_calls++;
    }
    ~caller()
    {
        d.callers--;
    }
};

bool runnable(const queue &q)
{
    return !q.fifo.empty() && std::all_of(q.fifo.front().after.begin(), q.fifo.front().after.end(), reached);
}

void drop_all(device &d)
{
    for (const auto &q : d.queues) {
        q->done = q->issued;
        q->fifo.clear();
    }
}

outcome run_head(device &d, queue &q)
{
    const outcome r = q.fifo.front().run();
    if (draw_change(d)) q.priority = draw_priority_of(d);
    if (d.lost != cudaSuccess)
        drop_all(d);
    else if (r == outcome::waiting)
        return r;
    else if (r == outcome::done) {
        q.fifo.pop_front();
        q.done++;
    }
    return outcome::moved;
}

void forget_finished(device &d)
{
    const auto finished = [&d](const std::shared_ptr<queue> &q) {
        return q != d.queues[0] && q->fifo.empty() &&
               std::none_of(d.streams.begin(), d.streams.end(), [&q](const auto &s) { return s->queue == q; });
    };
    d.queues.erase(std::remove_if(d.queues.begin(), d.queues.end(), finished), d.queues.end());
}

/* Lets the device go on until the condition holds; gives way to other threads and processes while it waits for them. */
template <typename condition> void run_while(const condition &unfinished)
{
    device &d = the_device();
    const heap_open open; /* once, not at each operation: that is two system calls */
    while (d.lost == cudaSuccess && unfinished()) {
        if (advance() == outcome::moved) continue;
        d.lock.unlock();
        const struct timespec nap = {0, 50000};
        nanosleep(&nap, nullptr);
        d.lock.lock();
    }
}

void end_of_process()
{
    device &d = the_device();
    const caller here(d);
    const std::lock_guard<std::recursive_mutex> guard(d.lock);
    d.over = true;
}

/* As much as can be done before a thread calls. */
void run_uncalled(device &d)
{
    const std::lock_guard<std::recursive_mutex> guard(d.lock);
    static const bool registered = atexit(end_of_process) == 0; /* now, while what work needs exists */
    if (!registered || d.over) return;
    while (d.callers == 0 && advance() == outcome::moved) continue;
}

void go_on_alone(device &d, long alone_ms)
{
    uint64_t seen = 0;
    for (;;) {
        const struct timespec nap = {alone_ms / 1000, alone_ms % 1000 * 1000000};
        nanosleep(&nap, nullptr);
        if (d.callers == 0 && d.n_calls == seen) run_uncalled(d);
        seen = d.n_calls;
    }
}

/* The rule of cudaThreadExchangeStreamCaptureMode: which captures forbid this thread an unsafe call. */
bool forbidden_now(const device &d)
{
    if (thread_mode == cudaStreamCaptureModeRelaxed) return false;
    for (const auto &c : d.captures) {
        const bool own = c->owner == std::this_thread::get_id();
        if (own && c->mode != cudaStreamCaptureModeRelaxed) return true;
        if (!own && c->mode == cudaStreamCaptureModeGlobal && thread_mode == cudaStreamCaptureModeGlobal) return true;
    }
    return false;
}

void spoil_captures(device &d)
{
    for (const auto &c : d.captures)
        if (c->mode != cudaStreamCaptureModeRelaxed) c->invalid = true;
}

cudaError_t record(queue &q, const char *name, work run)
{
    if (q.record->invalid) return cudaErrorStreamCaptureInvalidated;
    q.record->recorded.push_back({name, std::move(run), q.tail});
    q.tail = {(int)q.record->recorded.size() - 1};
    return cudaSuccess;
}

void await(queue &q, const std::shared_ptr<queue> &other)
{
    q.awaited.push_back({other, other->issued});
}

/* Before anything else enters a stream: the default stream waits for the blocking ones and they for it. */
cudaError_t meet_default_stream(device &d, const std::shared_ptr<queue> &q)
{
    if (q != d.queues[0]) {
        if (q->blocking) await(*q, d.queues[0]);
        return cudaSuccess;
    }
    for (const auto &other : d.queues) {
        if (other == q || !other->blocking) continue;
        if (other->record) {
            other->record->invalid = true;
            return cudaErrorStreamCaptureImplicit;
        }
        await(*q, other);
    }
    return cudaSuccess;
}

} // namespace

/* --- stream.h --- */

cudaError_t enqueue(cudaStream_t stream, const char *name, work run)
{
    device &d = the_device();
    const std::lock_guard<std::recursive_mutex> guard(d.lock);
    if (d.lost != cudaSuccess) return d.lost;
    const std::shared_ptr<queue> q = queue_of(stream);
    if (q->record) return record(*q, name, std::move(run));
    const cudaError_t error = meet_default_stream(d, q);
    if (error != cudaSuccess) return error;
    q->fifo.push_back({name, std::move(run), std::move(q->awaited)});
    q->awaited.clear();
    q->issued++;
    return cudaSuccess;
}

outcome advance()
{
    device &d = the_device();
    const std::lock_guard<std::recursive_mutex> guard(d.lock);
    std::vector<std::shared_ptr<queue>> ready;
    for (const auto &q : d.queues)
        if (runnable(*q)) ready.push_back(q);
    std::sort(ready.begin(), ready.end(), [](const auto &a, const auto &b) { return a->priority > b->priority; });
    for (const auto &q : ready)
        if (run_head(d, *q) == outcome::moved) return outcome::moved;
    forget_finished(d);
    return ready.empty() ? outcome::done : outcome::waiting;
}

void misuse(const char *format, ...)
{
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    report("misuse", nullptr, "%s", line);
    exit(EXIT_FAILURE);
}

/* --- runtime.h --- */

bool reached(const position &p)
{
    return !p.in || p.in->done >= p.count;
}

std::shared_ptr<queue> queue_of(cudaStream_t stream)
{
    device &d = the_device();
    if (stream == nullptr || stream == cudaStreamLegacy) return d.queues[0];
    for (const auto &s : d.streams)
        if (s.get() == stream) return s->queue;
    misuse("the stream %p does not exist (destroyed, or never made)", (void *)stream);
}

void run_until(const position &p)
{
    run_while([&p] { return !reached(p); });
}

void run_until_empty(const std::shared_ptr<queue> &q)
{
    run_while([&q] { return !q->fifo.empty(); });
}

void run_until_idle()
{
    run_while([] { return queued_work() != nullptr; });
}

void run_a_little()
{
    for (uint32_t n = draw_word(the_device()) % 64; n > 0 && advance() == outcome::moved; n--) continue;
}

const char *queued_work()
{
    for (const auto &q : the_device().queues)
        if (!q->fifo.empty()) return q->fifo.front().name;
    return nullptr;
}

uint32_t draw_priority(uint32_t before)
{
    device &d = the_device();
    return draw_change(d) ? draw_priority_of(d) : before;
}

uint32_t draw_priority()
{
    return draw_priority_of(the_device());
}

void lose_device(cudaError_t error)
{
    the_device().lost = error;
}

cudaStream_t new_stream(unsigned flags)
{
    device &d = the_device();
    d.streams.push_back(std::make_unique<CUstream_st>());
    d.streams.back()->queue = new_queue(d, !(flags & cudaStreamNonBlocking));
    return d.streams.back().get();
}

void drop_stream(cudaStream_t stream)
{
    auto &streams = the_device().streams;
    streams.erase(std::find_if(streams.begin(), streams.end(), [stream](const auto &s) { return s.get() == stream; }));
}

std::vector<std::shared_ptr<capture>> &captures()
{
    return the_device().captures;
}

long long setting(const char *name, long long otherwise)
{
    const char *text = getenv(name);
    if (text == nullptr) return otherwise;
    char *end;
    const long long value = strtoll(text, &end, 0);
    if (end == text || *end != '\0') misuse("%s=%s is not a number", name, text);
    return value;
}

cudaError_t call(in_capture rule, const std::function<cudaError_t()> &body)
{
    device &d = the_device();
    const caller here(d);
    const std::lock_guard<std::recursive_mutex> guard(d.lock);
    cudaError_t error = device_count() == 0 ? cudaErrorNoDevice : d.lost;
    if (error == cudaSuccess && rule == in_capture::forbidden && forbidden_now(d)) {
        spoil_captures(d);
        error = cudaErrorStreamCaptureUnsupported;
    }
    if (error == cudaSuccess) error = body();
    if (error == cudaSuccess) error = d.lost;
    return keep_error(error);
}

cudaError_t keep_error(cudaError_t error)
{
    if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
    return error;
}

} // namespace emu

using namespace emu;

extern "C" cudaError_t cudaGetLastError()
{
    const cudaError_t error = last_error;
    last_error = the_device().lost; /* a lost device stays an error */
    return error;
}

extern "C" cudaError_t cudaPeekAtLastError()
{
    return last_error;
}

extern "C" cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *mode)
{
    std::swap(thread_mode, *mode);
    return cudaSuccess;
}
