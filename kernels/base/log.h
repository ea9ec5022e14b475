/* Lines for people, on standard error: `vlgtr: ` before a run's own words, `vlgtr [rank 3 on node7]: ` before news that
 * one rank alone has. Lower case, the exact cause, units after numbers; a warning names the file, the sample, the way
 * out. */
#ifndef VG_BASE_LOG_H
#define VG_BASE_LOG_H

/* Who speaks. Called once, before threads exist; rank 0 of 1 until then. */
void vg_log_identify(int rank, int n_ranks, const char *host);

/* The run speaking: rank 0 prints, the others are silent. */
void vg_log_root(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* This rank speaking. */
void vg_log_rank(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
