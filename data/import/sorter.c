#define _GNU_SOURCE /* O_TMPFILE */
#include "data/import/sorter_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RUN_BUFFER_BYTES = 1 << 18 };

/* In memory and in the file a record is its length and its bytes. */
typedef uint32_t record_length;

/* A sorted run in the file, and the window through which it is read back. */
typedef struct run {
    off_t at, end; /* what was not read yet */
    unsigned char *bytes;
    size_t begin, filled, capacity;
} run;

struct vg_sorter {
    const char *folder;
    unsigned char *block; /* records that are not in a run yet, one behind the other */
    size_t block_bytes, capacity, filled;
    size_t *places; /* in the block, where each starts */
    size_t n, places_capacity;
    const unsigned char **order; /* the records, sorted; NULL before that */
    size_t next;
    int fd; /* of the runs, -1 while there are none */
    off_t file_bytes;
    run *runs;
    size_t n_runs, runs_capacity;
    size_t *heap; /* runs that have a record, the least on top */
    size_t n_heap;
    size_t given; /* bytes of the record that the top run handed out, 0 for none */
};

void vg_sortable_put(int64_t value, unsigned char out[8])
{
    const uint64_t bits = (uint64_t)value ^ (UINT64_C(1) << 63);
    for (int i = 0; i < 8; i++) out[i] = (unsigned char)(bits >> (56 - 8 * i));
}

int64_t vg_sortable_get(const unsigned char bytes[8])
{
    uint64_t bits = 0;
    for (int i = 0; i < 8; i++) bits = bits << 8 | bytes[i];
    return (int64_t)(bits ^ (UINT64_C(1) << 63));
}

/* ---- records ---- */

static size_t length_of(const unsigned char *record)
{
    record_length n;
    memcpy(&n, record, sizeof n);
    return n;
}

static int compare(const unsigned char *a, const unsigned char *b)
{
    const size_t x = length_of(a), y = length_of(b);
    const int order = memcmp(a + sizeof(record_length), b + sizeof(record_length), x < y ? x : y);
    return order ? order : (x > y) - (x < y);
}

static int by_bytes(const void *a, const void *b)
{
    return compare(*(const unsigned char *const *)a, *(const unsigned char *const *)b);
}

/* Sorts the records in memory. */
static vg_status block_sort(vg_sorter *s)
{
    free(s->order);
    s->order = vg_new0_array(s->n, sizeof *s->order);
    VG_CHECK(s->order, VG_E_NOMEM, "no memory for sorting");
    for (size_t i = 0; i < s->n; i++) s->order[i] = s->block + s->places[i];
    if (s->n > 0) qsort(s->order, s->n, sizeof *s->order, by_bytes);
    return VG_OK;
}

vg_status vg_sorter_new(const char *folder, size_t budget_bytes, vg_sorter **out)
{
    vg_sorter *s = vg_new0(sizeof *s);
    VG_CHECK(s, VG_E_NOMEM, "no memory for sorting");
    *s = (vg_sorter){.folder = folder, .block_bytes = budget_bytes, .fd = -1};
    *out = s;
    return VG_OK;
}

/* ---- runs ---- */

