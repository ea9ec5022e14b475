/* Charts: curves as SVG, inside a page of HTML or in a file of their own. */
#ifndef VG_TRAINER_CHART_H
#define VG_TRAINER_CHART_H

#include "kernels/base/base.h"

/* Values over steps, or over whatever the chart counts, in ascending order. */
typedef struct vg_curve {
    const char *key; /* what the chart calls it */
    double *steps, *values;
    size_t n, capacity;
} vg_curve;

enum { VG_CHART_CURVES = 6 };

typedef struct vg_chart {
    const char *title;
    const vg_curve *curves[VG_CHART_CURVES]; /* borrowed; those of fewer than two points are not drawn */
    int n;
    bool log_values;
    bool from_zero; /* the axis of values begins there */
    bool doublings; /* steps stand on a logarithmic axis, marked at each doubling */
} vg_chart;

/* Appends the chart as SVG; nothing where no curve can be drawn. Errors: VG_E_NOMEM. */
vg_status vg_chart_add(vg_text *page, const vg_chart *chart);

/* How the parts of a chart look: rules for the page's style sheet. */
#define VG_CHART_STYLE "svg{font-size:11px;fill:#444}.grid{stroke:#ddd}.title{font-size:13px;font-weight:600;fill:#222}"

/* Writes charts[n], one below the other, as a picture of their own. Errors: VG_E_NOMEM, VG_E_STORAGE. */
vg_status vg_chart_write(const char *path, const vg_chart *charts, int n);

/* Appends text with the characters that HTML and SVG take for their own written out. Errors: VG_E_NOMEM. */
vg_status vg_markup_add(vg_text *page, const char *text);

#endif
