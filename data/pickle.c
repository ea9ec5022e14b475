/* A pickle is a program for a stack machine. This one has a stack, a memo and a table of the opcodes it knows; an
 * opcode without a handler is refused by its name. Nothing recurses, and each byte of input makes at most one value or
 * one reference, so time and memory are linear in the file. */
#include "data/pickle.h"

#include "data/utf8.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE_BYTES = 512 << 20, MAX_VALUES = 1 << 25, HIGHEST_PROTOCOL = 4, BLOCK_BYTES = 1 << 16 };

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
typedef struct block {
    struct block *next;
    _Alignas(16) unsigned char data[];
} block;

struct vg_pickle {
    block *blocks;
    size_t block_used, block_size;
    vg_pickle_value *containers;
    const vg_pickle_value *root;
};

typedef struct machine machine;
typedef struct opcode {
    const char *name;
    vg_status (*run)(machine *m, int width); /* NULL: refused */
    int width;                               /* bytes of the argument, or what its handler makes of it */
} opcode;

struct machine {
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
};

#define PICKLE_CHECK(m, condition, ...)                         \
    do {                                                        \
        if (!(condition)) return pickle_fail((m), __VA_ARGS__); \
    } while (0)

static vg_status pickle_fail(const machine *m, const char *why)
{
    return vg_fail(VG_E_DATA, "%s: byte %zu, opcode %s: %s", m->name, (size_t)(m->op_at - m->start), m->op_name, why);
}

/* ---- memory ---- */

