#include "data/utf8.h"

/* Bytes that follow a first byte, and the least code point its length may carry; -1 for a byte that starts nothing. */
static int utf8_tail(unsigned char first, uint32_t *value, uint32_t *least)
{
    if (first < 0x80) return *value = first, *least = 0, 0;
    if ((first & 0xe0) == 0xc0) return *value = first & 0x1fu, *least = 0x80, 1;
    if ((first & 0xf0) == 0xe0) return *value = first & 0x0fu, *least = 0x800, 2;
    if ((first & 0xf8) == 0xf0) return *value = first & 0x07u, *least = 0x10000, 3;
    return -1;
}

bool vg_utf8_valid(const void *bytes, size_t n)
{
    const unsigned char *at = bytes, *end = at + n;
    while (at < end) {
        uint32_t value = 0, least = 0;
        const int tail = utf8_tail(*at++, &value, &least);
        if (tail < 0 || end - at < tail) return false;
        for (int i = 0; i < tail; i++, at++) {
            if ((*at & 0xc0) != 0x80) return false;
            value = (value << 6) | (*at & 0x3fu);
        }
        if (value < least || value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) return false;
    }
    return true;
}

size_t vg_utf8_put(uint32_t c, unsigned char out[4])
{
    if (c < 0x80) {
        out[0] = (unsigned char)c;
        return 1;
    }
    const size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; --i > 0; c >>= 6) out[i] = (unsigned char)(0x80 | (c & 0x3f));
    out[0] = (unsigned char)((n == 2 ? 0xc0 : n == 3 ? 0xe0 : 0xf0) | c);
    return n;
}
