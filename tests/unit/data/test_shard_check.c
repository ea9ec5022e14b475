/* Tables that lie: each of their rows is checked, and what is wrong with it is named. */
#define _XOPEN_SOURCE 700
#include "data/shard_impl.h"
#include "tests/unit/scratch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/data/small_shard.h"

typedef struct lie {
    const char *says;
    void (*tell)(vg_shard_tables *t);
} lie;

static void lie_width(vg_shard_tables *t)
{
    t->images[0].width = 0;
}
static void lie_length(vg_shard_tables *t)
{
    t->images[1].length = UINT64_MAX;
}
static void lie_offset(vg_shard_tables *t)
{
    t->images[1].offset = UINT64_MAX;
}
static void lie_overlap(vg_shard_tables *t)
{
    t->images[1].offset = 3;
}
static void lie_straddle(vg_shard_tables *t)
{
    t->chunk_bytes = t->images[1].offset + 2; /* the second image goes on behind the edge */
}
static void lie_name(vg_shard_tables *t)
{
    t->images[0].name_offset = t->n_text - 2;
}
static void lie_name_length(vg_shard_tables *t)
{
    t->images[0].name_length = 3;
}
static void lie_image_id(vg_shard_tables *t)
{
    t->images[0].image_id = 5;
}
static void lie_no_image(vg_shard_tables *t)
{
    t->sentences[3].image = 2;
}
static void lie_negative_image(vg_shard_tables *t)
{
    t->sentences[0].image = -1;
}
static void lie_order(vg_shard_tables *t)
{
    t->sentences[0].image = 1;
}
static void lie_orphan(vg_shard_tables *t)
{
    t->n_sentences = 3;
}
static void lie_split(vg_shard_tables *t)
{
    t->sentences[0].split = 2;
}
static void lie_kind(vg_shard_tables *t)
{
    t->sentences[0].kind = -1;
}
static void lie_text(vg_shard_tables *t)
{
    t->sentences[0].text_offset = UINT64_MAX - 3;
}
static void lie_text_end(vg_shard_tables *t)
{
    t->sentences[0].text_length = 9;
}
static void lie_empty(vg_shard_tables *t)
{
    t->sentences[0].text_length = 0;
}
static void lie_utf8(vg_shard_tables *t)
{
    t->text[t->sentences[0].text_offset] = '\xff';
}
static void lie_boxes(vg_shard_tables *t)
{
    t->sentences[0].n_boxes = 4;
}
static void lie_negative_boxes(vg_shard_tables *t)
{
    t->sentences[0].n_boxes = -1;
}
static void lie_first_box(vg_shard_tables *t)
{
    t->sentences[0].first_box = INT64_MAX;
}
static void lie_box_outside(vg_shard_tables *t)
{
    t->boxes[0][2] = 40.5F;
}
static void lie_box_empty(vg_shard_tables *t)
{
    t->boxes[0][2] = t->boxes[0][0];
}
static void lie_box_nan(vg_shard_tables *t)
{
    t->boxes[0][1] = NAN;
}
static void lie_box_moved(vg_shard_tables *t)
{
    t->boxes[0][2] += 0.25F;
}
static void lie_ref(vg_shard_tables *t)
{
    t->sentences[0].ref_id = 1;
}
static void lie_split_name(vg_shard_tables *t)
{
    memset(t->splits[0], 'x', sizeof t->splits[0]);
}
static void lie_empty_split(vg_shard_tables *t)
{
    t->splits[0][0] = '\0';
}

static const lie lies[] = {
    {"row 0 (image 7): its size is impossible", lie_width},
    {"row 1 (image 8): its bytes lie outside", lie_length},
    {"its bytes lie outside", lie_offset},
    {"its bytes overlap", lie_overlap},
    {"its bytes straddle a chunk", lie_straddle},
    {"outside the text table", lie_name},
    {"does not end where it says", lie_name_length},
    {"does not match its hash", lie_image_id},
    {"row 3 (sentence 80): its image does not exist", lie_no_image},
    {"its image does not exist", lie_negative_image},
    {"not in the order of images", lie_order},
    {"image row 1 has no sentences", lie_orphan},
    {"its split does not exist", lie_split},
    {"its kind does not exist", lie_kind},
    {"outside the text table", lie_text},
    {"does not end where it says", lie_text_end},
    {"its text is empty", lie_empty},
    {"not UTF-8", lie_utf8},
    {"boxes lie outside the box table", lie_boxes},
    {"boxes lie outside the box table", lie_negative_boxes},
    {"boxes lie outside the box table", lie_first_box},
    {"its box leaves the image", lie_box_outside},
    {"its box is empty", lie_box_empty},
    {"not finite", lie_box_nan},
    {"does not match its hash", lie_box_moved},
    {"does not match its hash", lie_ref},
    {"/splits row 0 is not a name", lie_split_name},
    {"/splits row 0 is not a name", lie_empty_split},
};

static void every_lie_of_a_row_is_named(void **state)
{
    const char *path = path_in(*state, "two.h5");
    small_shard(path);
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        vg_shard *shard = NULL;
        MUST(vg_shard_open(path, &shard));
        assert_int_equal(shard->tables.n_boxes, 3); /* sentence 80 uses the second box of sentence 71 */
        lies[i].tell(&shard->tables);
        assert_int_equal(vg_shard_check(path, &shard->tables, NULL, NULL), VG_E_DATA);
        ASSERT_SAYS(path);
        ASSERT_SAYS(lies[i].says);
        vg_shard_close(shard);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_lie_of_a_row_is_named, scratch_make, scratch_remove),
        cmocka_unit_test(no_file_or_table_was_left_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
