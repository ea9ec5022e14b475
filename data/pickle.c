/* A pickle is a program for a stack machine. This one has a stack, a memo and a table of the opcodes it knows; an
 * opcode without a handler is refused by its name. Nothing recurses, and each byte of input makes at most one value or
 * one reference, so time and memory are linear in the file. */
#include "data/pickle_impl.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_FILE_BYTES = 512 << 20, MAX_VALUES = 1 << 25, HIGHEST_PROTOCOL = 4, BLOCK_BYTES = 1 << 16 };

typedef struct opcode {
    const char *name;
    vg_status (*run)(vg_pickle_machine *m, int width); /* NULL: refused */
    int width;                                         /* bytes of the argument, or what its handler makes of it */
} opcode;

vg_status vg_pickle_fail(const vg_pickle_machine *m, const char *why)
{
    return vg_fail(VG_E_DATA, "%s: byte %zu, opcode %s: %s", m->name, (size_t)(m->op_at - m->start), m->op_name, why);
}

/* ---- memory ---- */

void *vg_pickle_block_take(vg_pickle *p, size_t n)
{
    n = vg_round_up(n, 16);
    if (n > p->block_size - p->block_used) {
        const size_t size = n > BLOCK_BYTES ? n : BLOCK_BYTES;
        vg_pickle_block *fresh = malloc(sizeof *fresh + size);
        if (!fresh) return NULL;
        fresh->next = p->blocks;
        p->blocks = fresh;
        p->block_used = 0;
        p->block_size = size;
    }
    void *out = p->blocks->data + p->block_used;
    p->block_used += n;
    return out;
}

