/* Time. */
#ifndef VG_BASE_CLOCK_H
#define VG_BASE_CLOCK_H

/* Seconds of a clock that never goes back; only differences mean anything. */
double vg_now_s(void);

#endif
