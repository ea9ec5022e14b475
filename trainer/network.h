/* What the messages of a step take on a network that is described by a latency and a rate for each level (Hockney 1994:
 * a message of n bytes takes alpha + n / beta): between the ranks of a host, and between hosts. Local.
 *
 *     vg_network network = {0};
 *     VG_TRY(vg_network_read("10gbe", &network));              or a file that `vlgtr bench comm --out` wrote
 *     vg_sum_shape shape = vg_sum_shape_of(n_leaves, 64, network.host_ranks);
 *     vg_exchange e = vg_network_exchange(&network, &shape, &plan);   e.total_s, e.hidden_s */
#ifndef VG_TRAINER_NETWORK_H
#define VG_TRAINER_NETWORK_H

#include "dist/reduce.h"

typedef struct vg_link {
    double alpha_s; /* of each message; those to several peers go out one after the other */
    double beta;    /* bytes a second, one way; 0: what goes this way is counted elsewhere */
} vg_link;

typedef struct vg_network {
    int host_ranks; /* ranks of a host; 0: not known */
    vg_link near;   /* of a rank, between those of its host */
    vg_link far;    /* of a host, between hosts */
    double start_s; /* of a round of messages, whomever they go to */
} vg_network;

/* The network of this name in networks.def, or of this file; its near link and start are 0. Errors: VG_E_USAGE (neither
 * a name, which lists the known ones, nor a file that is there), VG_E_DATA (a file that is not one of `vlgtr bench comm
 * --out`). */
vg_status vg_network_read(const char *name, vg_network *out);

/* The same from the bytes of such a file, which errors call `path`. */
vg_status vg_network_parse(const char *data, size_t size, const char *path, vg_network *out);

/* Where the figures of a named network come from, or that a file's are measured; heap text, NULL without memory. */
char *vg_network_source(const char *name);

/* Writes a measured network for vg_network_read. Errors: VG_E_STORAGE, VG_E_NOMEM. */
vg_status vg_network_write(const char *path, const vg_network *network);

/* The far link of hosts among which the sum of the shape takes a seconds and each byte of gradients b seconds more. */
vg_link vg_network_fitted(const vg_sum_shape *shape, double a, double b);

/* How gradients leave a rank. */
typedef struct vg_exchange_plan {
    double bytes, bucket_bytes; /* of all gradients; of those that leave at a time */
    double backward_s;          /* of the last micro-batch, behind which buckets hide */
    bool sliced;                /* the way back is that of weights, after the update: nothing hides it */
} vg_exchange_plan;

typedef struct vg_exchange {
    double total_s, hidden_s;
} vg_exchange;

/* The sum of the gradients, bucket by bucket, by the algorithm of dist/reduce.h. Backward completes them at even times;
 * before the first there is nothing to exchange, and the last has nothing to hide behind. */
vg_exchange vg_network_exchange(const vg_network *network, const vg_sum_shape *shape, const vg_exchange_plan *plan);

/* The step's two small messages: every rank's counts and losses to every other one, which devices wait for once. */
double vg_network_messages_s(const vg_network *network, const vg_sum_shape *shape);

#endif
