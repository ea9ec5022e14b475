/* Token sequences put together and taken apart. */
#include "kernels/cpu/cpu_impl.h"

#include <string.h>

vg_status vg_cpu_check_index(const vg_operand *index, int64_t n_slots, int64_t n_images)
{
    if (!index->data) {
        VG_CHECK(n_slots == n_images, VG_E_BUG, "%lld slots of %lld images need an index", (long long)n_slots,
                 (long long)n_images);
        return VG_OK;
    }
    const int32_t *image = index->data;
    for (int64_t b = 0; b < n_slots; b++)
        VG_CHECK(image[b] >= (b ? image[b - 1] : 0) && image[b] < n_images, VG_E_BUG,
                 "index[%lld] = %d: images must ascend within 0..%lld", (long long)b, image[b],
                 (long long)n_images - 1);
    return VG_OK;
}

static void copy_rows(float *to, const float *from, int64_t n_floats)
{
    memcpy(to, from, (size_t)n_floats * sizeof *to);
}

vg_status vg_cpu_vit_tokens(vg_stream *stream, const vg_node *node)
{
    const float *patches = node->in[0].data, *pos = node->in[1].data, *cls = node->in[2].data, *reg = node->in[3].data;
    float *x = node->out[0].data;
    const int64_t images = node->in[0].shape.dim[0], n_patches = node->in[0].shape.dim[1];
    const int64_t width = node->in[0].shape.dim[2], tokens = node->out[0].shape.dim[1];
    const int64_t n_reg = reg ? node->in[3].shape.dim[1] : 0, prefix = (cls ? 1 : 0) + n_reg;
#pragma omp parallel for num_threads(stream->n_threads) if (images * tokens * width > VG_CPU_FEW) collapse(2)
    for (int64_t i = 0; i < images; i++)
        for (int64_t t = 0; t < tokens; t++) {
            float *row = x + (i * tokens + t) * width;
            const int64_t p = t - prefix;
            if (p >= 0) {
                const float *patch = patches + (i * n_patches + p) * width;
                for (int64_t c = 0; c < width; c++) row[c] = patch[c] + pos[p * width + c];
            } else {
                copy_rows(row, cls && t == 0 ? cls : reg + (t - (cls ? 1 : 0)) * width, width);
            }
        }
    return VG_OK;
}

vg_status vg_cpu_vit_tokens_grad(vg_stream *stream, const vg_node *node)
{
    const float *dx = node->in[0].data;
    float *dpatches = node->out[0].data, *dpos = node->out[1].data, *dcls = node->out[2].data,
          *dreg = node->out[3].data;
    const int64_t images = node->in[0].shape.dim[0], tokens = node->in[0].shape.dim[1];
    const int64_t width = node->in[0].shape.dim[2], stride = tokens * width;
    const int64_t n_patches = dpatches ? node->out[0].shape.dim[1] : dpos ? node->out[1].shape.dim[0] : 0;
    const int64_t n_reg = dreg ? node->out[3].shape.dim[1] : 0;
    const float *patch_rows = dx + (tokens - n_patches) * width;
    /* The registers stand between cls and the patches; either neighbour places them. */
    const float *reg_rows = n_patches ? patch_rows - n_reg * width : dx + (dcls ? width : 0);
    if (dpatches) {
#pragma omp parallel for num_threads(stream->n_threads) if (images * stride > VG_CPU_FEW)
        for (int64_t i = 0; i < images; i++)
            copy_rows(dpatches + i * n_patches * width, patch_rows + i * stride, n_patches * width);
    }
    if (dpos) vg_cpu_sum_slices(stream, patch_rows, images, stride, n_patches * width, node->accumulate, dpos);
    if (dcls) vg_cpu_sum_slices(stream, dx, images, stride, width, node->accumulate, dcls);
    if (dreg) vg_cpu_sum_slices(stream, reg_rows, images, stride, n_reg * width, node->accumulate, dreg);
    return VG_OK;
}

