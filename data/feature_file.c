/* The HDF5 side of a feature store: made and checked here, and from then on read and written beside HDF5. */
#define _GNU_SOURCE /* fallocate */
#include "data/feature_store_impl.h"
#include "data/shard_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORMAT "VL-GTR features"

enum { MAX_TEXT = 1 << 16, PAGE = 4096 };

/* ---- making ---- */

static bool attribute_write(hid_t file, const char *name, hid_t type, const void *value)
{
    const hid_t space = H5Screate(H5S_SCALAR);
    const hid_t attribute = H5Acreate2(file, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    const bool good = attribute >= 0 && H5Awrite(attribute, type, value) >= 0;
    if (attribute >= 0) H5Aclose(attribute);
    H5Sclose(space);
    return good;
}

static bool text_write(hid_t file, const char *name, const char *text)
{
    const hid_t type = vg_shard_text_type(strlen(text) + 1);
    const bool good = attribute_write(file, name, type, text);
    H5Tclose(type);
    return good;
}

/* One piece, its place in the file given at once and its bytes left alone. */
static bool table_make(hid_t file, const char *name, hid_t type, int rank, const hsize_t *size)
{
    const hid_t space = H5Screate_simple(rank, size, NULL), how = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_obj_track_times(how, false);
    H5Pset_alloc_time(how, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(how, H5D_FILL_TIME_NEVER);
    const hid_t table = H5Dcreate2(file, name, type, space, H5P_DEFAULT, how, H5P_DEFAULT);
    const bool good = table >= 0 && H5Dclose(table) >= 0;
    H5Pclose(how);
    H5Sclose(space);
    return good;
}

static bool tables_make(hid_t file, const vg_feature_key *key)
{
    const int32_t version = VG_FEATURE_VERSION;
    const uint64_t content = 0;
    const hsize_t rows[2] = {(hsize_t)key->n_rows, (hsize_t)key->row_floats};
    return text_write(file, "format", FORMAT) && text_write(file, "key", key->text) &&
           attribute_write(file, "format_version", H5T_NATIVE_INT32, &version) &&
           attribute_write(file, "content_hash", H5T_NATIVE_UINT64, &content) &&
           table_make(file, "hashes", H5T_STD_U64LE, 1, rows) &&
           table_make(file, "rows", key->bf16 ? H5T_STD_U16LE : H5T_IEEE_F32LE, 2, rows);
}

vg_status vg_feature_file_take_space(const char *path)
{
    struct stat info;
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    VG_CHECK(fd >= 0, VG_E_STORAGE, "%s: %s", path, strerror(errno));
    const int why = fstat(fd, &info) == 0 && fallocate(fd, 0, 0, info.st_size) != 0 ? errno : 0;
    close(fd);
    VG_CHECK(why != ENOSPC && why != EDQUOT, VG_E_STORAGE, "%s: %s for %lld bytes", path, strerror(why),
             (long long)info.st_size);
    return VG_OK;
}

vg_status vg_feature_file_create(const char *path, const vg_feature_key *key)
{
    VG_CHECK(unlink(path) == 0 || errno == ENOENT, VG_E_STORAGE, "%s: %s", path, strerror(errno));
    vg_h5_begin();
    const hid_t access = vg_h5_access(), how = H5Pcreate(H5P_FILE_CREATE);
    H5Pset_alignment(access, PAGE, PAGE);
    H5Pset_obj_track_times(how, false);
    const hid_t file = H5Fcreate(path, H5F_ACC_EXCL, how, access);
    bool good = file >= 0 && tables_make(file, key);
    vg_status st = good ? VG_OK : vg_h5_fail(VG_E_STORAGE, path, "cannot make the file");
    if (file >= 0 && H5Fclose(file) < 0 && st == VG_OK) st = vg_h5_fail(VG_E_STORAGE, path, "cannot close the file");
    H5Pclose(how);
    H5Pclose(access);
    if (st != VG_OK) unlink(path);
    return st;
}

vg_status vg_feature_file_finish(const char *path, uint64_t content)
{
    vg_h5_begin();
    const hid_t access = vg_h5_access();
    const hid_t file = H5Fopen(path, H5F_ACC_RDWR, access);
    const hid_t attribute = file >= 0 ? H5Aopen(file, "content_hash", H5P_DEFAULT) : -1;
    const bool good = attribute >= 0 && H5Awrite(attribute, H5T_NATIVE_UINT64, &content) >= 0;
    vg_status st = good ? VG_OK : vg_h5_fail(VG_E_STORAGE, path, "cannot write its hash");
    if (attribute >= 0) H5Aclose(attribute);
    if (file >= 0 && H5Fclose(file) < 0 && st == VG_OK) st = vg_h5_fail(VG_E_STORAGE, path, "cannot close the file");
    H5Pclose(access);
    return st;
}

/* ---- checking ---- */

static bool attribute_read(hid_t file, const char *name, hid_t type, void *value)
{
    const hid_t attribute = H5Aopen(file, name, H5P_DEFAULT);
    const hid_t stored = attribute >= 0 ? H5Aget_type(attribute) : -1;
    const hid_t space = attribute >= 0 ? H5Aget_space(attribute) : -1;
    const bool good = stored >= 0 && H5Tequal(stored, type) > 0 && space >= 0 &&
                      H5Sget_simple_extent_npoints(space) == 1 && H5Aread(attribute, type, value) >= 0;
    if (space >= 0) H5Sclose(space);
    if (stored >= 0) H5Tclose(stored);
    if (attribute >= 0) H5Aclose(attribute);
    return good;
}

/* A text of at most MAX_TEXT bytes into text, which is empty when there is none. */
static void text_read(hid_t file, const char *name, char *text)
{
    const hid_t attribute = H5Aopen(file, name, H5P_DEFAULT);
    const hid_t type = attribute >= 0 ? H5Aget_type(attribute) : -1;
    const size_t bytes =
        type >= 0 && H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 ? H5Tget_size(type) : 0;
    if (attribute >= 0) H5Aclose(attribute);
    text[0] = '\0';
    if (bytes > 0 && bytes <= MAX_TEXT && !attribute_read(file, name, type, text)) text[0] = '\0';
    text[bytes > 0 && bytes <= MAX_TEXT ? bytes - 1 : 0] = '\0';
    if (type >= 0) H5Tclose(type);
}

static size_t line_bytes(const char *line)
{
    return strcspn(line, "\n");
}

/* Names the first line in which two keys differ. */
static vg_status keys_compare(const char *path, const char *has, const char *wanted)
{
    while (*has || *wanted) {
        const size_t n = line_bytes(has), m = line_bytes(wanted);
        VG_CHECK(n == m && memcmp(has, wanted, n) == 0, VG_E_DATA, "%s has '%.*s', wanted is '%.*s'", path, (int)n, has,
                 (int)m, wanted);
        has += n + (has[n] == '\n');
        wanted += m + (wanted[m] == '\n');
    }
    return VG_OK;
}

static vg_status key_check(hid_t file, const char *path, const vg_feature_key *key, char *text)
{
    int32_t version = 0;
    text_read(file, "format", text);
    VG_CHECK(strcmp(text, FORMAT) == 0, VG_E_DATA, "%s is no feature store", path);
    VG_CHECK(attribute_read(file, "format_version", H5T_NATIVE_INT32, &version) && version == VG_FEATURE_VERSION,
             VG_E_DATA, "%s: its format is version %d, this build has %d", path, version, VG_FEATURE_VERSION);
    text_read(file, "key", text);
    return keys_compare(path, text, key->text);
}

/* Where a table lies: in one piece inside this very file, with this size and type. */
static vg_status table_find(hid_t file, const char *path, const char *name, hid_t type, int rank, const hsize_t *size,
                            uint64_t *at)
{
    hsize_t has[2] = {0};
    H5L_info_t link;
    const bool hard = H5Lget_info(file, name, &link, H5P_DEFAULT) >= 0 && link.type == H5L_TYPE_HARD;
    const hid_t set = hard ? H5Dopen2(file, name, H5P_DEFAULT) : -1;
    VG_CHECK(set >= 0, VG_E_DATA, "%s: no /%s in it", path, name);
    const hid_t space = H5Dget_space(set), stored = H5Dget_type(set), how = H5Dget_create_plist(set);
    bool fits = space >= 0 && stored >= 0 && how >= 0 && H5Tequal(stored, type) > 0 &&
                H5Pget_layout(how) == H5D_CONTIGUOUS && H5Pget_external_count(how) == 0 &&
                H5Sget_simple_extent_ndims(space) == rank && H5Sget_simple_extent_dims(space, has, NULL) == rank &&
                memcmp(has, size, (size_t)rank * sizeof *has) == 0;
    const haddr_t place = fits ? H5Dget_offset(set) : HADDR_UNDEF;
    if (how >= 0) H5Pclose(how);
    if (stored >= 0) H5Tclose(stored);
    if (space >= 0) H5Sclose(space);
    H5Dclose(set);
    VG_CHECK(place != HADDR_UNDEF, VG_E_DATA, "%s: /%s has another size or form", path, name);
    *at = place;
    return VG_OK;
}

static vg_status lies_inside(const char *path, uint64_t at, uint64_t bytes)
{
    struct stat info;
    VG_CHECK(stat(path, &info) == 0, vg_file_fault(errno), "%s: %s", path, strerror(errno));
    VG_CHECK(at <= (uint64_t)info.st_size && bytes <= (uint64_t)info.st_size - at, VG_E_DATA, "%s is cut short", path);
    return VG_OK;
}

static vg_status find_all(hid_t file, const char *path, const vg_feature_key *key, char *text, vg_feature_places *out)
{
    const hsize_t size[2] = {(hsize_t)key->n_rows, (hsize_t)key->row_floats};
    VG_TRY(key_check(file, path, key, text));
    VG_CHECK(attribute_read(file, "content_hash", H5T_NATIVE_UINT64, &out->content), VG_E_DATA,
             "%s: no content hash in it", path);
    VG_TRY(table_find(file, path, "hashes", H5T_STD_U64LE, 1, size, &out->hashes_at));
    VG_TRY(table_find(file, path, "rows", key->bf16 ? H5T_STD_U16LE : H5T_IEEE_F32LE, 2, size, &out->rows_at));
    VG_TRY(lies_inside(path, out->hashes_at, (uint64_t)key->n_rows * sizeof(uint64_t)));
    return lies_inside(path, out->rows_at, (uint64_t)key->n_rows * vg_feature_row_bytes(key));
}

/* As with shards, an I/O error below is watched for: the rows may be as good as ever, and took long to make. */
static vg_status find_once(const char *path, const vg_feature_key *key, vg_feature_places *out)
{
    int io_error = 0;
    vg_feature_places places = {0};
    char *text = malloc(MAX_TEXT + 1);
    VG_CHECK(text, VG_E_NOMEM, "%s: no memory", path);
    vg_h5_begin();
    vg_h5_watch(&io_error);
    const hid_t access = vg_h5_access();
    const hid_t file = H5Fopen(path, H5F_ACC_RDONLY, access);
    const vg_status st = file >= 0 ? find_all(file, path, key, text, &places)
                                   : vg_fail(VG_E_DATA, "%s is not a readable HDF5 file", path);
    if (file >= 0) H5Fclose(file);
    H5Pclose(access);
    vg_h5_watch(NULL);
    free(text);
    VG_CHECK(st != VG_E_DATA || io_error == 0, VG_E_STORAGE, "%s: %s while it was opened", path, strerror(io_error));
    if (st == VG_OK) *out = places;
    return st;
}

/* HDF5 does not try again by itself. */
vg_status vg_feature_file_find(const char *path, const vg_feature_key *key, vg_feature_places *out)
{
    vg_status st = find_once(path, key, out);
    for (int tried = 1; st == VG_E_STORAGE && tried < VG_STEADY_TRIES; tried++) {
        vg_steady_wait(tried);
        st = find_once(path, key, out);
    }
    return st;
}
