/* The loader's speed, and the parts it is held against.
 *
 *     bench_loader load SHARDS SPLIT TOKENIZER SIDE WORKERS IMAGES     the loader with every augmentation
 *     bench_loader bare SHARDS SPLIT TOKENIZER SIDE WORKERS IMAGES     read, decode all of it to brightness and colours
 * as they are stored, as the loader does, stretch; nothing else
 *     bench_loader resize PICTURE SIDE REDUCED                         the stretched pixels on standard output, decoded
 * and stretched as data.reduced: REDUCED has it
 *
 * Prints a JSON object: images, wall_s, cpu_s (user and system, all threads), waits (voluntary switches of all
 * threads). */
#define _POSIX_C_SOURCE 200809L
#include "data/loader.h"
#include "data/draw.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <jpeglib.h>

/* What starting costs, memory that is touched for the first time above all, is left out. */
enum { BATCH = 8, BATCHES = 4, WARM_UP = BATCHES * BATCH };

typedef struct usage {
    double wall_s, cpu_s;
    long waits;
} usage;

typedef struct work {
    vg_split *split;
    vg_tokenizer *tokenizer;
    int side, n_workers;
    int64_t n_images; /* behind the WARM_UP ones */
    usage warm;       /* when those were done */
} work;

static double seconds(struct timeval t)
{
    return (double)t.tv_sec + 1e-6 * (double)t.tv_usec;
}

static usage usage_now(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (usage){vg_now_s(), seconds(r.ru_utime) + seconds(r.ru_stime), r.ru_nvcsw};
}

/* At the end as many images are under way as after the warm-up. */
static vg_status load(work *w)
{
    const vg_loader_stage stage = {
        .augment = {.crop = 0.5, .flip = 0.5, .colour = 0.8, .crop_keep = 1, .colour_safe = true}};
    const vg_batch_shape shape = {.images = BATCH, .phrases = 1, .side = w->side, .text_tokens = 32, .max_targets = 1};
    const vg_loader_spec spec = {.split = w->split,
                                 .tokenizer = w->tokenizer,
                                 .shape = shape,
                                 .seed = 1,
                                 .shuffle = true,
                                 .reduced = 2,
                                 .stages = &stage,
                                 .n_stages = 1,
                                 .n_workers = w->n_workers};
    vg_batch batches[BATCHES] = {0};
    vg_loader *loader = NULL;
    for (int i = 0; i < BATCHES; i++) VG_TRY(vg_batch_init(&batches[i], &shape));
    VG_TRY(vg_loader_open(&spec, batches, BATCHES, &loader));
    int64_t wanted = 0;
    for (; wanted < BATCHES * BATCH; wanted += BATCH) VG_TRY(vg_loader_want(loader, wanted));
    for (int64_t taken = 0; taken < WARM_UP + w->n_images; taken += BATCH, wanted += BATCH) {
        vg_batch *batch = NULL;
        if (taken == WARM_UP) w->warm = usage_now();
        VG_TRY(vg_loader_take(loader, &batch));
        vg_loader_give_back(loader, batch);
        VG_TRY(vg_loader_want(loader, wanted));
    }
    vg_loader_close(loader);
    for (int i = 0; i < BATCHES; i++) vg_batch_release(&batches[i]);
    return VG_OK;
}

/* Memory for all samples of a picture, and where each component's lie. */
static vg_status planes_place(const struct jpeg_decompress_struct *info, vg_decoded *out)
{
    size_t bytes = 0, at[3] = {0};
    out->n_planes = info->num_components;
    for (int k = 0; k < out->n_planes; k++) {
        const jpeg_component_info *c = &info->comp_info[k];
        const int width = (int)c->downsampled_width, height = (int)c->downsampled_height;
        out->planes[k] = (vg_plane){.stride = (size_t)c->width_in_blocks * DCTSIZE,
                                    .width = width,
                                    .height = height,
                                    .window = {.width = width, .height = height}};
        at[k] = bytes;
        bytes += (size_t)info->total_iMCU_rows * (size_t)c->v_samp_factor * DCTSIZE * out->planes[k].stride;
    }
    VG_TRY(vg_grow(&out->image.pixels, &out->capacity, bytes + VG_PLANE_BEHIND, 1));
    for (int k = 0; k < out->n_planes; k++) out->planes[k].samples = out->image.pixels + at[k];
    return VG_OK;
}

