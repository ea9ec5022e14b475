#include "kernels/tensor.h"

#include <stdio.h>

static const struct {
    const char *name;
    size_t bytes;
} dtypes[VG_DTYPES] = {
    [VG_F32] = {"f32", 4}, [VG_F64] = {"f64", 8}, [VG_BF16] = {"bf16", 2},
    [VG_I32] = {"i32", 4}, [VG_U32] = {"u32", 4}, [VG_U8] = {"u8", 1},
};

size_t vg_dtype_bytes(vg_dtype dtype)
{
    return dtypes[dtype].bytes;
}

const char *vg_dtype_name(vg_dtype dtype)
{
    return dtypes[dtype].name;
}

int64_t vg_shape_count(const vg_shape *shape)
{
    int64_t count = 1;
    for (int i = 0; i < shape->rank; i++) count *= shape->dim[i];
    return count;
}

int64_t vg_shape_last(const vg_shape *shape)
{
    return shape->rank ? shape->dim[shape->rank - 1] : 1;
}

int64_t vg_shape_rows(const vg_shape *shape)
{
    int64_t rows = 1;
    for (int i = 0; i < shape->rank - 1; i++) rows *= shape->dim[i];
    return rows;
}

bool vg_shape_equal(const vg_shape *a, const vg_shape *b)
{
    if (a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

const char *vg_shape_text(const vg_shape *shape, char text[64])
{
    int n = snprintf(text, 64, "[");
    for (int i = 0; i < shape->rank && n < 64; i++)
        n += snprintf(text + n, (size_t)(64 - n), "%s%lld", i ? "," : "", (long long)shape->dim[i]);
    if (n < 64) snprintf(text + n, (size_t)(64 - n), "]");
    return text;
}
