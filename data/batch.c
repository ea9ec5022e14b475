#include "data/loader.h"

#include <string.h>

enum { ALIGNMENT = 64 };

/* The buffers of a batch as rows: where the pointer lives, elements, bytes of each. */
typedef struct buffer {
    void *pointer;
    size_t factors[4], bytes_each;
} buffer;

/* Gives every buffer its place in the arena; with base NULL it only counts. */
static bool place(const buffer *buffers, size_t n, unsigned char *base, size_t *total)
{
    size_t offset = 0;
    for (size_t i = 0; i < n; i++) {
        size_t bytes = buffers[i].bytes_each;
        for (int f = 0; f < 4; f++)
            if (!vg_mul_size(bytes, buffers[i].factors[f], &bytes)) return false;
        if (bytes > SIZE_MAX / 2 - offset) return false;
        void *at = base ? base + offset : NULL;
        memcpy(buffers[i].pointer, &at, sizeof at);
        offset = vg_round_up(offset + bytes, ALIGNMENT);
    }
    *total = offset;
    return true;
}

vg_status vg_batch_init(vg_batch *batch, const vg_batch_shape *shape)
{
    VG_CHECK(shape->images > 0 && shape->phrases > 0 && shape->side > 0 && shape->text_tokens > 0 &&
                 shape->max_targets > 0 && shape->image_floats >= 0,
             VG_E_BUG, "a batch of %d images, %d phrases, side %d, %d tokens, %d targets cannot be", shape->images,
             shape->phrases, shape->side, shape->text_tokens, shape->max_targets);
    vg_batch made = {.shape = *shape};
    const size_t m = (size_t)shape->images, p = (size_t)shape->phrases, s = (size_t)shape->side;
    const size_t tokens = (size_t)shape->text_tokens, targets = (size_t)shape->max_targets;
    const size_t features = (size_t)shape->image_floats;
    const buffer buffers[] = {
        {&made.pixels, {m, s, s, features ? 0 : 3}, 1},
        {&made.image_features, {m, features, 1, 1}, sizeof(float)},
        {&made.images, {m, 1, 1, 1}, sizeof(int64_t)},
        {&made.replaced, {m, 1, 1, 1}, sizeof(int32_t)},
        {&made.token_ids, {m, p, tokens, 1}, sizeof(int32_t)},
        {&made.token_counts, {m, p, 1, 1}, sizeof(int32_t)},
        {&made.image_index, {m, p, 1, 1}, sizeof(int32_t)},
        {&made.targets, {m, p, targets, 4}, sizeof(float)},
        {&made.n_targets, {m, p, 1, 1}, sizeof(int32_t)},
        {&made.filled, {m, p, 1, 1}, sizeof(int32_t)},
        {&made.keys, {m, p, 4, 1}, sizeof(uint32_t)},
        {&made.swapped, {m, p, 1, 1}, sizeof(int32_t)},
        {&made.sentences, {m, p, 1, 1}, sizeof(int64_t)},
    };
    const size_t n = sizeof buffers / sizeof *buffers;
    size_t total = 0;
    VG_CHECK(place(buffers, n, NULL, &total), VG_E_NOMEM, "a batch of %d images of %d pixels a side does not fit",
             shape->images, shape->side);
    VG_TRY(vg_arena_init(&made.memory, total));
    place(buffers, n, made.memory.base, &total);
    *batch = made;
    return VG_OK;
}

void vg_batch_release(vg_batch *batch)
{
    vg_arena_release(&batch->memory);
    *batch = (vg_batch){0};
}
