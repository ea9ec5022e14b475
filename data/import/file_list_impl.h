/* The annotation files of a set that has several. Inside data/import. */
#ifndef VG_DATA_FILE_LIST_IMPL_H
#define VG_DATA_FILE_LIST_IMPL_H

#include "kernels/base/base.h"

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
