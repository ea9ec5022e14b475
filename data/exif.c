/* What EXIF data say of how a picture is to be turned, by libexif. */
#include "data/image_impl.h"

#include <limits.h>

#include <libexif/exif-data.h>

static int orientation_of(ExifData *exif)
{
    const ExifEntry *entry = exif_content_get_entry(exif->ifd[EXIF_IFD_0], EXIF_TAG_ORIENTATION);
    if (!entry || entry->format != EXIF_FORMAT_SHORT || entry->size < 2) return 0;
    return exif_get_short(entry->data, exif_data_get_byte_order(exif));
}

bool vg_image_is_turned(const unsigned char *bytes, size_t n)
{
    ExifData *exif = n <= UINT_MAX ? exif_data_new() : NULL;
    if (!exif) return false;
    exif_data_unset_option(exif, EXIF_DATA_OPTION_FOLLOW_SPECIFICATION); /* which repairs what it reads */
    exif_data_load_data(exif, bytes, (unsigned)n);
    const int orientation = orientation_of(exif);
    exif_data_unref(exif);
    return orientation >= 2 && orientation <= 8;
}
