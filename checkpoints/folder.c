/* A folder of checkpoints: which there are, which are whole, which go. */
#define _POSIX_C_SOURCE 200809L
#include "checkpoints/checkpoint_impl.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <xxhash.h>

/* ---- names ---- */

static bool all_digits(const char *text, size_t n)
{
    return n > 0 && strspn(text, "0123456789") >= n;
}

/* step-00000030 or step-00000030-g7 */
static bool is_checkpoint_name(const char *name)
{
    if (strncmp(name, "step-", 5) != 0) return false;
    const char *digits = name + 5, *tail = digits + strspn(digits, "0123456789");
    if (tail - digits < 8) return false;
    return !*tail || (tail[0] == '-' && tail[1] == 'g' && all_digits(tail + 2, strlen(tail + 2)));
}

bool vg_checkpoint_exists(const char *path)
{
    char *file = vg_path_join(path, VG_MANIFEST_NAME);
    const bool there = !file || vg_file_there(file);
    free(file);
    return there;
}

vg_status vg_wait_for_file(const char *file)
{
    const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
    for (int i = 0; i < 1500; i++) {
        if (vg_file_there(file) && access(file, F_OK) == 0) return VG_OK;
        nanosleep(&pause, NULL);
    }
    return vg_fail(VG_E_STORAGE, "%s: not to be seen here after 30 s; do all hosts mount the same folder?", file);
}

/* ---- what is there ---- */

typedef struct found {
    char *path;
    bool committed; /* has a manifest */
    bool readable;  /* that can be read; then: */
    uint64_t generation;
    int64_t step;
    double accuracy; /* -1 where it was not measured */
} found;

static void found_free(found *items, size_t n)
{
    for (size_t i = 0; i < n; i++) free(items[i].path);
    free(items);
}

static vg_status add_found(const char *folder, const char *name, found **items, size_t *n, size_t *capacity)
{
    VG_TRY(vg_grow(items, capacity, *n + 1, sizeof **items));
    found f = {.path = vg_path_join(folder, name)};
    VG_CHECK(f.path, VG_E_NOMEM, "%s: no memory to list it", folder);
    vg_checkpoint_info *info = NULL;
    f.committed = vg_checkpoint_exists(f.path);
    if (f.committed && vg_checkpoint_open(f.path, &info) == VG_OK) {
        f.readable = true;
        f.generation = info->generation;
        f.step = info->step;
        f.accuracy = vg_checkpoint_number_of(info, VG_CHECKPOINT_ACCURACY, -1);
        vg_checkpoint_info_free(info);
    }
    (*items)[(*n)++] = f;
    return VG_OK;
}

/* Oldest first; what cannot be read last. */
static int by_age(const void *a, const void *b)
{
    const found *x = a, *y = b;
    if (x->readable != y->readable) return x->readable ? -1 : 1;
    if (x->generation != y->generation) return x->generation < y->generation ? -1 : 1;
    if (x->step != y->step) return x->step < y->step ? -1 : 1;
    return strcmp(x->path, y->path);
}

/* Everything in the folder that has the name of a checkpoint. */
static vg_status look(const char *folder, found **out, size_t *n_out)
{
    found *items = NULL;
    size_t n = 0, capacity = 0;
    DIR *dir = opendir(folder);
    if (!dir && vg_file_absent(errno)) {
        *out = NULL;
        *n_out = 0;
        return VG_OK;
    }
    VG_CHECK(dir, VG_E_STORAGE, "%s: %s", folder, strerror(errno));
    vg_status st = VG_OK;
    for (const struct dirent *d; st == VG_OK && (d = vg_folder_next(dir, folder, &st));)
        if (is_checkpoint_name(d->d_name)) st = add_found(folder, d->d_name, &items, &n, &capacity);
    closedir(dir);
    if (st != VG_OK) {
        found_free(items, n);
        return st;
    }
    if (n) qsort(items, n, sizeof *items, by_age);
    *out = items;
    *n_out = n;
    return VG_OK;
}

vg_status vg_checkpoint_list(const char *folder, char ***paths, int *n)
{
    found *items;
    size_t n_items;
    VG_TRY(look(folder, &items, &n_items));
    char **list = vg_new0_array(n_items, sizeof *list);
    int kept = 0;
    for (size_t i = 0; i < n_items && list; i++) {
        if (!items[i].committed) continue;
        list[kept++] = items[i].path;
        items[i].path = NULL;
    }
    found_free(items, n_items);
    VG_CHECK(list, VG_E_NOMEM, "%s: no memory to list it", folder);
    *paths = list;
    *n = kept;
    return VG_OK;
}