void vg_pickle_free(vg_pickle *p)
{
    if (!p) return;
    for (vg_pickle_value *v = p->containers; v; v = v->list.next) free(v->list.item);
    for (vg_pickle_block *b = p->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(p);
}

static vg_status push(vg_pickle_machine *m, vg_pickle_value *value)
{
    VG_TRY(vg_grow(&m->stack, &m->stack_capacity, m->n_stack + 1, sizeof *m->stack));
    m->stack[m->n_stack++] = value;
    return VG_OK;
}

vg_status vg_pickle_push_new(vg_pickle_machine *m, vg_pickle_kind kind, vg_pickle_value **out)
{
    PICKLE_CHECK(m, m->n_values++ < MAX_VALUES, "more than 2^25 values");
    vg_pickle_value *v = vg_pickle_block_take(m->pickle, sizeof *v);
    VG_CHECK(v, VG_E_NOMEM, "%s: no memory for the values of the pickle", m->name);
    *v = (vg_pickle_value){.kind = (uint8_t)kind, .weight = 1};
    if (kind >= VG_PICKLE_LIST) {
        v->height = 1;
        v->list.next = m->pickle->containers;
        m->pickle->containers = v;
    }
    *out = v;
    return push(m, v);
}

/* ---- arguments ---- */

vg_status vg_pickle_take(vg_pickle_machine *m, size_t n, const unsigned char **out)
{
    PICKLE_CHECK(m, n <= (size_t)(m->end - m->at), "the file ends inside its argument");
    *out = m->at;
    m->at += n;
    return VG_OK;
}

vg_status vg_pickle_take_unsigned(vg_pickle_machine *m, int width, uint64_t *out)
{
    const unsigned char *bytes = NULL;
    VG_TRY(vg_pickle_take(m, (size_t)width, &bytes));
    *out = 0;
    for (int i = width; i-- > 0;) *out = *out << 8 | bytes[i];
    return VG_OK;
}

vg_status vg_pickle_take_line(vg_pickle_machine *m, const unsigned char **line, size_t *n)
{
    const unsigned char *newline = memchr(m->at, '\n', (size_t)(m->end - m->at));
    PICKLE_CHECK(m, newline, "the file ends inside its argument");
    *line = m->at;
    *n = (size_t)(newline - m->at);
    m->at = newline + 1;
    return VG_OK;
}

/* Decimal digits with an optional sign, as int() of Python would read them. */
static vg_status take_decimal(vg_pickle_machine *m, const unsigned char *line, size_t n, int64_t *out)
{
    const bool negative = n > 0 && line[0] == '-';
    const size_t first = n > 0 && (line[0] == '-' || line[0] == '+');
    PICKLE_CHECK(m, first < n, "not a decimal integer");
    int64_t value = 0;
    for (size_t i = first; i < n; i++) {
        PICKLE_CHECK(m, line[i] >= '0' && line[i] <= '9', "not a decimal integer");
        const int digit = line[i] - '0';
        const bool over =
            __builtin_mul_overflow(value, 10, &value) ||
            (negative ? __builtin_sub_overflow(value, digit, &value) : __builtin_add_overflow(value, digit, &value));
        PICKLE_CHECK(m, !over, "an integer beyond 64 bits");
    }
    *out = value;
    return VG_OK;
}

/* ---- scalars ---- */

static vg_status op_none(vg_pickle_machine *m, int width)
{
    (void)width;
    vg_pickle_value *v = NULL;
    return vg_pickle_push_new(m, VG_PICKLE_NONE, &v);
}

static vg_status op_truth(vg_pickle_machine *m, int truth)
{
    vg_pickle_value *v = NULL;
    VG_TRY(vg_pickle_push_new(m, VG_PICKLE_BOOL, &v));
    v->truth = truth;
    return VG_OK;
}

static vg_status push_integer(vg_pickle_machine *m, int64_t integer)
{
    vg_pickle_value *v = NULL;
    VG_TRY(vg_pickle_push_new(m, VG_PICKLE_INT, &v));
    v->integer = integer;
    return VG_OK;
}

/* `I` also spells booleans, which protocol 0 has no opcode for: 00 and 01, two digits. */
static vg_status op_int_line(vg_pickle_machine *m, int width)
{
    (void)width;
    const unsigned char *line = NULL;
    size_t n = 0;
    int64_t value = 0;
    VG_TRY(vg_pickle_take_line(m, &line, &n));
    if (n == 2 && line[0] == '0' && (line[1] == '0' || line[1] == '1')) return op_truth(m, line[1] == '1');
    VG_TRY(take_decimal(m, line, n, &value));
    return push_integer(m, value);
}

static vg_status op_long_line(vg_pickle_machine *m, int width)
{
    (void)width;
    const unsigned char *line = NULL;
    size_t n = 0;
    int64_t value = 0;
    VG_TRY(vg_pickle_take_line(m, &line, &n));
    if (n > 0 && line[n - 1] == 'L') n--;
    VG_TRY(take_decimal(m, line, n, &value));
    return push_integer(m, value);
}

static vg_status op_int_unsigned(vg_pickle_machine *m, int width)
{
    uint64_t value = 0;
    VG_TRY(vg_pickle_take_unsigned(m, width, &value));
    return push_integer(m, (int64_t)value);
}

static vg_status op_int_signed(vg_pickle_machine *m, int width)
{
    uint64_t value = 0;
    VG_TRY(vg_pickle_take_unsigned(m, width, &value));
    return push_integer(m, (int32_t)(uint32_t)value);
}

/* Little-endian two's complement of a counted number of bytes; none at all is 0. */
static vg_status op_long_counted(vg_pickle_machine *m, int width)
{
    uint64_t n = 0, value = 0;
    VG_TRY(vg_pickle_take_unsigned(m, width, &n));
    PICKLE_CHECK(m, n <= 8, "an integer beyond 64 bits");
    VG_TRY(vg_pickle_take_unsigned(m, (int)n, &value));
    if (n > 0 && n < 8 && value >> (8 * n - 1)) value |= ~(uint64_t)0 << (8 * n);
    return push_integer(m, (int64_t)value);
}

static vg_status push_number(vg_pickle_machine *m, double number)
{
    vg_pickle_value *v = NULL;
    VG_TRY(vg_pickle_push_new(m, VG_PICKLE_FLOAT, &v));
    v->number = number;
    return VG_OK;
}

static vg_status op_float_line(vg_pickle_machine *m, int width)
{
    (void)width;
    const unsigned char *line = NULL;
    size_t n = 0;
    VG_TRY(vg_pickle_take_line(m, &line, &n));
    char text[64], *rest;
    PICKLE_CHECK(m, n > 0 && n < sizeof text, "not a float");
    memcpy(text, line, n);
    text[n] = '\0';
    const double value = strtod(text, &rest);
    PICKLE_CHECK(m, rest == text + n, "not a float");
    return push_number(m, value);
}

static vg_status op_float_big_endian(vg_pickle_machine *m, int width)
{
    (void)width;
    const unsigned char *bytes = NULL;
    VG_TRY(vg_pickle_take(m, 8, &bytes));
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++) bits = bits << 8 | bytes[i];
    double value;
    memcpy(&value, &bits, sizeof value);
    return push_number(m, value);
}

