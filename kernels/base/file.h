/* Whole files and folders. Reading tells what is wrong with the input (VG_E_DATA) from what is wrong with the storage.
 */
#ifndef VG_BASE_FILE_H
#define VG_BASE_FILE_H

#include "kernels/base/status.h"
#include "kernels/base/text.h"

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>

/* Whose fault it is that a file or folder could not be opened, looked at or read, by errno: VG_E_STORAGE (EIO, ESTALE,
 * a time-out, a server or client of the storage that is gone: it may pass), else VG_E_DATA (absent, not allowed). */
vg_status vg_file_fault(int error);

/* How often to try what may pass, and the pause behind try `tried` = 1, 2, .. About a second in all. */
enum { VG_STEADY_TRIES = 5 };
void vg_steady_wait(int tried);

/* Whether errno says that nothing has this name, and not that it could not be looked at. */
bool vg_file_absent(int error);

/* Whether something has this name, or cannot be looked at. A client of NFS may believe for a minute that nothing has,
 * where somebody looked before another host made it; that is asked again. */
bool vg_file_there(const char *path);

/* The next entry of a folder; NULL behind the last one and where it cannot be read, with the sentence and *status
 * VG_E_STORAGE. */
const struct dirent *vg_folder_next(DIR *dir, const char *folder, vg_status *status);

/* Reads a file of at most max_bytes into heap memory with a NUL behind it (not counted in *size; size may be NULL).
 * What may pass is tried again.
 * The caller frees *data. Errors: VG_E_DATA (absent, not allowed, too large), VG_E_STORAGE, VG_E_NOMEM. */
vg_status vg_file_read(const char *path, size_t max_bytes, char **data, size_t *size);

/* Whether the name is that of a terminal, a pipe or a device: nothing to put a file in the place of. */
bool vg_file_is_special(const char *path);

/* Writes path so that it is whole or absent: a temporary name beside it, fsync, rename, fsync of the directory. A pipe
 * or a device (/dev/stdout) just gets the bytes. Errors: VG_E_STORAGE; the old file is then untouched. */
vg_status vg_file_write_atomic(const char *path, const void *data, size_t size);

/* Writes what an open file takes of it, all as a rule. Returns how many bytes; where they are fewer, errno says why. */
size_t vg_write_most(int fd, const void *data, size_t size);

/* Writes all of it to an open file, called `path` in the sentence. Errors: VG_E_STORAGE. */
vg_status vg_write_all(int fd, const char *path, const void *data, size_t size);

/* mkdir -p. Errors: VG_E_STORAGE, also where something that is no folder has the name. */
vg_status vg_make_directories(const char *path);

/* Keeps others that lock the folder out until close(*lock), or this process ends, however it does. Where the file
 * system has no locks it keeps nobody out. Errors: VG_E_USAGE (another one is at work there), VG_E_STORAGE. */
vg_status vg_folder_lock(const char *path, int *lock);

/* How much of a path names folders that are there, in bytes: what vg_make_directories would not have to make. */
size_t vg_path_there(const char *path);

/* Takes the empty folders of a path away again, from its end up to the part that was there before. */
void vg_remove_made(const char *path, size_t there);

/* Gives a file that was synced its name for good: rename, and fsync of the directory. Errors: VG_E_STORAGE, VG_E_NOMEM.
 */
vg_status vg_file_rename(const char *from, const char *to);

/* The part of a path behind its last slash. */
const char *vg_base_name(const char *path);

/* Adds the folder that holds what a path names, "." where the path has no slash. Errors: VG_E_NOMEM. */
vg_status vg_folder_of(const char *path, vg_text *folder);

/* fsync of a directory, which makes renames inside it last, where its file system knows that. Errors: VG_E_STORAGE. */
vg_status vg_sync_directory(const char *path);

#endif
