/* Inside a graph: values, nodes, and what the files of the engine share. Private to kernels/. */
#ifndef VG_KERNELS_GRAPH_IMPL_H
#define VG_KERNELS_GRAPH_IMPL_H

#include "kernels/graph.h"

/* How many operands an operation's row has. */
typedef struct vg_op_row {
    int n_in, n_out;
} vg_op_row;
const vg_op_row *vg_op_row_of(vg_op op);

/* Bit i stands for output i: those that are absent when nobody reads them, and those that may be the gradient of a
 * parameter (and are then subject to node->accumulate). */
unsigned vg_op_optional_outputs(vg_op op);
unsigned vg_op_parameter_outputs(vg_op op);

typedef enum vg_value_kind {
    VG_VALUE_NONE,
    VG_VALUE_INPUT,
    VG_VALUE_CONST,
    VG_VALUE_PARAM,    /* a parameter or a run of its rows */
    VG_VALUE_NODE,     /* what a node computes, in the arena */
    VG_VALUE_GRADIENT, /* what a node computes, in the place of a parameter's gradient */
} vg_value_kind;

typedef struct vg_graph_value {
    vg_value_kind kind;
    vg_dtype dtype;
    vg_shape shape;
    char *name;    /* INPUT, CONST */
    float *data;   /* CONST */
    int param;     /* PARAM, GRADIENT */
    int64_t first; /* PARAM, GRADIENT: its first element within the parameter */
} vg_graph_value;

typedef struct vg_graph_node {
    vg_op op;
    vg_attr attr;
    int in[VG_MAX_IN], out[VG_MAX_OUT]; /* values; 0 is absent */
    int scope;
    bool accumulate;
} vg_graph_node;

typedef struct vg_graph_kept {
    char *name;
    int value;
} vg_graph_kept;

struct vg_graph {
    vg_params *params;
    vg_status status; /* the first error, and its sentence */
    char *error;
    vg_graph_value *values; /* values[0] stands for no value */
    vg_graph_node *nodes;   /* in the order of execution: a node reads what earlier ones wrote */
    vg_graph_kept *kept;
    char **scopes; /* scopes[0] is "" */
    size_t n_values, n_nodes, n_kept, n_scopes;
    size_t values_capacity, nodes_capacity, kept_capacity, scopes_capacity;
    int scope; /* of the nodes to come */
    bool differentiated;
};

/* Keeps the first error; `st` is this thread's latest. */
void vg_graph_blame(vg_graph *g, vg_status st);

/* A new value; 0 after an error. */
int vg_graph_add_value(vg_graph *g, vg_graph_value value);

/* The value for elements of a parameter in a shape (param, first, shape of *view), made on first use. */
vg_value vg_graph_param_view(vg_graph *g, const vg_graph_value *view);

/* A node over in[n_in], whose outputs the operation's shape rule makes; its first output. */
vg_value vg_graph_apply(vg_graph *g, vg_op op, vg_attr attr, const vg_value *in, int n_in);

/* A node with operands and outputs as given. */
void vg_graph_add_node(vg_graph *g, const vg_graph_node *node);

/* What a shape rule sees and fills. */
typedef struct vg_shaping {
    const vg_attr *attr;
    const vg_graph_value *in[VG_MAX_IN]; /* NULL where absent */
    struct {
        bool present;
        vg_dtype dtype;
        vg_shape shape;
    } out[VG_MAX_OUT];
} vg_shaping;

/* Runs the operation's rule; NULL when its operands fit, else what does not. */
const char *vg_op_shape(vg_op op, vg_shaping *s);

#endif
