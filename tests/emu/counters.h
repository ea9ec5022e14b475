/* What kernels move between global memory and the chip. In check mode, when VG_EMU_COUNTERS names a file, each launch
 * adds a line of JSON to it:
 *
 *     {"kernel": "add_numbers", "grid": [4, 1, 1], "block": [256, 1, 1],
 *      "read": {"bytes": 8192, "sectors": 256, "least": 256, "fetched": 256, "touched": 256}, "written": {..}}
 *
 * bytes    as the threads ask for them
 * sectors  of 32 bytes, counted once for each access of a warp; lanes access together what they execute equally often
 * least    as many sectors as these accesses need when they are coalesced
 * fetched  counted once for each block: the traffic when what a block comes back to is still in its cache
 * touched  counted once for the launch: what has to come from or go to memory at the very least */
#ifndef VG_EMU_COUNTERS_H
#define VG_EMU_COUNTERS_H

#include <cstddef>

namespace emu
{

bool counting();
/* One access of the running thread, by its place in the code, to n bytes at this offset of device memory. */
void counters_access(size_t offset, size_t n, bool write, const void *place);
void counters_end_block();
void counters_end_launch();

} // namespace emu

#endif
