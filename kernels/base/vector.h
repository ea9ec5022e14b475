/* Before a function of plain loops over floats: the compiler makes vectors of them, a copy for each instruction set, of
 * which the program chooses when it starts. */
#ifndef VG_BASE_VECTOR_H
#define VG_BASE_VECTOR_H

#if defined(__x86_64__) && !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)
#define VG_EACH_CPU __attribute__((target_clones("default", "avx2", "avx512f"), optimize("O3")))
#else
#define VG_EACH_CPU
#endif

#endif
