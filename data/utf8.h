/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef VG_DATA_UTF8_H
#define VG_DATA_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool vg_utf8_valid(const void *bytes, size_t n);

/* Writes a code point (at most 0x10ffff, no surrogate) and returns its length, 1 to 4. */
size_t vg_utf8_put(uint32_t code_point, unsigned char out[4]);

#endif
