#define _POSIX_C_SOURCE 200809L
#include "data/import/file_list_impl.h"

#include "data/import/image_files_impl.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

vg_status vg_file_list_add(vg_file_list *list, const char *path)
{
    VG_TRY(vg_grow(&list->path, &list->capacity, list->n + 1, sizeof *list->path));
    list->path[list->n] = vg_copy_string(path);
    VG_CHECK(list->path[list->n], VG_E_NOMEM, "%s: no memory for its name", path);
    list->n++;
    return VG_OK;
}

static vg_status entry_add(vg_file_list *list, const char *folder, const char *name)
{
    vg_text path = {0};
    VG_TRY(vg_text_add(&path, "%s/%s", folder, name));
    const vg_status st = vg_file_list_add(list, path.data);
    free(path.data);
    return st;
}

vg_status vg_file_list_find(vg_file_list *list, const char *folder, bool (*wanted)(const char *name, const char *user),
                            const char *user)
{
    vg_status st = VG_OK;
    DIR *dir = opendir(folder);
    if (!dir && vg_file_absent(errno)) return VG_OK;
    VG_CHECK(dir, vg_file_fault(errno), "%s: %s", folder, strerror(errno));
    for (const struct dirent *entry; st == VG_OK && (entry = vg_folder_next(dir, folder, &st));)
        if (wanted(entry->d_name, user)) st = entry_add(list, folder, entry->d_name);
    closedir(dir);
    if (list->n > 0) qsort(list->path, list->n, sizeof *list->path, by_name);
    return st;
}

void vg_file_list_release(vg_file_list *list)
{
    for (size_t i = 0; i < list->n; i++) free(list->path[i]);
    free(list->path);
    *list = (vg_file_list){0};
}

vg_status vg_set_folder_find(const vg_import_source *source, const char *file, vg_text *folder, bool *found)
{
    vg_text path = {0};
    vg_status st = VG_OK;
    *found = false;
    for (int in_root = 0; in_root < 2 && !*found && st == VG_OK; in_root++) {
        folder->length = path.length = 0;
        st = vg_text_add(folder, "%s%s%s", source->root, in_root ? "" : "/", in_root ? "" : source->set);
        if (st == VG_OK) st = vg_text_add(&path, "%s/%s", folder->data, file);
        *found = st == VG_OK && vg_is_file(path.data);
    }
    free(path.data);
    return st;
}
