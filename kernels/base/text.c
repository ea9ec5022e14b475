#include "kernels/base/text.h"

#include "kernels/base/memory.h"

#include <ctype.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

vg_status vg_text_add_bytes(vg_text *text, const void *bytes, size_t n)
{
    VG_TRY(vg_grow(&text->data, &text->capacity, text->length + n + 1, 1));
    if (n) memcpy(text->data + text->length, bytes, n);
    text->length += n;
    text->data[text->length] = '\0';
    return VG_OK;
}

vg_status vg_text_add_words(vg_text *text, const char *words, size_t n)
{
    const char *end = words + n;
    for (bool first = true;; first = false) {
        while (words < end && isspace((unsigned char)*words)) words++;
        const char *word = words;
        while (words < end && !isspace((unsigned char)*words)) words++;
        if (words == word) return VG_OK;
        if (!first) VG_TRY(vg_text_add_bytes(text, " ", 1));
        VG_TRY(vg_text_add_bytes(text, word, (size_t)(words - word)));
    }
}

vg_status vg_text_add_list(vg_text *text, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    const int n = vsnprintf(NULL, 0, format, args);
    vg_status st = n < 0 ? vg_fail(VG_E_BUG, "text format '%s' failed", format)
                         : vg_grow(&text->data, &text->capacity, text->length + (size_t)n + 1, 1);
    if (st == VG_OK) {
        vsnprintf(text->data + text->length, (size_t)n + 1, format, again);
        text->length += (size_t)n;
    }
    va_end(again);
    return st;
}

vg_status vg_text_add(vg_text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const vg_status st = vg_text_add_list(text, format, args);
    va_end(args);
    return st;
}

static bool same_letter(char a, char b)
{
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

int vg_edit_distance(const char *a, const char *b)
{
    enum { LONGEST = 63 };
    const size_t n = strlen(a), m = strlen(b);
    if (n > LONGEST || m > LONGEST) return INT_MAX;
    int of[LONGEST + 1][LONGEST + 1]; /* the first i letters of a, the first j of b */
    for (size_t i = 0; i <= n; i++) of[i][0] = (int)i;
    for (size_t j = 0; j <= m; j++) of[0][j] = (int)j;
    for (size_t i = 1; i <= n; i++)
        for (size_t j = 1; j <= m; j++) {
            const int replaced = of[i - 1][j - 1] + !same_letter(a[i - 1], b[j - 1]);
            of[i][j] = smaller(replaced, 1 + smaller(of[i - 1][j], of[i][j - 1]));
            if (i > 1 && j > 1 && same_letter(a[i - 1], b[j - 2]) && same_letter(a[i - 2], b[j - 1]))
                of[i][j] = smaller(of[i][j], of[i - 2][j - 2] + 1);
        }
    return of[n][m];
}

const char *vg_nearest_word(const char *word, const char *const *words, size_t n)
{
    const char *nearest = NULL;
    int least = INT_MAX;
    for (size_t i = 0; i < n; i++) {
        const int distance = vg_edit_distance(word, words[i]);
        if (distance < least) {
            least = distance;
            nearest = words[i];
        }
    }
    const int allowed = (int)strlen(word) / 3;
    return least <= (allowed ? allowed : 1) ? nearest : NULL;
}

const char *vg_size_text(double bytes, char text[VG_SIZE_TEXT_BYTES])
{
    if (bytes < 999.5)
        snprintf(text, VG_SIZE_TEXT_BYTES, "%.0f bytes", bytes);
    else if (bytes < 999.95e3)
        snprintf(text, VG_SIZE_TEXT_BYTES, "%.1f kB", bytes * 1e-3);
    else if (bytes < 999.95e6)
        snprintf(text, VG_SIZE_TEXT_BYTES, "%.1f MB", bytes * 1e-6);
    else
        snprintf(text, VG_SIZE_TEXT_BYTES, "%.3f GB", bytes * 1e-9);
    return text;
}

char *vg_copy_string(const char *s)
{
    const size_t n = strlen(s) + 1;
    char *copy = vg_new0(n);
    if (copy) memcpy(copy, s, n);
    return copy;
}
