/* The manifest: JSON with a hash of itself, read without trust. */
#include "checkpoints/checkpoint_impl.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <xxhash.h>

enum { FORMAT_VERSION = 1, MANIFEST_BYTES = 32 << 20, MAX_NUMBERS = 4096, DIGITS = 24 };

#define FORMAT_NAME "vlgtr-checkpoint"

/* The integers of a manifest, one row each: the reader and the writer walk the same table. */
static const struct {
    const char *key;
    size_t in_state, in_info;
} integers[] = {
#define ROW(name)                                                                      \
    {                                                                                  \
#name, offsetof(vg_checkpoint_state, name), offsetof(vg_checkpoint_info, name) \
    }
    ROW(step), ROW(stage), ROW(stage_step), ROW(position), ROW(optimizer_steps), ROW(skipped_steps),
#undef ROW
};

enum { N_INTEGERS = sizeof integers / sizeof *integers };

void vg_piece_name(int rank, int n_ranks, char *text)
{
    snprintf(text, VG_NAME_BYTES, "optimizer-%05d-of-%05d", rank, n_ranks);
}

char *vg_path_join(const char *folder, const char *name)
{
    vg_text path = {0};
    if (vg_text_add(&path, "%s/%s", folder, name) == VG_OK) return path.data;
    free(path.data);
    return NULL;
}