/* ---- stack ---- */

/* Values above the last mark: an opcode reaches no deeper. */
static size_t above_mark(const vg_pickle_machine *m)
{
    return m->n_stack - (m->n_marks ? m->marks[m->n_marks - 1] : 0);
}

static vg_status op_mark(vg_pickle_machine *m, int width)
{
    (void)width;
    VG_TRY(vg_grow(&m->marks, &m->marks_capacity, m->n_marks + 1, sizeof *m->marks));
    m->marks[m->n_marks++] = m->n_stack;
    return VG_OK;
}

/* Removes the last mark; the *n values above it, from stack[*first] on, are off the stack but still in its memory. */
static vg_status pop_mark(vg_pickle_machine *m, size_t *first, size_t *n)
{
    PICKLE_CHECK(m, m->n_marks > 0, "no mark on the stack");
    *first = m->marks[--m->n_marks];
    *n = m->n_stack - *first;
    m->n_stack = *first;
    return VG_OK;
}

static vg_status op_pop(vg_pickle_machine *m, int width)
{
    (void)width;
    if (above_mark(m) == 0 && m->n_marks > 0) {
        m->n_marks--;
        return VG_OK;
    }
    PICKLE_CHECK(m, above_mark(m) > 0, "the stack is empty");
    m->n_stack--;
    return VG_OK;
}

static vg_status op_pop_mark(vg_pickle_machine *m, int width)
{
    (void)width;
    size_t first = 0, n = 0;
    return pop_mark(m, &first, &n);
}

static vg_status op_dup(vg_pickle_machine *m, int width)
{
    (void)width;
    PICKLE_CHECK(m, above_mark(m) > 0, "the stack is empty");
    return push(m, m->stack[m->n_stack - 1]);
}

/* ---- containers ---- */

static vg_status place(vg_pickle_machine *m, vg_pickle_value *into, vg_pickle_value *item)
{
    PICKLE_CHECK(m, !into->placed && into != item, "a structure that contains itself");
    PICKLE_CHECK(m, item->height < VG_PICKLE_DEPTH, "values nested too deep");
    PICKLE_CHECK(m, into->weight + item->weight <= VG_PICKLE_WEIGHT, "too many values once shared ones are counted");
    VG_TRY(vg_grow(&into->list.item, &into->list.capacity, into->list.n + 1, sizeof *into->list.item));
    into->list.item[into->list.n++] = item;
    into->weight += item->weight;
    if (into->height <= item->height) into->height = (uint8_t)(item->height + 1);
    item->placed = true;
    return VG_OK;
}

/* The n values from stack[first] on. */
static vg_status place_all(vg_pickle_machine *m, vg_pickle_value *into, size_t first, size_t n)
{
    PICKLE_CHECK(m, into->kind != VG_PICKLE_DICT || n % 2 == 0, "a key without a value");
    for (size_t i = 0; i < n; i++) {
        vg_pickle_value *item = m->stack[first + i];
        const bool is_key = into->kind == VG_PICKLE_DICT && i % 2 == 0;
        PICKLE_CHECK(m, !is_key || (item->kind != VG_PICKLE_LIST && item->kind != VG_PICKLE_DICT),
                     "a list or dict as a key");
        VG_TRY(place(m, into, item));
    }
    return VG_OK;
}

