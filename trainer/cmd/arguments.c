#include "trainer/cmd/arguments.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const vg_argument *find_argument(const vg_argument *table, int n, const char *word, size_t length)
{
    for (int i = 0; i < n; i++)
        if (strlen(table[i].name) == length && strncmp(table[i].name, word, length) == 0) return &table[i];
    return NULL;
}

static vg_status unknown_argument(const vg_argument *table, int n, const char *word)
{
    enum { MOST = 32 };
    const char *names[MOST] = {"--help"};
    int known = 1;
    for (int i = 0; i < n && known < MOST; i++) names[known++] = table[i].name;
    const char *nearest = vg_nearest_word(word, names, (size_t)known);
    VG_CHECK(!nearest, VG_E_USAGE, "unknown argument '%s'; did you mean '%s'?", word, nearest);
    return vg_fail(VG_E_USAGE, "unknown argument '%s'; --help shows the usage", word);
}

static vg_status set_value(const vg_argument *a, char *value)
{
    VG_CHECK(value, VG_E_USAGE, "%s: a value is missing", a->name);
    if (a->text) {
        *a->text = value;
        return VG_OK;
    }
    VG_CHECK(a->list->n < VG_MAX_SETS, VG_E_USAGE, "%s: given more than %d times", a->name, VG_MAX_SETS);
    a->list->items[a->list->n++] = value;
    return VG_OK;
}

vg_status vg_arguments_read(int argc, char **argv, const vg_argument *table, int n_table, char **words, int max_words,
                            int *n_words)
{
    *n_words = 0;
    for (int i = 1; i < argc; i++) {
        char *word = argv[i];
        if (strncmp(word, "--", 2) != 0) {
            if (*n_words == max_words && *word == '-') return unknown_argument(table, n_table, word);
            VG_CHECK(*n_words < max_words, VG_E_USAGE, "'%s' is one word too many; --help shows the usage", word);
            words[(*n_words)++] = word;
            continue;
        }
        const size_t length = strcspn(word, "=");
        const vg_argument *a = find_argument(table, n_table, word, length);
        if (!a) return unknown_argument(table, n_table, word);
        if (a->flag) {
            VG_CHECK(!word[length], VG_E_USAGE, "%s takes no value", a->name);
            *a->flag = true;
        } else if (word[length]) {
            VG_TRY(set_value(a, word + length + 1));
        } else {
            VG_TRY(set_value(a, i + 1 < argc ? argv[++i] : NULL));
        }
    }
    return VG_OK;
}

bool vg_argument_is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

bool vg_arguments_ask_help(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (vg_argument_is_help(argv[i])) return true;
    return false;
}

vg_status vg_argument_device(const char *text)
{
    const bool known = strcmp(text, "auto") == 0 || strcmp(text, "cpu") == 0 || strcmp(text, "cuda") == 0;
    VG_CHECK(known, VG_E_USAGE, "--device: '%s' is none of auto, cpu and cuda", text);
    return VG_OK;
}

vg_status vg_argument_integer(const char *name, const char *text, int64_t min, int64_t max, int64_t *out)
{
    if (!text) return VG_OK;
    char *end = NULL;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    VG_CHECK(*text && !*end && errno == 0 && value >= min && value <= max, VG_E_USAGE,
             "%s: '%s' is not a whole number from %lld to %lld", name, text, (long long)min, (long long)max);
    *out = value;
    return VG_OK;
}

vg_status vg_argument_share(const char *name, const char *text, double *out)
{
    if (!text) return VG_OK;
    char *end = NULL;
    const double value = strtod(text, &end);
    VG_CHECK(*text && !*end && value >= 0 && value <= 1, VG_E_USAGE, "%s: '%s' is not a share from 0 to 1", name, text);
    *out = value;
    return VG_OK;
}

static vg_status check_folder(const char *name, const char *path, const char *folder)
{
    struct stat info;
    VG_CHECK(stat(folder, &info) == 0, VG_E_STORAGE, "%s %s: %s: %s", name, path, folder, strerror(errno));
    VG_CHECK(access(folder, W_OK) == 0, VG_E_STORAGE, "%s %s: %s: %s", name, path, folder, strerror(errno));
    return VG_OK;
}

vg_status vg_argument_file(const char *name, const char *path)
{
    struct stat info;
    if (!path) return VG_OK;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode)) { /* a pipe or a terminal stays */
        VG_CHECK(!S_ISDIR(info.st_mode), VG_E_STORAGE, "%s %s: a folder; name a file", name, path);
        return VG_OK;
    }
    vg_text folder = {0};
    VG_TRY(vg_folder_of(path, &folder));
    const vg_status st = check_folder(name, path, folder.data);
    free(folder.data);
    return st;
}