static void *block_take(vg_pickle *p, size_t n)
{
    n = vg_round_up(n, 16);
    if (n > p->block_size - p->block_used) {
        const size_t size = n > BLOCK_BYTES ? n : BLOCK_BYTES;
        block *fresh = malloc(sizeof *fresh + size);
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
    for (block *b = p->blocks, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(p);
}

static vg_status push(machine *m, vg_pickle_value *value)
{
    VG_TRY(vg_grow(&m->stack, &m->stack_capacity, m->n_stack + 1, sizeof *m->stack));
    m->stack[m->n_stack++] = value;
    return VG_OK;
}

static vg_status push_new(machine *m, vg_pickle_kind kind, vg_pickle_value **out)
{
    PICKLE_CHECK(m, m->n_values++ < MAX_VALUES, "more than 2^25 values");
    vg_pickle_value *v = block_take(m->pickle, sizeof *v);
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

static vg_status take(machine *m, size_t n, const unsigned char **out)
{
    PICKLE_CHECK(m, n <= (size_t)(m->end - m->at), "the file ends inside its argument");
    *out = m->at;
    m->at += n;
    return VG_OK;
}

static vg_status take_unsigned(machine *m, int width, uint64_t *out)
{
    const unsigned char *bytes = NULL;
    VG_TRY(take(m, (size_t)width, &bytes));
    *out = 0;
    for (int i = width; i-- > 0;) *out = *out << 8 | bytes[i];
    return VG_OK;
}

/* A line of protocol 0, without its newline. */
static vg_status take_line(machine *m, const unsigned char **line, size_t *n)
{
    const unsigned char *newline = memchr(m->at, '\n', (size_t)(m->end - m->at));
    PICKLE_CHECK(m, newline, "the file ends inside its argument");
    *line = m->at;
    *n = (size_t)(newline - m->at);
    m->at = newline + 1;
    return VG_OK;
}

/* Decimal digits with an optional sign, as int() of Python would read them. */
static vg_status take_decimal(machine *m, const unsigned char *line, size_t n, int64_t *out)
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

static vg_status op_none(machine *m, int width)
{
    (void)width;
    vg_pickle_value *v = NULL;
    return push_new(m, VG_PICKLE_NONE, &v);
}

static vg_status op_truth(machine *m, int truth)
{
    vg_pickle_value *v = NULL;
    VG_TRY(push_new(m, VG_PICKLE_BOOL, &v));
    v->truth = truth;
    return VG_OK;
}

static vg_status push_integer(machine *m, int64_t integer)
{
    vg_pickle_value *v = NULL;
    VG_TRY(push_new(m, VG_PICKLE_INT, &v));
    v->integer = integer;
    return VG_OK;
}

/* `I` also spells booleans, which protocol 0 has no opcode for: 00 and 01, two digits. */
static vg_status op_int_line(machine *m, int width)
{
    (void)width;
    const unsigned char *line = NULL;
    size_t n = 0;
    int64_t value = 0;
    VG_TRY(take_line(m, &line, &n));
    if (n == 2 && line[0] == '0' && (line[1] == '0' || line[1] == '1')) return op_truth(m, line[1] == '1');
    VG_TRY(take_decimal(m, line, n, &value));
    return push_integer(m, value);
}

static vg_status op_long_line(machine *m, int width)
{
    (void)width;
    const unsigned char *line = NULL;
    size_t n = 0;
    int64_t value = 0;
    VG_TRY(take_line(m, &line, &n));
    if (n > 0 && line[n - 1] == 'L') n--;
    VG_TRY(take_decimal(m, line, n, &value));
    return push_integer(m, value);
}

static vg_status op_int_unsigned(machine *m, int width)
{
    uint64_t value = 0;
    VG_TRY(take_unsigned(m, width, &value));
    return push_integer(m, (int64_t)value);
}

static vg_status op_int_signed(machine *m, int width)
{
    uint64_t value = 0;
    VG_TRY(take_unsigned(m, width, &value));
    return push_integer(m, (int32_t)(uint32_t)value);
}

/* Little-endian two's complement of a counted number of bytes; none at all is 0. */
static vg_status op_long_counted(machine *m, int width)
{
    uint64_t n = 0, value = 0;
    VG_TRY(take_unsigned(m, width, &n));
    PICKLE_CHECK(m, n <= 8, "an integer beyond 64 bits");
    VG_TRY(take_unsigned(m, (int)n, &value));
    if (n > 0 && n < 8 && value >> (8 * n - 1)) value |= ~(uint64_t)0 << (8 * n);
    return push_integer(m, (int64_t)value);
}

static vg_status push_number(machine *m, double number)
{
    vg_pickle_value *v = NULL;
    VG_TRY(push_new(m, VG_PICKLE_FLOAT, &v));
    v->number = number;
    return VG_OK;
}

static vg_status op_float_line(machine *m, int width)
{
    (void)width;
    const unsigned char *line = NULL;
    size_t n = 0;
    VG_TRY(take_line(m, &line, &n));
    char text[64], *rest;
    PICKLE_CHECK(m, n > 0 && n < sizeof text, "not a float");
    memcpy(text, line, n);
    text[n] = '\0';
    const double value = strtod(text, &rest);
    PICKLE_CHECK(m, rest == text + n, "not a float");
    return push_number(m, value);
}

static vg_status op_float_big_endian(machine *m, int width)
{
    (void)width;
    const unsigned char *bytes = NULL;
    VG_TRY(take(m, 8, &bytes));
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++) bits = bits << 8 | bytes[i];
    double value;
    memcpy(&value, &bits, sizeof value);
    return push_number(m, value);
}

/* ---- text and bytes ---- */

/* Room for n bytes and a NUL; the caller writes them and sets the true length with bytes_end. */
static vg_status bytes_begin(machine *m, vg_pickle_kind kind, size_t n, vg_pickle_value **out)
{
    VG_TRY(push_new(m, kind, out));
    (*out)->bytes.data = block_take(m->pickle, n + 1);
    VG_CHECK((*out)->bytes.data, VG_E_NOMEM, "%s: no memory for the texts of the pickle", m->name);
    return VG_OK;
}

static void bytes_end(vg_pickle_value *v, size_t n)
{
    v->bytes.data[n] = '\0';
    v->bytes.n = n;
}

/* A byte string of Python 2 on top of the stack becomes text. */
static vg_status text_from_python2(machine *m, vg_pickle_value *v)
{
    if (vg_utf8_valid(v->bytes.data, v->bytes.n)) return VG_OK;
    const unsigned char *latin = v->bytes.data;
    unsigned char *text = block_take(m->pickle, 2 * v->bytes.n + 1);
    VG_CHECK(text, VG_E_NOMEM, "%s: no memory for the texts of the pickle", m->name);
    size_t length = 0;
    for (size_t i = 0; i < v->bytes.n; i++) length += vg_utf8_put(latin[i], text + length);
    v->bytes.data = text;
    bytes_end(v, length);
    return VG_OK;
}

static vg_status push_counted(machine *m, vg_pickle_kind kind, int width, vg_pickle_value **out)
{
    uint64_t n = 0;
    const unsigned char *bytes = NULL;
    VG_TRY(take_unsigned(m, width, &n));
    PICKLE_CHECK(m, n <= (size_t)(m->end - m->at), "its length goes beyond the end of the file");
    VG_TRY(take(m, (size_t)n, &bytes));
    VG_TRY(bytes_begin(m, kind, (size_t)n, out));
    memcpy((*out)->bytes.data, bytes, (size_t)n);
    bytes_end(*out, (size_t)n);
    return VG_OK;
}

static vg_status op_string(machine *m, int width)
{
    vg_pickle_value *v = NULL;
    VG_TRY(push_counted(m, VG_PICKLE_TEXT, width, &v));
    return text_from_python2(m, v);
}

static vg_status op_unicode(machine *m, int width)
{
    vg_pickle_value *v = NULL;
    VG_TRY(push_counted(m, VG_PICKLE_TEXT, width, &v));
    PICKLE_CHECK(m, vg_utf8_valid(v->bytes.data, v->bytes.n), "its text is not UTF-8");
    return VG_OK;
}

static vg_status op_bytes(machine *m, int width)
{
    vg_pickle_value *v = NULL;
    return push_counted(m, VG_PICKLE_BYTES, width, &v);
}

static int hex_digit(unsigned char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* Exactly n hexadecimal digits at *at, which moves behind them. */
static bool hex_number(const unsigned char **at, const unsigned char *end, int n, uint32_t *out)
{
    if (end - *at < n) return false;
    uint32_t value = 0;
    for (int i = 0; i < n; i++) {
        const int digit = hex_digit(*(*at)++);
        if (digit < 0) return false;
        value = value << 4 | (uint32_t)digit;
    }
    *out = value;
    return true;
}

/* One escape of a Python 2 string literal, `*at` behind its backslash; an unknown one stands for itself. Returns the
 * bytes written, or -1 for a broken one. */
static int string_escape(const unsigned char **at, const unsigned char *end, unsigned char out[2])
{
    static const char letters[] = "\\'\"abfnrtv", meaning[] = "\\'\"\a\b\f\n\r\t\v";
    if (*at == end) return -1;
    const unsigned char c = *(*at)++;
    const char *known = c ? strchr(letters, c) : NULL;
    uint32_t value = 0;
    if (known) {
        out[0] = (unsigned char)meaning[known - letters];
        return 1;
    }
    if (c == 'x') {
        if (!hex_number(at, end, 2, &value)) return -1;
        out[0] = (unsigned char)value;
        return 1;
    }
    if (c >= '0' && c <= '7') {
        value = c - '0';
        for (int i = 1; i < 3 && *at < end && **at >= '0' && **at <= '7'; i++) value = value * 8 + *(*at)++ - '0';
        out[0] = (unsigned char)value;
        return 1;
    }
    out[0] = '\\';
    out[1] = c;
    return 2;
}

/* `S'...'`: a quoted Python 2 string literal. */
static vg_status op_string_line(machine *m, int width)
{
    (void)width;
    const unsigned char *at = NULL;
    size_t n = 0, length = 0;
    VG_TRY(take_line(m, &at, &n));
    PICKLE_CHECK(m, n >= 2 && (at[0] == '\'' || at[0] == '"') && at[n - 1] == at[0], "its text is not quoted");
    const unsigned char *end = at + n - 1;
    vg_pickle_value *v = NULL;
    VG_TRY(bytes_begin(m, VG_PICKLE_TEXT, n, &v));
    for (at++; at < end;) {
        if (*at != '\\') {
            v->bytes.data[length++] = *at++;
            continue;
        }
        at++;
        const int written = string_escape(&at, end, v->bytes.data + length);
        PICKLE_CHECK(m, written > 0, "a broken escape in its text");
        length += (size_t)written;
    }
    bytes_end(v, length);
    return text_from_python2(m, v);
}

/* One character of raw-unicode-escape: latin-1, or \uXXXX, or \UXXXXXXXX; any other backslash stands for itself, and so
 * does the character behind it. Returns the code points (1 or 2), or 0 for a broken escape. */
static int unicode_escape(const unsigned char **at, const unsigned char *end, uint32_t out[2])
{
    out[0] = *(*at)++;
    if (out[0] != '\\' || *at == end) return 1;
    const unsigned char c = *(*at)++;
    if (c == 'u') return hex_number(at, end, 4, &out[0]);
    if (c == 'U') return hex_number(at, end, 8, &out[0]);
    out[1] = c;
    return 2;
}

/* Narrow builds of Python 2 wrote characters beyond U+FFFF as two surrogates. True when `high` took its partner. */
static bool join_surrogates(uint32_t *high, const unsigned char **at, const unsigned char *end)
{
    const unsigned char *ahead = *at;
    uint32_t low = 0;
    if (end - ahead < 6 || ahead[0] != '\\' || ahead[1] != 'u') return false;
    ahead += 2;
    if (!hex_number(&ahead, end, 4, &low) || low < 0xdc00 || low > 0xdfff) return false;
    *high = 0x10000 + ((*high - 0xd800) << 10) + (low - 0xdc00);
    *at = ahead;
    return true;
}

static vg_status op_unicode_line(machine *m, int width)
{
    (void)width;
    const unsigned char *at = NULL;
    size_t n = 0, length = 0;
    VG_TRY(take_line(m, &at, &n));
    const unsigned char *end = at + n;
    vg_pickle_value *v = NULL;
    VG_TRY(bytes_begin(m, VG_PICKLE_TEXT, 2 * n, &v)); /* a latin-1 byte makes at most two of UTF-8 */
    while (at < end) {
        uint32_t c[2];
        const int count = unicode_escape(&at, end, c);
        PICKLE_CHECK(m, count > 0, "a broken escape in its text");
        if (count == 1 && c[0] >= 0xd800 && c[0] < 0xdc00) join_surrogates(&c[0], &at, end);
        for (int i = 0; i < count; i++) {
            PICKLE_CHECK(m, c[i] <= 0x10ffff && (c[i] < 0xd800 || c[i] > 0xdfff), "an escape that is no character");
            length += vg_utf8_put(c[i], v->bytes.data + length);
        }
    }
    bytes_end(v, length);
    return VG_OK;
}

/* ---- stack ---- */

/* Values above the last mark: an opcode reaches no deeper. */
static size_t above_mark(const machine *m)
{
    return m->n_stack - (m->n_marks ? m->marks[m->n_marks - 1] : 0);
}

static vg_status op_mark(machine *m, int width)
{
    (void)width;
    VG_TRY(vg_grow(&m->marks, &m->marks_capacity, m->n_marks + 1, sizeof *m->marks));
    m->marks[m->n_marks++] = m->n_stack;
    return VG_OK;
}

/* Removes the last mark; the *n values above it, from stack[*first] on, are off the stack but still in its memory. */
static vg_status pop_mark(machine *m, size_t *first, size_t *n)
{
    PICKLE_CHECK(m, m->n_marks > 0, "no mark on the stack");
    *first = m->marks[--m->n_marks];
    *n = m->n_stack - *first;
    m->n_stack = *first;
    return VG_OK;
}

static vg_status op_pop(machine *m, int width)
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

static vg_status op_pop_mark(machine *m, int width)
{
    (void)width;
    size_t first = 0, n = 0;
    return pop_mark(m, &first, &n);
}

static vg_status op_dup(machine *m, int width)
{
    (void)width;
    PICKLE_CHECK(m, above_mark(m) > 0, "the stack is empty");
    return push(m, m->stack[m->n_stack - 1]);
}

/* ---- containers ---- */

static vg_status place(machine *m, vg_pickle_value *into, vg_pickle_value *item)
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
static vg_status place_all(machine *m, vg_pickle_value *into, size_t first, size_t n)
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

static vg_status op_empty(machine *m, int kind)
{
    vg_pickle_value *v = NULL;
    return push_new(m, (vg_pickle_kind)kind, &v);
}

/* A list, tuple or dict of what lies above the mark. */
static vg_status op_from_mark(machine *m, int kind)
{
    vg_pickle_value *v = NULL;
    size_t first = 0, n = 0;
    VG_TRY(pop_mark(m, &first, &n));
    m->n_stack = first + n; /* the items stay where they are while the container is made on top of them */
    VG_TRY(push_new(m, (vg_pickle_kind)kind, &v));
    VG_TRY(place_all(m, v, first, n));
    m->n_stack = first;
    return push(m, v);
}

static vg_status op_tuple_of(machine *m, int n)
{
    PICKLE_CHECK(m, above_mark(m) >= (size_t)n, "the stack holds too few values");
    VG_TRY(op_mark(m, 0));
    m->marks[m->n_marks - 1] -= (size_t)n;
    return op_from_mark(m, VG_PICKLE_TUPLE);
}

/* The n top values go into the container below them. */
static vg_status place_into(machine *m, int kind, size_t n)
{
    PICKLE_CHECK(m, above_mark(m) > n, "nothing on the stack to put its values into");
    vg_pickle_value *into = m->stack[m->n_stack - n - 1];
    PICKLE_CHECK(m, into->kind == kind, kind == VG_PICKLE_LIST ? "its target is no list" : "its target is no dict");
    VG_TRY(place_all(m, into, m->n_stack - n, n));
    m->n_stack -= n;
    return VG_OK;
}

static vg_status op_append(machine *m, int kind)
{
    return place_into(m, kind, kind == VG_PICKLE_LIST ? 1 : 2);
}

static vg_status op_append_marked(machine *m, int kind)
{
    size_t first = 0, n = 0;
    VG_TRY(pop_mark(m, &first, &n));
    m->n_stack += n;
    return place_into(m, kind, n);
}

/* ---- memo ---- */

static vg_status take_memo_index(machine *m, int width, uint64_t *out)
{
    if (width > 0) return take_unsigned(m, width, out);
    const unsigned char *line = NULL;
    size_t n = 0;
    int64_t index = 0;
    VG_TRY(take_line(m, &line, &n));
    VG_TRY(take_decimal(m, line, n, &index));
    PICKLE_CHECK(m, index >= 0, "a negative memo index");
    *out = (uint64_t)index;
    return VG_OK;
}

static vg_status memo_put(machine *m, uint64_t index)
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

static vg_status op_put(machine *m, int width)
{
    uint64_t index = 0;
    VG_TRY(take_memo_index(m, width, &index));
    return memo_put(m, index);
}

static vg_status op_memoize(machine *m, int width)
{
    (void)width;
    return memo_put(m, m->memo_next);
}

static vg_status op_get(machine *m, int width)
{
    uint64_t index = 0;
    VG_TRY(take_memo_index(m, width, &index));
    PICKLE_CHECK(m, index < m->n_memo && m->memo[index], "a memo index that was never put");
    return push(m, m->memo[index]);
}

/* ---- the program ---- */

static vg_status op_protocol(machine *m, int width)
{
    uint64_t version = 0;
    VG_TRY(take_unsigned(m, width, &version));
    PICKLE_CHECK(m, version <= HIGHEST_PROTOCOL, "a protocol above 4; write the pickle again with protocol 2");
    return VG_OK;
}

/* Frames only help readers of streams. */
static vg_status op_frame(machine *m, int width)
{
    uint64_t n = 0;
    VG_TRY(take_unsigned(m, width, &n));
    PICKLE_CHECK(m, n <= (uint64_t)(m->end - m->at), "its length goes beyond the end of the file");
    return VG_OK;
}

static vg_status op_stop(machine *m, int width)
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
    ['S'] = {"STRING", op_string_line, 0},
    ['U'] = {"SHORT_BINSTRING", op_string, 1},
    ['T'] = {"BINSTRING", op_string, 4},
    ['V'] = {"UNICODE", op_unicode_line, 0},
    [0x8c] = {"SHORT_BINUNICODE", op_unicode, 1},
    ['X'] = {"BINUNICODE", op_unicode, 4},
    [0x8d] = {"BINUNICODE8", op_unicode, 8},
    ['C'] = {"SHORT_BINBYTES", op_bytes, 1},
    ['B'] = {"BINBYTES", op_bytes, 4},
    [0x8e] = {"BINBYTES8", op_bytes, 8},
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

static vg_status pickle_run(machine *m)
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
    machine m = {.name = name, .start = bytes, .at = bytes, .end = (const unsigned char *)bytes + n};
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

/* ---- reading the tree ---- */

const vg_pickle_value *vg_pickle_root(const vg_pickle *pickle)
{
    return pickle->root;
}

vg_pickle_kind vg_pickle_kind_of(const vg_pickle_value *v)
{
    return v ? (vg_pickle_kind)v->kind : VG_PICKLE_NONE;
}

static bool is_sequence(const vg_pickle_value *v)
{
    return v && (v->kind == VG_PICKLE_LIST || v->kind == VG_PICKLE_TUPLE);
}

size_t vg_pickle_count(const vg_pickle_value *v)
{
    if (is_sequence(v)) return v->list.n;
    return v && v->kind == VG_PICKLE_DICT ? v->list.n / 2 : 0;
}

const vg_pickle_value *vg_pickle_item(const vg_pickle_value *v, size_t i)
{
    return is_sequence(v) && i < v->list.n ? v->list.item[i] : NULL;
}

bool vg_pickle_pair(const vg_pickle_value *v, size_t i, const vg_pickle_value **key, const vg_pickle_value **item)
{
    if (!v || v->kind != VG_PICKLE_DICT || i >= v->list.n / 2) return false;
    *key = v->list.item[2 * i];
    *item = v->list.item[2 * i + 1];
    return true;
}

const vg_pickle_value *vg_pickle_find(const vg_pickle_value *v, const char *key)
{
    if (!v || v->kind != VG_PICKLE_DICT) return NULL;
    const size_t n = strlen(key);
    for (size_t i = v->list.n / 2; i-- > 0;) {
        const vg_pickle_value *k = v->list.item[2 * i];
        if (k->kind == VG_PICKLE_TEXT && k->bytes.n == n && memcmp(k->bytes.data, key, n) == 0)
            return v->list.item[2 * i + 1];
    }
    return NULL;
}

bool vg_pickle_bool(const vg_pickle_value *v, bool *out)
{
    if (vg_pickle_kind_of(v) != VG_PICKLE_BOOL) return false;
    *out = v->truth;
    return true;
}

bool vg_pickle_int(const vg_pickle_value *v, int64_t *out)
{
    if (vg_pickle_kind_of(v) != VG_PICKLE_INT) return false;
    *out = v->integer;
    return true;
}

bool vg_pickle_number(const vg_pickle_value *v, double *out)
{
    const vg_pickle_kind kind = vg_pickle_kind_of(v);
    if (kind != VG_PICKLE_INT && kind != VG_PICKLE_FLOAT) return false;
    *out = kind == VG_PICKLE_INT ? (double)v->integer : v->number;
    return true;
}

const char *vg_pickle_text(const vg_pickle_value *v, size_t *n)
{
    if (vg_pickle_kind_of(v) != VG_PICKLE_TEXT) return NULL;
    if (n) *n = v->bytes.n;
    return (const char *)v->bytes.data;
}

const unsigned char *vg_pickle_bytes(const vg_pickle_value *v, size_t *n)
{
    if (vg_pickle_kind_of(v) != VG_PICKLE_BYTES) return NULL;
    if (n) *n = v->bytes.n;
    return v->bytes.data;
}
