/* The ground floor of the house: what every room stands on. Nothing here knows a tensor, a rank or a file format.
 *
 *     vg_status load(const char *path)
 *     {
 *         FILE *f = fopen(path, "rb");
 *         VG_CHECK(f, VG_E_DATA, "%s: %s; check data.shards", path, strerror(errno));
 *         ...
 *     }
 *     VG_TRY(load(path));                  passes an error on
 *
 * status.h  one error type, one sentence      memory.h  checked sizes, the arena     log.h     lines for people
 * clock.h   monotonic seconds                 random.h  counter-based Philox         bf16.h    bfloat16
 * text.h    growing strings, nearest word     file.h    whole files, atomic rename   stop.h    being asked to stop
 * vector.h  loops for each instruction set    library.h what was built with, and runs
 * cgroup.h  what a container or a job grants */
#ifndef VG_BASE_BASE_H
#define VG_BASE_BASE_H

#include "kernels/base/bf16.h"
#include "kernels/base/cgroup.h"
#include "kernels/base/clock.h"
#include "kernels/base/file.h"
#include "kernels/base/library.h"
#include "kernels/base/log.h"
#include "kernels/base/memory.h"
#include "kernels/base/random.h"
#include "kernels/base/status.h"
#include "kernels/base/stop.h"
#include "kernels/base/text.h"
#include "kernels/base/vector.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#endif
