/* Between the files of augmentation: what a phrase says. */
#ifndef VG_DATA_AUGMENT_IMPL_H
#define VG_DATA_AUGMENT_IMPL_H

#include "data/augment.h"

/* A word for a place in the picture; a word for a colour or for light and dark. */
bool vg_phrase_says_where(const char *text, size_t n);
bool vg_phrase_says_colour(const char *text, size_t n);

#endif
