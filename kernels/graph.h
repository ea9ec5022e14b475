/* A training step as a static program: built once, differentiated, planned into one arena, then run every micro-batch.
 *
 *     vg_graph *g;
 *     VG_TRY(vg_graph_new(params, &g));
 *     vg_value x = vg_graph_input(g, "x", VG_F32, VG_SHAPE(80, 256));
 *     vg_value w = vg_graph_param(g, "class_embed.weight", VG_SHAPE(2, 256));
 *     vg_value y = vg_graph_linear(g, x, w, vg_graph_param(g, "class_embed.bias", VG_SHAPE(2)), VG_ACT_NONE);
 *     vg_graph_keep(g, "logits", y);
 *     VG_TRY(vg_graph_differentiate(g, trainable));        gradient nodes for what trains, nothing else
 *     VG_TRY(vg_graph_plan(g, backend, n_threads, &program));
 *     VG_TRY(vg_program_attach(program, arena.base));
 *     VG_TRY(vg_program_bind(program, "x", pointer));
 *     VG_TRY(vg_program_run(program));
 *     VG_TRY(vg_program_wait(program));
 *     logits = vg_program_output(program, "logits", &shape);
 *
 * Builders keep the first error inside g and hand on VG_NONE, so that a model reads like its formula; the error comes
 * out of differentiate or plan. A value belongs to its graph; values and names are borrowed for the call. Nothing
 * allocates between attach and the end of the stage. Local throughout. */
#ifndef VG_KERNELS_GRAPH_H
#define VG_KERNELS_GRAPH_H

#include "kernels/backend.h"
#include "kernels/params.h"

typedef struct vg_graph vg_graph;
typedef struct vg_program vg_program;

/* A value of a graph; 0 is no value and stands for an absent operand. */
typedef struct vg_value {
    int32_t id;
} vg_value;
#define VG_NONE ((vg_value){0})

/* A graph over parameters (kept until vg_graph_free; new names are added to it). Errors: VG_E_NOMEM. */
vg_status vg_graph_new(vg_params *params, vg_graph **out);
void vg_graph_free(vg_graph *g);

/* The first error a builder met (VG_OK when none). */
vg_status vg_graph_status(const vg_graph *g);

/* --- leaves --- */

/* A tensor that the caller binds before each run. Asking for a known name again returns the same value. */
vg_value vg_graph_input(vg_graph *g, const char *name, vg_dtype dtype, vg_shape shape);
/* A parameter by name; the same name is the same value. */
vg_value vg_graph_param(vg_graph *g, const char *name, vg_shape shape);
/* Rows first..first+count-1 (of the first axis) of a parameter, in place; a 1-D parameter has rows of one element. */
vg_value vg_graph_param_rows(vg_graph *g, vg_value param, int64_t first, int64_t count);
/* A constant; data is copied. */
vg_value vg_graph_const(vg_graph *g, const char *name, vg_shape shape, const float *data);

vg_shape vg_graph_shape(const vg_graph *g, vg_value v);

/* The nodes as lines for people, "decoder.norm: layernorm %17 [8,10,256] ... -> %18 [8,10,256]" (heap text, NULL when
 * there is no memory). */
char *vg_graph_text(const vg_graph *g);

/* Names a prefix for the nodes that follow, for plans and profiles: "vision.blocks.3". */
void vg_graph_scope(vg_graph *g, const char *name);

/* --- operations: ops.def says exactly what each means; VG_NONE stands for an absent operand --- */

vg_value vg_graph_patchify(vg_graph *g, vg_value pixels, int patch);
vg_value vg_graph_linear(vg_graph *g, vg_value x, vg_value w, vg_value b, vg_act act);
/* Of x [B,L,K], where the rows of slot b from counts[b] on are padding: nobody uses what they become, so their
 * gradient is 0. counts may be VG_NONE. */
vg_value vg_graph_linear_ragged(vg_graph *g, vg_value x, vg_value counts, vg_value w, vg_value b, vg_act act);
/* res + gamma * (x w^T + b); gamma may be VG_NONE. */
vg_value vg_graph_linear_residual(vg_graph *g, vg_value x, vg_value w, vg_value b, vg_value gamma, vg_value res);
/* layernorm(x + res); res may be VG_NONE. */
vg_value vg_graph_layernorm(vg_graph *g, vg_value x, vg_value res, vg_value gamma, vg_value beta, float eps);
vg_value vg_graph_add(vg_graph *g, vg_value a, vg_value b);
vg_value vg_graph_add_rows(vg_graph *g, vg_value x, vg_value p);
vg_value vg_graph_repeat(vg_graph *g, vg_value p, int64_t count);

