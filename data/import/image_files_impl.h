/* Where the image files of a dataset lie: names from annotations, looked for in a few folders. Inside data/import. */
#ifndef VG_DATA_IMAGE_FILES_IMPL_H
#define VG_DATA_IMAGE_FILES_IMPL_H

#include "kernels/base/base.h"

enum { VG_IMAGE_FOLDERS = 24 };

/* Zeroed is empty. The folder that had the last file is tried first. */
typedef struct vg_image_folders {
    char *path[VG_IMAGE_FOLDERS];
    size_t n, last;
    vg_text found;
} vg_image_folders;

/* One more folder: `base`, or `below` in it where that is not "". Errors: VG_E_NOMEM; VG_E_BUG for one too many. */
vg_status vg_image_folders_add(vg_image_folders *folders, const char *base, const char *below);

/* Each of these below `base`, which end in NULL. Errors: as above. */
vg_status vg_image_folders_add_all(vg_image_folders *folders, const char *base, const char *const *below);

/* The path of a file in the first folder that has it; where none has, the path in the first of all. *path is borrowed
 * until the next call. */
vg_status vg_image_folders_find(vg_image_folders *folders, const char *file_name, const char **path);
void vg_image_folders_release(vg_image_folders *folders);

bool vg_is_file(const char *path);

/* Whether a name from outside stays below the folder it is looked for in. */
bool vg_name_is_inside(const char *file_name);

/* The n bytes of a name without what says nothing: "./a//b.jpg" is "a/b.jpg", the same file. In the place of *out. */
vg_status vg_name_plain(const char *name, size_t n, vg_text *out);

/* The number that Flickr gave a photograph, from an address or file name such as "4622125393_84c1fdb8d6_z.jpg" or
 * "1000092795.jpg"; 0 where it does not say. NULL is allowed. */
int64_t vg_flickr_id(const char *address);

#endif
