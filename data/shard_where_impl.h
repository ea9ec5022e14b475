/* Conditions on sentences: terms `NAME OP VALUE`, joined by `and`, all of which must hold.
 *
 *     split=train and words<=20 and area>=0.001 and kind!="far relation"
 *
 * Text (split, kind, source, name, phrase) is compared by = and !=, numbers by = != < <= > >=. A value with white
 * space, or that begins with one of = ! < > ' ", stands in double quotes, in which a double quote is written twice. The
 * names are the rows of `fields` in
 * shard_where.c. Inside data/. */
#ifndef VG_DATA_SHARD_WHERE_IMPL_H
#define VG_DATA_SHARD_WHERE_IMPL_H

#include "data/shard_impl.h"

enum { VG_WHERE_MOST_TERMS = 16, VG_WHERE_VALUE_BYTES = 256 };

typedef enum vg_where_op { VG_EQ, VG_NE, VG_LT, VG_LE, VG_GT, VG_GE } vg_where_op;

typedef struct vg_where_term {
    int field;
    vg_where_op op;
    double number;
    int64_t whole; /* the same where is_whole: a double does not tell large ids apart */
    bool is_whole;
    char text[VG_WHERE_VALUE_BYTES];
} vg_where_term;

typedef struct vg_where {
    vg_where_term terms[VG_WHERE_MOST_TERMS];
    int n;
} vg_where;

/* Errors: VG_E_USAGE naming the term, with the nearest name for an unknown one. */
vg_status vg_where_read(const char *text, vg_where *out);

/* Whether all terms hold for a sentence of an opened shard. */
bool vg_where_holds(const vg_where *where, const vg_shard *shard, size_t sentence);

#endif
