/* Inside the stand-in of the CUDA runtime: its queues, what capture makes of them, and how a call begins and ends. */
#ifndef VG_EMU_RUNTIME_H
#define VG_EMU_RUNTIME_H

#include "emu/stream.h"

#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace emu
{

struct queue;

/* A place in a queue: reached when that many of its operations are done. */
struct position {
    std::shared_ptr<queue> in;
    uint64_t count = 0;
};
bool reached(const position &p);

struct operation {
    const char *name;
    work run;
    std::vector<position> after;
};

/* A graph: operations, each after earlier ones. */
struct node {
    const char *name;
    work run;
    std::vector<int> after;
};
using nodes = std::vector<node>;

struct capture {
    nodes recorded;
    cudaStreamCaptureMode mode;
    std::thread::id owner;
    std::shared_ptr<queue> origin;
    std::vector<std::shared_ptr<queue>> members; /* streams that record into it, origin first */
    bool invalid = false;
};

struct queue {
    bool blocking; /* the default stream and this one wait for each other */
    std::deque<operation> fifo;
    uint64_t issued = 0, done = 0;
    uint32_t priority = 0;           /* the highest that can run runs next */
    std::vector<position> awaited;   /* by the next operation */
    std::shared_ptr<capture> record; /* set while capturing */
    std::vector<int> tail;           /* nodes the next recorded one comes after */
};

/* The stream's queue; an unknown handle is misuse. The default stream is NULL or cudaStreamLegacy. */
std::shared_ptr<queue> queue_of(cudaStream_t stream);

/* Runs the device until the position is reached, the queue or all queues are empty, or the device is lost. */
void run_until(const position &p);
void run_until_empty(const std::shared_ptr<queue> &q);
void run_until_idle();
/* A few operations, as if some time had passed. */
void run_a_little();

/* Names an operation that still waits, or NULL. */
const char *queued_work();

/* A priority, and the same or, now and then, another one for what follows; by VG_EMU_SEED. */
uint32_t draw_priority();
uint32_t draw_priority(uint32_t before);

cudaStream_t new_stream(unsigned flags);
void drop_stream(cudaStream_t stream);

/* Captures that have begun and not ended. */
std::vector<std::shared_ptr<capture>> &captures();

/* --- how calls begin and end --- */

enum class in_capture { fine, forbidden }; /* forbidden: it synchronizes or allocates, which capture cannot record */

/* Takes the lock, sees to devices, lost devices and capture, runs the body, keeps its error for cudaGetLastError. */
cudaError_t call(in_capture rule, const std::function<cudaError_t()> &body);

/* Keeps an error for cudaGetLastError and returns it. */
cudaError_t keep_error(cudaError_t error);

/* VG_EMU_DEVICES, or 8, of which CUDA_VISIBLE_DEVICES may hide some. */
int device_count();

/* The value of a number in the environment. */
long long setting(const char *name, long long otherwise);

} // namespace emu

#endif
