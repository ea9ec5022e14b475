/* Growing strings, and the nearest word for a mistyped one. */
#ifndef VG_BASE_TEXT_H
#define VG_BASE_TEXT_H

#include "kernels/base/status.h"

#include <stdarg.h>
#include <stddef.h>

/* A string that grows; zeroed is empty; `data` is NUL-terminated once something was added. free(data) releases it. */
typedef struct vg_text {
    char *data;
    size_t length, capacity;
} vg_text;

vg_status vg_text_add(vg_text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
vg_status vg_text_add_list(vg_text *text, const char *format, va_list args) __attribute__((format(printf, 2, 0)));
vg_status vg_text_add_bytes(vg_text *text, const void *bytes, size_t n);

/* Phrases as people wrote them but for their white space, which would make other tokens of the same words: the words
 * among n bytes (ASCII white space parts them) with one space between them. */
vg_status vg_text_add_words(vg_text *text, const char *words, size_t n);

enum { VG_SIZE_TEXT_BYTES = 32 };

/* Fills and returns `text`: "812 bytes", "4.2 kB", "13.0 MB", "1.234 GB"; powers of 1000. */
const char *vg_size_text(double bytes, char text[VG_SIZE_TEXT_BYTES]);

/* Single-character edits (insert, delete, replace, exchange with the next: optimal string alignment) from a to b,
 * case ignored. Words over 63 bytes count as unlike. */
int vg_edit_distance(const char *a, const char *b);

/* The nearest of n words by vg_edit_distance, NULL when even the nearest takes more edits than a third of the word's
 * letters, or more than one. */
const char *vg_nearest_word(const char *word, const char *const *words, size_t n);

/* A heap copy, NULL when there is no memory. */
char *vg_copy_string(const char *s);

#endif
