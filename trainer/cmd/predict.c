#include "trainer/cmd/arguments.h"
#include "trainer/evaluate.h"
#include "trainer/trained.h"
#include "trainer/vlgtr.h"

#include "data/draw.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

/* As import and loader would. */
static vg_status encode(const vg_trained *t, const char *phrase, vg_batch *batch)
{
    vg_text words = {0};
    vg_status st = vg_text_add_words(&words, phrase, strlen(phrase));
    if (st == VG_OK)
        st = vg_tokenizer_encode(t->tokenizer, words.length ? words.data : "", words.length, batch->shape.text_tokens,
                                 batch->token_ids, &batch->token_counts[0]);
    free(words.data);
    return st;
}

/* Fills a batch of one image and one phrase. */
static vg_status fill_batch(const vg_trained *t, const vg_image *image, const char *phrase, vg_batch *batch)
{
    vg_resize_scratch scratch = {0};
    const vg_special_ids special = vg_tokenizer_special_ids(t->tokenizer);
    for (int i = 0; i < batch->shape.text_tokens; i++) batch->token_ids[i] = special.pad;
    VG_TRY(encode(t, phrase, batch));
    batch->filled[0] = 1;
    const vg_status st = vg_image_resize(image, batch->shape.side, batch->shape.side, batch->pixels, &scratch);
    free(scratch.data);
    return st;
}

static vg_status run(const vg_trained *t, const vg_image *image, const char *phrase)
{
    const vg_batch_shape shape = vg_model_batch_shape(&t->options);
    vg_batch batch = {0};
    int32_t key_counts[1];
    VG_TRY(vg_batch_init(&batch, &shape));
    vg_status st = fill_batch(t, image, phrase, &batch);
    if (st == VG_OK) st = vg_model_bind(&t->options, t->answer, &batch, key_counts);
    if (st == VG_OK) st = vg_program_run(t->answer);
    if (st == VG_OK) st = vg_program_wait(t->answer);
    vg_batch_release(&batch);
    return st;
}

/* ---- telling ---- */

static json_t *floats_json(const float *x, int n)
{
    json_t *list = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(list, json_real((double)x[i]));
    return list;
}

static json_t *queries_json(const float *logits, const float *boxes, int n)
{
    json_t *list = json_array();
    for (int q = 0; q < n; q++)
        json_array_append_new(list, json_pack("{s:o, s:o, s:f}", "logits", floats_json(logits + 2 * q, 2), "cxcywh",
                                              floats_json(boxes + 4 * q, 4), "score",
                                              (double)vg_object_probability(logits + 2 * q)));
    return list;
}

static vg_status print_answer(const vg_trained *t, const char *path, const char *phrase, const vg_image *image,
                              const vg_answer *a, bool all_queries)
{
    json_t *record = json_pack("{s:s, s:s, s:i, s:i, s:o, s:f}", "image", path, "phrase", phrase, "width", image->width,
                               "height", image->height, "box", floats_json(a->box, 4), "score", (double)a->score);
    VG_CHECK(record, VG_E_DATA, "the phrase or the path is not UTF-8");
    if (all_queries)
        json_object_set_new(record, "queries",
                            queries_json(vg_program_output(t->answer, "logits", NULL),
                                         vg_program_output(t->answer, "boxes", NULL), (int)t->options.fusion_queries));
    json_dumpf(record, stdout, JSON_PRESERVE_ORDER | JSON_COMPACT | JSON_REAL_PRECISION(17));
    putchar('\n');
    json_decref(record);
    return VG_OK;
}

static vg_status draw(const vg_answer *a, const char *path, const char *phrase, vg_image *image, const char *png)
{
    vg_drawn_box box = {.colour = 0x20c040, .label = phrase};
    memcpy(box.xyxy, a->box, sizeof box.xyxy);
    const vg_status st = vg_draw_boxes(image, &box, 1);
    if (st != VG_OK) return vg_fail_at(st, "%s", path);
    return vg_image_write_png(png, image);
}

static vg_status answer(const vg_trained *t, const char *path, const char *phrase, const char *png, bool all_queries)
{
    vg_image image = {0};
    VG_TRY(vg_image_read(path, &image));
    vg_status st = run(t, &image, phrase);
    if (st == VG_OK) {
        const vg_answer a =
            vg_answer_of(vg_program_output(t->answer, "logits", NULL), vg_program_output(t->answer, "boxes", NULL),
                         (int)t->options.fusion_queries, image.width, image.height, NULL, 0);
        st = print_answer(t, path, phrase, &image, &a, all_queries);
        if (st == VG_OK && png) st = draw(&a, path, phrase, &image, png);
    }
    vg_image_release(&image);
    return st;
}

vg_status vg_cmd_predict(vg_context *context, int argc, char **argv)
{
    const char *png = NULL, *device = "auto";
    bool all_queries = false;
    vg_argument_list sets = {.items = {"train.micro_batch=1", "data.phrases=1", "train.global_batch=1"}, .n = 3};
    const vg_argument table[] = {{.name = "--png", .text = &png},
                                 {.name = "--all-queries", .flag = &all_queries},
                                 {.name = "--device", .text = &device},
                                 {.name = "--set", .list = &sets}};
    char *words[3];
    int n_words = 0;
    VG_TRY(vg_arguments_read(argc, argv, table, sizeof table / sizeof *table, words, 3, &n_words));
    VG_CHECK(n_words == 3, VG_E_USAGE, "three words are expected: vlgtr predict RUN|CHECKPOINT IMAGE \"phrase\"");
    VG_TRY(vg_argument_device(device));
    VG_TRY(vg_argument_file("--png", png));
    vg_trained trained;
    VG_TRY(vg_trained_open(context->comm, words[0], device, sets.items, sets.n, &trained));
    const vg_status st = answer(&trained, words[1], words[2], png, all_queries);
    vg_trained_release(&trained);
    return st;
}
