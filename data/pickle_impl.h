/* The pickle's parts: pickle.c runs the opcodes, pickle_text.c has those of text and bytes, pickle_tree.c reads what
 * came of them. */
#ifndef VG_DATA_PICKLE_IMPL_H
#define VG_DATA_PICKLE_IMPL_H

#include "data/pickle.h"

struct vg_pickle_value {
    uint8_t kind;
    uint8_t height;  /* of the containers below it; a scalar has 0 */
    bool placed;     /* a container inside another is complete: growing it later could close a cycle */
    uint32_t weight; /* values in it when every sharing is written out */
    union {
        bool truth;
        int64_t integer;
        double number;
        struct {
            unsigned char *data; /* NUL-terminated */
            size_t n;
        } bytes;
        struct {
            const vg_pickle_value **item; /* a dict holds key, value, key, value .. */
            size_t n, capacity;
            vg_pickle_value *next; /* all containers of a pickle, to free their items */
        } list;
    };
};

/* Values and texts lie in blocks that are freed together. */
typedef struct vg_pickle_block {
    struct vg_pickle_block *next;
    _Alignas(16) unsigned char data[];
} vg_pickle_block;

struct vg_pickle {
    vg_pickle_block *blocks;
    size_t block_used, block_size;
    vg_pickle_value *containers;
    const vg_pickle_value *root;
};

/* A pickle while it is read. */
typedef struct vg_pickle_machine {
    const char *name;
    const unsigned char *start, *at, *end;
    const unsigned char *op_at;
    const char *op_name;
    vg_pickle *pickle;
    vg_pickle_value **stack;
    size_t n_stack, stack_capacity;
    size_t *marks; /* stack heights */
    size_t n_marks, marks_capacity;
    vg_pickle_value **memo; /* NULL where nothing was put */
    size_t n_memo, memo_capacity, memo_next;
    size_t n_values;
    bool stopped;
} vg_pickle_machine;

#define PICKLE_CHECK(m, condition, ...)                            \
    do {                                                           \
        if (!(condition)) return vg_pickle_fail((m), __VA_ARGS__); \
    } while (0)

/* VG_E_DATA, with the byte and the name of the opcode at hand. */
vg_status vg_pickle_fail(const vg_pickle_machine *m, const char *why);

/* n bytes that live as long as the pickle; NULL where there is no memory. */
void *vg_pickle_block_take(vg_pickle *p, size_t n);
/* A new value on top of the stack. Errors: VG_E_DATA (too many), VG_E_NOMEM. */
vg_status vg_pickle_push_new(vg_pickle_machine *m, vg_pickle_kind kind, vg_pickle_value **out);

/* These three take what comes next in the file. Errors: VG_E_DATA where it ends before. */
vg_status vg_pickle_take(vg_pickle_machine *m, size_t n, const unsigned char **out);
/* A little-endian number of `width` bytes, at most 8. */
vg_status vg_pickle_take_unsigned(vg_pickle_machine *m, int width, uint64_t *out);
/* A line of protocol 0, without its newline. */
vg_status vg_pickle_take_line(vg_pickle_machine *m, const unsigned char **line, size_t *n);

/* The opcodes of text and bytes; `width` bytes say how many follow, those of a line ignore it. */
vg_status vg_pickle_op_string(vg_pickle_machine *m, int width);
vg_status vg_pickle_op_string_line(vg_pickle_machine *m, int width);
vg_status vg_pickle_op_unicode(vg_pickle_machine *m, int width);
vg_status vg_pickle_op_unicode_line(vg_pickle_machine *m, int width);
vg_status vg_pickle_op_bytes(vg_pickle_machine *m, int width);

#endif