static vg_status op_empty(vg_pickle_machine *m, int kind)
{
    vg_pickle_value *v = NULL;
    return vg_pickle_push_new(m, (vg_pickle_kind)kind, &v);
}

/* A list, tuple or dict of what lies above the mark. */
static vg_status op_from_mark(vg_pickle_machine *m, int kind)
{
    vg_pickle_value *v = NULL;
    size_t first = 0, n = 0;
    VG_TRY(pop_mark(m, &first, &n));
    m->n_stack = first + n; /* the items stay where they are while the container is made on top of them */
    VG_TRY(vg_pickle_push_new(m, (vg_pickle_kind)kind, &v));
    VG_TRY(place_all(m, v, first, n));
    m->n_stack = first;
    return push(m, v);
}

static vg_status op_tuple_of(vg_pickle_machine *m, int n)
{
    PICKLE_CHECK(m, above_mark(m) >= (size_t)n, "the stack holds too few values");
    VG_TRY(op_mark(m, 0));
    m->marks[m->n_marks - 1] -= (size_t)n;
    return op_from_mark(m, VG_PICKLE_TUPLE);
}

/* The n top values go into the container below them. */
static vg_status place_into(vg_pickle_machine *m, int kind, size_t n)
{
    PICKLE_CHECK(m, above_mark(m) > n, "nothing on the stack to put its values into");
    vg_pickle_value *into = m->stack[m->n_stack - n - 1];
    PICKLE_CHECK(m, into->kind == kind, kind == VG_PICKLE_LIST ? "its target is no list" : "its target is no dict");
    VG_TRY(place_all(m, into, m->n_stack - n, n));
    m->n_stack -= n;
    return VG_OK;
}

static vg_status op_append(vg_pickle_machine *m, int kind)
{
    return place_into(m, kind, kind == VG_PICKLE_LIST ? 1 : 2);
}

static vg_status op_append_marked(vg_pickle_machine *m, int kind)
{
    size_t first = 0, n = 0;
    VG_TRY(pop_mark(m, &first, &n));
    m->n_stack += n;
    return place_into(m, kind, n);
}

/* ---- memo ---- */

static vg_status take_memo_index(vg_pickle_machine *m, int width, uint64_t *out)
{
    if (width > 0) return vg_pickle_take_unsigned(m, width, out);
    const unsigned char *line = NULL;
    size_t n = 0;
    int64_t index = 0;
    VG_TRY(vg_pickle_take_line(m, &line, &n));
    VG_TRY(take_decimal(m, line, n, &index));
    PICKLE_CHECK(m, index >= 0, "a negative memo index");
    *out = (uint64_t)index;
    return VG_OK;
}

static vg_status memo_put(vg_pickle_machine *m, uint64_t index)
{
    PICKLE_CHECK(m, above_mark(m) > 0, "the stack is empty");
    /* Writers count up, one index a put, so none can pass the number of bytes. */
    PICKLE_CHECK(m, index <= (uint64_t)(m->end - m->start), "a memo index larger than the file");
    VG_TRY(vg_grow(&m->memo, &m->memo_capacity, (size_t)index + 1, sizeof *m->memo));
    while (m->n_memo <= index) m->memo[m->n_memo++] = NULL;
    m->memo[index] = m->stack[m->n_stack - 1];
    m->memo_next++;
    return VG_OK;
}

static vg_status op_put(vg_pickle_machine *m, int width)
{
    uint64_t index = 0;
    VG_TRY(take_memo_index(m, width, &index));
    return memo_put(m, index);
}

static vg_status op_memoize(vg_pickle_machine *m, int width)
{
    (void)width;
    return memo_put(m, m->memo_next);
}

