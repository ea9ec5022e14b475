/* Photographs that look the same: a hash of 64 bits that hardly changes when a picture is resized or encoded again, and
 * a search for hashes that differ in few bits.
 *
 *     VG_TRY(vg_perceptual_hash(&image, &looks, &scratch));
 *     VG_TRY(vg_hamming_index_new(hashes, n, &index));
 *     const int bits = vg_hamming_index_nearest(index, looks.bits, 8, &which);      -1: none within 8 bits */
#ifndef VG_DATA_PERCEPTUAL_HASH_H
#define VG_DATA_PERCEPTUAL_HASH_H

#include "data/draw.h"

typedef struct vg_looks {
    uint64_t bits;
    bool flat; /* so little contrast that the bits mean nothing; such a picture is like no other */
} vg_looks;

/* The picture in grey at 32 x 32, its two-dimensional DCT-II, of that the 8 x 8 coefficients of lowest frequency beside
 * the constant ones, and a bit for each that is larger than their median. In integers: the same bits everywhere.
 * Errors: VG_E_NOMEM, VG_E_DATA (sides over 65535). Source: Zauner 2010, Implementation and Benchmarking of Perceptual
 * Image Hash Functions, section 3.2 (there after a 7 x 7 mean filter, here after an antialiased resize). */
vg_status vg_perceptual_hash(const vg_image *image, vg_looks *out, vg_resize_scratch *scratch);

/* Codes of 64 bits, found by Hamming distance: four tables of 16 bits each, since of the bits in which two codes differ
 * one quarter at most lies in one of them. Source: Norouzi, Punjani, Fleet 2012, Fast Search in Hamming Space with
 * Multi-Index Hashing. */
typedef struct vg_hamming_index vg_hamming_index;

enum { VG_HAMMING_MOST = 15 }; /* bits; beyond, a search would look at most of the table */

/* codes[n] are kept until the index is freed; n < 2^31. Errors: VG_E_NOMEM. */
vg_status vg_hamming_index_new(const uint64_t *codes, size_t n, vg_hamming_index **out);
void vg_hamming_index_free(vg_hamming_index *index);

/* The bits in which the nearest code differs, *which its place (the first of several as near); -1 when none differs in
 * at most max_bits <= VG_HAMMING_MOST. Exact. Thread-safe. */
int vg_hamming_index_nearest(const vg_hamming_index *index, uint64_t code, int max_bits, size_t *which);

#endif
