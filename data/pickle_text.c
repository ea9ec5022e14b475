/* Opcodes that make text and bytes: counted ones, and the escaped lines of protocol 0. */
#include "data/pickle_impl.h"

#include "data/utf8.h"

#include <string.h>

/* Room for n bytes and a NUL; the caller writes them and sets the true length with bytes_end. */
static vg_status bytes_begin(vg_pickle_machine *m, vg_pickle_kind kind, size_t n, vg_pickle_value **out)
{
    VG_TRY(vg_pickle_push_new(m, kind, out));
    (*out)->bytes.data = vg_pickle_block_take(m->pickle, n + 1);
    VG_CHECK((*out)->bytes.data, VG_E_NOMEM, "%s: no memory for the texts of the pickle", m->name);
    return VG_OK;
}

static void bytes_end(vg_pickle_value *v, size_t n)
{
    v->bytes.data[n] = '\0';
    v->bytes.n = n;
}

/* A byte string of Python 2 on top of the stack becomes text. */
static vg_status text_from_python2(vg_pickle_machine *m, vg_pickle_value *v)
{
    if (vg_utf8_valid(v->bytes.data, v->bytes.n)) return VG_OK;
    const unsigned char *latin = v->bytes.data;
    unsigned char *text = vg_pickle_block_take(m->pickle, 2 * v->bytes.n + 1);
    VG_CHECK(text, VG_E_NOMEM, "%s: no memory for the texts of the pickle", m->name);
    size_t length = 0;
    for (size_t i = 0; i < v->bytes.n; i++) length += vg_utf8_put(latin[i], text + length);
    v->bytes.data = text;
    bytes_end(v, length);
    return VG_OK;
}

static vg_status push_counted(vg_pickle_machine *m, vg_pickle_kind kind, int width, vg_pickle_value **out)
{
    uint64_t n = 0;
    const unsigned char *bytes = NULL;
    VG_TRY(vg_pickle_take_unsigned(m, width, &n));
    PICKLE_CHECK(m, n <= (size_t)(m->end - m->at), "its length goes beyond the end of the file");
    VG_TRY(vg_pickle_take(m, (size_t)n, &bytes));
    VG_TRY(bytes_begin(m, kind, (size_t)n, out));
    memcpy((*out)->bytes.data, bytes, (size_t)n);
    bytes_end(*out, (size_t)n);
    return VG_OK;
}

vg_status vg_pickle_op_string(vg_pickle_machine *m, int width)
{
    vg_pickle_value *v = NULL;
    VG_TRY(push_counted(m, VG_PICKLE_TEXT, width, &v));
    return text_from_python2(m, v);
}

vg_status vg_pickle_op_unicode(vg_pickle_machine *m, int width)
{
    vg_pickle_value *v = NULL;
    VG_TRY(push_counted(m, VG_PICKLE_TEXT, width, &v));
    PICKLE_CHECK(m, vg_utf8_valid(v->bytes.data, v->bytes.n), "its text is not UTF-8");
    return VG_OK;
}

vg_status vg_pickle_op_bytes(vg_pickle_machine *m, int width)
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
vg_status vg_pickle_op_string_line(vg_pickle_machine *m, int width)
{
    (void)width;
    const unsigned char *at = NULL;
    size_t n = 0, length = 0;
    VG_TRY(vg_pickle_take_line(m, &at, &n));
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

vg_status vg_pickle_op_unicode_line(vg_pickle_machine *m, int width)
{
    (void)width;
    const unsigned char *at = NULL;
    size_t n = 0, length = 0;
    VG_TRY(vg_pickle_take_line(m, &at, &n));
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
