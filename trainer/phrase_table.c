#include "trainer/phrase_table.h"

#include "data/augment.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

typedef struct phrase {
    const char *text;
    int64_t index; /* of its sentence, past n_sentences for a swapped one */
} phrase;

static int by_text(const void *a, const void *b)
{
    const phrase *x = a, *y = b;
    const int order = strcmp(x->text, y->text);
    return order ? order : (x->index > y->index) - (x->index < y->index);
}

/* row_of becomes, for each phrase, the first one with the same text. */
static void find_firsts(vg_phrase_table *t, phrase *phrases, int64_t n)
{
    qsort(phrases, (size_t)n, sizeof *phrases, by_text);
    for (int64_t i = 0, first = 0; i < n; i++) {
        if (strcmp(phrases[i].text, phrases[first].text) != 0) first = i;
        t->row_of[phrases[i].index] = phrases[first].index;
    }
}

/* Numbers the rows in order of their first phrases, given in order. */
static void number_rows(vg_phrase_table *t, const char *const *in_order, int64_t n)
{
    t->hash = 0;
    for (int64_t i = 0; i < n; i++) {
        if (t->row_of[i] != i) {
            t->row_of[i] = t->row_of[t->row_of[i]];
            continue;
        }
        t->hash = XXH3_64bits_withSeed(in_order[i], strlen(in_order[i]) + 1, t->hash);
        t->texts[t->n_rows] = in_order[i];
        t->row_of[i] = t->n_rows++;
    }
}

/* The sentence with left and right exchanged, an own copy; the same text where nothing is. */
static vg_status swap_text(vg_phrase_table *t, int64_t index, const vg_sentence *s, const char **text)
{
    vg_text mirrored = {0};
    bool swapped = false;
    *text = s->text;
    if (!vg_phrase_may_mirror(s->text, s->text_bytes)) return VG_OK;
    const vg_status st = vg_phrase_mirror(s->text, s->text_bytes, &mirrored, &swapped);
    if (st != VG_OK || !swapped) {
        free(mirrored.data);
        return st;
    }
    *text = t->swapped[index] = mirrored.data;
    return VG_OK;
}

/* texts, for now, of every phrase: sentences, then swapped ones. */
static vg_status list_texts(vg_phrase_table *t, const vg_split *split, bool blind)
{
    for (int64_t i = 0; i < t->n_sentences; i++) {
        vg_sentence s;
        vg_split_sentence(split, i, &s);
        t->texts[i] = blind ? "" : s.text;
        if (!t->swapped) continue;
        t->texts[t->n_sentences + i] = "";
        if (!blind) VG_TRY(swap_text(t, i, &s, &t->texts[t->n_sentences + i]));
    }
    return VG_OK;
}

static vg_status fill(vg_phrase_table *t, const vg_split *split, bool blind, bool swaps)
{
    const int64_t n = swaps ? 2 * t->n_sentences : t->n_sentences;
    t->row_of = vg_new0_array((size_t)n, sizeof *t->row_of);
    t->texts = vg_new0_array((size_t)n, sizeof *t->texts);
    if (swaps) t->swapped = vg_new0_array((size_t)t->n_sentences, sizeof *t->swapped);
    phrase *phrases = vg_new0_array((size_t)n, sizeof *phrases);
    const bool room = t->row_of && t->texts && phrases && (!swaps || t->swapped);
    vg_status st = room ? list_texts(t, split, blind)
                        : vg_fail(VG_E_NOMEM, "no memory for the phrases of split %s", vg_split_name(split));
    for (int64_t i = 0; st == VG_OK && i < n; i++) phrases[i] = (phrase){t->texts[i], i};
    if (st == VG_OK && n > 0) find_firsts(t, phrases, n);
    if (st == VG_OK) number_rows(t, t->texts, n); /* a row is never behind the phrase it comes from */
    free(phrases);
    return st;
}

vg_status vg_phrase_table_init(vg_phrase_table *t, const vg_split *split, bool blind, bool swaps)
{
    *t = (vg_phrase_table){.n_sentences = vg_split_sentence_count(split)};
    const vg_status st = fill(t, split, blind, swaps);
    if (st != VG_OK) vg_phrase_table_release(t);
    return st;
}

void vg_phrase_table_release(vg_phrase_table *t)
{
    for (int64_t i = 0; t->swapped && i < t->n_sentences; i++) free(t->swapped[i]);
    free(t->swapped);
    free(t->row_of);
    free(t->texts);
    *t = (vg_phrase_table){0};
}
