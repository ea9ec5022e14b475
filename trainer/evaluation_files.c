/* What an evaluation leaves behind: a line per sentence, and pictures. */
#include "trainer/evaluate.h"

#include "data/draw.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

static json_t *box_json(const float *b)
{
    return json_pack("[f,f,f,f]", (double)b[0], (double)b[1], (double)b[2], (double)b[3]);
}

static json_t *answer_json(const vg_answer *a, const vg_split *split)
{
    vg_sentence s;
    vg_image_info image;
    vg_split_sentence(split, a->sentence, &s);
    vg_split_image(split, s.image, &image);
    json_t *record =
        json_pack("{s:I, s:I, s:I, s:s, s:s, s:o, s:f, s:f}", "sentence_id", (json_int_t)s.sentence_id, "ref_id",
                  (json_int_t)s.ref_id, "image_id", (json_int_t)image.image_id, "phrase", s.text, "kind", s.kind, "box",
                  a->unread ? json_null() : box_json(a->box), "score", (double)a->score, "iou", (double)a->iou);
    if (record && a->unread) json_object_set_new(record, "unread", json_true());
    if (record && s.n_boxes) json_object_set_new(record, "target", box_json(s.boxes));
    return record;
}

vg_status vg_evaluation_write(const vg_evaluation *evaluation, const vg_split *split, const char *path)
{
    vg_text lines = {0};
    vg_status st = vg_text_add(&lines, "%s", "");
    for (int64_t i = 0; st == VG_OK && i < evaluation->n_answers; i++) {
        json_t *record = answer_json(&evaluation->answers[i], split);
        char *line = json_dumps(record, JSON_COMPACT | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
        st = line ? vg_text_add(&lines, "%s\n", line) : vg_fail(VG_E_NOMEM, "%s: no memory for the answers", path);
        free(line);
        json_decref(record);
    }
    if (st == VG_OK) st = vg_file_write_atomic(path, lines.data, lines.length);
    free(lines.data);
    return st;
}

/* The image of an answer with its box (green hit, red miss) and the target's (white). */
static vg_status draw_answer(const vg_answer *a, const vg_split *split, vg_image *out)
{
    vg_sentence s;
    unsigned char *bytes = NULL;
    size_t capacity = 0, n = 0;
    vg_split_sentence(split, a->sentence, &s);
    vg_status st = vg_split_read_image(split, s.image, &bytes, &capacity, &n);
    if (st == VG_OK) st = vg_image_decode(bytes, n, true, out);
    free(bytes);
    VG_TRY(st);
    vg_drawn_box boxes[2] = {{.colour = 0xffffff}, {.colour = a->iou >= 0.5F ? 0x20c040 : 0xe03020}};
    if (s.n_boxes) memcpy(boxes[0].xyxy, s.boxes, sizeof boxes[0].xyxy);
    memcpy(boxes[1].xyxy, a->box, sizeof boxes[1].xyxy);
    st = s.n_boxes ? vg_draw_boxes(out, boxes, 2) : vg_draw_boxes(out, boxes + 1, 1);
    if (st == VG_OK) return VG_OK;
    vg_image_info image;
    vg_split_image(split, s.image, &image);
    return vg_fail_at(st, "image %lld (%s)", (long long)image.image_id, image.file_name);
}

/* n of the answers, n_read of which have an image. */
static vg_status draw_tiles(const vg_evaluation *e, const vg_split *split, int n, int64_t n_read, vg_image *tiles,
                            const char **captions)
{
    int64_t read = 0;
    for (int drawn = 0, i = 0; drawn < n; i++) {
        const vg_answer *a = &e->answers[i];
        if (a->unread || read++ != drawn * n_read / n) continue;
        vg_sentence s;
        vg_split_sentence(split, a->sentence, &s);
        captions[drawn] = s.text;
        VG_TRY(draw_answer(a, split, &tiles[drawn++]));
    }
    return VG_OK;
}

vg_status vg_evaluation_draw(const vg_evaluation *evaluation, const vg_split *split, int n, const char *path)
{
    enum { COLUMNS = 6, TILE = 224, MAX_TILES = 96 };
    vg_image tiles[MAX_TILES] = {0}, sheet = {0};
    const char *captions[MAX_TILES] = {0};
    const int64_t n_read = evaluation->n_answers - evaluation->scores[0].unread;
    if (n > MAX_TILES) n = MAX_TILES;
    if (n > n_read) n = (int)n_read;
    VG_CHECK(n > 0, VG_E_DATA, "%s: no picture of split '%s' can be read, so there is nothing to draw", path,
             vg_split_name(split));
    vg_status st = draw_tiles(evaluation, split, n, n_read, tiles, captions);
    if (st == VG_OK) st = vg_draw_gallery(tiles, captions, n, COLUMNS, TILE, &sheet);
    if (st == VG_OK) st = vg_image_write_png(path, &sheet);
    for (int i = 0; i < n; i++) vg_image_release(&tiles[i]);
    vg_image_release(&sheet);
    return st;
}
