/* Position tables: the fixed 2-D sines of the memory, and the resampled table of the image tower. */
#include "trainer/model/model_impl.h"

#include <math.h>
#include <stdlib.h>

/* Source: vl-gtr-model 3.2; detr/models/position_encoding.py with normalisation. */
static void sine_half(float *out, double angle, int half)
{
    for (int k = 0; 2 * k < half; k++) {
        const double x = angle / pow(10000.0, 2.0 * k / half);
        out[2 * k] = (float)sin(x);
        out[2 * k + 1] = (float)cos(x);
    }
}

void vg_sine_positions(float *out, int gh, int gw, int d)
{
    const double turn = 2.0 * 3.14159265358979323846;
    for (int y = 0; y < gh; y++)
        for (int x = 0; x < gw; x++) {
            float *row = out + ((size_t)y * (size_t)gw + (size_t)x) * (size_t)d;
            sine_half(row, turn * (y + 1) / (gh + 1e-6), d / 2);
            sine_half(row + d / 2, turn * (x + 1) / (gw + 1e-6), d / 2);
        }
}

/* The antialiased bicubic kernel, a = -0.5. Source: vl-gtr-model 1.5; Keys 1981. */
static double bicubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return a * (((x - 5) * x + 8) * x - 4);
    return 0;
}

/* weights [to,from] of one axis, rows summing to 1. */
static void axis_weights(int from, int to, double *weights)
{
    const double scale = (double)from / to, stretch = scale > 1 ? scale : 1, radius = 2 * stretch;
    for (int i = 0; i < to; i++) {
        double *row = weights + (size_t)i * (size_t)from, sum = 0;
        const double centre = scale * (i + 0.5);
        int first = (int)(centre - radius + 0.5), last = (int)(centre + radius + 0.5);
        if (first < 0) first = 0;
        if (last > from) last = from;
        for (int j = 0; j < from; j++) {
            row[j] = j >= first && j < last ? bicubic((j - centre + 0.5) / stretch) : 0;
            sum += row[j];
        }
        for (int j = 0; j < from; j++) row[j] /= sum;
    }
}

vg_status vg_resample_positions(const float *table, int from, float *out, int to, int64_t c)
{
    double *weights = vg_new0_array((size_t)from * (size_t)to, sizeof(double));
    double *row = vg_new0_array((size_t)from, sizeof(double)); /* one output line, before it is squeezed sideways */
    if (weights && row) {
        axis_weights(from, to, weights);
        for (int y = 0; y < to; y++)
            for (int64_t channel = 0; channel < c; channel++) {
                for (int x = 0; x < from; x++) {
                    row[x] = 0;
                    for (int j = 0; j < from; j++)
                        row[x] += weights[y * from + j] * (double)table[((int64_t)j * from + x) * c + channel];
                }
                for (int x = 0; x < to; x++) {
                    double sum = 0;
                    for (int j = 0; j < from; j++) sum += weights[x * from + j] * row[j];
                    out[((int64_t)y * to + x) * c + channel] = (float)sum;
                }
            }
    }
    const bool done = weights && row;
    free(weights);
    free(row);
    VG_CHECK(done, VG_E_NOMEM, "no memory to resample the position table");
    return VG_OK;
}