void vg_checkpoint_list_free(char **paths, int n)
{
    for (int i = 0; i < n; i++) free(paths[i]);
    free(paths);
}

/* Which checkpoint of `folder` to name, into text, where it has one. */
static vg_status name_newest(const char *folder, vg_text *text)
{
    char **paths = NULL;
    int n = 0;
    VG_TRY(vg_checkpoint_list(folder, &paths, &n));
    const vg_status st = n ? vg_text_add(text, "the newest of %d below it is %s", n, paths[n - 1]) : VG_OK;
    vg_checkpoint_list_free(paths, n);
    return st;
}

/* `path` is none: the folder of a run, or of checkpoints, tells which it has. */
static vg_status say_what_to_name(const char *path, vg_text *text)
{
    char *below = vg_path_join(path, "checkpoints");
    VG_CHECK(below, VG_E_NOMEM, "%s: no memory for its path", path);
    vg_status st = name_newest(path, text);
    if (st == VG_OK && !text->length) st = name_newest(below, text);
    if (st == VG_OK && !text->length) st = vg_text_add(text, "name a folder that has %s", VG_MANIFEST_NAME);
    free(below);
    return st;
}

vg_status vg_checkpoint_expect(const char *path)
{
    if (vg_checkpoint_exists(path)) return VG_OK;
    const bool absent = access(path, F_OK) != 0;
    const char *why = absent ? strerror(errno) : "";
    vg_text text = {0};
    vg_status st = say_what_to_name(path, &text);
    if (st == VG_OK)
        st = vg_fail(VG_E_USAGE, "%s: there is no checkpoint%s%s; %s", path, absent ? ": " : "", why, text.data);
    free(text.data);
    return st;
}

/* ---- deleting ---- */

vg_status vg_checkpoint_remove(const char *path)
{
    vg_status st = VG_OK;
    char *manifest = vg_path_join(path, VG_MANIFEST_NAME);
    VG_CHECK(manifest, VG_E_NOMEM, "%s: no memory to delete it", path);
    if (unlink(manifest) != 0 && errno != ENOENT) st = vg_fail(VG_E_STORAGE, "%s: %s", manifest, strerror(errno));
    free(manifest);
    DIR *dir = st == VG_OK ? opendir(path) : NULL;
    if (st == VG_OK && !dir) return vg_fail(VG_E_STORAGE, "%s: %s", path, strerror(errno));
    for (const struct dirent *d; st == VG_OK && (d = vg_folder_next(dir, path, &st));) {
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0) continue;
        if (unlinkat(dirfd(dir), d->d_name, 0) != 0)
            st = vg_fail(VG_E_STORAGE, "%s/%s: %s", path, d->d_name, strerror(errno));
    }
    if (dir) closedir(dir);
    if (st == VG_OK && rmdir(path) != 0) st = vg_fail(VG_E_STORAGE, "%s: %s", path, strerror(errno));
    return st;
}

static void remove_or_say(const char *path)
{
    if (vg_checkpoint_remove(path) != VG_OK) vg_log_rank("%s; delete it by hand", vg_error_text());
}

/* The best of those that can be read, n where none says how good it is; of equals the newest. */
static size_t best_of(const found *items, size_t n)
{
    size_t best = n;
    for (size_t i = 0; i < n; i++)
        if (items[i].accuracy >= 0 && (best == n || items[i].accuracy >= items[best].accuracy)) best = i;
    return best;
}

vg_status vg_checkpoint_prune(const char *folder, const vg_checkpoint_retention *keep)
{
    found *items;
    size_t n, readable = 0; /* they come first; what we cannot read is not ours to delete */
    if (keep->last <= 0) return VG_OK;
    VG_TRY(look(folder, &items, &n));
    while (readable < n && items[readable].readable) readable++;
    const size_t best = keep->best ? best_of(items, readable) : n;
    for (size_t i = 0; i + (size_t)keep->last < readable; i++) {
        const bool regular = keep->every && items[i].step % keep->every == 0;
        if (!regular && i != best) remove_or_say(items[i].path);
    }
    found_free(items, n);
    return VG_OK;
}

/* ---- generations ---- */

