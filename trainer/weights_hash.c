#include "trainer/weights_hash.h"

#include <string.h>

#include <xxhash.h>

uint64_t vg_weights_hash(const vg_params *params, const char *prefix)
{
    XXH3_state_t *state = XXH3_createState();
    if (!state) return 0;
    XXH3_64bits_reset(state);
    for (int i = 0; i < params->n; i++) {
        const vg_param *p = &params->items[i];
        if (strncmp(p->name, prefix, strlen(prefix)) != 0) continue;
        XXH3_64bits_update(state, p->name, strlen(p->name));
        XXH3_64bits_update(state, vg_params_data(params, i), (size_t)p->count * sizeof(float));
    }
    const uint64_t hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    return hash;
}
