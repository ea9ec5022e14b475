/* The compute seam: what a backend is, and what a kernel gets.
 *
 * A backend is a table of kernels, one per row of ops.def (NULL where it has none: planning names them), the few passes
 * over flat parameter ranges that a step needs outside the graph, and the device whose memory all of them work in. A
 * kernel enqueues on its stream, never waits, never allocates: scratch memory is node->workspace, sized by
 * workspace_bytes when the program is planned. */
#ifndef VG_KERNELS_BACKEND_H
#define VG_KERNELS_BACKEND_H

#include "kernels/tensor.h"

typedef enum vg_op {
#define VG_OP(name, n_in, n_out, shape, grad, cost) VG_OP_##name,
#include "kernels/ops.def"
#undef VG_OP
    VG_OP_COUNT
} vg_op;

/* Whether it is of the second part of ops.def, which gradients are made of. */
static inline bool vg_op_is_backward(vg_op op)
{
    return op >= VG_OP_act_grad;
}

typedef enum vg_act { VG_ACT_NONE, VG_ACT_RELU, VG_ACT_GELU, VG_ACT_SIGMOID } vg_act;

enum { VG_MAX_IN = 16, VG_MAX_OUT = 16 };

/* A tensor at run time. An absent operand is all zero: data NULL, rank 0 (present ones have a rank of 1 or more). */
typedef struct vg_operand {
    void *data;
    vg_dtype dtype;
    vg_shape shape;
} vg_operand;

/* Attributes, by operation; see ops.def for their meaning. */
typedef union vg_attr {
    struct {
        int patch;
    } patchify;
    struct {
        vg_act act;
        float dropout; /* of act_grad alone */
    } linear;          /* also act_grad */
    struct {
        float eps;
    } layernorm;
    struct {
        int64_t count;
    } repeat;
    struct {
        int heads, head_size;
        int fold;                                /* heads_expand's heads, whose rows these queries are; else 1 */
        int q_col, k_col, v_col, k2_col, v2_col; /* first column of head 0 */
        float scale;
        bool mask_second;
        float dropout;
        vg_rng_key key;
    } attention;
    struct {
        int heads;
    } heads; /* heads_expand, heads_contract, heads_dw */
    struct {
        int32_t pad;
    } embed;
    struct {
        int64_t first, count;
    } slice;
    struct {
        float p;
        vg_rng_key key;
    } dropout;
    struct {
        float eos, cost_class, cost_l1, cost_giou;
    } detr_loss;
    struct {
        int gh, gw;
    } align;
} vg_attr;

typedef struct vg_node {
    vg_op op;
    int n_in, n_out; /* of the row; operands past the last present one have NULL data */
    vg_operand in[VG_MAX_IN], out[VG_MAX_OUT];
    vg_attr attr;
    bool accumulate;    /* outputs that are parameter gradients add to what is there */
    void *workspace;    /* workspace_bytes, 64-byte aligned; contents are undefined */
    const void *packed; /* prepared form of frozen parameters (pack), or NULL */
} vg_node;

/* Where work is queued. The CPU's stream is a number of threads and runs at once; a GPU's is a queue of the device with
 * what its kernels share (kernels/cuda/cuda_impl.h). */
typedef struct vg_stream {
    int n_threads;
    struct vg_cuda *cuda; /* NULL on the CPU */
} vg_stream;

typedef vg_status (*vg_kernel)(vg_stream *stream, const vg_node *node);

/* Memory and queue of a backend. Transfers are enqueued on the stream in order with its kernels and may return before
 * they are done; host memory they name is left alone until wait. The host is a device too (vg_host_device): its memory
 * is plain memory, and everything is done at once. Errors: VG_E_DEVICE, VG_E_NOMEM; what went wrong behind a call's
 * back comes out of wait. */
typedef struct vg_capture vg_capture;
enum { VG_ADDRESS_BYTES = 32 };
typedef struct vg_device_ops {
    /* Completes a stream whose n_threads is set, on the device that belongs to the rank at this place on the host. */
    vg_status (*open)(vg_stream *stream, int place);
    /* Completes another stream on the device of an open one: its work runs beside that of the first, and goes before it
     * where both could. */
    vg_status (*open_beside)(const vg_stream *stream, vg_stream *beside);
    void (*close)(vg_stream *stream);
    /* What is put on the stream from now on comes after what is on `earlier` now. */
    vg_status (*follow)(vg_stream *stream, vg_stream *earlier);
    /* Where the device sits on the bus of its host; NULL where ranks may share one. */
    vg_status (*address)(const vg_stream *stream, char address[VG_ADDRESS_BYTES]);
    /* What the device's own libraries call the stream (a cudaStream_t). */
    void *(*queue)(const vg_stream *stream);
    /* Zeroed memory of the device, aligned to 64 bytes or more; not to be touched by the host. */
    vg_status (*allocate)(vg_stream *stream, size_t bytes, vg_arena *out);
    void (*release)(vg_stream *stream, vg_arena *memory);
    /* Zeroed host memory that transfers read and write without a copy in between. */
    vg_status (*allocate_staging)(vg_stream *stream, size_t bytes, vg_arena *out);
    void (*release_staging)(vg_stream *stream, vg_arena *memory);
    vg_status (*upload)(vg_stream *stream, void *to, const void *from_host, size_t bytes);
    vg_status (*download)(vg_stream *stream, void *to_host, const void *from, size_t bytes);
    vg_status (*copy)(vg_stream *stream, void *to, const void *from, size_t bytes);
    vg_status (*zero)(vg_stream *stream, void *to, size_t bytes);
    vg_status (*wait)(vg_stream *stream);
    /* Bytes that allocate can still give; NULL where the device shares the host's memory. */
    vg_status (*room)(vg_stream *stream, size_t *free_bytes);
    /* Between capture_begin and capture_end work is recorded, not done; replay enqueues the record as often as wanted,
     * with the addresses it was recorded with. NULL where the device has no such thing. */
    vg_status (*capture_begin)(vg_stream *stream);
    vg_status (*capture_end)(vg_stream *stream, vg_capture **out);
    vg_status (*replay)(vg_stream *stream, vg_capture *capture);
    void (*capture_free)(vg_capture *capture);
} vg_device_ops;

