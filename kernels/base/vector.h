/* Passes of plain loops over floats. */
#ifndef VG_BASE_VECTOR_H
#define VG_BASE_VECTOR_H

/* Before such a function: the compiler makes vectors of its loops, a copy for each instruction set, of which the
 * program chooses when it starts. */
#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define VG_EACH_CPU __attribute__((target_clones("default", "avx2", "avx512f"), optimize("O3")))
#else
#define VG_EACH_CPU
#endif

/* How many floats ahead of its place a pass over memory asks for what comes: the hardware alone asks for too little at
 * a time to fill the way to memory. */
enum { VG_FLOATS_AHEAD = 512 };

#endif
