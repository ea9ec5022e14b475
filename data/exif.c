/* What EXIF data say of how a picture is to be turned. Bytes are not trusted. */
#include "data/image_impl.h"

#include <string.h>

/* A piece of memory whose numbers are of one byte order. */
typedef struct piece {
    const unsigned char *bytes;
    size_t n;
    bool little;
} piece;

/* 0 where it does not lie in the piece. */
static uint32_t number_at(const piece *p, size_t at, int n_bytes)
{
    uint32_t number = 0;
    if (at > p->n || p->n - at < (size_t)n_bytes) return 0;
    for (int i = 0; i < n_bytes; i++)
        number |= (uint32_t)p->bytes[at + (size_t)i] << 8 * (p->little ? i : n_bytes - 1 - i);
    return number;
}

/* Of the first directory of a TIFF header; 0 where it has none. */
static uint32_t tiff_orientation(const unsigned char *bytes, size_t n)
{
    enum { ORIENTATION = 0x0112, ENTRY_BYTES = 12 };
    const piece tiff = {bytes, n, n > 0 && bytes[0] == 'I'};
    const size_t directory = number_at(&tiff, 4, 4);
    const uint32_t n_entries = number_at(&tiff, directory, 2);
    for (uint32_t i = 0; i < n_entries; i++) {
        const size_t entry = directory + 2 + (size_t)i * ENTRY_BYTES;
        if (number_at(&tiff, entry, 2) == ORIENTATION) return number_at(&tiff, entry + 8, 2);
    }
    return 0;
}

bool vg_image_is_turned(const unsigned char *bytes, size_t n)
{
    static const char exif[] = "Exif\0"; /* and the NUL behind it */
    enum { SOI = 0xffd8, APP1 = 0xffe1, SOS = 0xffda, HEAD = 4 };
    const piece jpeg = {bytes, n, false};
    if (number_at(&jpeg, 0, 2) != SOI) return false;
    for (size_t at = 2; n - at >= HEAD;) {
        const uint32_t marker = number_at(&jpeg, at, 2), length = number_at(&jpeg, at + 2, 2);
        if (marker < 0xff00 || marker == SOS || length < 2 || length > n - at - 2) return false;
        const unsigned char *data = bytes + at + HEAD;
        const size_t n_data = length - 2;
        if (marker == APP1 && n_data >= sizeof exif && memcmp(data, exif, sizeof exif) == 0) {
            const uint32_t orientation = tiff_orientation(data + sizeof exif, n_data - sizeof exif);
            return orientation >= 2 && orientation <= 8;
        }
        at += 2 + length;
    }
    return false;
}
