#include "kernels/graph_impl.h"

static const char *const names[VG_OP_COUNT] = {
#define VG_OP(name, n_in, n_out, shape, grad, cost) [VG_OP_##name] = #name,
#include "kernels/ops.def"
#undef VG_OP
};

const char *vg_op_name(vg_op op)
{
    return names[op];
}