/* The generation that writes an uncommitted checkpoint; 0 when it does not say. */
static uint64_t marked_generation(const char *path)
{
    char *file = vg_path_join(path, VG_MARKER_NAME), *text = NULL;
    uint64_t generation = 0;
    if (file && vg_file_read(file, 64, &text, NULL) == VG_OK) generation = strtoull(text, NULL, 10);
    free(text);
    free(file);
    return generation;
}

/* A claim is a file in folder/generations whose name is the number. Making it is the claim: of all who try, on whatever
 * hosts, the file system lets one have the name. None is ever deleted, so no number comes twice. */

/* The newest claim, 0 where there is none. */
static vg_status newest_claim(const char *claims, uint64_t *newest)
{
    *newest = 0;
    DIR *dir = opendir(claims);
    if (!dir && errno == ENOENT) return VG_OK;
    VG_CHECK(dir, VG_E_STORAGE, "%s: %s", claims, strerror(errno));
    vg_status st = VG_OK;
    for (const struct dirent *d; (d = vg_folder_next(dir, claims, &st));) {
        const uint64_t n = all_digits(d->d_name, strlen(d->d_name)) ? strtoull(d->d_name, NULL, 10) : 0;
        if (n > *newest) *newest = n;
    }
    closedir(dir);
    return st;
}

/* Of those that claimed the folder or wrote there. */
static vg_status newest_generation(const char *folder, const char *claims, uint64_t *newest)
{
    found *items;
    size_t n;
    VG_TRY(newest_claim(claims, newest));
    VG_TRY(look(folder, &items, &n));
    for (size_t i = 0; i < n; i++) {
        const uint64_t theirs = items[i].committed ? items[i].generation : marked_generation(items[i].path);
        if (theirs > *newest) *newest = theirs;
    }
    found_free(items, n);
    return VG_OK;
}

static char *claim_file(const char *claims, uint64_t generation)
{
    char name[VG_NAME_BYTES];
    snprintf(name, sizeof name, "%" PRIu64, generation);
    return vg_path_join(claims, name);
}

/* *taken: somebody else has this generation. */
static vg_status try_claim(const char *claims, uint64_t generation, const char *who, bool *taken)
{
    char *file = claim_file(claims, generation);
    VG_CHECK(file, VG_E_NOMEM, "%s: no memory to claim it", claims);
    const int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    *taken = fd < 0 && errno == EEXIST;
    vg_status st = fd >= 0 || *taken ? VG_OK : vg_fail(VG_E_STORAGE, "%s: %s", file, strerror(errno));
    if (fd >= 0) {
        if (dprintf(fd, "%.*s\n", VG_WHO_BYTES - 2, who) < 0 || fsync(fd) != 0)
            st = vg_fail(VG_E_STORAGE, "%s: %s", file, strerror(errno));
        close(fd);
        if (st == VG_OK) st = vg_sync_directory(claims);
    }
    free(file);
    return st;
}

vg_status vg_checkpoint_claim(const char *folder, const char *who, uint64_t *generation)
{
    char *claims = vg_path_join(folder, VG_CLAIMS_NAME);
    VG_CHECK(claims, VG_E_NOMEM, "%s: no memory to claim it", folder);
    vg_status st = vg_make_directories(claims);
    uint64_t newest = 0;
    for (bool taken = true; st == VG_OK && taken;) {
        st = newest_generation(folder, claims, &newest);
        if (st == VG_OK) st = try_claim(claims, newest + 1, who, &taken);
    }
    free(claims);
    if (st == VG_OK) *generation = newest + 1;
    return st;
}

/* Who claimed a generation, as far as can be told. */
static void claimed_by(const char *claims, uint64_t generation, char who[VG_WHO_BYTES])
{
    char *file = claim_file(claims, generation), *text = NULL;
    const bool known = file && vg_file_read(file, VG_WHO_BYTES, &text, NULL) == VG_OK && *text;
    snprintf(who, VG_WHO_BYTES, "%.*s", known ? (int)strcspn(text, "\n") : VG_WHO_BYTES, known ? text : "unknown");
    free(text);
    free(file);
}

vg_status vg_checkpoint_still_ours(const char *folder, uint64_t generation)
{
    char *claims = vg_path_join(folder, VG_CLAIMS_NAME), who[VG_WHO_BYTES];
    VG_CHECK(claims, VG_E_NOMEM, "%s: no memory to look whose it is", folder);
    uint64_t claimed = 0;
    vg_status st = newest_claim(claims, &claimed);
    if (st == VG_OK && claimed > generation) {
        claimed_by(claims, claimed, who);
        st = vg_fail(VG_E_CONFIG,
                     "%s: generation %" PRIu64 " (%s) has taken this run over, this is generation %" PRIu64
                     " and stands back without saving",
                     folder, claimed, who, generation);
    }
    free(claims);
    return st;
}

