/* What programs on the ranks' devices have in common: the backend that VLGTR_DEVICE names, two streams, a group. */
#ifndef TESTS_DIST_DEVICE_GROUP_TEST_H
#define TESTS_DIST_DEVICE_GROUP_TEST_H

#include "dist/device.h"
#include "tests/device_test.h"

typedef struct ranks {
    vg_comm *comm;
    const vg_backend *backend;
    vg_stream compute, exchange;
    vg_device_group *group;
} ranks;

static inline vg_status open_ranks(ranks *r, double deadline_s)
{
    VG_TRY(vg_comm_open(&r->comm));
    r->backend = backend_under_test(1, vg_comm_place(r->comm), &r->compute);
    VG_TRY(r->backend->device->open_beside(&r->compute, &r->exchange));
    const vg_device device = {.compute = &r->compute,
                              .exchange = &r->exchange,
                              .sum = r->backend->sum,
                              .copy = r->backend->device->copy,
                              .zero = r->backend->device->zero,
                              .follow = r->backend->device->follow,
                              .wait = r->backend->device->wait,
                              .queue = r->backend->device->queue,
                              .deadline_s = deadline_s};
    return vg_device_group_open(r->comm, &device, &r->group);
}

static inline vg_status close_ranks(ranks *r)
{
    vg_device_group_close(r->group);
    r->backend->device->close(&r->exchange);
    r->backend->device->close(&r->compute);
    return vg_comm_close(r->comm);
}

#endif
