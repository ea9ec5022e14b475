/* Streams of the emulated device, as its libraries see them: how to queue work and how to let it go on.
 *
 *     cudaError_t err = emu::enqueue(stream, "ncclAllReduce", [=, started = false]() mutable {
 *         if (!started) started = start(..);
 *         return arrived() ? emu::outcome::done : emu::outcome::waiting;
 *     });
 *
 * A stream is a queue of work. Nothing runs when it is queued: work runs only while some host thread waits for the
 * device (or asks how far it is) or no thread has called for a while, and which stream goes on next is drawn from
 * VG_EMU_SEED. So a host or a stream that does not wait for what it needs reads too early on some seed. Work that is
 * queued on a capturing stream goes into the graph instead; every launch of the graph then runs a copy of it, so work
 * carries its state by value. */
#ifndef VG_EMU_STREAM_H
#define VG_EMU_STREAM_H

#include <cuda_runtime_api.h>
#include <functional>

namespace emu
{

/* done: complete, the stream goes on. moved: got further, call again. waiting: for somebody else, call again. */
enum class outcome { done, moved, waiting };
using work = std::function<outcome()>;

/* Queues work under a name for reports; nothing is taken when the stream cannot have it (the error says why).
 * Work runs with device memory open and the emulator locked; it must not wait for the device. */
cudaError_t enqueue(cudaStream_t stream, const char *name, work run);

/* For running work: the device fails (a stray access), what is queued is dropped and every later call has this error.
 */
void lose_device(cudaError_t error);

/* Lets the device do something: moved when it did, waiting when all it has waits for other processes, done when it has
 * nothing to do. Whoever blocks the host outside CUDA (a barrier, a socket) calls this meanwhile, or ranks that wait
 * for each other never meet. */
outcome advance();

/* A call that cannot mean anything (a handle that does not exist): a report, and the end of the process. */
[[noreturn]] void misuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

} // namespace emu

#endif