vg_status vg_folder_fence(const char *folder, uint64_t generation)
{
    VG_TRY(vg_checkpoint_still_ours(folder, generation));
    found *items;
    size_t n;
    vg_status st = VG_OK;
    VG_TRY(look(folder, &items, &n));
    for (size_t i = 0; i < n && st == VG_OK; i++) {
        const uint64_t theirs = items[i].committed ? items[i].generation : marked_generation(items[i].path);
        if (theirs > generation)
            st = vg_fail(VG_E_CONFIG,
                         "%s: generation %" PRIu64 " of this run writes here, this is generation %" PRIu64
                         " and stands back; end this older run",
                         items[i].path, theirs, generation);
    }
    found_free(items, n);
    return st;
}

vg_status vg_folder_clean(const char *folder)
{
    found *items;
    size_t n;
    VG_TRY(look(folder, &items, &n));
    for (size_t i = 0; i < n; i++)
        if (!items[i].committed) remove_or_say(items[i].path);
    found_free(items, n);
    return VG_OK;
}

/* ---- verifying ---- */

static vg_status hash_fd(int fd, const char *file, uint64_t *bytes, uint64_t *hash)
{
    enum { PIECE = 1 << 20 };
    XXH3_state_t *state = XXH3_createState();
    unsigned char *piece = vg_new0(PIECE);
    vg_status st = state && piece ? VG_OK : vg_fail(VG_E_NOMEM, "%s: no memory to verify it", file);
    if (st == VG_OK) XXH3_64bits_reset(state);
    for (*bytes = 0; st == VG_OK;) {
        const ssize_t n = read(fd, piece, PIECE);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) st = vg_fail(vg_file_fault(errno), "%s: %s", file, strerror(errno));
        if (n <= 0) break;
        XXH3_64bits_update(state, piece, (size_t)n);
        *bytes += (uint64_t)n;
    }
    if (st == VG_OK) *hash = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    free(piece);
    return st;
}

static vg_status hash_file(const char *file, uint64_t *bytes, uint64_t *hash)
{
    const int fd = open(file, O_RDONLY | O_CLOEXEC);
    VG_CHECK(fd >= 0, vg_file_fault(errno), "%s: %s", file, strerror(errno));
    const vg_status st = hash_fd(fd, file, bytes, hash);
    close(fd);
    return st;
}

/* What may pass is tried again: steps would be lost for a checkpoint that is passed over. */
vg_status vg_file_verify(const char *file, const vg_file_sum *sum)
{
    uint64_t bytes = 0, hash = 0;
    vg_status st = hash_file(file, &bytes, &hash);
    for (int tried = 1; st == VG_E_STORAGE && tried < VG_STEADY_TRIES; tried++) {
        vg_steady_wait(tried);
        st = hash_file(file, &bytes, &hash);
    }
    if (st != VG_OK) return st == VG_E_DATA ? VG_E_STORAGE : st;
    VG_CHECK(bytes == sum->bytes, VG_E_STORAGE, "%s: %" PRIu64 " bytes, %" PRIu64 " were written", file, bytes,
             sum->bytes);
    VG_CHECK(hash == sum->hash, VG_E_STORAGE,
             "%s: its bytes have the hash %016" PRIx64 ", those written had %016" PRIx64, file, hash, sum->hash);
    return VG_OK;
}

/* The first n files of a manifest. */
static vg_status verify_files(const char *path, int n)
{
    vg_checkpoint_info *info = NULL;
    VG_TRY(vg_checkpoint_expect(path));
    VG_TRY(vg_checkpoint_open(path, &info));
    vg_status st = VG_OK;
    for (int i = 0; i < info->n_files && i < n && st == VG_OK; i++) {
        const vg_file_sum sum = {.bytes = info->files[i].bytes, .hash = info->files[i].hash};
        char *file = vg_path_join(path, info->files[i].name);
        st = file ? vg_file_verify(file, &sum) : vg_fail(VG_E_NOMEM, "%s: no memory to verify it", path);
        free(file);
    }
    vg_checkpoint_info_free(info);
    return st;
}

vg_status vg_checkpoint_verify(const char *path)
{
    return verify_files(path, INT_MAX);
}

vg_status vg_checkpoint_verify_weights(const char *path)
{
    return verify_files(path, 1);
}
