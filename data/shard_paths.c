/* From what people name (files, folders) to shard files, and folders that are not to be read yet. */
#define _POSIX_C_SOURCE 200809L
#include "data/shard_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MARK ".unfinished"

/* ---- the mark ---- */

static bool ends_with(const char *name, const char *ending)
{
    const size_t n = strlen(name), m = strlen(ending);
    return n > m && strcmp(name + n - m, ending) == 0;
}

vg_status vg_shard_mark_set(const char *folder, const char *name, const char *cut)
{
    vg_text path = {0};
    VG_TRY(vg_text_add(&path, "%s/%s" MARK, folder, name));
    const int fd = open(path.data, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    vg_status st = fd >= 0 ? VG_OK : vg_fail(VG_E_STORAGE, "%s: %s", path.data, strerror(errno));
    if (st == VG_OK) st = vg_write_all(fd, path.data, cut, strlen(cut));
    if (fd >= 0) close(fd);
    free(path.data);
    return st == VG_OK ? vg_sync_directory(folder) : st; /* before a shard has its name */
}

vg_status vg_shard_mark_check(const char *folder, const char *name, const char *cut)
{
    enum { MOST = 4096 };
    vg_text path = {0};
    char *was = NULL;
    VG_TRY(vg_text_add(&path, "%s/%s" MARK, folder, name));
    vg_status st = vg_file_there(path.data) ? vg_file_read(path.data, MOST, &was, NULL) : VG_OK;
    if (was && *was && strcmp(was, cut) != 0)
        st = vg_fail(VG_E_USAGE,
                     "%s: an import with %s is unfinished there, and this one has %s: go on with %s, or remove "
                     "%s-*.h5 and %s" MARK " there",
                     folder, was, cut, was, name, name);
    free(path.data);
    free(was);
    return st;
}

vg_status vg_shard_mark_clear(const char *folder, const char *name)
{
    vg_text path = {0};
    VG_TRY(vg_text_add(&path, "%s/%s" MARK, folder, name));
    const bool gone = unlink(path.data) == 0 || errno == ENOENT;
    const vg_status st = gone ? VG_OK : vg_fail(VG_E_STORAGE, "%s: %s", path.data, strerror(errno));
    free(path.data);
    return st;
}

/* ---- paths ---- */

void vg_shard_paths_release(vg_shard_paths *list)
{
    for (size_t i = 0; i < list->n; i++) free(list->path[i]);
    free(list->path);
    *list = (vg_shard_paths){0};
}

static vg_status paths_add(vg_shard_paths *list, const char *folder, const char *name)
{
    vg_text text = {0};
    VG_TRY(vg_grow(&list->path, &list->capacity, list->n + 1, sizeof *list->path));
    VG_TRY(folder ? vg_text_add(&text, "%s/%s", folder, name) : vg_text_add(&text, "%s", name));
    list->path[list->n++] = text.data;
    return VG_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static vg_status folder_list(const char *folder, vg_shard_paths *list)
{
    const size_t first = list->n;
    DIR *dir = opendir(folder);
    VG_CHECK(dir, vg_file_fault(errno), "%s: %s", folder, strerror(errno));
    vg_status st = VG_OK, whole = VG_OK;
    for (const struct dirent *entry; st == VG_OK && (entry = vg_folder_next(dir, folder, &st));) {
        if (ends_with(entry->d_name, ".h5"))
            st = paths_add(list, folder, entry->d_name);
        else if (ends_with(entry->d_name, MARK))
            whole = vg_fail(VG_E_DATA,
                            "%s: not all of its shards are there, says %s in it; let what writes them finish, or start "
                            "it again: an import goes on where it stopped, merge and the like want an empty folder",
                            folder, entry->d_name);
    }
    closedir(dir);
    VG_TRY(st);
    VG_TRY(whole);
    VG_CHECK(list->n > first, VG_E_DATA, "%s: no *.h5 in this folder; make them with 'vlgtr shard import'", folder);
    qsort(list->path + first, list->n - first, sizeof *list->path, by_name);
    return VG_OK;
}

/* What a path leads to. */
typedef struct place {
    dev_t device;
    ino_t inode;
    const char *path;
} place;

static int by_place(const void *a, const void *b)
{
    const place *x = a, *y = b;
    if (x->device != y->device) return x->device < y->device ? -1 : 1;
    return (x->inode > y->inode) - (x->inode < y->inode);
}

static vg_status place_find(const char *path, place *out)
{
    struct stat info;
    VG_CHECK(stat(path, &info) == 0, vg_file_fault(errno), "%s: %s", path, strerror(errno));
    *out = (place){info.st_dev, info.st_ino, path};
    return VG_OK;
}

/* That no two of n paths lead to the same file. */
static vg_status check_apart(char *const *paths, size_t n)
{
    vg_status st = VG_OK;
    place *places = vg_new0_array(n, sizeof *places);
    VG_CHECK(places, VG_E_NOMEM, "no memory to compare the names of %zu shards", n);
    for (size_t i = 0; i < n && st == VG_OK; i++) st = place_find(paths[i], &places[i]);
    if (st == VG_OK) qsort(places, n, sizeof *places, by_place);
    for (size_t i = 1; i < n && st == VG_OK; i++)
        if (by_place(&places[i - 1], &places[i]) == 0)
            st = vg_fail(VG_E_DATA, "%s is the same file as %s; name it once", places[i].path, places[i - 1].path);
    free(places);
    return st;
}

vg_status vg_shard_paths_find(const char *const *paths, int n_paths, vg_shard_paths *list)
{
    const size_t first = list->n;
    for (int i = 0; i < n_paths; i++) {
        struct stat info;
        VG_CHECK(stat(paths[i], &info) == 0, vg_file_fault(errno), "%s: %s", paths[i], strerror(errno));
        VG_TRY(S_ISDIR(info.st_mode) ? folder_list(paths[i], list) : paths_add(list, NULL, paths[i]));
    }
    VG_CHECK(list->n > 0, VG_E_DATA, "no shards are named");
    return check_apart(list->path + first, list->n - first);
}

int64_t vg_shard_paths_bytes(const vg_shard_paths *list)
{
    int64_t sum = 0;
    struct stat info;
    for (size_t i = 0; i < list->n; i++)
        if (stat(list->path[i], &info) == 0) sum += (int64_t)info.st_size;
    return sum;
}
