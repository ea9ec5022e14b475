#define _DEFAULT_SOURCE /* setenv */
/* emu_bytes OPERATION PRECISION: runs the largest node of an operation in a training step on the device, and prints the
 * bytes that it must move by the rules of ops.def, each input once, each output once, and the kernels that the forecast
 * takes it for; nothing where the step has none of that precision. What it does move and start is counted by the
 * emulator (VG_EMU_COUNTERS); tests/claims/gpu_bytes compares. The step is that of the strong preset, everything
 * trains, with fewer layers and tokens. */
#include "kernels/program_impl.h"
#include "tests/device_test.h"
#include "trainer/stage.h"

static const char yaml[] =
    "model: {preset: strong}\n"
    "vision: {depth: 1, width: 128, heads: 2, mlp: 512, grid: 8}\n"
    "text: {depth: 1, width: 128, heads: 2, mlp: 512, vocab: 512, positions: 40, max_tokens: 16}\n"
    "fusion: {width: 128, heads: 4, mlp: 256, encoder_layers: 1, decoder_layers: 2}\n"
    "loss: {align: 10}\n"
    "data: {side: 112, phrases: 2, max_targets: 4}\n"
    "train: {global_batch: 4, micro_batch: 4, allow_from_scratch: true}\n"
    "schedule:\n  - {name: all, train: {'*': 1}}\n";

typedef struct step {
    vg_options options;
    vg_params *params;
    vg_compute compute;
    vg_stage_run *stage;
    vg_batch batch;
    vg_arena gradients, mirror;
    int32_t *key_counts;
} step;

/* Noise for pixels; full phrases; as many boxes as there is room for. */
static void fill_batch(vg_batch *b)
{
    const vg_batch_shape *s = &b->shape;
    const int slots = s->images * s->phrases;
    for (int64_t i = 0; i < (int64_t)s->images * s->side * s->side * 3; i++) b->pixels[i] = (uint8_t)(i * 37);
    for (int i = 0; i < slots * s->text_tokens; i++) b->token_ids[i] = 5 + 7 * i % 500;
    vg_fill_uniform(b->targets, (int64_t)slots * s->max_targets * 4, vg_rng_key_of(1, 1), 0.2F, 0.8F);
    for (int i = 0; i < slots; i++) {
        b->token_counts[i] = s->text_tokens;
        b->image_index[i] = i / s->phrases;
        b->n_targets[i] = s->max_targets;
        b->filled[i] = 1;
        b->keys[4 * i + 2] = (uint32_t)i;
    }
}

/* Programs are attached on the host. It computes what fp32 values are; those of bf16 stay zero, which does not show in
 * what moves. */
static vg_status enter(step *s)
{
    const vg_options *o = &s->options;
    if (!vg_options_bf16(o)) return vg_stage_enter(o, 0, false, s->params, &s->compute, &s->stage);
    VG_TRY(vg_stage_compile(o, 0, false, s->params, s->compute.backend, 1, &s->stage));
    VG_TRY(vg_arena_init(&s->mirror, (size_t)(s->params->n_trainable + s->params->n_frozen) * sizeof(vg_bf16)));
    VG_TRY(vg_arena_init(&s->stage->arena, vg_stage_arena_bytes(s->stage)));
    s->params->at.mirror = (vg_bf16 *)(void *)s->mirror.base;
    s->stage->compute = &s->compute;
    return vg_program_attach(s->stage->train, s->stage->arena.base);
}

