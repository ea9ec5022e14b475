/* A large text file seen through a window that moves over it: only what is looked at is in memory, and of it not the
 * byte order mark that some editors put in front. Inside data/import. */
#ifndef VG_DATA_FILE_WINDOW_IMPL_H
#define VG_DATA_FILE_WINDOW_IMPL_H

#include "data/import.h"

typedef struct vg_file_window {
    const char *path; /* borrowed */
    int fd;
    uint64_t size, read; /* bytes of the file, and how many of them were read */
    char *bytes;         /* [begin, end) is in view */
    size_t begin, end, capacity;
} vg_file_window;

/* Errors: VG_E_DATA (absent, no regular file), VG_E_STORAGE. Closing is for windows that were opened or zeroed. */
vg_status vg_file_window_open(vg_file_window *window, const char *path);
void vg_file_window_close(vg_file_window *window);

/* Brings more of the file into view behind `end`; pointers into the window move. *more is false at the end of the file.
 * Errors: VG_E_DATA (more than 64 MiB would be in view), VG_E_STORAGE, VG_E_NOMEM. */
vg_status vg_file_window_extend(vg_file_window *window, bool *more);

/* Takes the next line, without its end, which stays in view until the next call; *line is NULL behind the last. Errors:
 * as above. */
vg_status vg_file_window_line(vg_file_window *window, const char **line, size_t *n);

/* Tells people how far in the file it is. Errors: as vg_import_progress. */
vg_status vg_file_window_tell(const vg_file_window *window, vg_import_log *log);

/* Where `begin` lies in the file. */
uint64_t vg_file_window_place(const vg_file_window *window);

#endif