/* The hash of everything but itself, 16 hex digits into text[DIGITS]. */
static vg_status self_hash(const json_t *root, char *text)
{
    json_t *copy = json_copy((json_t *)(uintptr_t)root);
    if (copy) json_object_del(copy, "xxh3");
    char *dump = copy ? json_dumps(copy, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
    if (dump) snprintf(text, DIGITS, "%016" PRIx64, (uint64_t)XXH3_64bits(dump, strlen(dump)));
    json_decref(copy);
    const bool done = dump != NULL;
    free(dump);
    VG_CHECK(done, VG_E_NOMEM, "no memory for a manifest");
    return VG_OK;
}

/* ---- writing ---- */

/* 64 bits do not fit the integers of every JSON reader: as text. */
static json_t *text_of_u64(uint64_t value, bool hex)
{
    char text[DIGITS];
    snprintf(text, sizeof text, hex ? "%016" PRIx64 : "%" PRIu64, value);
    return json_string(text);
}

static bool put(json_t *object, const char *key, json_t *value)
{
    return json_object_set_new(object, key, value) == 0;
}

static json_t *files_json(const vg_checkpoint_file *files, int n)
{
    json_t *array = json_array();
    for (int i = 0; i < n; i++) {
        json_t *row = json_object();
        if (put(row, "name", json_string(files[i].name)) &&
            put(row, "bytes", json_integer((json_int_t)files[i].bytes)) &&
            put(row, "xxh3", text_of_u64(files[i].hash, true)) && json_array_append(array, row) == 0) {
            json_decref(row);
            continue;
        }
        json_decref(row);
        json_decref(array);
        return NULL;
    }
    return array;
}

static json_t *numbers_json(const vg_checkpoint_state *state)
{
    json_t *object = json_object();
    for (int i = 0; i < state->n_numbers; i++) {
        if (put(object, state->numbers[i].key, json_real(state->numbers[i].value))) continue;
        json_decref(object);
        return NULL;
    }
    return object;
}

static bool put_all(json_t *root, const vg_checkpoint_state *state, const vg_checkpoint_file *files, int n_files)
{
    bool ok =
        put(root, "format", json_string(FORMAT_NAME)) && put(root, "format_version", json_integer(FORMAT_VERSION));
    for (int i = 0; i < N_INTEGERS; i++) {
        int64_t value;
        memcpy(&value, (const char *)state + integers[i].in_state, sizeof value);
        ok = ok && put(root, integers[i].key, json_integer(value));
    }
    return ok && put(root, "seed", text_of_u64(state->seed, false)) &&
           put(root, "generation", text_of_u64(state->generation, false)) &&
           put(root, "configuration_hash", json_string(state->configuration_hash)) &&
           put(root, "profile", json_string(state->profile)) && put(root, "numbers", numbers_json(state)) &&
           put(root, "files", files_json(files, n_files)) &&
           put(root, "configuration", json_string(state->configuration));
}

vg_status vg_manifest_write(const char *path, const vg_checkpoint_state *state, const vg_checkpoint_file *files,
                            int n_files)
{
    char hash[DIGITS];
    char *file = vg_path_join(path, VG_MANIFEST_NAME), *dump = NULL;
    json_t *root = json_object();
    vg_status st = VG_OK;
    for (int i = 0; i < state->n_numbers && st == VG_OK; i++)
        if (!isfinite(state->numbers[i].value))
            st = vg_fail(VG_E_BUG, "%s: the number %s is not finite", path, state->numbers[i].key);
    if (st == VG_OK && !(file && root && put_all(root, state, files, n_files)))
        st = vg_fail(VG_E_NOMEM, "%s: no memory for the manifest, or its texts are not UTF-8", path);
    if (st == VG_OK) st = self_hash(root, hash);
    if (st == VG_OK && !(put(root, "xxh3", json_string(hash)) && (dump = json_dumps(root, JSON_INDENT(2)))))
        st = vg_fail(VG_E_NOMEM, "%s: no memory for the manifest", path);
    if (st == VG_OK) st = vg_file_write_atomic(file, dump, strlen(dump));
    free(dump);
    json_decref(root);
    free(file);
    return st;
}

/* ---- reading ---- */

static vg_status get_text(const json_t *object, const char *key, char **out)
{
    const char *text = json_string_value(json_object_get(object, key));
    VG_CHECK(text, VG_E_STORAGE, "no text '%s'", key);
    *out = vg_copy_string(text);
    VG_CHECK(*out, VG_E_NOMEM, "no memory for '%s'", key);
    return VG_OK;
}

static vg_status get_u64(const json_t *object, const char *key, int base, uint64_t *out)
{
    const char *text = json_string_value(json_object_get(object, key));
    char *end = NULL;
    errno = 0;
    const bool plain = text && strlen(text) < DIGITS && strspn(text, "0123456789abcdef") == strlen(text) && *text;
    const unsigned long long value = plain ? strtoull(text, &end, base) : 0;
    VG_CHECK(plain && !*end && errno == 0, VG_E_STORAGE, "no number '%s'", key);
    *out = value;
    return VG_OK;
}

static vg_status get_count(const json_t *object, const char *key, int64_t *out)
{
    const json_t *value = json_object_get(object, key);
    VG_CHECK(json_is_integer(value) && json_integer_value(value) >= 0, VG_E_STORAGE, "no count '%s'", key);
    *out = json_integer_value(value);
    return VG_OK;
}

/* Row i of the files: only the names that we give are known, so no path leads out of the folder. */
static vg_status get_file(const json_t *row, int i, int n_pieces, vg_checkpoint_file *file)
{
    char expected[VG_NAME_BYTES] = VG_WEIGHTS_NAME;
    int64_t bytes = 0;
    if (i > 0) vg_piece_name(i - 1, n_pieces, expected);
    VG_TRY(get_text(row, "name", &file->name));
    VG_CHECK(strcmp(file->name, expected) == 0, VG_E_STORAGE, "file %d is called %.64s and not %s", i, file->name,
             expected);
    VG_TRY(get_count(row, "bytes", &bytes));
    file->bytes = (uint64_t)bytes;
    return get_u64(row, "xxh3", 16, &file->hash);
}

static vg_status get_files(const json_t *root, vg_checkpoint_info *info)
{
    const json_t *array = json_object_get(root, "files");
    const size_t n = json_array_size(array);
    VG_CHECK(n >= 1 && n <= VG_MAX_PIECES + 1, VG_E_STORAGE, "a list of %zu files", n);
    info->files = vg_new0_array(n, sizeof *info->files);
    VG_CHECK(info->files, VG_E_NOMEM, "no memory for %zu files", n);
    for (size_t i = 0; i < n; i++) {
        info->n_files++;
        VG_TRY(get_file(json_array_get(array, i), (int)i, (int)n - 1, &info->files[i]));
    }
    return VG_OK;
}

static vg_status get_numbers(const json_t *root, vg_checkpoint_info *info)
{
    json_t *object = json_object_get(root, "numbers"), *value;
    const char *key;
    VG_CHECK(json_is_object(object) && json_object_size(object) <= MAX_NUMBERS, VG_E_STORAGE, "no table 'numbers'");
    info->numbers = vg_new0_array(json_object_size(object), sizeof *info->numbers);
    VG_CHECK(info->numbers, VG_E_NOMEM, "no memory for the numbers");
    json_object_foreach(object, key, value)
    {
        VG_CHECK(json_is_number(value), VG_E_STORAGE, "'%.64s' is not a number", key);
        vg_checkpoint_number *number = &info->numbers[info->n_numbers];
        number->key = vg_copy_string(key);
        VG_CHECK(number->key, VG_E_NOMEM, "no memory for the numbers");
        number->value = json_number_value(value);
        info->n_numbers++;
    }
    return VG_OK;
}

static vg_status check_self(const json_t *root)
{
    char hash[DIGITS];
    const char *format = json_string_value(json_object_get(root, "format"));
    VG_CHECK(format && strcmp(format, FORMAT_NAME) == 0, VG_E_STORAGE, "not the manifest of a checkpoint");
    int64_t version = 0;
    VG_TRY(get_count(root, "format_version", &version));
    VG_CHECK(version <= FORMAT_VERSION, VG_E_STORAGE, "format %lld is newer than this build reads (%d); update vlgtr",
             (long long)version, FORMAT_VERSION);
    const char *said = json_string_value(json_object_get(root, "xxh3"));
    VG_TRY(self_hash(root, hash));
    VG_CHECK(said && strcmp(said, hash) == 0, VG_E_STORAGE, "its own hash is %s and not %.20s; it was changed", hash,
             said ? said : "given");
    return VG_OK;
}

static vg_status info_fill(vg_checkpoint_info *info, const json_t *root)
{
    VG_TRY(check_self(root));
    for (int i = 0; i < N_INTEGERS; i++) {
        int64_t value = 0;
        VG_TRY(get_count(root, integers[i].key, &value));
        memcpy((char *)info + integers[i].in_info, &value, sizeof value);
    }
    VG_TRY(get_u64(root, "seed", 10, &info->seed));
    VG_TRY(get_u64(root, "generation", 10, &info->generation));
    VG_TRY(get_text(root, "configuration", &info->configuration));
    VG_TRY(get_text(root, "configuration_hash", &info->configuration_hash));
    VG_TRY(get_text(root, "profile", &info->profile));
    VG_TRY(get_numbers(root, info));
    return get_files(root, info);
}

vg_status vg_manifest_parse(const char *file, const char *text, size_t size, vg_checkpoint_info **out)
{
    json_error_t why;
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &why);
    VG_CHECK(root, VG_E_STORAGE, "%s: line %d: %s", file, why.line, why.text);
    vg_checkpoint_info *info = vg_new0(sizeof *info);
    vg_status st = info ? info_fill(info, root) : vg_fail(VG_E_NOMEM, "no memory for a manifest");
    json_decref(root);
    if (st != VG_OK) {
        vg_checkpoint_info_free(info);
        return vg_fail_at(st, "%s", file);
    }
    *out = info;
    return VG_OK;
}

