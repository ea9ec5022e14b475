#include "kernels/check/check_impl.h"

#include "kernels/graph_impl.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* Quiet NaNs whose payload no computation makes; as integers they are no index and no count. Sums that start from them
 * keep the payload, so that += on fresh memory shows as well. */
static const uint64_t poison8 = 0x7ff85a1ad0bad0baU;
static const uint32_t poison4 = 0x7fc5a1adU;

static size_t operand_bytes(const vg_operand *o)
{
    return o->data ? (size_t)vg_shape_count(&o->shape) * vg_dtype_bytes(o->dtype) : 0;
}

/* What one element of unwritten memory looks like, and how many bytes it has. */
static size_t poison_of(const vg_operand *o, const void **pattern)
{
    const bool wide = vg_dtype_bytes(o->dtype) == sizeof poison8;
    *pattern = wide ? (const void *)&poison8 : &poison4;
    return wide ? sizeof poison8 : sizeof poison4;
}

static void poison(const vg_operand *o)
{
    const void *pattern = NULL;
    const size_t width = poison_of(o, &pattern);
    for (size_t i = 0; i + width <= operand_bytes(o); i += width) memcpy((char *)o->data + i, pattern, width);
}

static bool overlap(const vg_operand *a, const vg_operand *b)
{
    const char *x = a->data, *y = b->data;
    return x && y && x < y + operand_bytes(b) && y < x + operand_bytes(a);
}

static bool shares_memory(const vg_node *node, const vg_operand *input)
{
    for (int i = 0; i < node->n_out; i++)
        if (overlap(input, &node->out[i])) return true;
    return false;
}

static uint64_t fingerprint(const vg_node *node, int i)
{
    const vg_operand *o = &node->in[i];
    return o->data && !shares_memory(node, o) ? XXH3_64bits(o->data, operand_bytes(o)) : 0;
}

static bool is_added_to(const vg_node *node, int i)
{
    return node->accumulate && ((vg_op_parameter_outputs(node->op) >> i) & 1);
}

static vg_status check_written(const vg_node *node, int i)
{
    const vg_operand *o = &node->out[i];
    const void *pattern = NULL;
    const size_t width = poison_of(o, &pattern);
    char text[64];
    for (size_t at = 0; at + width <= operand_bytes(o); at += width)
        VG_CHECK(memcmp((const char *)o->data + at, pattern, width) != 0, VG_E_BUG,
                 "%s never wrote element %zu of its output %d %s", vg_op_name(node->op), at / width, i,
                 vg_shape_text(&o->shape, text));
    return VG_OK;
}

vg_status vg_check_node(const vg_backend *inner, vg_stream *stream, const vg_node *node)
{
    VG_CHECK(inner->kernels[node->op], VG_E_BUG, "the %s backend has no kernel for %s", inner->name,
             vg_op_name(node->op));
    uint64_t before[VG_MAX_IN];
    for (int i = 0; i < node->n_in; i++) before[i] = fingerprint(node, i);
    for (int i = 0; i < node->n_out; i++)
        if (!is_added_to(node, i) && node->out[i].data) poison(&node->out[i]);
    const size_t scratch = inner->workspace_bytes ? inner->workspace_bytes(node, stream->n_threads) : 0;
    if (scratch) memset(node->workspace, 0xff, scratch); /* NaN in every float type */
    VG_TRY(inner->kernels[node->op](stream, node));
    char text[64];
    for (int i = 0; i < node->n_in; i++)
        VG_CHECK(fingerprint(node, i) == before[i], VG_E_BUG, "%s changed its input %d %s", vg_op_name(node->op), i,
                 vg_shape_text(&node->in[i].shape, text));
    for (int i = 0; i < node->n_out; i++)
        if (!is_added_to(node, i) && node->out[i].data) VG_TRY(check_written(node, i));
    return VG_OK;
}