/* Where a file system has no nameless files, one has its name for a moment, and a kill just then leaves it. */
static vg_status file_open(vg_sorter *s)
{
    vg_text path = {0};
    s->fd = open(s->folder, O_TMPFILE | O_RDWR | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (s->fd >= 0) return VG_OK;
    VG_TRY(vg_text_add(&path, "%s/.sort-XXXXXX", s->folder));
    s->fd = mkstemp(path.data);
    const int why = errno;
    if (s->fd >= 0) unlink(path.data);
    free(path.data);
    VG_CHECK(s->fd >= 0, VG_E_STORAGE, "%s: cannot make a file to sort in: %s", s->folder, strerror(why));
    return VG_OK;
}

static vg_status file_write(vg_sorter *s, const unsigned char *bytes, size_t n)
{
    while (n > 0) {
        const ssize_t put = pwrite(s->fd, bytes, n, s->file_bytes);
        if (put < 0 && errno == EINTR) continue;
        VG_CHECK(put > 0, VG_E_STORAGE, "%s: the file to sort in: %s", s->folder, put < 0 ? strerror(errno) : "full");
        bytes += put, n -= (size_t)put, s->file_bytes += put;
    }
    return VG_OK;
}

/* The records in memory become a run. */
static vg_status run_write(vg_sorter *s)
{
    vg_text buffer = {0};
    VG_TRY(block_sort(s));
    vg_status st = s->fd < 0 ? file_open(s) : VG_OK;
    const off_t at = s->file_bytes;
    if (st == VG_OK) st = vg_grow(&s->runs, &s->runs_capacity, s->n_runs + 1, sizeof *s->runs);
    for (size_t i = 0; i < s->n && st == VG_OK; i++) {
        st = vg_text_add_bytes(&buffer, s->order[i], sizeof(record_length) + length_of(s->order[i]));
        if (st != VG_OK || (buffer.length < RUN_BUFFER_BYTES && i + 1 < s->n)) continue;
        st = file_write(s, (const unsigned char *)buffer.data, buffer.length);
        buffer.length = 0;
    }
    free(buffer.data);
    VG_TRY(st);
    s->runs[s->n_runs++] = (run){.at = at, .end = s->file_bytes};
    s->n = s->filled = 0;
    return VG_OK;
}

vg_status vg_sorter_add(vg_sorter *s, const void *bytes, size_t n)
{
    const record_length length = (record_length)n;
    const size_t whole = sizeof length + n;
    VG_CHECK(n <= s->block_bytes - sizeof length, VG_E_DATA, "a record of %zu bytes, more than can be sorted", n);
    if (s->filled + whole > s->block_bytes) VG_TRY(run_write(s));
    VG_TRY(vg_grow(&s->block, &s->capacity, s->filled + whole, 1));
    VG_TRY(vg_grow(&s->places, &s->places_capacity, s->n + 1, sizeof *s->places));
    unsigned char *record = s->block + s->filled;
    memcpy(record, &length, sizeof length);
    memcpy(record + sizeof length, bytes, n);
    s->places[s->n++] = s->filled;
    s->filled += whole;
    return VG_OK;
}

static void memory_release(vg_sorter *s)
{
    free(s->block);
    free(s->places);
    free(s->order);
    s->block = NULL;
    s->places = NULL;
    s->order = NULL;
}

/* ---- merging ---- */

/* Sees to it that the run's next record is whole in its window; *more is false at its end. */
static vg_status run_fill(vg_sorter *s, run *r, bool *more)
{
    size_t have = r->filled - r->begin;
    const size_t need =
        have < sizeof(record_length) ? sizeof(record_length) : sizeof(record_length) + length_of(r->bytes + r->begin);
    *more = have > 0 || r->at < r->end;
    if (!*more || (have >= sizeof(record_length) && have >= need)) return VG_OK;
    if (have > 0) memmove(r->bytes, r->bytes + r->begin, have);
    r->begin = 0;
    VG_TRY(vg_grow(&r->bytes, &r->capacity, need > RUN_BUFFER_BYTES ? need : RUN_BUFFER_BYTES, 1));
    while (have < r->capacity && r->at < r->end) {
        const off_t left = r->end - r->at;
        const size_t room = r->capacity - have, part = (off_t)room < left ? room : (size_t)left;
        const ssize_t got = pread(s->fd, r->bytes + have, part, r->at);
        if (got < 0 && errno == EINTR) continue;
        VG_CHECK(got > 0, VG_E_STORAGE, "%s: the file to sort in: %s", s->folder,
                 got < 0 ? strerror(errno) : "cut short");
        have += (size_t)got, r->at += got;
    }
    r->filled = have;
    if (have >= sizeof(record_length) && sizeof(record_length) + length_of(r->bytes) <= have) return VG_OK;
    VG_CHECK(r->at < r->end, VG_E_STORAGE, "%s: the file to sort in is damaged", s->folder);
    return run_fill(s, r, more);
}

static const unsigned char *top_of(const vg_sorter *s, size_t place)
{
    const run *r = &s->runs[s->heap[place]];
    return r->bytes + r->begin;
}

/* Moves the run at `place` down until no run below it has a lesser record. */
static void heap_sink(vg_sorter *s, size_t place)
{
    for (;;) {
        size_t least = place;
        for (size_t child = 2 * place + 1; child <= 2 * place + 2 && child < s->n_heap; child++)
            if (compare(top_of(s, child), top_of(s, least)) < 0) least = child;
        if (least == place) return;
        const size_t run_index = s->heap[place];
        s->heap[place] = s->heap[least];
        s->heap[least] = run_index;
        place = least;
    }
}

vg_status vg_sorter_sort(vg_sorter *s)
{
    if (s->n_runs == 0) return block_sort(s);
    if (s->n > 0) VG_TRY(run_write(s));
    memory_release(s);
    s->heap = vg_new0_array(s->n_runs, sizeof *s->heap);
    VG_CHECK(s->heap, VG_E_NOMEM, "no memory for sorting");
    for (size_t i = 0; i < s->n_runs; i++) {
        bool more;
        VG_TRY(run_fill(s, &s->runs[i], &more));
        s->heap[s->n_heap++] = i; /* no run is empty */
    }
    for (size_t i = s->n_heap / 2; i-- > 0;) heap_sink(s, i);
    return VG_OK;
}

/* Past the record that was handed out last. */
static vg_status heap_advance(vg_sorter *s)
{
    run *r = &s->runs[s->heap[0]];
    bool more;
    r->begin += s->given;
    s->given = 0;
    VG_TRY(run_fill(s, r, &more));
    if (!more) {
        free(r->bytes);
        r->bytes = NULL;
        s->heap[0] = s->heap[--s->n_heap];
    }
    heap_sink(s, 0);
    return VG_OK;
}

vg_status vg_sorter_next(vg_sorter *s, const unsigned char **bytes, size_t *n)
{
    const unsigned char *record = NULL;
    if (s->n_runs == 0) {
        if (s->next < s->n) record = s->order[s->next++];
    } else {
        if (s->given) VG_TRY(heap_advance(s));
        if (s->n_heap) record = top_of(s, 0);
    }
    *bytes = record ? record + sizeof(record_length) : NULL;
    *n = record ? length_of(record) : 0;
    s->given = record ? sizeof(record_length) + *n : 0;
    return VG_OK;
}

void vg_sorter_free(vg_sorter *s)
{
    if (!s) return;
    for (size_t i = 0; i < s->n_runs; i++) free(s->runs[i].bytes);
    if (s->fd >= 0) close(s->fd);
    memory_release(s);
    free(s->runs);
    free(s->heap);
    free(s);
}
