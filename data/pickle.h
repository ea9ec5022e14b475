/* Python pickles read as data and never executed: protocols 0 to 4, and of their opcodes only those that build None,
 * bool, int, float, text, bytes, list, tuple and dict. Everything that names a class or calls one is refused.
 *
 *     vg_pickle *pickle;
 *     VG_TRY(vg_pickle_read("refcoco/refs(unc).p", &pickle));
 *     const vg_pickle_value *refs = vg_pickle_root(pickle);
 *     for (size_t i = 0; i < vg_pickle_count(refs); i++) {
 *         const vg_pickle_value *id = vg_pickle_find(vg_pickle_item(refs, i), "ref_id");
 *         int64_t ref_id;
 *         if (!vg_pickle_int(id, &ref_id)) ...
 *     }
 *     vg_pickle_free(pickle);
 *
 * Values may be shared (a memo reference), never cyclic, at most VG_PICKLE_DEPTH deep and at most VG_PICKLE_WEIGHT
 * values when every sharing is written out, so a plain recursive walk ends. Accessors take NULL and values of another
 * kind and answer "no", so a reader checks once, where it uses the value. Source: Lib/pickletools.py of CPython, which
 * documents each opcode. */
#ifndef VG_DATA_PICKLE_H
#define VG_DATA_PICKLE_H

#include "kernels/base/base.h"

enum { VG_PICKLE_DEPTH = 64, VG_PICKLE_WEIGHT = 1 << 26 };

typedef enum vg_pickle_kind {
    VG_PICKLE_NONE,
    VG_PICKLE_BOOL,
    VG_PICKLE_INT,
    VG_PICKLE_FLOAT,
    VG_PICKLE_TEXT,  /* valid UTF-8; a Python 2 byte string that is not UTF-8 is taken as latin-1 */
    VG_PICKLE_BYTES, /* bytes of Python 3, as they are */
    VG_PICKLE_LIST,
    VG_PICKLE_TUPLE,
    VG_PICKLE_DICT,
} vg_pickle_kind;

typedef struct vg_pickle vg_pickle;             /* owns every value */
typedef struct vg_pickle_value vg_pickle_value; /* borrowed from the pickle */

/* Parses a file of at most 512 MiB, or n bytes that errors call `name`. Errors: VG_E_DATA naming the file, the byte
 * offset and the opcode; VG_E_NOMEM. */
vg_status vg_pickle_read(const char *path, vg_pickle **out);
vg_status vg_pickle_parse(const char *name, const void *bytes, size_t n, vg_pickle **out);
void vg_pickle_free(vg_pickle *pickle);

const vg_pickle_value *vg_pickle_root(const vg_pickle *pickle);

vg_pickle_kind vg_pickle_kind_of(const vg_pickle_value *value); /* of NULL: VG_PICKLE_NONE */

/* Items of a list or tuple, pairs of a dict; 0 for all else. */
size_t vg_pickle_count(const vg_pickle_value *value);
/* Item i of a list or tuple; NULL past the end. */
const vg_pickle_value *vg_pickle_item(const vg_pickle_value *value, size_t i);
/* Key and value of pair i of a dict, in file order; false past the end. */
bool vg_pickle_pair(const vg_pickle_value *value, size_t i, const vg_pickle_value **key, const vg_pickle_value **item);
/* The value of a text key of a dict (the last one set counts), NULL when there is none. */
const vg_pickle_value *vg_pickle_find(const vg_pickle_value *value, const char *key);

/* True, and *out set, when the value is of that kind. A bool is no int; an int is a number. */
bool vg_pickle_bool(const vg_pickle_value *value, bool *out);
bool vg_pickle_int(const vg_pickle_value *value, int64_t *out);
bool vg_pickle_number(const vg_pickle_value *value, double *out);
/* The NUL-terminated text and its length (n may be NULL); NULL for another kind. */
const char *vg_pickle_text(const vg_pickle_value *value, size_t *n);
const unsigned char *vg_pickle_bytes(const vg_pickle_value *value, size_t *n);

#endif
