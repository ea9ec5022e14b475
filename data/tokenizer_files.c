/* vocab.json and merges.txt into the tables that encoding uses. After that no string is needed any more: a byte is a
 * symbol id, a merge is three ids. */
#include "data/tokenizer_impl.h"

#include "data/utf8.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <xxhash.h>

enum { MAX_VOCAB_BYTES = 256 << 20, MAX_MERGES_BYTES = 256 << 20, MAX_IDS = 1 << 20, MAX_PIECE_BYTES = 1 << 12 };

/* What is being read, for messages and look-ups. */
typedef struct files {
    char *vocab_path, *merges_path;
    char *vocab_text, *merges_text;
    size_t vocab_bytes, merges_bytes;
    json_t *vocab;
} files;

static void files_release(files *f)
{
    json_decref(f->vocab);
    free(f->vocab_text);
    free(f->merges_text);
    free(f->vocab_path);
    free(f->merges_path);
}

/* ---- the byte alphabet ---- */

/* Source: vl-gtr-model 2.4. Printable bytes stand for themselves, the others are moved up to 256 and on. */
static bool stands_for_itself(int byte)
{
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

enum { ALPHABET_END = 256 + 68 };

/* Jansson hands out valid UTF-8 only, so a lead byte is always followed by its rest. */
static bool in_alphabet(const char *piece)
{
    for (const unsigned char *c = (const unsigned char *)piece; *c; c++) {
        int code_point = *c;
        if (*c >= 0xe0) return false;
        if (code_point >= 0x80) code_point = (code_point & 0x1f) << 6 | (*++c & 0x3f);
        if (code_point < 256 ? !stands_for_itself(code_point) : code_point >= ALPHABET_END) return false;
    }
    return true;
}

/* ---- vocab.json ---- */

static int32_t piece_id(const files *f, const char *piece)
{
    const json_t *id = json_object_get(f->vocab, piece);
    return id ? (int32_t)json_integer_value(id) : -1;
}

/* The ids of the 256 one-character pieces. */
static void alphabet_read(const files *f, int32_t byte_ids[256])
{
    uint32_t next = 256;
    for (int byte = 0; byte < 256; byte++) {
        unsigned char piece[5] = {0};
        vg_utf8_put(stands_for_itself(byte) ? (uint32_t)byte : next++, piece);
        byte_ids[byte] = piece_id(f, (const char *)piece);
    }
}

static vg_status vocab_check_piece(const files *f, const char *piece, const json_t *value, unsigned char *seen)
{
    VG_CHECK(strlen(piece) <= MAX_PIECE_BYTES && in_alphabet(piece), VG_E_DATA,
             "%s: piece '%.64s' is not written in the byte alphabet; is this a byte-level BPE?", f->vocab_path, piece);
    VG_CHECK(json_is_integer(value), VG_E_DATA, "%s: the id of piece '%.64s' is not a number", f->vocab_path, piece);
    const json_int_t id = json_integer_value(value);
    VG_CHECK(id >= 0 && id < MAX_IDS, VG_E_DATA, "%s: id %lld of piece '%.64s' is not between 0 and %d", f->vocab_path,
             (long long)id, piece, MAX_IDS - 1);
    VG_CHECK(!seen[id], VG_E_DATA, "%s: id %lld is used twice, the second time by piece '%.64s'", f->vocab_path,
             (long long)id, piece);
    seen[id] = 1;
    return VG_OK;
}

static vg_status vocab_check(const files *f, int32_t *size)
{
    unsigned char *seen = vg_new0(MAX_IDS);
    VG_CHECK(seen, VG_E_NOMEM, "%s: no memory for a vocabulary", f->vocab_path);
    vg_status st = VG_OK;
    const char *piece;
    json_t *value;
    json_object_foreach(f->vocab, piece, value)
    {
        if (st == VG_OK) st = vocab_check_piece(f, piece, value, seen);
    }
    for (int32_t id = 0; id < MAX_IDS; id++)
        if (seen[id]) *size = id + 1;
    free(seen);
    return st;
}

static vg_status vocab_read(files *f, vg_bpe *bpe)
{
    VG_TRY(vg_file_read(f->vocab_path, MAX_VOCAB_BYTES, &f->vocab_text, &f->vocab_bytes));
    json_error_t error;
    f->vocab = json_loadb(f->vocab_text, f->vocab_bytes, JSON_REJECT_DUPLICATES, &error);
    VG_CHECK(f->vocab, VG_E_DATA, "%s: line %d: %s", f->vocab_path, error.line, error.text);
    VG_CHECK(json_is_object(f->vocab), VG_E_DATA, "%s: not an object of pieces and their ids", f->vocab_path);
    VG_TRY(vocab_check(f, &bpe->size));
    const struct {
        const char *piece;
        int32_t *id;
        bool needed;
    } special[] = {{"<s>", &bpe->special.bos, true},
                   {"<pad>", &bpe->special.pad, true},
                   {"</s>", &bpe->special.eos, true},
                   {"<unk>", &bpe->special.unk, true},
                   {"<mask>", &bpe->special.mask, false}};
    for (size_t i = 0; i < sizeof special / sizeof *special; i++) {
        *special[i].id = piece_id(f, special[i].piece);
        VG_CHECK(*special[i].id >= 0 || !special[i].needed, VG_E_DATA,
                 "%s: piece %s is missing; a RoBERTa vocabulary holds it", f->vocab_path, special[i].piece);
    }
    alphabet_read(f, bpe->byte_ids);
    return VG_OK;
}

/* ---- merges.txt ---- */

/* The slot of a pair, or the free slot where it belongs; the table is never full. */
static uint32_t slot_of(const vg_bpe *bpe, int32_t left, int32_t right)
{
    uint64_t mixed = ((uint64_t)(uint32_t)left << 32 | (uint32_t)right) * 0x9E3779B97F4A7C15u;
    uint32_t slot = (uint32_t)(mixed >> 32) & (bpe->n_slots - 1);
    while (bpe->slots[slot]) {
        const vg_merge *merge = &bpe->merges[bpe->slots[slot] - 1];
        if (merge->left == left && merge->right == right) break;
        slot = (slot + 1) & (bpe->n_slots - 1);
    }
    return slot;
}

int32_t vg_bpe_find(const vg_bpe *bpe, int32_t left, int32_t right)
{
    return (int32_t)bpe->slots[slot_of(bpe, left, right)] - 1;
}

/* One line `left right`, NUL-terminated, is the next merge. */
static vg_status merge_add(const files *f, vg_bpe *bpe, char *line, int number)
{
    char *space = strchr(line, ' ');
    VG_CHECK(space && space > line && space[1] && !strchr(space + 1, ' '), VG_E_DATA,
             "%s: line %d: '%.64s' is not two pieces with a space between", f->merges_path, number, line);
    *space = '\0';
    const int32_t left = piece_id(f, line), right = piece_id(f, space + 1);
    memmove(space, space + 1, strlen(space + 1) + 1); /* the line is the joined piece now */
    const int32_t merged = piece_id(f, line);
    VG_CHECK(
        left >= 0 && right >= 0 && merged >= 0, VG_E_DATA,
        "%s: line %d: the merge that makes '%.64s' names a piece that %s lacks; the two files do not belong together",
        f->merges_path, number, line, f->vocab_path);
    const uint32_t slot = slot_of(bpe, left, right);
    VG_CHECK(!bpe->slots[slot], VG_E_DATA, "%s: line %d: the merge that makes '%.64s' is there twice", f->merges_path,
             number, line);
    bpe->merges[bpe->n_merges] = (vg_merge){left, right, merged};
    bpe->slots[slot] = ++bpe->n_merges;
    return VG_OK;
}

static size_t count_lines(const char *text, size_t n)
{
    size_t lines = 1;
    for (size_t i = 0; i < n; i++) lines += text[i] == '\n';
    return lines;
}

static vg_status merges_read(files *f, vg_bpe *bpe)
{
    VG_TRY(vg_file_read(f->merges_path, MAX_MERGES_BYTES, &f->merges_text, &f->merges_bytes));
    bpe->hash = XXH3_64bits_withSeed(f->merges_text, f->merges_bytes, XXH3_64bits(f->vocab_text, f->vocab_bytes));
    const size_t lines = count_lines(f->merges_text, f->merges_bytes);
    VG_CHECK(lines <= MAX_IDS && strlen(f->merges_text) == f->merges_bytes, VG_E_DATA,
             "%s: not a list of at most %d merges", f->merges_path, MAX_IDS);
    bpe->n_slots = 4;
    while (bpe->n_slots < 2 * lines) bpe->n_slots *= 2;
    bpe->merges = vg_new0_array(lines, sizeof *bpe->merges);
    bpe->slots = vg_new0_array(bpe->n_slots, sizeof *bpe->slots);
    VG_CHECK(bpe->merges && bpe->slots, VG_E_NOMEM, "%s: no memory for %zu merges", f->merges_path, lines);
    int number = 0;
    for (char *line = f->merges_text, *next; line; line = next) {
        if ((next = strchr(line, '\n'))) *next++ = '\0';
        number++;
        const size_t length = strlen(line);
        if (length && line[length - 1] == '\r') line[length - 1] = '\0';
        if (!*line || (number == 1 && strncmp(line, "#version", 8) == 0)) continue;
        VG_TRY(merge_add(f, bpe, line, number));
    }
    return VG_OK;
}

static char *path_in(const char *folder, const char *name)
{
    vg_text path = {0};
    return vg_text_add(&path, "%s/%s", folder, name) == VG_OK ? path.data : NULL;
}

vg_status vg_bpe_open(const char *folder, vg_bpe *bpe)
{
    files f = {.vocab_path = path_in(folder, "vocab.json"), .merges_path = path_in(folder, "merges.txt")};
    vg_status st = VG_OK;
    if (!f.vocab_path || !f.merges_path) st = vg_fail(VG_E_NOMEM, "%s: no memory for a tokenizer", folder);
    if (st == VG_OK) st = vocab_read(&f, bpe);
    if (st == VG_OK) st = merges_read(&f, bpe);
    files_release(&f);
    return st;
}

void vg_bpe_release(vg_bpe *bpe)
{
    free(bpe->merges);
    free(bpe->slots);
    *bpe = (vg_bpe){0};
}