/* Operands and attributes of attention; see ops.def. */
typedef struct vg_attention {
    vg_value q, k, v, k2, v2, counts, bias, index, keys;
    int heads, head_size;
    int fold; /* the heads of heads_expand where q comes from it; 0: none */
    int q_col, k_col, v_col, k2_col, v2_col;
    bool mask_second;
    float scale;   /* 0: head_size^-0.5 */
    float dropout; /* needs keys when above 0 */
    vg_rng_key key;
    vg_value *sums; /* gets the sums [B,H,Nq] of the probabilities after dropout, where not NULL */
} vg_attention;
vg_value vg_graph_attention(vg_graph *g, const vg_attention *a);

/* Many keys for few queries need not be projected: the heads of the queries become rows of one wide head that reads the
 * keys as they are, and what it reads from the values is projected head by head afterwards. With x [B,Q,H*D], rows of
 * keys y [N,C] and W [H*D,C],
 *     x_h (y W_h^T + b_h)^T = (x_h W_h) y^T + a constant of the row, which a softmax does not see;
 *     P (y W_h^T + b_h)     = (P y) W_h^T + (sum of P) b_h.
 * expand: x_h W_h as row q*H + h of [B,Q*H,C]; b_h has a gradient, which is 0. contract: [B,Q*H,C] to [B,Q,H*D]; sums
 * [B,1,Q*H] of attention, or VG_NONE where they are 1. Source: DeepSeek-V2 (2024), section 2.1.2. */
vg_value vg_graph_heads_expand(vg_graph *g, vg_value x, vg_value w, vg_value b, int heads);
vg_value vg_graph_heads_contract(vg_graph *g, vg_value x, vg_value w, vg_value b, vg_value sums, int heads);

vg_value vg_graph_vit_tokens(vg_graph *g, vg_value patches, vg_value pos, vg_value cls, vg_value reg);
vg_value vg_graph_text_embed(vg_graph *g, vg_value ids, vg_value counts, vg_value word, vg_value pos, vg_value type);
vg_value vg_graph_slice_tokens(vg_graph *g, vg_value x, int64_t first, int64_t count);
vg_value vg_graph_concat_tokens(vg_graph *g, vg_value a, vg_value b, vg_value index);
vg_value vg_graph_stack(vg_graph *g, const vg_value *x, int n);
/* res + dropout(x); res may be VG_NONE; p = 0 adds no node beyond the sum. */
vg_value vg_graph_dropout(vg_graph *g, vg_value x, vg_value res, vg_value keys, float p, vg_rng_key key);

/* The two losses keep their results under names: "parts", "match", "bad" and "align_parts". */
typedef struct vg_detr_loss {
    vg_value logits, boxes, targets, n_targets, filled, scales;
    float eos, cost_class, cost_l1, cost_giou;
} vg_detr_loss;
void vg_graph_detr_loss(vg_graph *g, const vg_detr_loss *loss);

typedef struct vg_align_loss {
    vg_value a, u, scale, shift, targets, n_targets, filled, index, scales;
    int gh, gw;
} vg_align_loss;
void vg_graph_align_loss(vg_graph *g, const vg_align_loss *loss);

/* Keeps a value to the end of the run under a name of its own, for vg_program_output. */
void vg_graph_keep(vg_graph *g, const char *name, vg_value v);

/* --- from graph to program --- */

/* Appends the gradient nodes of every loss for the parameters that `trainable` accepts (index into params), in fixed
 * order; nothing for the rest: frozen parts keep no activations. Once per graph. Errors: any builder's first error;
 * VG_E_BUG when a trainable parameter reaches no loss, or only a part of it does (names it). */
typedef bool (*vg_trainable)(const void *context, int param);
vg_status vg_graph_differentiate(vg_graph *g, vg_trainable trainable, const void *context);

/* Parameters in the order in which backward completes their gradients; order holds params->n entries. */
void vg_graph_gradient_order(const vg_graph *g, int *order, int *n);

/* Bf16 for what products and attention multiply and for what lies between them, where every operation that meets a
 * value can take it so; fp32 for parameters and their gradients, losses, statistics, residual streams of layers with
 * gamma, and kept values. For backends with to_bf16; after differentiate, before plan. Errors: any builder's first
 * error; VG_E_NOMEM. */
vg_status vg_graph_to_bf16(vg_graph *g);