extern const vg_device_ops vg_host_device;

/* What an optimizer step finds out as it goes, in device memory: between gradient and update no host is asked. The
 * first two are written before each step; steps goes from step to step. */
typedef struct vg_update {
    float course;  /* the schedule's share of block_lr */
    int32_t skip;  /* not 0: nothing changes in this step. Given where a loss forbids it; norm adds its own reason */
    int64_t steps; /* AdamW passes so far, this one included unless it is skipped */
    double norm;   /* of the gradient */
    double bias1, bias2; /* 1 - beta^steps */
    float clip;          /* factor of the gradient */
} vg_update;

/* Lane l of VG_NORM_LANES sums blocks l, l + VG_NORM_LANES, ..; lanes, folded by halves, give the sum. A step then:
 *   norm = sqrt(sum);  skip where norm is not finite;  steps++ and the bias corrections unless skip;
 *   clip = clip_norm > 0 ? min(1, clip_norm / (norm + 1e-6)) : 1 */
typedef struct vg_grad_norm {
    const double *block_sums; /* [n_blocks] */
    int64_t n_blocks;
    double clip_norm, beta1, beta2;
    vg_update *update;
} vg_grad_norm;

/* One AdamW pass over a flat range (Loshchilov and Hutter 2019, algorithm 2, as torch.optim.AdamW orders it):
 *   lr = block_lr * course;  g = grad * clip;  p -= lr * decay * p;  m = b1 m + (1-b1) g;  v = b2 v + (1-b2) g^2;
 *   p -= lr / bias1 * m / (sqrt(v) / sqrt(bias2) + eps)
 * Nothing where update->skip is set. Tables hold one entry per block of VG_PARAM_BLOCK floats. `average`, when not
 * NULL, becomes d*average + (1-d)*p. */
typedef struct vg_adamw {
    float *param, *moment1, *moment2, *average;
    const float *grad;
    int64_t n_blocks;
    const float *block_lr, *block_decay; /* [n_blocks] base learning rate and weight decay */
    float beta1, beta2, eps, average_decay;
    const vg_update *update;
} vg_adamw;

enum { VG_MAX_LIBRARIES = 4 };

typedef struct vg_backend {
    const char *name;
    const vg_device_ops *device;
    vg_kernel kernels[VG_OP_COUNT];
    size_t (*workspace_bytes)(const vg_node *node, int n_threads); /* operand data pointers are not read */
    /* The input in whose place this output may be written, -1 for none; NULL: none ever. */
    int (*in_place)(vg_op op, int output);
    size_t (*packed_bytes)(const vg_node *node); /* 0: nothing to prepare for this node */
    vg_status (*pack)(vg_stream *stream, const vg_node *node,
                      void *packed); /* parameters among in[1..3], the first a weight, are final until re-planned */
    vg_status (*sum)(vg_stream *stream, float *dst, const float *a, const float *b,
                     int64_t n); /* dst = a + b; dst may be a or b */
    vg_status (*sum_squares)(vg_stream *stream, const float *x, int64_t n_blocks,
                             double *block_sums); /* in order, fp64 */
    vg_status (*norm)(vg_stream *stream, const vg_grad_norm *args);
    vg_status (*adamw)(vg_stream *stream, const vg_adamw *args);
    /* to = from, rounded; both 16-byte aligned. NULL: the backend computes in fp32 alone. */
    vg_status (*to_bf16)(vg_stream *stream, vg_bf16 *to, const float *from, int64_t n);
    /* Numerics profile: instruction set path or architecture, and library versions. Bits hold within it. */
    const char *(*profile)(const vg_stream *stream);
    /* Local, without a device too. The libraries it calls; returns how many. NULL: none that could be another one. */
    int (*libraries)(vg_library out[VG_MAX_LIBRARIES]);
} vg_backend;

/* Operands that a backend with to_bf16 takes in bf16; bit i stands for input or output i. Those of the tied set have
 * one type among them, the loose ones each their own. Beside bf16 x or dz a weight is bf16 (fp32 where there is gamma),
 * and a bias is like y. closes_block: a linear layer with gamma or res. */
typedef struct vg_bf16_operands {
    struct {
        unsigned in, out;
    } tied, loose;
} vg_bf16_operands;
vg_bf16_operands vg_op_bf16_operands(vg_op op, bool closes_block);

/* The CPU backend: the embedded default and the definition of each operation. */
const vg_backend *vg_backend_cpu(void);

/* The CUDA backend: same operations, same order, same meaning. There when the build found a CUDA toolkit (VLGTR_CUDA);
 * whether the machine has a device is another matter. */
const vg_backend *vg_backend_cuda(void);

/* Wraps another backend: poisons outputs with NaN before each kernel and checks afterwards that inputs are unchanged
 * and that every element of every output was written. Slow; for tests and --check. */
const vg_backend *vg_backend_check(void);

/* By name, "cpu", "cuda" or "check"; NULL where this build has none of it. */
const vg_backend *vg_backend_find(const char *name);

/* Name of an operation, as in ops.def. */
const char *vg_op_name(vg_op op);

#endif