vg_status vg_checkpoint_open(const char *path, vg_checkpoint_info **out)
{
    char *file = vg_path_join(path, VG_MANIFEST_NAME), *text = NULL;
    size_t size = 0;
    vg_status st = file ? vg_file_read(file, MANIFEST_BYTES, &text, &size)
                        : vg_fail(VG_E_NOMEM, "%s: no memory to read the manifest", path);
    if (st == VG_E_DATA) st = VG_E_STORAGE; /* what we wrote ourselves */
    if (st == VG_OK) st = vg_manifest_parse(file, text, size, out);
    free(text);
    free(file);
    return st;
}

vg_status vg_checkpoint_set_numbers(const char *path, const vg_checkpoint_number *numbers, int n)
{
    vg_checkpoint_info *info = NULL;
    VG_TRY(vg_checkpoint_open(path, &info));
    vg_checkpoint_state state = {.seed = info->seed,
                                 .generation = info->generation,
                                 .configuration = info->configuration,
                                 .configuration_hash = info->configuration_hash,
                                 .profile = info->profile,
                                 .numbers = numbers,
                                 .n_numbers = n};
    for (int i = 0; i < N_INTEGERS; i++)
        memcpy((char *)&state + integers[i].in_state, (const char *)info + integers[i].in_info, sizeof(int64_t));
    const vg_status st = vg_manifest_write(path, &state, info->files, info->n_files);
    vg_checkpoint_info_free(info);
    return st;
}

void vg_checkpoint_info_free(vg_checkpoint_info *info)
{
    if (!info) return;
    for (int i = 0; i < info->n_files; i++) free(info->files[i].name);
    for (int i = 0; i < info->n_numbers; i++) free((char *)(uintptr_t)info->numbers[i].key);
    free(info->files);
    free(info->numbers);
    free(info->configuration);
    free(info->configuration_hash);
    free(info->profile);
    free(info);
}

double vg_checkpoint_number_of(const vg_checkpoint_info *info, const char *key, double otherwise)
{
    for (int i = 0; i < info->n_numbers; i++)
        if (strcmp(info->numbers[i].key, key) == 0) return info->numbers[i].value;
    return otherwise;
}
