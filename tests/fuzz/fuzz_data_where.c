/* Any bytes as a condition: read or refused, and what was read can be asked of a sentence. */
#include "data/shard_where_impl.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[] = "a.jpg\0left dog", split[VG_SHARD_NAME_BYTES] = "train", kind[VG_SHARD_NAME_BYTES] = "";
    static float boxes[1][4] = {{1, 2, 3, 4}};
    static vg_shard_image image = {.image_id = 7, .width = 40, .height = 30, .length = 9, .name_length = 5};
    static vg_shard_sentence sentence = {.text_offset = 6, .text_length = 8, .n_boxes = 1};
    const vg_shard shard = {.tables = {.images = &image,
                                       .sentences = &sentence,
                                       .boxes = boxes,
                                       .text = text,
                                       .splits = &split,
                                       .kinds = &kind,
                                       .n_images = 1,
                                       .n_sentences = 1}};
    vg_where where;
    char *condition = malloc(size + 1);
    if (!condition) abort();
    memcpy(condition, data, size);
    condition[size] = '\0';
    const vg_status st = vg_where_read(condition, &where);
    if (st == VG_OK)
        (void)vg_where_holds(&where, &shard, 0);
    else if (st != VG_E_USAGE)
        abort();
    free(condition);
    return 0;
}