/* Libjpeg as anyone calls it who wants brightness and colours as they are stored, with memory that is kept. */
static vg_status decode_all(const unsigned char *bytes, size_t n, vg_decoded *out)
{
    struct jpeg_decompress_struct info;
    struct jpeg_error_mgr errors;
    JSAMPROW rows[3][MAX_SAMP_FACTOR * DCTSIZE];
    JSAMPARRAY all[3] = {rows[0], rows[1], rows[2]};
    info.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&info);
    jpeg_mem_src(&info, bytes, (unsigned long)n);
    jpeg_read_header(&info, TRUE);
    VG_CHECK(info.jpeg_color_space == JCS_YCbCr, VG_E_DATA, "a picture is not stored as brightness and two colours");
    info.raw_data_out = TRUE;
    jpeg_start_decompress(&info);
    VG_TRY(planes_place(&info, out));
    for (JDIMENSION band = 0; band < info.total_iMCU_rows; band++) {
        for (int k = 0; k < out->n_planes; k++)
            for (int y = 0, n_rows = info.comp_info[k].v_samp_factor * DCTSIZE; y < n_rows; y++)
                rows[k][y] =
                    out->planes[k].samples + ((size_t)band * (size_t)n_rows + (size_t)y) * out->planes[k].stride;
        jpeg_read_raw_data(&info, all, (JDIMENSION)info.max_v_samp_factor * DCTSIZE);
    }
    jpeg_finish_decompress(&info);
    jpeg_destroy_decompress(&info);
    return VG_OK;
}

static vg_status bare(work *w)
{
    unsigned char *bytes = NULL;
    size_t n = 0, capacity = 0;
    vg_decoded decoded = {0};
    vg_resize_scratch scratch = {0};
    uint64_t sums[3];
    uint8_t *out = vg_new0_array((size_t)w->side * (size_t)w->side, 3);
    VG_CHECK(out, VG_E_NOMEM, "no memory for a picture");
    for (int64_t i = 0; i < WARM_UP + w->n_images; i++) {
        if (i == WARM_UP) w->warm = usage_now();
        VG_TRY(vg_split_read_image(w->split, i % vg_split_image_count(w->split), &bytes, &capacity, &n));
        VG_TRY(decode_all(bytes, n, &decoded));
        VG_TRY(vg_decoded_stretch(&decoded, false, w->side, w->side, out, &scratch, sums));
    }
    free(bytes);
    free(out);
    free(scratch.data);
    vg_image_release(&decoded.image);
    return VG_OK;
}

static vg_status measure(char **argv, vg_status (*run)(work *))
{
    const char *const shards = argv[2];
    work w = {.side = atoi(argv[5]), .n_workers = atoi(argv[6]), .n_images = atoll(argv[7]) / BATCH * BATCH};
    VG_TRY(vg_split_open(&shards, 1, argv[3], &w.split));
    VG_TRY(vg_tokenizer_open(argv[4], &w.tokenizer));
    VG_TRY(run(&w));
    const usage after = usage_now();
    printf("{\"images\": %lld, \"wall_s\": %.6f, \"cpu_s\": %.6f, \"waits\": %ld}\n", (long long)w.n_images,
           after.wall_s - w.warm.wall_s, after.cpu_s - w.warm.cpu_s, after.waits - w.warm.waits);
    vg_tokenizer_close(w.tokenizer);
    vg_split_close(w.split);
    return VG_OK;
}

static vg_status resize(const char *path, int side, double reduced)
{
    enum { MOST_BYTES = 1 << 26 };
    char *bytes = NULL;
    size_t n = 0;
    const vg_decode how = {.least_pixels = reduced * side, .planes = reduced > 0};
    vg_decoded decoded = {0};
    vg_resize_scratch scratch = {0};
    uint64_t sums[3];
    uint8_t *out = vg_new0_array((size_t)side * (size_t)side, 3);
    VG_CHECK(out, VG_E_NOMEM, "no memory for a picture");
    VG_TRY(vg_file_read(path, MOST_BYTES, &bytes, &n));
    VG_TRY(vg_image_decode_part((const unsigned char *)bytes, n, &how, &decoded));
    VG_TRY(vg_decoded_stretch(&decoded, false, side, side, out, &scratch, sums));
    fwrite(out, 3, (size_t)side * (size_t)side, stdout);
    free(bytes);
    free(out);
    free(scratch.data);
    vg_image_release(&decoded.image);
    return VG_OK;
}

int main(int argc, char **argv)
{
    vg_status st = VG_E_USAGE;
    if (argc == 8 && strcmp(argv[1], "load") == 0) st = measure(argv, load);
    if (argc == 8 && strcmp(argv[1], "bare") == 0) st = measure(argv, bare);
    if (argc == 5 && strcmp(argv[1], "resize") == 0) st = resize(argv[2], atoi(argv[3]), atof(argv[4]));
    if (st != VG_OK) fprintf(stderr, "bench_loader: %s\n", argc < 4 ? "see the top of loader.c" : vg_error_text());
    return st == VG_OK ? 0 : 1;
}
