/* Shapes and element types: the words in which the rooms speak of tensors. Row-major, last letter fastest. */
#ifndef VG_KERNELS_TENSOR_H
#define VG_KERNELS_TENSOR_H

#include "kernels/base/base.h"

typedef enum vg_dtype { VG_F32, VG_F64, VG_BF16, VG_I32, VG_U32, VG_U8, VG_DTYPES } vg_dtype;

enum { VG_MAX_RANK = 4 };

typedef struct vg_shape {
    int rank; /* 0 is a scalar of one element */
    int64_t dim[VG_MAX_RANK];
} vg_shape;

/* VG_SHAPE(2, 3, 4) is a vg_shape of rank 3. */
#define VG_SHAPE(...) \
    ((vg_shape){.rank = (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), .dim = {__VA_ARGS__}})

size_t vg_dtype_bytes(vg_dtype dtype);
const char *vg_dtype_name(vg_dtype dtype);

/* Product of all dims (1 for a scalar). The builders bound it, so it never overflows for a shape that a graph accepted.
 */
int64_t vg_shape_count(const vg_shape *shape);
int64_t vg_shape_last(const vg_shape *shape); /* the last dim; 1 for a scalar */
int64_t vg_shape_rows(const vg_shape *shape); /* the product of all dims but the last */
bool vg_shape_equal(const vg_shape *a, const vg_shape *b);

/* "[8,261,384]" into text[64]. */
const char *vg_shape_text(const vg_shape *shape, char text[64]);

#endif