/* Drops nodes that no kept value or gradient needs, then assigns every temporary an offset in one arena by liveness;
 * outputs go over inputs that nobody reads later, where the backend can. Errors: VG_E_BUG naming operations the backend
 * lacks; VG_E_NOMEM. The graph may be freed afterwards. */
vg_status vg_graph_plan(vg_graph *g, const vg_backend *backend, int n_threads, vg_program **out);
void vg_program_free(vg_program *program);

/* Bytes of the arena this program needs (temporaries + workspace), of its packed frozen weights and constants, and of
 * its inputs (on a device apart from the host). */
size_t vg_program_arena_bytes(const vg_program *program);
size_t vg_program_constant_bytes(const vg_program *program);
size_t vg_program_input_bytes(const vg_program *program);

/* Gives the program its memory: arena (at least vg_program_arena_bytes of the backend's device, 64-byte aligned, shared
 * by all programs of a stage; kept), and runs it on the stream where params are placed. Parameters are read where
 * params has them now, and frozen weights are packed with the values they have now: call again, and bind the gradients
 * again, after vg_params_layout, vg_params_place or a change of frozen values. Errors: VG_E_BUG (the layout freezes
 * what the program trains; params are elsewhere), VG_E_NOMEM, VG_E_DEVICE. */
vg_status vg_program_attach(vg_program *program, void *arena);

/* Where parameter gradients go: a buffer that mirrors params->at.master; may change from run to run. */
void vg_program_bind_gradients(vg_program *program, float *gradients);

/* Binds an input, memory of the host (kept until bound anew; read by stage or run before it returns). Errors: VG_E_BUG
 * for an unknown name. Inputs the plan dropped are ignored. */
vg_status vg_program_bind(vg_program *program, const char *name, const void *data);

/* A kept value in memory of the host; NULL for an unknown name. Valid after attach; the contents from vg_program_wait
 * until the next run of any program in the same arena. */
const void *vg_program_output(const vg_program *program, const char *name, vg_shape *shape);

/* Begins to bring what is bound to the device, beside what computes there; the next run finds it there, and brings but
 * what is bound after this call. On the host there is nothing to bring. Errors: VG_E_DEVICE; VG_E_BUG before attach. */
vg_status vg_program_stage(vg_program *program);

/* Enqueues one pass over the nodes, after what the program has still under way. A device that can record runs plays the
 * second and later ones from a record. On the host a run, which may take minutes, ends between two nodes once the
 * process is asked to stop. Errors: VG_E_STOPPED then; VG_E_BUG for an unbound input, or what a kernel says, with the
 * node's name. */
vg_status vg_program_run(vg_program *program);

/* Runs tell how far the gradients are: told(context, ends[i]) when the nodes that write gradients below offset ends[i]
 * of the flat space are enqueued. ends [n] ascend (copied); records are cut at these places. Call after attach, before
 * the next run; n = 0: nobody is told. What told returns ends the run. Errors: VG_E_NOMEM. */
typedef vg_status (*vg_program_told)(void *context, int64_t end);
vg_status vg_program_tell(vg_program *program, const int64_t *ends, int n, vg_program_told told, void *context);

/* Waits for the runs so far. Errors: what the device met on the way. */
vg_status vg_program_wait(vg_program *program);

/* Whether runs may be recorded and replayed (on at first). */
void vg_program_record(vg_program *program, bool on);

/* The forecast: floating-point operations of products and attention (2 per multiply-add; the rest is bound by memory)
 * and bytes that must move, of one run; and how the GPU goes about it.
 * pieces: into how many a device can divide a product's or an attention's work among its processors; 0 for what is
 * bound by memory. 64 x 64 tiles of a product's result, for each chunk of rows; the queries of a head by 64, of a wide
 * one by the 16 or (bf16) 48 that its kernels take.
 * partial: bytes of partial results, which one kernel writes and the next one reads.
 * kernels: how many are started. */
typedef struct vg_cost {
    double flops, bytes, pieces, partial, kernels;
    bool bf16; /* of a node: it multiplies bf16 */
} vg_cost;
vg_cost vg_program_cost(const vg_program *program); /* the sums over its nodes */

/* Calls `each` for every node in the order of a run. */
void vg_program_each_cost(const vg_program *program, void (*each)(void *context, vg_op op, const vg_cost *cost),
                          void *context);

/* Seconds by scope and operation: switched on before runs, read as a table sorted by time, with the rate of products
 * (heap text, NULL when there is no memory). */
void vg_program_profile(vg_program *program, bool on);
char *vg_program_profile_text(const vg_program *program);

#endif
