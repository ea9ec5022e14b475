/* Inside a program: nodes with their operands, and where each operand lies. Private to kernels/. */
#ifndef VG_KERNELS_PROGRAM_IMPL_H
#define VG_KERNELS_PROGRAM_IMPL_H

#include "kernels/graph_impl.h"

typedef enum vg_place {
    VG_PLACE_ARENA,    /* offset bytes into the arena */
    VG_PLACE_CONSTANT, /* offset bytes into the program's constants */
    VG_PLACE_INPUT,    /* input `index` */
    VG_PLACE_PARAM,    /* `offset` bytes behind the start of parameter `index` */
    VG_PLACE_MIRROR,   /* likewise, in the parameter's bf16 copy */
    VG_PLACE_GRADIENT, /* the same place in the gradient buffer */
    VG_PLACES
} vg_place;

typedef struct vg_location {
    vg_place place;
    int index;
    size_t offset;
} vg_location;

/* One operand of one node and where it lies. */
typedef struct vg_ref {
    int node;
    bool is_output;
    int slot;
    vg_location at;
} vg_ref;

typedef struct vg_refs {
    vg_ref *items;
    size_t n, capacity;
} vg_refs;

/* A run of bytes in the arena that is alive from node `first` to node `last`. */
typedef struct vg_temporary {
    int first, last;
    size_t bytes, offset;
} vg_temporary;

/* Gives every temporary an offset, a multiple of 64, so that no two that are alive together overlap. Errors:
 * VG_E_NOMEM. */
vg_status vg_place_temporaries(vg_temporary *temporaries, size_t n, size_t *arena_bytes);

typedef struct vg_program_input {
    char *name;
    const void *data; /* of the host */
    bool read;        /* by a node that is alive */
    bool fresh;       /* bound since inputs were last staged */
    size_t bytes;
    size_t offset; /* in the inbox */
} vg_program_input;

typedef struct vg_program_output {
    char *name;
    vg_location at;
    vg_shape shape;
    size_t bytes;
    size_t offset; /* in the outbox */
} vg_program_output_entry;

/* Nodes up to end_node, after which the caller is told that gradients below `end` are on their way. */
typedef struct vg_program_part {
    int end_node;
    int64_t end;
} vg_program_part;

/* A part of a run as a device recorded it; the place of the gradients belongs to it. */
typedef struct vg_recorded_part {
    float *gradients;
    int part;
    vg_capture *capture;
} vg_recorded_part;

/* A weight, a bias and gamma. */
enum { VG_MOST_PACKED = 3 };

/* What a program knows of a node beside its operands. */
typedef struct vg_node_info {
    int scope;
    int temporary;              /* its workspace, -1 for none */
    int frozen[VG_MOST_PACKED]; /* parameters that its packed form is made of */
    int n_frozen;
    size_t packed_bytes; /* 0: nothing may be packed */
    double seconds;      /* spent while profiling */
    int64_t runs;
} vg_node_info;

struct vg_program {
    const vg_backend *backend;
    vg_stream stream;
    vg_params *params;
    vg_node *nodes;
    vg_node_info *infos;
    int n_nodes;
    vg_refs refs[VG_PLACES];
    vg_temporary *temporaries;
    size_t n_temporaries, arena_bytes;
    vg_program_input *inputs;
    vg_program_output_entry *outputs;
    size_t n_inputs, n_outputs;
    char **scopes;
    size_t n_scopes;
    vg_arena constants, packed; /* constants: on the host */
    size_t constants_bytes;
    unsigned char *arena;
    float *gradients;
    bool attached, profiling;

    vg_program_part
        *parts; /* [n_parts], the last one ends with the nodes; none: the run is one part and nobody is told */
    int n_parts;
    vg_program_told told;
    void *told_context;

    /* Of a device apart from the host: inputs go through staging memory to the landing place while the device computes,
     * and into the inbox when a run begins; outputs come to the outbox. */
    vg_arena device_constants, staging, landing, inbox, outbox;
    size_t inbox_bytes, outbox_bytes;
    vg_stream copies; /* of inputs */
    bool staged;      /* for the next run */
    bool under_way;   /* a run was enqueued and not waited for */
    bool may_record, warm;
    vg_recorded_part *recorded;
    size_t n_recorded, recorded_capacity;
};

#endif
