#define _DEFAULT_SOURCE /* setenv */
/* The loops over pixels: every instruction set of this machine gives the bits of plain C. */
#include "data/augment.h"
#include "data/draw.h"
#include "data/pixel_ops_impl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

static const char *const sets[] = {"base", "avx2", "avx512"};

static vg_image noise(int width, int height)
{
    vg_image image = {.pixels = malloc((size_t)(3 * width * height)), .width = width, .height = height};
    for (uint32_t i = 0; i < (uint32_t)(3 * width * height); i++) {
        uint32_t word[4];
        vg_philox((const uint32_t[4]){i, 0, 0, 0}, (vg_rng_key){{3, 0}}, word);
        image.pixels[i] = word[0] % 5 ? (uint8_t)word[1] : word[0] % 2 ? 255 : 0; /* overshoots at both ends */
    }
    return image;
}

static void every_set_stretches_alike(void **state)
{
    (void)state;
    static uint8_t out[3][3 * 90 * 90];
    vg_image image = noise(67, 53);
    vg_resize_scratch scratch = {0};
    for (int k = 0; k < 400; k++) {
        uint32_t w[4], v[4];
        vg_philox((const uint32_t[4]){(uint32_t)k, 1, 0, 0}, (vg_rng_key){{3, 0}}, w);
        vg_philox((const uint32_t[4]){(uint32_t)k, 2, 0, 0}, (vg_rng_key){{3, 0}}, v);
        vg_stretch part = {w[0] % 60, w[1] % 50, 0, 0, v[2] % 2};
        if (k % 3 == 0) part.x += 0.5, part.y += 0.25;
        part.width = (1 + w[2] % 8 * (67 - part.x - 1) / 7.0);
        part.height = (1 + w[3] % 8 * (53 - part.y - 1) / 7.0);
        const int width = 1 + (int)(v[0] % 90), height = 1 + (int)(v[1] % 90);
        if (part.x + part.width > 67 || part.y + part.height > 53) continue;
        for (int s = 0; s < 3; s++) {
            memset(out[s], 0xa5, sizeof out[s]);
            setenv("VLGTR_ISA", sets[s], 1);
            assert_int_equal(vg_image_stretch(&image, &part, width, height, out[s], &scratch), VG_OK);
            assert_memory_equal(out[s], out[0], sizeof out[s]);
        }
    }
    free(scratch.data);
    vg_image_release(&image);
}

/* Of planes, for pictures and windows of any size. */
static void every_set_stretches_planes_alike(void **state)
{
    (void)state;
    static uint8_t out[3][3 * 90 * 90];
    vg_decoded decoded = {0};
    vg_resize_scratch scratch = {0};
    for (int k = 0; k < 200; k++) {
        uint32_t w[4], v[4];
        vg_philox((const uint32_t[4]){(uint32_t)k, 3, 0, 0}, (vg_rng_key){{3, 0}}, w);
        vg_philox((const uint32_t[4]){(uint32_t)k, 4, 0, 0}, (vg_rng_key){{3, 0}}, v);
        vg_image image = noise(1 + (int)(w[0] % 150), 1 + (int)(w[1] % 150));
        unsigned char *bytes = NULL;
        size_t n = 0;
        assert_int_equal(vg_image_encode_jpeg(&image, 90, &bytes, &n), VG_OK);
        vg_window window = {(int)(w[2] % (uint32_t)image.width), (int)(w[3] % (uint32_t)image.height), 0, 0};
        window.width = 1 + (int)(v[0] % (uint32_t)(image.width - window.x));
        window.height = 1 + (int)(v[1] % (uint32_t)(image.height - window.y));
        const vg_decode how = {.window = window, .planes = true, .least_pixels = k % 2 ? 20 : 0};
        assert_int_equal(vg_image_decode_part(bytes, n, &how, &decoded), VG_OK);
        assert_int_equal(decoded.n_planes, 3);
        const int width = 1 + (int)(v[2] % 90), height = 1 + (int)(v[3] % 90);
        for (int s = 0; s < 3; s++) {
            memset(out[s], 0xa5, sizeof out[s]);
            setenv("VLGTR_ISA", sets[s], 1);
            uint64_t sums[3], expected[3] = {0};
            assert_int_equal(vg_decoded_stretch(&decoded, k % 3 == 0, width, height, out[s], &scratch, sums), VG_OK);
            vg_pixel_ops_base.sums(out[s], (size_t)(width * height), expected);
            assert_memory_equal(sums, expected, sizeof sums);
            assert_memory_equal(out[s], out[0], sizeof out[s]);
        }
        free(bytes);
        vg_image_release(&image);
    }
    free(scratch.data);
    vg_image_release(&decoded.image);
}

