/* Words of a phrase that tell what may be done to its picture. ASCII letters, digits, _ and all bytes of other scripts
 * make words; everything else parts them. */
#include "data/augment_impl.h"

#include <ctype.h>
#include <string.h>

enum { LONGEST = 24 };

static const char *const opposites[][2] = {{"left", "right"},
                                           {"lefthand", "righthand"},
                                           {"leftmost", "rightmost"},
                                           {"leftward", "rightward"},
                                           {"leftwards", "rightwards"}};
static const char *const places[] = {"top", "bottom", "middle", "topmost", "bottommost", NULL};
static const char *const writing[] = {"letter",        "word", "text",      "sign",
                                      "number",        "logo", "clockwise", "counterclockwise",
                                      "anticlockwise", "east", "west",      NULL};
static const char *const colour_names[] = {
    "red",   "orange",  "yellow", "green",     "blue",     "purple", "violet",   "pink",      "magenta", "cyan",
    "teal",  "navy",    "brown",  "tan",       "beige",    "maroon", "gold",     "golden",    "silver",  "black",
    "white", "gray",    "grey",   "turquoise", "lavender", "cream",  "khaki",    "crimson",   "dark",    "darker",
    "light", "lighter", "pale",   "bright",    "blond",    "blonde", "colorful", "colourful", NULL};

/* A word in lower case; words longer than any we know are "". */
typedef struct word {
    const char *at;
    size_t n;
    char lower[LONGEST];
} word;

static bool is_letter(char c)
{
    const unsigned char u = (unsigned char)c;
    return u >= 0x80 || isalnum(u) || c == '_';
}

/* The first word at or behind `from`; false at the end. */
static bool next_word(const char *from, const char *end, word *w)
{
    while (from < end && !is_letter(*from)) from++;
    w->at = from;
    while (from < end && is_letter(*from)) from++;
    w->n = (size_t)(from - w->at);
    const size_t known = w->n < LONGEST ? w->n : 0;
    for (size_t i = 0; i < known; i++) w->lower[i] = (char)tolower((unsigned char)w->at[i]);
    w->lower[known] = '\0';
    return w->n > 0;
}

/* What the word becomes in the mirror, NULL for a word that stays. */
static const char *opposite(const word *w)
{
    for (size_t i = 0; i < sizeof opposites / sizeof *opposites; i++)
        for (int side = 0; side < 2; side++)
            if (strcmp(w->lower, opposites[i][side]) == 0) return opposites[i][1 - side];
    return NULL;
}

static bool is_one_of(const word *w, const char *const *words)
{
    for (; *words; words++)
        if (strcmp(w->lower, *words) == 0) return true;
    return false;
}

static bool any_word(const char *text, size_t n, const char *const *words)
{
    word w;
    for (const char *at = text, *end = text + n; next_word(at, end, &w); at = w.at + w.n)
        if (is_one_of(&w, words)) return true;
    return false;
}

bool vg_phrase_says_where(const char *text, size_t n)
{
    word w;
    for (const char *at = text, *end = text + n; next_word(at, end, &w); at = w.at + w.n)
        if (opposite(&w)) return true;
    return any_word(text, n, places);
}

bool vg_phrase_says_colour(const char *text, size_t n)
{
    return any_word(text, n, colour_names);
}

/* ---- the mirror ---- */

/* left, Left, LEFT: a case that the opposite word can have as well. */
typedef enum letters { LOWER, CAPITAL, UPPER, ODD } letters;

static letters letters_of(const word *w)
{
    size_t n_upper = 0;
    for (size_t i = 0; i < w->n; i++) n_upper += isupper((unsigned char)w->at[i]) != 0;
    if (n_upper == 0) return LOWER;
    if (n_upper == w->n) return UPPER;
    return n_upper == 1 && isupper((unsigned char)w->at[0]) ? CAPITAL : ODD;
}

/* A double quotation mark of any kind, or a single one that opens a word. */
static bool has_quotation(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const bool opens = (i == 0 || !is_letter(text[i - 1])) && i + 1 < n && is_letter(text[i + 1]);
        if (text[i] == '"' || (text[i] == '\'' && opens)) return true;
        const unsigned char last = n - i >= 3 && memcmp(text + i, "\xe2\x80", 2) == 0 ? (unsigned char)text[i + 2] : 0;
        if (last == 0x98 || (last >= 0x9c && last <= 0x9f)) return true; /* U+2018, U+201C to U+201F */
    }
    return false;
}

bool vg_phrase_may_mirror(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (isdigit((unsigned char)text[i])) return false;
    word w;
    for (const char *at = text, *end = text + n; next_word(at, end, &w); at = w.at + w.n)
        if (opposite(&w) && letters_of(&w) == ODD) return false;
    return !has_quotation(text, n) && !any_word(text, n, writing);
}

static vg_status add_in_case(const char *lower, letters how, vg_text *out)
{
    char cased[LONGEST] = "";
    const size_t n = strlen(lower);
    for (size_t i = 0; i < n; i++) {
        const bool upper = how == UPPER || (how == CAPITAL && i == 0);
        cased[i] = upper ? (char)toupper((unsigned char)lower[i]) : lower[i];
    }
    return vg_text_add_bytes(out, cased, n);
}

vg_status vg_phrase_mirror(const char *text, size_t n, vg_text *out, bool *swapped)
{
    const char *copied = text, *end = text + n;
    word w;
    *swapped = false;
    for (const char *at = text; next_word(at, end, &w); at = w.at + w.n) {
        const char *other = opposite(&w);
        if (!other) continue;
        VG_TRY(vg_text_add_bytes(out, copied, (size_t)(w.at - copied)));
        VG_TRY(add_in_case(other, letters_of(&w), out));
        copied = w.at + w.n;
        *swapped = true;
    }
    return *swapped ? vg_text_add_bytes(out, copied, (size_t)(end - copied)) : VG_OK;
}
