/* A few numbers of each leaf, added up in the tree that gradients are. */
#include "dist/comm_impl.h"
#include "dist/reduce.h"

#include <string.h>

vg_status vg_tree_sum_f64(vg_comm *comm, int n_leaves, const double *own, int n, double *total)
{
    int first, count;
    vg_leaves_of(n_leaves, comm->size, comm->rank, &first, &count);
    const size_t row = (size_t)n * sizeof(double);
    const size_t each = ((size_t)n_leaves + (size_t)comm->size - 1) / (size_t)comm->size; /* leaves of a full rank */
    vg_status st = vg_grow(&comm->scratch, &comm->scratch_bytes, (each + each * (size_t)comm->size) * row, 1);
    if (st != VG_OK) return vg_comm_leave(comm, st);
    double *mine = (double *)comm->scratch, *all = mine + each * (size_t)n;
    if (count) memcpy(mine, own, (size_t)count * row);
    VG_TRY(vg_comm_allgather(comm, mine, each * row, all)); /* leaf i lies at row i: only the last ranks fall short */
    for (int64_t stride = 1; stride < n_leaves; stride *= 2)
        for (int64_t i = 0; i + stride < n_leaves; i += 2 * stride)
            for (int j = 0; j < n; j++) all[i * n + j] += all[(i + stride) * n + j];
    memcpy(total, all, row);
    return VG_OK;
}