/* Every operand of every node gets host memory, with sensible whole numbers in it. */
static vg_status prepare(step *s)
{
    static float scales[8] = {0.1F, 0.1F, 0.1F, 0.1F, 0.1F};
    const vg_options *o = &s->options;
    const vg_batch_shape shape = vg_model_batch_shape(o);
    VG_TRY(vg_params_new(&s->params));
    VG_TRY(vg_model_declare(o, s->params));
    VG_TRY(vg_params_layout(s->params, NULL, 0));
    VG_TRY(vg_model_init(o, s->params));
    s->compute = (vg_compute){.backend = vg_backend_cpu(), .stream = {.n_threads = 1}};
    VG_TRY(enter(s));
    VG_TRY(vg_batch_init(&s->batch, &shape));
    VG_TRY(vg_arena_init(&s->gradients, (size_t)s->params->n_trainable * sizeof(float)));
    s->key_counts = vg_new0_array((size_t)(shape.images * shape.phrases), sizeof *s->key_counts);
    VG_CHECK(s->key_counts, VG_E_NOMEM, "no memory for a step");
    fill_batch(&s->batch);
    VG_TRY(vg_model_bind(o, s->stage->train, &s->batch, s->key_counts));
    VG_TRY(vg_program_bind(s->stage->train, "scales", scales));
    vg_program_bind_gradients(s->stage->train, (float *)(void *)s->gradients.base);
    return vg_options_bf16(o) ? VG_OK : vg_program_run(s->stage->train);
}

static bool is_bf16(const vg_node *n)
{
    bool any = false;
    for (int i = 0; i < VG_MAX_IN; i++) any = any || (n->in[i].shape.rank && n->in[i].dtype == VG_BF16);
    for (int i = 0; i < VG_MAX_OUT; i++) any = any || (n->out[i].shape.rank && n->out[i].dtype == VG_BF16);
    return any;
}

/* The node of an operation that moves most; in a step of bf16, of those that have such operands. */
typedef struct search {
    const vg_node *nodes;
    bool bf16;
    vg_op op;
    int at, best;
    double bytes, kernels;
} search;

static void look(void *context, vg_op op, const vg_cost *cost)
{
    search *s = context;
    if (op == s->op && cost->bytes > s->bytes && (!s->bf16 || is_bf16(&s->nodes[s->at]))) {
        s->bytes = cost->bytes;
        s->kernels = cost->kernels;
        s->best = s->at;
    }
    s->at++;
}

static vg_status run(const vg_backend *backend, vg_stream *stream, const char *name, const char *precision)
{
    step s = {0};
    search found = {.best = -1};
    char set[64];
    const char *sets[] = {set};
    snprintf(set, sizeof set, "train.precision=%s", precision);
    while (found.op < VG_OP_COUNT && strcmp(vg_op_name(found.op), name) != 0) found.op++;
    VG_CHECK(found.op < VG_OP_COUNT, VG_E_USAGE, "there is no operation '%s'", name);
    VG_TRY(vg_options_parse(&s.options, yaml, sizeof yaml - 1, "bytes", sets, 1));
    VG_TRY(prepare(&s));
    found.nodes = s.stage->train->nodes;
    found.bf16 = vg_options_bf16(&s.options);
    vg_program_each_cost(s.stage->train, look, &found);
    if (found.best >= 0) {
        VG_TRY(run_node_on(backend, stream, &s.stage->train->nodes[found.best]));
        printf("%.0f %.0f\n", found.bytes, found.kernels);
    }
    vg_stage_leave(s.stage);
    vg_params_free(s.params);
    vg_batch_release(&s.batch);
    vg_arena_release(&s.gradients);
    vg_arena_release(&s.mirror);
    vg_options_release(&s.options);
    free(s.key_counts);
    return VG_OK;
}

int main(int argc, char **argv)
{
    vg_stream stream;
    setenv("VLGTR_DEVICE", "cuda", 1);
    if (argc != 3) {
        fprintf(stderr, "usage: emu_bytes OPERATION PRECISION\n");
        return vg_exit_code(VG_E_USAGE);
    }
    const vg_backend *backend = backend_under_test(1, 0, &stream);
    const vg_status st = run(backend, &stream, argv[1], argv[2]);
    if (st != VG_OK) fprintf(stderr, "%s\n", vg_error_text());
    backend->device->close(&stream);
    return vg_exit_code(st);
}
