/* Measured networks: whatever the bytes, a status and no harm; what is accepted can be priced. */
#include "trainer/network.h"

#include <math.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const vg_exchange_plan plan = {.bytes = 1e8, .bucket_bytes = 1e6, .backward_s = 1};
    vg_network network;
    if (vg_network_parse((const char *)data, size, "fuzz", &network) != VG_OK) return 0;
    const vg_sum_shape shape = vg_sum_shape_of(64, 64, network.host_ranks);
    const vg_exchange exchange = vg_network_exchange(&network, &shape, &plan);
    if (!isfinite(exchange.total_s) || exchange.hidden_s < 0 || exchange.hidden_s > exchange.total_s) abort();
    return 0;
}