/* Of a grey row of any width, stretched to any other; where more may not be read there is no memory. */
static void little_behind_a_plane_is_read(void **state)
{
    enum { BYTES = 1 << 16 };
    static const int widths[] = {1, 30, 700, 5000, BYTES - VG_PLANE_BEHIND - 1};
    static uint8_t out[3 * 90];
    vg_resize_scratch scratch = {0};
    uint8_t *memory = mmap(NULL, 2 * BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    (void)state;
    assert_ptr_not_equal(memory, MAP_FAILED);
    assert_int_equal(mprotect(memory + BYTES, BYTES, PROT_NONE), 0);
    for (int k = 0; k < 5; k++)
        for (int width = 1; width <= 90; width++)
            for (int s = 0; s < 3; s++) {
                const vg_stretch window = {.width = widths[k], .height = 1};
                vg_decoded grey = {.n_planes = 1, .window = window};
                grey.planes[0] = (vg_plane){.samples = memory + BYTES - VG_PLANE_BEHIND - widths[k],
                                            .stride = (size_t)widths[k],
                                            .width = widths[k],
                                            .height = 1,
                                            .window = window};
                setenv("VLGTR_ISA", sets[s], 1);
                assert_int_equal(vg_decoded_stretch(&grey, width % 2, width, 1, out, &scratch, NULL), VG_OK);
            }
    free(scratch.data);
    munmap(memory, 2 * BYTES);
}

static void every_set_recolours_alike(void **state)
{
    (void)state;
    const vg_colours factors[] = {{0.6, 1.4, 1.4}, {1.4, 1.4, 1.4}, {1.4, 0.6, 0.6}, {0.9, 1.1, 1}};
    for (int n = 1; n < 120; n += 7)
        for (int k = 0; k < 4; k++) {
            vg_image plain = noise(n, 1);
            for (int s = 0; s < 3; s++) {
                vg_image image = noise(n, 1);
                setenv("VLGTR_ISA", sets[s], 1);
                uint64_t sums[3] = {0};
                vg_pixel_ops_best()->sums(image.pixels, (size_t)n, sums);
                vg_recolour(image.pixels, (size_t)n, sums, &factors[k]);
                if (s == 0) memcpy(plain.pixels, image.pixels, (size_t)(3 * n));
                assert_memory_equal(image.pixels, plain.pixels, (size_t)(3 * n));
                vg_image_release(&image);
            }
            vg_image_release(&plain);
        }
}

static void sums_of_many_bright_pixels_are_whole(void **state)
{
    (void)state;
    enum { N = 40009 }; /* more than 16 bits of a vector add up, in one go */
    uint8_t *bright = malloc(3 * N);
    assert_non_null(bright);
    memset(bright, 255, 3 * N);
    for (size_t i = 1; i < 3 * N; i += 3) bright[i] = 254;
    for (int s = 0; s < 3; s++) {
        uint64_t totals[3] = {1, 2, 3};
        setenv("VLGTR_ISA", sets[s], 1);
        vg_pixel_ops_best()->sums(bright, N, totals);
        assert_int_equal(totals[0], 255 * N + 1);
        assert_int_equal(totals[1], 254 * N + 2);
        assert_int_equal(totals[2], 255 * N + 3);
    }
    free(bright);
}

static void the_variable_lowers_the_set(void **state)
{
    (void)state;
    setenv("VLGTR_ISA", "base", 1);
    assert_ptr_equal(vg_pixel_ops_best(), &vg_pixel_ops_base);
#if defined(__x86_64__)
    setenv("VLGTR_ISA", "avx2", 1);
    if (__builtin_cpu_supports("avx2")) assert_ptr_equal(vg_pixel_ops_best(), &vg_pixel_ops_avx2);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_set_stretches_alike),
        cmocka_unit_test(every_set_stretches_planes_alike),
        cmocka_unit_test(little_behind_a_plane_is_read),
        cmocka_unit_test(every_set_recolours_alike),
        cmocka_unit_test(sums_of_many_bright_pixels_are_whole),
        cmocka_unit_test(the_variable_lowers_the_set),
    };
    return cmocka_run_group_tests_name("pixel_ops", tests, NULL, NULL);
}
