/* Tests that run on any backend: the one under test, and a node whose operands are host memory run in its memory. */
#ifndef VG_TESTS_DEVICE_TEST_H
#define VG_TESTS_DEVICE_TEST_H

#include "kernels/backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The backend that VLGTR_DEVICE names (the CPU's when it is not set), its stream opened with n_threads for a rank of
 * the host. A build without it and a machine without its device end the program with 77: skipped. */
static inline const vg_backend *backend_under_test(int n_threads, int place, vg_stream *stream)
{
    enum { SKIPPED = 77 };
    const char *name = getenv("VLGTR_DEVICE");
    const vg_backend *backend = vg_backend_find(name ? name : "cpu");
    if (!backend) {
        printf("this build has no %s backend\n", name);
        exit(SKIPPED);
    }
    *stream = (vg_stream){.n_threads = n_threads};
    const vg_status st = backend->device->open(stream, place);
    if (st != VG_OK) printf("%s\n", vg_error_text());
    if (st == VG_E_DEVICE) exit(SKIPPED);
    if (st != VG_OK) exit(1);
    return backend;
}

/* Host memory of operands and what stands for it on the device. */
typedef struct placed {
    unsigned char *host;
    size_t bytes;
    vg_arena memory;
    bool is_output;
} placed;

typedef struct placed_node {
    const vg_backend *backend;
    vg_stream *stream;
    vg_node node; /* as the device sees it */
    placed items[VG_MAX_IN + VG_MAX_OUT + 1];
    int n;
} placed_node;

/* Where the operand's memory lies on the device; operands in one piece of host memory are in one piece there too, if
 * the largest of them comes first. */
static inline vg_status place_memory(placed_node *p, void *host, size_t bytes, bool is_output, void **out)
{
    unsigned char *at = host;
    *out = NULL;
    if (!host) return VG_OK;
    for (int i = 0; i < p->n; i++) {
        placed *item = &p->items[i];
        if (at < item->host || at + bytes > item->host + item->bytes) continue;
        item->is_output = item->is_output || is_output;
        *out = item->memory.base + (at - item->host);
        return VG_OK;
    }
    placed *item = &p->items[p->n++];
    *item = (placed){.host = at, .bytes = bytes, .is_output = is_output};
    VG_TRY(p->backend->device->allocate(p->stream, bytes, &item->memory));
    *out = item->memory.base;
    return p->backend->device->upload(p->stream, *out, host, bytes);
}

static inline vg_status place_operand(placed_node *p, vg_operand *x, bool is_output)
{
    return place_memory(p, x->data, (size_t)vg_shape_count(&x->shape) * vg_dtype_bytes(x->dtype), is_output, &x->data);
}

static inline vg_status run_placed(placed_node *p, unsigned char *workspace, size_t bytes)
{
    for (int i = 0; i < p->node.n_out; i++) VG_TRY(place_operand(p, &p->node.out[i], true));
    for (int i = 0; i < p->node.n_in; i++) VG_TRY(place_operand(p, &p->node.in[i], false));
    VG_TRY(place_memory(p, workspace, bytes, true, &p->node.workspace));
    VG_TRY(p->backend->kernels[p->node.op](p->stream, &p->node));
    for (int i = 0; i < p->n; i++)
        if (p->items[i].is_output)
            VG_TRY(
                p->backend->device->download(p->stream, p->items[i].host, p->items[i].memory.base, p->items[i].bytes));
    return p->backend->device->wait(p->stream);
}

/* Runs a node over host memory in the backend's memory, with a poisoned workspace. What it writes comes back into the
 * host memory of its outputs. Errors: what the kernel says; VG_E_BUG when it wrote behind its workspace. */
static inline vg_status run_node_on(const vg_backend *backend, vg_stream *stream, const vg_node *node)
{
    enum { GUARD = 64 };
    const size_t bytes = vg_round_up(backend->workspace_bytes(node, stream->n_threads), GUARD);
    unsigned char *workspace = malloc(bytes + GUARD);
    VG_CHECK(workspace, VG_E_NOMEM, "no memory for a workspace");
    memset(workspace, 0xff, bytes + GUARD);
    placed_node p = {.backend = backend, .stream = stream, .node = *node};
    vg_status st = run_placed(&p, workspace, bytes + GUARD);
    for (int i = 0; i < GUARD && st == VG_OK; i++)
        if (workspace[bytes + (size_t)i] != 0xff)
            st = vg_fail(VG_E_BUG, "%s wrote behind its workspace", vg_op_name(node->op));
    if (st != VG_OK) backend->device->wait(stream); /* what was queued before it failed still uses the memory */
    for (int i = 0; i < p.n; i++) backend->device->release(stream, &p.items[i].memory);
    free(workspace);
    return st;
}

#endif
