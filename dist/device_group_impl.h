/* What a library of collectives over device memory brings. */
#ifndef VG_DIST_DEVICE_GROUP_IMPL_H
#define VG_DIST_DEVICE_GROUP_IMPL_H

#include "dist/comm_impl.h"
#include "dist/device.h"

typedef struct vg_device_group_ops {
    void (*close)(vg_device_group *group);
    /* On the exchange stream, all messages at once. */
    vg_status (*exchange)(vg_device_group *group, const vg_message *sends, int n_sends, const vg_message *recvs,
                          int n_recvs);
    vg_status (*all_reduce)(vg_device_group *group, float *x, int64_t n);
    vg_status (*wait)(vg_device_group *group);
} vg_device_group_ops;

struct vg_device_group {
    vg_comm *comm;
    vg_device device;
    const vg_device_group_ops *ops; /* NULL: a lone rank has nobody to talk to */
    void *backend;                  /* of the implementation */
};

/* Collective. Fills a group of several ranks. */
vg_status vg_device_nccl_open(vg_device_group *group);

#endif
