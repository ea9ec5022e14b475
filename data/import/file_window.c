#define _POSIX_C_SOURCE 200809L
#include "data/import/file_window_impl.h"

#include "data/progress.h"
#include "data/steady_read_impl.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PIECE_BYTES = 1 << 20, MAX_VIEW_BYTES = 64 << 20 };

vg_status vg_file_window_open(vg_file_window *w, const char *path)
{
    *w = (vg_file_window){.path = path};
    return vg_steady_open(path, &w->fd, &w->size);
}

void vg_file_window_close(vg_file_window *w)
{
    if (w->path && w->fd > 0) close(w->fd);
    free(w->bytes);
    *w = (vg_file_window){0};
}

uint64_t vg_file_window_place(const vg_file_window *w)
{
    return w->read - (w->end - w->begin);
}

vg_status vg_file_window_tell(const vg_file_window *w, vg_import_log *log)
{
    return vg_import_progress(log, w->path, (int64_t)vg_file_window_place(w), (int64_t)w->size, VG_PROGRESS_BYTES);
}

/* What a file whose first bytes these are wants first, NULL where it may be text as it is read here. */
static const char *wanted_first(const char *bytes, size_t n)
{
    static const struct {
        const char *begin, *wanted;
    } kinds[] = {{"\x1f\x8b", "compressed by gzip; unpack it first"},
                 {"PK\x03\x04", "a zip archive; unpack it first"},
                 {"\xff\xfe", "UTF-16; `iconv -f UTF-16 -t UTF-8` makes UTF-8 of it, which is wanted"},
                 {"\xfe\xff", "UTF-16; `iconv -f UTF-16 -t UTF-8` makes UTF-8 of it, which is wanted"}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        const size_t length = strlen(kinds[i].begin);
        if (n >= length && memcmp(bytes, kinds[i].begin, length) == 0) return kinds[i].wanted;
    }
    return NULL;
}

vg_status vg_file_window_extend(vg_file_window *w, bool *more)
{
    const uint64_t left = w->size - w->read;
    const size_t piece = left < PIECE_BYTES ? (size_t)left : PIECE_BYTES, seen = w->end - w->begin;
    *more = piece > 0;
    if (piece == 0) return VG_OK;
    VG_CHECK(seen <= MAX_VIEW_BYTES, VG_E_DATA, "%s: byte %llu: one item of more than %d MiB", w->path,
             (unsigned long long)vg_file_window_place(w), MAX_VIEW_BYTES >> 20);
    if (seen > 0) memmove(w->bytes, w->bytes + w->begin, seen);
    w->begin = 0;
    w->end = seen;
    VG_TRY(vg_grow(&w->bytes, &w->capacity, seen + piece, 1));
    VG_TRY(vg_steady_read(w->path, w->fd, pread, w->read, w->bytes + seen, piece));
    const char *wanted = w->read == 0 ? wanted_first(w->bytes, piece) : NULL;
    VG_CHECK(!wanted, VG_E_DATA, "%s: it is %s", w->path, wanted);
    if (w->read == 0 && piece >= 3 && memcmp(w->bytes, "\xef\xbb\xbf", 3) == 0) w->begin = 3; /* a byte order mark */
    w->read += piece;
    w->end += piece;
    return VG_OK;
}

vg_status vg_file_window_line(vg_file_window *w, const char **line, size_t *n)
{
    const char *end = NULL;
    size_t seen = 0;
    for (bool more = true; more && !end;) {
        end = w->end - w->begin > seen ? memchr(w->bytes + w->begin + seen, '\n', w->end - w->begin - seen) : NULL;
        seen = w->end - w->begin;
        if (!end) VG_TRY(vg_file_window_extend(w, &more));
    }
    *line = seen > 0 ? w->bytes + w->begin : NULL;
    *n = end ? (size_t)(end - *line) : seen;
    w->begin += *n + (end != NULL);
    return VG_OK;
}
