/* Capture of streams, and graphs: work that is recorded once and run at every launch, each time in an order of its own
 * that the recorded dependencies allow. */
#include "emu/runtime.h"

#include <algorithm>
#include <cstdint>

using namespace emu;

struct CUgraph_st {
    nodes all;
};

struct CUgraphExec_st {
    std::shared_ptr<const nodes> all;
    position last; /* launches of one graph run one after another */
};

namespace
{

/* One launch of a graph, as it runs. Chains of nodes have a priority as streams do. */
class replay
{
  public:
    explicit replay(const std::shared_ptr<const nodes> &all)
        : left(*all), pending(left.size()), priority(left.size()), next(left.size())
    {
        for (size_t i = 0; i < left.size(); i++) {
            const std::vector<int> &after = left[i].after;
            for (const int before : after) next[(size_t)before].push_back((int)i);
            pending[i] = after.size();
            const bool starts = after.empty() || next[(size_t)after[0]].size() > 1;
            priority[i] = starts ? draw_priority() : draw_priority(priority[(size_t)after[0]]);
            if (after.empty()) ready.push_back((int)i);
        }
    }

    /* Runs one node. */
    outcome step()
    {
        std::sort(ready.begin(), ready.end(),
                  [this](int a, int b) { return priority[(size_t)a] > priority[(size_t)b]; });
        for (size_t i = 0; i < ready.size(); i++) {
            const outcome r = left[(size_t)ready[i]].run();
            if (r == outcome::waiting) continue;
            if (r == outcome::done) finish(i);
            return ready.empty() ? outcome::done : outcome::moved;
        }
        return ready.empty() ? outcome::done : outcome::waiting;
    }

  private:
    void finish(size_t i)
    {
        const int n = ready[i];
        ready.erase(ready.begin() + (std::ptrdiff_t)i);
        for (const int after : next[(size_t)n])
            if (--pending[(size_t)after] == 0) ready.push_back(after);
    }

    nodes left; /* this launch's own copy: work carries state */
    std::vector<size_t> pending;
    std::vector<uint32_t> priority;
    std::vector<std::vector<int>> next;
    std::vector<int> ready;
};

/* Has everything that was recorded been joined into the origin's last nodes? */
bool joined(const capture &c)
{
    std::vector<bool> seen(c.recorded.size());
    std::vector<int> open = c.origin->tail;
    while (!open.empty()) {
        const int n = open.back();
        open.pop_back();
        if (seen[(size_t)n]) continue;
        seen[(size_t)n] = true;
        open.insert(open.end(), c.recorded[(size_t)n].after.begin(), c.recorded[(size_t)n].after.end());
    }
    return std::all_of(seen.begin(), seen.end(), [](bool s) { return s; });
}

void end(const std::shared_ptr<capture> &c)
{
    for (const auto &q : c->members) {
        q->record = nullptr;
        q->tail.clear();
    }
    captures().erase(std::find(captures().begin(), captures().end(), c));
}

cudaError_t begin_capture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    const std::shared_ptr<queue> q = queue_of(stream);
    if (q == queue_of(nullptr)) return cudaErrorStreamCaptureUnsupported;
    if (q->record) return cudaErrorIllegalState;
    const auto c = std::make_shared<capture>();
    c->mode = mode;
    c->owner = std::this_thread::get_id();
    c->origin = q;
    c->members = {q};
    q->record = c;
    captures().push_back(c);
    return cudaSuccess;
}

cudaError_t end_capture(cudaStream_t stream, cudaGraph_t *graph)
{
    const std::shared_ptr<capture> c = queue_of(stream)->record;
    *graph = nullptr;
    if (!c) return cudaErrorIllegalState;
    if (c->origin != queue_of(stream)) {
        c->invalid = true;
        return cudaErrorStreamCaptureUnmatched;
    }
    if (c->mode != cudaStreamCaptureModeRelaxed && c->owner != std::this_thread::get_id())
        return cudaErrorStreamCaptureWrongThread;
    const cudaError_t error = c->invalid   ? cudaErrorStreamCaptureInvalidated
                              : joined(*c) ? cudaSuccess
                                           : cudaErrorStreamCaptureUnjoined;
    end(c);
    if (error == cudaSuccess) *graph = new CUgraph_st{std::move(c->recorded)};
    return error;
}

cudaError_t launch_graph(CUgraphExec_st &exec, cudaStream_t stream)
{
    const std::shared_ptr<queue> q = queue_of(stream);
    if (q->record) { /* a graph within a graph is not emulated */
        q->record->invalid = true;
        return cudaErrorNotSupported;
    }
    q->awaited.push_back(exec.last);
    const auto run = std::make_shared<replay>(exec.all);
    const cudaError_t error = enqueue(stream, "cudaGraphLaunch", [run] { return run->step(); });
    if (error == cudaSuccess) exec.last = {q, q->issued};
    return error;
}

} // namespace

extern "C" {

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    return call(in_capture::fine, [=] { return begin_capture(stream, mode); });
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    return call(in_capture::fine, [=] { return end_capture(stream, graph); });
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status)
{
    return call(in_capture::fine, [=] {
        const std::shared_ptr<capture> c = queue_of(stream)->record;
        *status = !c           ? cudaStreamCaptureStatusNone
                  : c->invalid ? cudaStreamCaptureStatusInvalidated
                               : cudaStreamCaptureStatusActive;
        return cudaSuccess;
    });
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    return call(in_capture::fine, [=] {
        *exec = new CUgraphExec_st{std::make_shared<const nodes>(graph->all), {}};
        return cudaSuccess;
    });
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *handles, size_t *n)
{
    return call(in_capture::fine, [=] {
        if (handles != nullptr) return cudaErrorNotSupported; /* nodes are counted, not handed out */
        *n = graph->all.size();
        return cudaSuccess;
    });
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t)
{
    return call(in_capture::fine, [] { return cudaSuccess; });
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    return call(in_capture::fine, [=] { return launch_graph(*exec, stream); });
}

/* A launch that still waits keeps what it needs. */
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    return call(in_capture::fine, [=] {
        delete exec;
        return cudaSuccess;
    });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    return call(in_capture::fine, [=] {
        delete graph;
        return cudaSuccess;
    });
}

} // extern "C"
