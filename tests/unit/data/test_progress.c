/* Progress: the line that is told, and counting from many threads. */
#include "data/progress.h"

#include "data/workers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static void the_line_tells_share_rate_and_time_left(void **state)
{
    char line[160];
    vg_progress p;
    (void)state;
    vg_progress_begin(&p, "verify", VG_PROGRESS_BYTES, 124000000);
    vg_progress_text(&p, 31000000, 3.0, line, sizeof line);
    assert_string_equal(line, "verify: 31.0 of 124.0 MB (25 %), 10.3 MB/s, 0:00:09 left");
    vg_progress_text(&p, 124000000, 12.0, line, sizeof line);
    assert_string_equal(line, "verify: 124.0 of 124.0 MB (100 %), 10.3 MB/s, 0:00:00 left");
    vg_progress_end(&p);
    vg_progress_begin(&p, "import", "images", 200000);
    vg_progress_text(&p, 20, 3.0, line, sizeof line);
    assert_string_equal(line, "import: 20 of 200000 images (0 %), 6.7 images/s, 8:19:57 left");
    vg_progress_end(&p);
}

static void without_a_total_or_a_rate_nothing_is_foretold(void **state)
{
    char line[160], cut[10];
    vg_progress p;
    (void)state;
    vg_progress_begin(&p, "import", "images", 0);
    vg_progress_text(&p, 20, 4.0, line, sizeof line);
    assert_string_equal(line, "import: 20 images, 5.0 images/s");
    p.total = 100;
    vg_progress_text(&p, 0, 4.0, line, sizeof line);
    assert_string_equal(line, "import: 0 images, 0.0 images/s");
    vg_progress_text(&p, 0, 4.0, cut, sizeof cut);
    assert_string_equal(cut, "import: 0");
    vg_progress_end(&p);
}

static void add_one(void *context, size_t i)
{
    (void)i;
    vg_progress_add(context, 3);
}

static void threads_count_side_by_side(void **state)
{
    vg_progress p;
    (void)state;
    vg_progress_begin(&p, "count", "things", 30000);
    vg_work_on_each(10000, 4, add_one, &p);
    assert_int_equal(atomic_load(&p.done), 30000);
    vg_progress_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_line_tells_share_rate_and_time_left),
        cmocka_unit_test(without_a_total_or_a_rate_nothing_is_foretold),
        cmocka_unit_test(threads_count_side_by_side),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
