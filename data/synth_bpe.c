/* A byte-level BPE trainer, small because its corpus is: the words of the phrases, each once at the start of a phrase
 * and once after a blank. It merges the most frequent pair of neighbours until every word is one piece. The result does
 * not depend on the data set's seed, so weights trained on one made-up set read another.
 * Source: Sennrich, Haddow, Birch 2016, algorithm 1; the byte alphabet is GPT-2's. */
#include "data/synth_impl.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_PIECES = 512, MAX_PIECE_BYTES = 24, MAX_WORDS = 128, BYTES = 256 };

static const char *const SPECIAL_PIECES[] = {"<s>", "<pad>", "</s>", "<unk>"}; /* ids 0..3; <mask> comes last */
enum { N_SPECIAL = 4 };

typedef struct bpe_word {
    int pieces[MAX_PIECE_BYTES];
    int n;
} bpe_word;

typedef struct bpe {
    char pieces[MAX_PIECES][MAX_PIECE_BYTES]; /* UTF-8 of the byte alphabet */
    int merges[MAX_PIECES][2];                /* piece BYTES + i joins these two */
    int n_pieces;
    bpe_word words[MAX_WORDS];
    int n_words;
    uint16_t counts[MAX_PIECES][MAX_PIECES]; /* of neighbours */
} bpe;

/* Bytes that print stand for themselves, the others, in order, for the code points from 256 on. */
static int byte_code_point(int byte)
{
    int next = 256;
    for (int b = 0;; b++) {
        const bool prints = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        if (b == byte) return prints ? b : next;
        next += !prints;
    }
}

static void alphabet_fill(bpe *t)
{
    for (int b = 0; b < BYTES; b++) {
        const int c = byte_code_point(b);
        if (c < 128)
            t->pieces[b][0] = (char)c;
        else
            t->pieces[b][0] = (char)(0xc0 | c >> 6), t->pieces[b][1] = (char)(0x80 | (c & 0x3f));
    }
    t->n_pieces = BYTES;
}

static void word_add(bpe *t, const char *word, bool after_blank)
{
    assert(t->n_words < MAX_WORDS && strlen(word) + 1 < MAX_PIECE_BYTES - 1);
    bpe_word *const w = &t->words[t->n_words++];
    if (after_blank) w->pieces[w->n++] = ' ';
    for (const char *c = word; *c; c++) w->pieces[w->n++] = (unsigned char)*c;
}

/* The most frequent pair, of equals the one with the lowest ids; false when every word is one piece. */
static bool pair_find(bpe *t, int pair[2])
{
    int best = 0;
    memset(t->counts, 0, sizeof t->counts);
    for (int w = 0; w < t->n_words; w++)
        for (int i = 0; i + 1 < t->words[w].n; i++) t->counts[t->words[w].pieces[i]][t->words[w].pieces[i + 1]]++;
    for (int a = 0; a < t->n_pieces; a++)
        for (int b = 0; b < t->n_pieces; b++)
            if (t->counts[a][b] > best) best = t->counts[a][b], pair[0] = a, pair[1] = b;
    return best > 0;
}

static void word_merge(bpe_word *w, const int pair[2], int piece)
{
    int n = 0;
    for (int i = 0; i < w->n; i++) {
        const bool here = i + 1 < w->n && w->pieces[i] == pair[0] && w->pieces[i + 1] == pair[1];
        w->pieces[n++] = here ? piece : w->pieces[i];
        i += here;
    }
    w->n = n;
}

static void pair_merge(bpe *t, const int pair[2])
{
    const int piece = t->n_pieces++;
    assert(piece + N_SPECIAL + 1 < MAX_PIECES);
    memcpy(t->merges[piece - BYTES], pair, sizeof t->merges[0]);
    const char *const left = t->pieces[pair[0]], *const right = t->pieces[pair[1]];
    const size_t n = strlen(left), more = strlen(right);
    assert(n + more < MAX_PIECE_BYTES);
    memcpy(t->pieces[piece], left, n);
    memcpy(t->pieces[piece] + n, right, more + 1);
    for (int w = 0; w < t->n_words; w++) word_merge(&t->words[w], pair, piece);
}

static void bpe_train(bpe *t)
{
    alphabet_fill(t);
    for (const char *const *word = vg_synth_words(); *word; word++) {
        word_add(t, *word, false);
        word_add(t, *word, true);
    }
    for (int pair[2]; pair_find(t, pair);) pair_merge(t, pair);
}

/* ---- files ---- */

static vg_status vocabulary_text(const bpe *t, vg_text *text)
{
    int id = 0;
    for (; id < N_SPECIAL; id++) VG_TRY(vg_text_add(text, "%s\"%s\": %d", id ? ", " : "{", SPECIAL_PIECES[id], id));
    for (int i = 0; i < t->n_pieces; i++) {
        const char *const escape = strchr("\"\\", t->pieces[i][0]) ? "\\" : "";
        VG_TRY(vg_text_add(text, ", \"%s%s\": %d", escape, t->pieces[i], id++));
    }
    return vg_text_add(text, ", \"<mask>\": %d}\n", id);
}

static vg_status merges_text(const bpe *t, vg_text *text)
{
    VG_TRY(vg_text_add(text, "#version: 0.2\n"));
    for (int i = 0; i < t->n_pieces - BYTES; i++)
        VG_TRY(vg_text_add(text, "%s %s\n", t->pieces[t->merges[i][0]], t->pieces[t->merges[i][1]]));
    return VG_OK;
}

static vg_status text_write(const char *folder, const char *name, const vg_text *text)
{
    vg_text path = {0};
    vg_status st = vg_text_add(&path, "%s/%s", folder, name);
    if (st == VG_OK) st = vg_file_write_atomic(path.data, text->data, text->length);
    free(path.data);
    return st;
}

vg_status vg_synth_tokenizer_write(const char *folder)
{
    bpe *t = vg_new0(sizeof *t);
    VG_CHECK(t, VG_E_NOMEM, "no memory to train a tokenizer");
    bpe_train(t);
    vg_text vocabulary = {0}, merges = {0};
    vg_status st = vocabulary_text(t, &vocabulary);
    if (st == VG_OK) st = merges_text(t, &merges);
    if (st == VG_OK) st = vg_make_directories(folder);
    if (st == VG_OK) st = text_write(folder, "vocab.json", &vocabulary);
    if (st == VG_OK) st = text_write(folder, "merges.txt", &merges);
    free(vocabulary.data);
    free(merges.data);
    free(t);
    return st;
}
