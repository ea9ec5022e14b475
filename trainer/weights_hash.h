/* One number for the weights of a model: what two runs, or a run and a store of features, agree by. */
#ifndef VG_TRAINER_WEIGHTS_HASH_H
#define VG_TRAINER_WEIGHTS_HASH_H

#include "kernels/params.h"

/* XXH3 of the names and values, as they lie on the host, of the parameters that begin with `prefix`, in order of
 * declaration; "" takes all. 0 without memory. Local. */
uint64_t vg_weights_hash(const vg_params *params, const char *prefix);

#endif