static vg_status op_get(vg_pickle_machine *m, int width)
{
    uint64_t index = 0;
    VG_TRY(take_memo_index(m, width, &index));
    PICKLE_CHECK(m, index < m->n_memo && m->memo[index], "a memo index that was never put");
    return push(m, m->memo[index]);
}

/* ---- the program ---- */

static vg_status op_protocol(vg_pickle_machine *m, int width)
{
    uint64_t version = 0;
    VG_TRY(vg_pickle_take_unsigned(m, width, &version));
    PICKLE_CHECK(m, version <= HIGHEST_PROTOCOL, "a protocol above 4; write the pickle again with protocol 2");
    return VG_OK;
}

/* Frames only help readers of streams. */
static vg_status op_frame(vg_pickle_machine *m, int width)
{
    uint64_t n = 0;
    VG_TRY(vg_pickle_take_unsigned(m, width, &n));
    PICKLE_CHECK(m, n <= (uint64_t)(m->end - m->at), "its length goes beyond the end of the file");
    return VG_OK;
}

static vg_status op_stop(vg_pickle_machine *m, int width)
{
    (void)width;
    PICKLE_CHECK(m, m->n_stack == 1 && m->n_marks == 0, "the stack does not hold exactly one value");
    m->pickle->root = m->stack[0];
    m->stopped = true;
    return VG_OK;
}

static const opcode opcodes[256] = {
    ['N'] = {"NONE", op_none, 0},
    [0x88] = {"NEWTRUE", op_truth, 1},
    [0x89] = {"NEWFALSE", op_truth, 0},
    ['I'] = {"INT", op_int_line, 0},
    ['L'] = {"LONG", op_long_line, 0},
    ['K'] = {"BININT1", op_int_unsigned, 1},
    ['M'] = {"BININT2", op_int_unsigned, 2},
    ['J'] = {"BININT", op_int_signed, 4},
    [0x8a] = {"LONG1", op_long_counted, 1},
    [0x8b] = {"LONG4", op_long_counted, 4},
    ['F'] = {"FLOAT", op_float_line, 0},
    ['G'] = {"BINFLOAT", op_float_big_endian, 8},
    ['S'] = {"STRING", vg_pickle_op_string_line, 0},
    ['U'] = {"SHORT_BINSTRING", vg_pickle_op_string, 1},
    ['T'] = {"BINSTRING", vg_pickle_op_string, 4},
    ['V'] = {"UNICODE", vg_pickle_op_unicode_line, 0},
    [0x8c] = {"SHORT_BINUNICODE", vg_pickle_op_unicode, 1},
    ['X'] = {"BINUNICODE", vg_pickle_op_unicode, 4},
    [0x8d] = {"BINUNICODE8", vg_pickle_op_unicode, 8},
    ['C'] = {"SHORT_BINBYTES", vg_pickle_op_bytes, 1},
    ['B'] = {"BINBYTES", vg_pickle_op_bytes, 4},
    [0x8e] = {"BINBYTES8", vg_pickle_op_bytes, 8},
    ['('] = {"MARK", op_mark, 0},
    ['0'] = {"POP", op_pop, 0},
    ['1'] = {"POP_MARK", op_pop_mark, 0},
    ['2'] = {"DUP", op_dup, 0},
    [']'] = {"EMPTY_LIST", op_empty, VG_PICKLE_LIST},
    ['}'] = {"EMPTY_DICT", op_empty, VG_PICKLE_DICT},
    [')'] = {"EMPTY_TUPLE", op_empty, VG_PICKLE_TUPLE},
    ['l'] = {"LIST", op_from_mark, VG_PICKLE_LIST},
    ['d'] = {"DICT", op_from_mark, VG_PICKLE_DICT},
    ['t'] = {"TUPLE", op_from_mark, VG_PICKLE_TUPLE},
    [0x85] = {"TUPLE1", op_tuple_of, 1},
    [0x86] = {"TUPLE2", op_tuple_of, 2},
    [0x87] = {"TUPLE3", op_tuple_of, 3},
    ['a'] = {"APPEND", op_append, VG_PICKLE_LIST},
    ['s'] = {"SETITEM", op_append, VG_PICKLE_DICT},
    ['e'] = {"APPENDS", op_append_marked, VG_PICKLE_LIST},
    ['u'] = {"SETITEMS", op_append_marked, VG_PICKLE_DICT},
    ['p'] = {"PUT", op_put, 0},
    ['q'] = {"BINPUT", op_put, 1},
    ['r'] = {"LONG_BINPUT", op_put, 4},
    [0x94] = {"MEMOIZE", op_memoize, 0},
    ['g'] = {"GET", op_get, 0},
    ['h'] = {"BINGET", op_get, 1},
    ['j'] = {"LONG_BINGET", op_get, 4},
    [0x80] = {"PROTO", op_protocol, 1},
    [0x95] = {"FRAME", op_frame, 8},
    ['.'] = {"STOP", op_stop, 0},
    /* Refused: they name classes, call them, or ask for objects that are not in the file. */
    ['c'] = {"GLOBAL", NULL, 0},
    [0x93] = {"STACK_GLOBAL", NULL, 0},
    ['R'] = {"REDUCE", NULL, 0},
    ['b'] = {"BUILD", NULL, 0},
    ['i'] = {"INST", NULL, 0},
    ['o'] = {"OBJ", NULL, 0},
    [0x81] = {"NEWOBJ", NULL, 0},
    [0x92] = {"NEWOBJ_EX", NULL, 0},
    ['P'] = {"PERSID", NULL, 0},
    ['Q'] = {"BINPERSID", NULL, 0},
    [0x82] = {"EXT1", NULL, 0},
    [0x83] = {"EXT2", NULL, 0},
    [0x84] = {"EXT4", NULL, 0},
    [0x8f] = {"EMPTY_SET", NULL, 0},
    [0x90] = {"ADDITEMS", NULL, 0},
    [0x91] = {"FROZENSET", NULL, 0},
    [0x96] = {"BYTEARRAY8", NULL, 0},
    [0x97] = {"NEXT_BUFFER", NULL, 0},
    [0x98] = {"READONLY_BUFFER", NULL, 0},
};

