/* Which checkpoint to go on from: rank 0 decides for all. */
#include "checkpoints/checkpoint_impl.h"

#include <stdlib.h>

static vg_status newest_that_verifies(char **paths, int n, char **out)
{
    for (int i = n - 1; i >= 0; i--) {
        const vg_status st = vg_checkpoint_verify(paths[i]);
        if (st == VG_OK) {
            *out = vg_copy_string(paths[i]);
            VG_CHECK(*out, VG_E_NOMEM, "no memory for a path");
            return VG_OK;
        }
        if (st == VG_E_NOMEM) return st; /* it may be whole */
        vg_log_root("WARNING: checkpoint %s cannot be used: %s; %s", paths[i], vg_error_text(),
                    i > 0 ? "falling back to an older one, steps since then are lost" : "it was the last");
    }
    return n ? vg_fail(VG_E_STORAGE,
                       "%s and the other checkpoints beside it (%d) do not verify; move them away to start afresh",
                       paths[n - 1], n)
             : VG_OK;
}

static vg_status root_choose(const char *path, char **out)
{
    char **paths;
    int n;
    if (vg_checkpoint_exists(path)) {
        VG_TRY(vg_checkpoint_verify(path));
        *out = vg_copy_string(path);
        VG_CHECK(*out, VG_E_NOMEM, "no memory for a path");
        return VG_OK;
    }
    VG_TRY(vg_checkpoint_list(path, &paths, &n));
    const vg_status st = newest_that_verifies(paths, n, out);
    vg_checkpoint_list_free(paths, n);
    return st;
}

static vg_status wait_for_checkpoint(const char *path)
{
    char *manifest = vg_path_join(path, VG_MANIFEST_NAME);
    VG_CHECK(manifest, VG_E_NOMEM, "%s: no memory for its path", path);
    const vg_status st = vg_wait_for_file(manifest);
    free(manifest);
    return st;
}

vg_status vg_checkpoint_choose(vg_comm *comm, const char *path, char **out)
{
    char *chosen = NULL;
    vg_status st = vg_comm_rank(comm) == 0 ? root_choose(path, &chosen) : VG_OK;
    st = vg_comm_agree(comm, st);
    if (st == VG_OK) st = vg_comm_broadcast_text(comm, &chosen, 0);
    if (st == VG_OK) st = vg_comm_agree(comm, chosen ? wait_for_checkpoint(chosen) : VG_OK);
    if (st != VG_OK) {
        free(chosen);
        return st;
    }
    *out = chosen;
    return VG_OK;
}
