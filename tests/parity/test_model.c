/* test_model FIXTURE [teeth]: the whole model against PyTorch, one recorded case, on the backend that VLGTR_DEVICE
 * names. With `teeth`, spoils one parameter after the other and wants the comparison to notice each. */
#include "tests/device_test.h"
#include "tests/parity/model_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What no output can depend on. A bias of keys adds one number to all scores of a query, which softmax does not see.
 * The decoder starts from zeros: the first layer's self-attention has the same value for every key (post-norm: the
 * bias; so its projections do not matter), and its first norm gives its bias (pre-norm). */
static bool cannot_matter(const fixture *f, const char *name)
{
    const bool zeros = strcmp(f->options.fusion_query_style, "added") == 0;
    const char *idle = strcmp(f->options.fusion_norm, "pre") == 0 ? "decoder.layers.0.norm1.weight"
                                                                  : "decoder.layers.0.self_attn.in_proj_weight";
    return strstr(name, "attention.self.key.bias") != NULL || (zeros && strcmp(name, idle) == 0);
}

static void transpose_or_zero(float *x, const vg_param *p, bool transpose)
{
    const int64_t rows = p->shape.dim[0], columns = p->count / rows;
    if (!transpose) {
        memset(x, 0, (size_t)p->count * sizeof *x);
        return;
    }
    float *copy = vg_new0_array((size_t)p->count, sizeof *copy);
    memcpy(copy, x, (size_t)p->count * sizeof *x);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < columns; c++) x[c * rows + r] = copy[r * columns + c];
    free(copy);
}

/* Returns how many spoiled parameters went unnoticed. */
static int spoil_each(const fixture *f, model_run *run)
{
    int unnoticed = 0;
    for (int i = 0; i < run->params->n; i++) {
        const vg_param *p = &run->params->items[i];
        if (cannot_matter(f, p->name)) continue;
        float *x = vg_params_data(run->params, i), *kept = vg_new0_array((size_t)p->count, sizeof *kept);
        memcpy(kept, x, (size_t)p->count * sizeof *x);
        for (int transpose = 0; transpose <= (p->shape.rank >= 2 && p->count > p->shape.dim[0] && p->shape.dim[0] > 1);
             transpose++) {
            transpose_or_zero(x, p, transpose);
            parity_tally tally = {0};
            model_run_go(run);
            if (model_run_compare(run, &tally) == 0) {
                fprintf(stderr, "%s: %s goes unnoticed\n", p->name, transpose ? "transposing" : "zeroing");
                unnoticed++;
            }
            memcpy(x, kept, (size_t)p->count * sizeof *x);
        }
        free(kept);
    }
    return unnoticed;
}

/* Both towers end in a LayerNorm, so one absolute limit fits every size (vl-gtr-model, section 10). */
static int towers_off(const model_run *run)
{
    const double limit = 1e-4, image = model_run_off(run, "value.image"), text = model_run_off(run, "value.text");
    printf("vision tower off by %.2g, phrase encoder by %.2g, limit %g\n", image, text, limit);
    return !(image < limit) + !(text < limit);
}

int main(int argc, char **argv)
{
    fixture f;
    model_run run;
    parity_tally tally = {.verbose = true};
    if (argc < 2) return 64;
    fixture_open(argv[1], &f);
    vg_stream stream;
    const vg_backend *backend = backend_under_test(2, 0, &stream);
    model_run_open(&f, backend, &stream, &run);
    model_run_go(&run);
    int off = model_run_compare(&run, &tally) + towers_off(&run);
    parity_print(&tally);
    if (argc > 2 && off == 0) {
        off = spoil_each(&f, &run);
        printf("%d spoiled parameters went unnoticed\n", off);
    }
    model_run_close(&run);
    backend->device->close(&stream);
    fixture_close(&f);
    return off != 0;
}
