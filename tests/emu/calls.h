/* What compiled device code calls: the seam between emu/device.h, which is compiled into a plug-in with the kernels,
 * and the executor in the stand-in of the CUDA runtime. All but emu_register run on the fiber of one CUDA thread. */
#ifndef VG_EMU_CALLS_H
#define VG_EMU_CALLS_H

#include <cstddef>
#include <cstdint>
#include <vector_types.h>

#define EMU_CALL extern "C" __attribute__((visibility("default")))
/* Same answer each time within one activation of a kernel, so that the compiler may ask once. */
#define EMU_CONSTANT EMU_CALL __attribute__((const))

/* The line of a barrier or a collective is its name. */
struct emu_site {
    const char *file;
    int line;
};

/* A shared array of one kernel: a static variable where SHARED stands. The executor keeps its place, launch by launch.
 */
struct emu_shared_array {
    const char *name;
    size_t bytes, alignment;
    unsigned launch;
    size_t offset;
};

enum emu_shuffle_kind { EMU_SHUFFLE_INDEX, EMU_SHUFFLE_UP, EMU_SHUFFLE_DOWN, EMU_SHUFFLE_XOR };

EMU_CALL void emu_register(const char *name, size_t args_bytes, unsigned max_threads, bool checked,
                           void (*body)(const void *args));

EMU_CONSTANT uint3 emu_thread_index();
EMU_CONSTANT uint3 emu_block_index();
EMU_CONSTANT uint3 emu_block_size();
EMU_CONSTANT uint3 emu_grid_size();

EMU_CALL void *emu_shared(emu_shared_array *array);
EMU_CALL void *emu_dynamic_shared();

/* Waits for the block; returns how many threads came with a true predicate. */
EMU_CALL int emu_barrier(emu_site site, bool predicate);

EMU_CALL void emu_warp_barrier(emu_site site, unsigned mask);
EMU_CALL uint64_t emu_shuffle(emu_site site, unsigned mask, emu_shuffle_kind kind, uint64_t bits, int arg, int width);
/* The lanes of mask that came with a true predicate. */
EMU_CALL unsigned emu_ballot(emu_site site, unsigned mask, bool predicate);
/* The fragments of mma.sync.m16n8k16 (bf16 in, fp32 out) as the hardware spreads them: d += a b. */
EMU_CALL void emu_mma_bf16(emu_site site, float d[4], const unsigned a[4], const unsigned b[2]);
/* ldmatrix.xN, n = 1, 2 or 4: lane 8i + r says where row r of matrix i is, each lane takes its part of each matrix. */
EMU_CALL void emu_ldmatrix(emu_site site, unsigned *out, int n, bool transposed, const void *row);

/* cp.async: the copy is made when it is waited for, so that a kernel that does not wait finds nothing. The first
 * `valid` bytes come from memory, the rest are zero. */
EMU_CALL void emu_copy_async(void *shared, const void *global, unsigned bytes, unsigned valid);
EMU_CALL void emu_copy_async_commit();
/* Completes all but the last n committed groups. */
EMU_CALL void emu_copy_async_wait(unsigned n);

#endif
