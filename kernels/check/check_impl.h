/* The guard around one kernel of any backend. Private to kernels/. */
#ifndef VG_KERNELS_CHECK_CHECK_IMPL_H
#define VG_KERNELS_CHECK_CHECK_IMPL_H

#include "kernels/backend.h"

/* Runs the node on `inner` between two guards: outputs and workspace are poisoned before, and afterwards every element
 * of every output must have been written and every input must be what it was. A gradient that is added to is not
 * poisoned, and an input that shares memory with an output is not compared. Errors: what the kernel says; VG_E_BUG. */
vg_status vg_check_node(const vg_backend *inner, vg_stream *stream, const vg_node *node);

#endif
