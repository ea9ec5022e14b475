/* From the heads' numbers to one box, and how good it is. Source: vl-gtr-model 3.4, 6.4 and 8. */
#include "trainer/evaluate.h"

#include <math.h>
#include <string.h>

enum { MAX_QUERIES = 300 };

float vg_object_probability(const float *logits)
{
    return 1 / (1 + expf(logits[1] - logits[0]));
}

static void to_pixels(const float *cxcywh, int width, int height, float *xyxy)
{
    const float w = (float)width, h = (float)height;
    const float corner[4] = {(cxcywh[0] - cxcywh[2] / 2) * w, (cxcywh[1] - cxcywh[3] / 2) * h,
                             (cxcywh[0] + cxcywh[2] / 2) * w, (cxcywh[1] + cxcywh[3] / 2) * h};
    for (int i = 0; i < 4; i++) xyxy[i] = fminf(fmaxf(corner[i], 0), i % 2 ? h : w);
}

static double area(const float *b)
{
    return fmax((double)b[2] - b[0], 0) * fmax((double)b[3] - b[1], 0);
}

static void overlap(const float *a, const float *b, double *iou, double *giou)
{
    const float inner[4] = {fmaxf(a[0], b[0]), fmaxf(a[1], b[1]), fminf(a[2], b[2]), fminf(a[3], b[3])};
    const float outer[4] = {fminf(a[0], b[0]), fminf(a[1], b[1]), fmaxf(a[2], b[2]), fmaxf(a[3], b[3])};
    const double shared = area(inner), joined = area(a) + area(b) - shared, hull = area(outer);
    *iou = joined > 0 ? shared / joined : 0;
    *giou = hull > 0 ? *iou - (hull - joined) / hull : *iou;
}

/* The best over the targets. */
static void best_overlap(const float *box, const float *targets, int n_targets, double *iou, double *giou)
{
    *iou = 0;
    *giou = -1;
    for (int i = 0; i < n_targets; i++) {
        double one = 0, general = 0;
        overlap(box, targets + 4 * i, &one, &general);
        if (one > *iou) *iou = one;
        if (general > *giou) *giou = general;
    }
}

/* Indices of the k best-scored queries, best first, ties to the lower index. */
static int best_queries(const float *logits, int n, int k, int *best)
{
    bool taken[MAX_QUERIES] = {false};
    if (k > n) k = n;
    for (int rank = 0; rank < k; rank++) {
        int top = -1;
        for (int q = 0; q < n; q++)
            if (!taken[q] &&
                (top < 0 || vg_object_probability(logits + 2 * q) > vg_object_probability(logits + 2 * top)))
                top = q;
        taken[top] = true;
        best[rank] = top;
    }
    return k;
}

vg_answer vg_answer_of(const float *logits, const float *boxes, int n_queries, int width, int height,
                       const float *targets, int n_targets)
{
    enum { K = 10 };
    int best[K];
    vg_answer a = {.sentence = -1};
    const int k = best_queries(logits, n_queries, K, best);
    for (int rank = 0; rank < k; rank++) {
        float box[4];
        double iou = 0, giou = 0;
        to_pixels(boxes + 4 * best[rank], width, height, box);
        best_overlap(box, targets, n_targets, &iou, &giou);
        if (rank == 0) {
            memcpy(a.box, box, sizeof box);
            a.iou = (float)iou;
            a.giou = (float)giou;
            a.score = vg_object_probability(logits + 2 * best[0]);
        }
        if (iou >= 0.5 && rank < 5) a.hit5 = 1;
        if (iou >= 0.5) a.hit10 = 1;
    }
    return a;
}
