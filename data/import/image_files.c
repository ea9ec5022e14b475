#define _POSIX_C_SOURCE 200809L
#include "data/import/image_files_impl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

bool vg_is_file(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

bool vg_name_is_inside(const char *name)
{
    if (name[0] == '/' || name[0] == '\0') return false;
    for (const char *part = name; part; part = strchr(part, '/')) {
        part += *part == '/';
        if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == '\0')) return false;
    }
    return true;
}

vg_status vg_name_plain(const char *name, size_t n, vg_text *out)
{
    out->length = 0;
    if (n > 0 && *name == '/') VG_TRY(vg_text_add_bytes(out, "/", 1));
    for (size_t at = 0, end; at < n; at = end + 1) {
        for (end = at; end < n && name[end] != '/';) end++;
        if (end == at || (end == at + 1 && name[at] == '.')) continue;
        if (out->length && out->data[out->length - 1] != '/') VG_TRY(vg_text_add_bytes(out, "/", 1));
        VG_TRY(vg_text_add_bytes(out, name + at, end - at));
    }
    return vg_text_add_bytes(out, "", 0);
}

int64_t vg_flickr_id(const char *address)
{
    if (!address) return 0;
    const char *slash = strrchr(address, '/'), *digits = slash ? slash + 1 : address;
    char *end = NULL;
    errno = 0;
    if (*digits < '0' || *digits > '9') return 0;
    const long long id = strtoll(digits, &end, 10);
    return errno == 0 && (*end == '_' || *end == '.') ? id : 0;
}

vg_status vg_image_folders_add(vg_image_folders *f, const char *base, const char *below)
{
    vg_text path = {0};
    VG_CHECK(f->n < VG_IMAGE_FOLDERS, VG_E_BUG, "more than %d image folders", VG_IMAGE_FOLDERS);
    VG_TRY(vg_text_add(&path, "%s%s%s", base, *below ? "/" : "", below));
    f->path[f->n++] = path.data;
    return VG_OK;
}

vg_status vg_image_folders_add_all(vg_image_folders *f, const char *base, const char *const *below)
{
    for (; *below; below++) VG_TRY(vg_image_folders_add(f, base, *below));
    return VG_OK;
}

vg_status vg_image_folders_find(vg_image_folders *f, const char *file_name, const char **path)
{
    size_t folder = f->last;
    bool found = false;
    for (size_t i = 0; i <= f->n && !found; i++) {
        folder = i == 0 ? f->last : i - 1;
        f->found.length = 0;
        VG_TRY(vg_text_add(&f->found, "%s/%s", f->path[folder], file_name));
        found = vg_is_file(f->found.data);
    }
    if (found) {
        f->last = folder;
    } else {
        f->found.length = 0;
        VG_TRY(vg_text_add(&f->found, "%s/%s", f->path[0], file_name));
    }
    *path = f->found.data;
    return VG_OK;
}

void vg_image_folders_release(vg_image_folders *f)
{
    for (size_t i = 0; i < f->n; i++) free(f->path[i]);
    free(f->found.data);
    *f = (vg_image_folders){0};
}
