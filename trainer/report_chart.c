/* A chart: curves over steps, as SVG inside the page. */
#include "trainer/report_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    WIDTH = 560,
    HEIGHT = 260,
    LEFT = 64,
    RIGHT = 12,
    TOP = 30,
    BOTTOM = 42,
    TICKS = 4,
    MAX_CURVES = 6,
    MOST_POINTS = 1000
};

static const char *const colours[MAX_CURVES] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"};

/* The curves of a chart and the ranges of its axes. */
typedef struct chart {
    const vg_curve *curves[MAX_CURVES];
    int n;
    bool log;
    double first, last, low, high;
} chart;

static double height_of(const chart *c, double value)
{
    return c->log ? log10(value) : value;
}

static bool drawn(const chart *c, double value)
{
    return isfinite(value) && (!c->log || value > 0);
}

static void widen(chart *c, const vg_curve *curve)
{
    for (size_t i = 0; i < curve->n; i++) {
        if (!drawn(c, curve->values[i])) continue;
        c->first = fmin(c->first, curve->steps[i]);
        c->last = fmax(c->last, curve->steps[i]);
        c->low = fmin(c->low, height_of(c, curve->values[i]));
        c->high = fmax(c->high, height_of(c, curve->values[i]));
    }
}

static chart make_chart(const vg_run_records *records, const char *const *keys, bool log)
{
    chart c = {.log = log, .first = INFINITY, .last = -INFINITY, .low = INFINITY, .high = -INFINITY};
    for (; *keys && c.n < MAX_CURVES; keys++) {
        const vg_curve *curve = vg_run_records_find(records, *keys);
        if (!curve || curve->n < 2) continue;
        widen(&c, curve);
        c.curves[c.n++] = curve;
    }
    if (c.high - c.low <= 1e-12 * fabs(c.high)) { /* a flat curve in the middle of its chart */
        const double margin = c.high ? 0.1 * fabs(c.high) : 1;
        c.low -= margin;
        c.high += margin;
    }
    return c;
}

static double x_of(const chart *c, double step)
{
    return LEFT + (step - c->first) / (c->last - c->first) * (WIDTH - LEFT - RIGHT);
}

static double y_of(const chart *c, double height)
{
    return HEIGHT - BOTTOM - (height - c->low) / (c->high - c->low) * (HEIGHT - TOP - BOTTOM);
}

static vg_status add_axes(vg_text *page, const chart *c)
{
    for (int i = 0; i <= TICKS; i++) {
        const double height = c->low + (c->high - c->low) * i / TICKS, y = y_of(c, height);
        VG_TRY(vg_text_add(page,
                           "<line x1='%d' x2='%d' y1='%.1f' y2='%.1f' class='grid'/>"
                           "<text x='%d' y='%.1f' text-anchor='end'>%.3g</text>\n",
                           LEFT, WIDTH - RIGHT, y, y, LEFT - 6, y + 4, c->log ? pow(10, height) : height));
        const double step = c->first + (c->last - c->first) * i / TICKS;
        VG_TRY(vg_text_add(page, "<text x='%.1f' y='%d' text-anchor='%s'>%.0f</text>\n", x_of(c, step),
                           HEIGHT - BOTTOM + 16, i == TICKS ? "end" : "middle", step));
    }
    return VG_OK;
}

/* Of long curves every k-th point: more than there are pixels would not show. */
static vg_status add_curve(vg_text *page, const chart *c, int index)
{
    const vg_curve *curve = c->curves[index];
    const size_t stride = 1 + curve->n / MOST_POINTS;
    VG_TRY(vg_text_add(page, "<polyline fill='none' stroke-width='1.5' stroke='%s' points='", colours[index]));
    for (size_t i = 0; i < curve->n; i += stride)
        if (drawn(c, curve->values[i]))
            VG_TRY(vg_text_add(page, "%.1f,%.1f ", x_of(c, curve->steps[i]), y_of(c, height_of(c, curve->values[i]))));
    return vg_text_add(page, "'/><text x='%d' y='%d' fill='%s'>%s</text>\n", LEFT + 88 * index, HEIGHT - 6,
                       colours[index], curve->key);
}

vg_status vg_chart_add(vg_text *page, const vg_run_records *records, const char *title, const char *const *keys,
                       bool log)
{
    const chart c = make_chart(records, keys, log);
    if (!c.n || !(c.last > c.first)) return VG_OK;
    VG_TRY(vg_text_add(page, "<svg viewBox='0 0 %d %d' role='img'><title>", WIDTH, HEIGHT));
    VG_TRY(vg_html_add(page, title));
    VG_TRY(vg_text_add(page, "</title><text x='%d' y='16' class='title'>", LEFT));
    VG_TRY(vg_html_add(page, title));
    VG_TRY(vg_text_add(page, "</text>\n"));
    VG_TRY(add_axes(page, &c));
    for (int i = 0; i < c.n; i++) VG_TRY(add_curve(page, &c, i));
    return vg_text_add(page, "</svg>\n");
}
