/* Reads a JPEG and writes it resized and encoded again, as others would: libjpeg both ways, bilinear in between.
 *
 *     recode IN.jpg OUT.jpg WIDTH HEIGHT QUALITY [grey] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

typedef struct picture {
    unsigned char *pixels; /* [height,width,3] */
    int width, height;
} picture;

static picture picture_read(const char *path)
{
    struct jpeg_decompress_struct info;
    struct jpeg_error_mgr errors;
    FILE *f = fopen(path, "rb");
    if (!f) exit(2);
    info.err = jpeg_std_error(&errors);
    jpeg_create_decompress(&info);
    jpeg_stdio_src(&info, f);
    jpeg_read_header(&info, TRUE);
    info.out_color_space = JCS_RGB;
    jpeg_start_decompress(&info);
    picture p = {malloc((size_t)info.output_width * info.output_height * 3), (int)info.output_width,
                 (int)info.output_height};
    while (info.output_scanline < info.output_height) {
        JSAMPROW row = p.pixels + (size_t)info.output_scanline * info.output_width * 3;
        jpeg_read_scanlines(&info, &row, 1);
    }
    jpeg_finish_decompress(&info);
    jpeg_destroy_decompress(&info);
    fclose(f);
    return p;
}

/* The mean of the four pixels around, each of a picture first halved until it is at most twice as large. */
static picture halved(picture p)
{
    picture h = {malloc((size_t)(p.width / 2) * (size_t)(p.height / 2) * 3), p.width / 2, p.height / 2};
    for (int y = 0; y < h.height; y++)
        for (int x = 0; x < h.width * 3; x++) {
            const unsigned char *from = p.pixels + (2 * y * p.width + 2 * (x / 3)) * 3 + x % 3;
            h.pixels[y * h.width * 3 + x] =
                (unsigned char)((from[0] + from[3] + from[p.width * 3] + from[p.width * 3 + 3] + 2) / 4);
        }
    free(p.pixels);
    return h;
}

static double clamped(double v, double most)
{
    return v < 0 ? 0 : v > most ? most : v;
}

static picture resized(picture p, int width, int height)
{
    while (p.width >= 2 * width && p.height >= 2 * height) p = halved(p);
    picture r = {malloc((size_t)width * (size_t)height * 3), width, height};
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            const double v = clamped((y + 0.5) * p.height / height - 0.5, p.height - 1);
            const double u = clamped((x + 0.5) * p.width / width - 0.5, p.width - 1);
            const int y0 = (int)v, x0 = (int)u, down = y0 + 1 < p.height ? p.width * 3 : 0,
                      right = x0 + 1 < p.width ? 3 : 0;
            for (int c = 0; c < 3; c++) {
                const unsigned char *at = p.pixels + (y0 * p.width + x0) * 3 + c;
                const double top = at[0] + (u - x0) * (at[right] - at[0]);
                const double low = at[down] + (u - x0) * (at[down + right] - at[down]);
                r.pixels[(y * width + x) * 3 + c] = (unsigned char)(top + (v - y0) * (low - top) + 0.5);
            }
        }
    free(p.pixels);
    return r;
}

static void picture_write(const char *path, picture p, int quality, int grey)
{
    struct jpeg_compress_struct info;
    struct jpeg_error_mgr errors;
    FILE *f = fopen(path, "wb");
    if (!f) exit(2);
    info.err = jpeg_std_error(&errors);
    jpeg_create_compress(&info);
    jpeg_stdio_dest(&info, f);
    info.image_width = (JDIMENSION)p.width;
    info.image_height = (JDIMENSION)p.height;
    info.input_components = 3;
    info.in_color_space = JCS_RGB;
    jpeg_set_defaults(&info);
    if (grey) jpeg_set_colorspace(&info, JCS_GRAYSCALE);
    jpeg_set_quality(&info, quality, TRUE);
    jpeg_start_compress(&info, TRUE);
    while (info.next_scanline < info.image_height) {
        JSAMPROW row = p.pixels + (size_t)info.next_scanline * (size_t)p.width * 3;
        jpeg_write_scanlines(&info, &row, 1);
    }
    jpeg_finish_compress(&info);
    jpeg_destroy_compress(&info);
    fclose(f);
}

int main(int argc, char **argv)
{
    if (argc < 6) return 2;
    picture p = resized(picture_read(argv[1]), atoi(argv[3]), atoi(argv[4]));
    picture_write(argv[2], p, atoi(argv[5]), argc > 6 && strcmp(argv[6], "grey") == 0);
    free(p.pixels);
    return 0;
}
