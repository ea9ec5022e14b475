#include "trainer/chart.h"

#include <math.h>
#include <stdlib.h>

enum { WIDTH = 560, HEIGHT = 260, LEFT = 64, RIGHT = 12, TOP = 30, BOTTOM = 42, TICKS = 4, MOST_POINTS = 1000 };

static const char *const colours[VG_CHART_CURVES] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"};

/* A chart and the ranges of its axes. */
typedef struct frame {
    const vg_chart *chart;
    int n_drawn;
    double first, last, low, high;
} frame;

static double place_of(const frame *f, double step)
{
    return f->chart->doublings ? log2(step) : step;
}

static double height_of(const frame *f, double value)
{
    return f->chart->log_values ? log10(value) : value;
}

static bool drawn(const frame *f, double value)
{
    return isfinite(value) && (!f->chart->log_values || value > 0);
}

static void widen(frame *f, const vg_curve *curve)
{
    for (size_t i = 0; i < curve->n; i++) {
        if (!drawn(f, curve->values[i])) continue;
        f->first = fmin(f->first, place_of(f, curve->steps[i]));
        f->last = fmax(f->last, place_of(f, curve->steps[i]));
        f->low = fmin(f->low, height_of(f, curve->values[i]));
        f->high = fmax(f->high, height_of(f, curve->values[i]));
    }
}

static bool is_line(const vg_curve *curve)
{
    return curve && curve->n >= 2;
}

static frame frame_of(const vg_chart *chart)
{
    frame f = {.chart = chart, .first = INFINITY, .last = -INFINITY, .low = INFINITY, .high = -INFINITY};
    for (int i = 0; i < chart->n; i++) {
        if (!is_line(chart->curves[i])) continue;
        widen(&f, chart->curves[i]);
        f.n_drawn++;
    }
    if (chart->from_zero) f.low = fmin(f.low, 0);
    if (f.high - f.low <= 1e-12 * fabs(f.high)) { /* a flat curve in the middle of its chart */
        const double margin = f.high ? 0.1 * fabs(f.high) : 1;
        f.low -= margin;
        f.high += margin;
    }
    return f;
}

static double x_of(const frame *f, double place)
{
    return LEFT + (place - f->first) / (f->last - f->first) * (WIDTH - LEFT - RIGHT);
}

static double y_of(const frame *f, double height)
{
    return HEIGHT - BOTTOM - (height - f->low) / (f->high - f->low) * (HEIGHT - TOP - BOTTOM);
}

/* What is marked of the axis of steps: each doubling of the first one, or even parts. */
static vg_status add_marks(vg_text *page, const frame *f)
{
    const double width = f->last - f->first, gap = f->chart->doublings ? 1 : width / TICKS;
    const int n = (int)floor(width / gap + 1e-9);
    for (int i = 0; i <= n; i++) {
        const double place = f->first + gap * i, x = x_of(f, place);
        VG_TRY(vg_text_add(page, "<text x='%.1f' y='%d' text-anchor='%s'>%.0f</text>\n", x, HEIGHT - BOTTOM + 16,
                           x > WIDTH - 2 * RIGHT ? "end" : "middle", f->chart->doublings ? exp2(place) : place));
    }
    return VG_OK;
}

static vg_status add_axes(vg_text *page, const frame *f)
{
    for (int i = 0; i <= TICKS; i++) {
        const double height = f->low + (f->high - f->low) * i / TICKS, y = y_of(f, height);
        VG_TRY(vg_text_add(page,
                           "<line x1='%d' x2='%d' y1='%.1f' y2='%.1f' class='grid'/>"
                           "<text x='%d' y='%.1f' text-anchor='end'>%.3g</text>\n",
                           LEFT, WIDTH - RIGHT, y, y, LEFT - 6, y + 4,
                           f->chart->log_values ? pow(10, height) : height));
    }
    return add_marks(page, f);
}

/* Of long curves every k-th point: more than there are pixels would not show. */
static vg_status add_curve(vg_text *page, const frame *f, const vg_curve *curve, int index)
{
    const size_t stride = 1 + curve->n / MOST_POINTS;
    VG_TRY(vg_text_add(page, "<polyline fill='none' stroke-width='1.5' stroke='%s' points='", colours[index]));
    for (size_t i = 0; i < curve->n; i += stride)
        if (drawn(f, curve->values[i]))
            VG_TRY(vg_text_add(page, "%.1f,%.1f ", x_of(f, place_of(f, curve->steps[i])),
                               y_of(f, height_of(f, curve->values[i]))));
    return vg_text_add(page, "'/><text x='%d' y='%d' fill='%s'>%s</text>\n", LEFT + 88 * index, HEIGHT - 6,
                       colours[index], curve->key);
}

vg_status vg_chart_add(vg_text *page, const vg_chart *chart)
{
    const frame f = frame_of(chart);
    int index = 0;
    if (!f.n_drawn || !(f.last > f.first)) return VG_OK;
    VG_TRY(vg_text_add(page, "<svg viewBox='0 0 %d %d' role='img'><title>", WIDTH, HEIGHT));
    VG_TRY(vg_markup_add(page, chart->title));
    VG_TRY(vg_text_add(page, "</title><text x='%d' y='16' class='title'>", LEFT));
    VG_TRY(vg_markup_add(page, chart->title));
    VG_TRY(vg_text_add(page, "</text>\n"));
    VG_TRY(add_axes(page, &f));
    for (int i = 0; i < chart->n; i++)
        if (is_line(chart->curves[i])) VG_TRY(add_curve(page, &f, chart->curves[i], index++));
    return vg_text_add(page, "</svg>\n");
}

static vg_status add_picture(vg_text *picture, const vg_chart *charts, int n)
{
    VG_TRY(vg_text_add(picture,
                       "<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' "
                       "font-family='system-ui,sans-serif'><style>%s</style>\n"
                       "<rect width='100%%' height='100%%' style='fill:#fff'/>\n",
                       WIDTH, n * HEIGHT, VG_CHART_STYLE));
    for (int i = 0; i < n; i++) {
        VG_TRY(vg_text_add(picture, "<svg y='%d' width='%d' height='%d'>\n", i * HEIGHT, WIDTH, HEIGHT));
        VG_TRY(vg_chart_add(picture, &charts[i]));
        VG_TRY(vg_text_add(picture, "</svg>\n"));
    }
    return vg_text_add(picture, "</svg>\n");
}

vg_status vg_chart_write(const char *path, const vg_chart *charts, int n)
{
    vg_text picture = {0};
    vg_status st = add_picture(&picture, charts, n);
    if (st == VG_OK) st = vg_file_write_atomic(path, picture.data, picture.length);
    free(picture.data);
    return st;
}

vg_status vg_markup_add(vg_text *page, const char *text)
{
    for (; *text; text++) {
        const char *entity = *text == '<'    ? "&lt;"
                             : *text == '>'  ? "&gt;"
                             : *text == '&'  ? "&amp;"
                             : *text == '\'' ? "&#39;"
                                             : NULL;
        VG_TRY(entity ? vg_text_add(page, "%s", entity) : vg_text_add_bytes(page, text, 1));
    }
    return VG_OK;
}
