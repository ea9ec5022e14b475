/* Runs kernels on the CPU: one fiber per CUDA thread, blocks one after another.
 *
 *     emu::launch l = {emu::kernel_find("add_numbers"), grid, block, shared_bytes, args};
 *     emu::heap_open open;
 *     if (!emu::run(l)) ... the launch failed, as a device reports an illegal address
 *
 * A thread runs until it waits for others (a barrier, a warp collective): there is no lockstep that hides a missing
 * barrier. VG_EMU_ORDER orders threads and blocks: forward (default), reversed, or a number that seeds random orders.
 */
#ifndef VG_EMU_EXEC_H
#define VG_EMU_EXEC_H

#include <cstddef>
#include <vector_types.h>

namespace emu
{

/* A kernel as KERNEL_ENTRY registers it. */
struct kernel {
    const char *name;
    size_t args_bytes;    /* of the one struct it takes */
    unsigned max_threads; /* a block, as KERNEL declares */
    bool checked;         /* compiled for check mode */
    void (*body)(const void *args);
};

/* NULL when no plug-in has it. */
const kernel *kernel_find(const char *name);
/* Is a plug-in for check mode loaded? */
bool checking();

struct launch {
    const kernel *k;
    dim3 grid, block;
    size_t shared_bytes; /* dynamic */
    const void *args;    /* copied */
};

/* What is wrong with a launch that a device would refuse, or NULL. */
const char *launch_error(const launch &l);

/* Runs all threads to their end; device memory must be open. False when the kernel was abandoned: it deadlocked, or
 * accessed memory that is not its own. What went wrong has been reported then. */
bool run(const launch &l);

} // namespace emu

#endif