vg_status vg_cpu_slice_tokens(vg_stream *stream, const vg_node *node)
{
    const float *x = node->in[0].data;
    float *y = node->out[0].data;
    const int64_t batch = node->in[0].shape.dim[0], tokens = node->in[0].shape.dim[1], width = node->in[0].shape.dim[2];
    const int64_t first = node->attr.slice.first, count = node->attr.slice.count;
#pragma omp parallel for num_threads(stream->n_threads) if (batch * count * width > VG_CPU_FEW)
    for (int64_t b = 0; b < batch; b++)
        copy_rows(y + b * count * width, x + (b * tokens + first) * width, count * width);
    return VG_OK;
}

vg_status vg_cpu_slice_tokens_grad(vg_stream *stream, const vg_node *node)
{
    const float *dy = node->in[0].data, *acc = node->in[1].data;
    float *dx = node->out[0].data;
    const int64_t batch = node->out[0].shape.dim[0], tokens = node->out[0].shape.dim[1];
    const int64_t width = node->out[0].shape.dim[2];
    const int64_t first = node->attr.slice.first, count = node->attr.slice.count;
#pragma omp parallel for num_threads(stream->n_threads) if (batch * tokens * width > VG_CPU_FEW) collapse(2)
    for (int64_t b = 0; b < batch; b++)
        for (int64_t t = 0; t < tokens; t++) {
            const float *row = t >= first && t < first + count ? dy + (b * count + t - first) * width : NULL;
            const float *more = acc ? acc + (b * tokens + t) * width : NULL;
            float *out = dx + (b * tokens + t) * width;
            for (int64_t c = 0; c < width; c++) out[c] = (more ? more[c] : 0.0F) + (row ? row[c] : 0.0F);
        }
    return VG_OK;
}

vg_status vg_cpu_concat_tokens(vg_stream *stream, const vg_node *node)
{
    const float *a = node->in[0].data, *b = node->in[1].data;
    const vg_operand *index = &node->in[2];
    float *y = node->out[0].data;
    const int64_t slots = node->in[1].shape.dim[0], width = node->in[1].shape.dim[2];
    const int64_t size_a = node->in[0].shape.dim[1] * width, size_b = node->in[1].shape.dim[1] * width;
    VG_TRY(vg_cpu_check_index(index, slots, node->in[0].shape.dim[0]));
#pragma omp parallel for num_threads(stream->n_threads) if (slots * (size_a + size_b) > VG_CPU_FEW)
    for (int64_t s = 0; s < slots; s++) {
        float *out = y + s * (size_a + size_b);
        copy_rows(out, a + vg_cpu_image_of(index, s) * size_a, size_a);
        copy_rows(out + size_a, b + s * size_b, size_b);
    }
    return VG_OK;
}

vg_status vg_cpu_concat_tokens_grad(vg_stream *stream, const vg_node *node)
{
    const float *dy = node->in[0].data;
    const vg_operand *index = &node->in[1];
    float *da = node->out[0].data, *db = node->out[1].data;
    const int64_t slots = node->in[0].shape.dim[0], size = node->in[0].shape.dim[1] * node->in[0].shape.dim[2];
    const int64_t images = da ? node->out[0].shape.dim[0] : index->data ? INT32_MAX : slots;
    const int64_t size_b = db ? node->out[1].shape.dim[1] * node->in[0].shape.dim[2] : 0;
    const int64_t size_a = da ? node->out[0].shape.dim[1] * node->in[0].shape.dim[2] : size - size_b;
    VG_TRY(vg_cpu_check_index(index, slots, images));
#pragma omp parallel num_threads(stream->n_threads) if (slots * size > VG_CPU_FEW)
    {
        if (da) {
#pragma omp for
            for (int64_t i = 0; i < images; i++) {
                memset(da + i * size_a, 0, (size_t)size_a * sizeof *da);
                for (int64_t s = 0; s < slots; s++)
                    if (vg_cpu_image_of(index, s) == i)
                        for (int64_t c = 0; c < size_a; c++) da[i * size_a + c] += dy[s * size + c];
            }
        }
        if (db) {
#pragma omp for
            for (int64_t s = 0; s < slots; s++) copy_rows(db + s * size_b, dy + s * size + size_a, size_b);
        }
    }
    return VG_OK;
}