static vg_status pickle_run(vg_pickle_machine *m)
{
    while (!m->stopped) {
        VG_CHECK(m->at < m->end, VG_E_DATA, "%s: byte %zu: the pickle ends without STOP; the file is cut short",
                 m->name, (size_t)(m->at - m->start));
        m->op_at = m->at;
        const opcode *op = &opcodes[*m->at++];
        VG_CHECK(op->name, VG_E_DATA, "%s: byte %zu: 0x%02x is no opcode; is this a pickle?", m->name,
                 (size_t)(m->op_at - m->start), *m->op_at);
        m->op_name = op->name;
        PICKLE_CHECK(m, op->run, "refused; pickles are read as plain data and this one is not");
        VG_TRY(op->run(m, op->width));
    }
    return VG_OK;
}

vg_status vg_pickle_parse(const char *name, const void *bytes, size_t n, vg_pickle **out)
{
    vg_pickle_machine m = {.name = name, .start = bytes, .at = bytes, .end = (const unsigned char *)bytes + n};
    m.pickle = vg_new0(sizeof *m.pickle);
    VG_CHECK(m.pickle, VG_E_NOMEM, "%s: no memory for a pickle reader", name);
    const vg_status st = pickle_run(&m);
    free(m.stack);
    free(m.marks);
    free(m.memo);
    if (st != VG_OK)
        vg_pickle_free(m.pickle);
    else
        *out = m.pickle;
    return st;
}

vg_status vg_pickle_read(const char *path, vg_pickle **out)
{
    char *bytes = NULL;
    size_t n = 0;
    VG_TRY(vg_file_read(path, MAX_FILE_BYTES, &bytes, &n));
    const vg_status st = vg_pickle_parse(path, bytes, n, out);
    free(bytes);
    return st;
}
