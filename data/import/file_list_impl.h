/* Where the annotation files of a set lie, and those of a set that has several. Inside data/import. */
#ifndef VG_DATA_FILE_LIST_IMPL_H
#define VG_DATA_FILE_LIST_IMPL_H

#include "data/import.h"

/* The folder with a file that every set of this kind has: the one of the set's name in its root, else the root itself.
 * *found is false where neither has it. Errors: VG_E_NOMEM. */
vg_status vg_set_folder_find(const vg_import_source *source, const char *file, vg_text *folder, bool *found);

/* Zeroed is empty. */
typedef struct vg_file_list {
    char **path; /* by name */
    size_t n, capacity;
} vg_file_list;

vg_status vg_file_list_add(vg_file_list *list, const char *path);

/* Adds what `wanted` (which gets `user` along) wants of the files in a folder; a folder that is not there has none. */
vg_status vg_file_list_find(vg_file_list *list, const char *folder, bool (*wanted)(const char *name, const char *user),
                            const char *user);
void vg_file_list_release(vg_file_list *list);

#endif
