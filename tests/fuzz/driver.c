/* Feeds mutated inputs to a fuzz entry where clang's libFuzzer is not at hand: same entry point, no coverage.
 *
 *     fuzz_data_pickle -runs=1000000 -seed=7 tests/fuzz/corpus/data_pickle
 *
 * Every file of the corpus is run as it is, then `runs` times one of them with a few mutations, or spliced with
 * another. The sequence is a function of the seed and the corpus. What crashes, trips a sanitizer or runs longer than
 * 20 seconds is written to crash-<program> in the current folder; run it again with that file as the corpus and
 * -runs=0. */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_BYTES = 1 << 20, MAX_CORPUS = 4096, MOST_MUTATIONS = 6, MOST_COPIED = 64, TIMEOUT_S = 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Present in programs with AddressSanitizer. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

typedef struct input {
    uint8_t *data;
    size_t size;
} input;

static struct {
    const uint8_t *data; /* the input at hand, for the crash file */
    size_t size;
    char crash_path[256];
} current;

static input corpus[MAX_CORPUS];
static size_t n_corpus;

/* ---- crashes ---- */

static void save_current(void)
{
    const int fd = open(current.crash_path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0) return;
    if (write(fd, current.data, current.size) == (ssize_t)current.size) {
        (void)!write(STDERR_FILENO, "input saved as ", 15);
        (void)!write(STDERR_FILENO, current.crash_path, strlen(current.crash_path));
        (void)!write(STDERR_FILENO, "\n", 1);
    }
    close(fd);
}

static void on_signal(int number)
{
    save_current();
    signal(number, SIG_DFL);
    raise(number);
}

static void watch_for_crashes(const char *program)
{
    const char *slash = strrchr(program, '/');
    snprintf(current.crash_path, sizeof current.crash_path, "crash-%s", slash ? slash + 1 : program);
    if (__sanitizer_set_death_callback) {
        __sanitizer_set_death_callback(save_current);
        signal(SIGABRT, on_signal);
    } else {
        const int deadly[] = {SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};
        for (size_t i = 0; i < sizeof deadly / sizeof *deadly; i++) signal(deadly[i], on_signal);
    }
    signal(SIGALRM, on_signal);
}

/* The copy is exactly as long as the input, so that reading past its end is seen. */
static void run_one(const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size ? size : 1);
    if (!exact) abort();
    memcpy(exact, data, size);
    current.data = exact;
    current.size = size;
    alarm(TIMEOUT_S);
    LLVMFuzzerTestOneInput(exact, size);
    alarm(0);
    free(exact);
}

/* ---- corpus ---- */

static void add_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f || n_corpus == MAX_CORPUS) {
        fprintf(stderr, "%s: cannot be added to the corpus\n", path);
        exit(2);
    }
    uint8_t *data = malloc(MAX_BYTES);
    if (!data) abort();
    corpus[n_corpus++] = (input){data, fread(data, 1, MAX_BYTES, f)};
    fclose(f);
}

static int not_hidden(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static void add_path(const char *path)
{
    struct stat info;
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode)) {
        add_file(path);
        return;
    }
    struct dirent **entries = NULL;
    const int n = scandir(path, &entries, not_hidden, alphasort);
    for (int i = 0; i < n; i++) {
        char file[1024];
        snprintf(file, sizeof file, "%s/%s", path, entries[i]->d_name);
        add_path(file);
        free(entries[i]);
    }
    free(entries);
}

/* ---- mutations ---- */

static uint64_t random_state;

/* splitmix64 */
static uint64_t random_bits(void)
{
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static size_t below(size_t n)
{
    return n ? (size_t)(random_bits() % n) : 0;
}

/* Numbers at which sizes and offsets break, in 1, 2, 4 or 8 bytes of either order, somewhere. */
static void put_number(uint8_t *data, size_t size)
{
    static const uint64_t telling[] = {0,
                                       1,
                                       2,
                                       7,
                                       8,
                                       0x40,
                                       0x7f,
                                       0x80,
                                       0xff,
                                       0x100,
                                       0x7fff,
                                       0x8000,
                                       0xffff,
                                       0x10000,
                                       1 << 24,
                                       1 << 30,
                                       0x7fffffff,
                                       0x80000000,
                                       0xffffffff,
                                       0x100000000,
                                       (uint64_t)1 << 62,
                                       INT64_MAX,
                                       (uint64_t)1 << 63,
                                       UINT64_MAX - 1,
                                       UINT64_MAX};
    const size_t width = (size_t)1 << below(4);
    if (size < width) return;
    uint64_t value = telling[below(sizeof telling / sizeof *telling)];
    if (below(4) == 0) value = size - below(16); /* near the end of the file */
    const bool big_endian = below(2);
    size_t place = below(size - width + 1);
    if (below(2)) place -= place % width; /* numbers like to lie where they are aligned */
    uint8_t *at = data + place;
    for (size_t i = 0; i < width; i++) at[big_endian ? width - 1 - i : i] = (uint8_t)(value >> (8 * i));
}

static void open_gap(input *in, size_t at, size_t n)
{
    memmove(in->data + at + n, in->data + at, in->size - at);
    in->size += n;
}

/* A run of bytes of any input of the corpus goes over, or in between, the bytes of this one. */
static void borrow(input *in)
{
    const input *from = &corpus[below(n_corpus)];
    if (from->size == 0) return;
    size_t start = below(from->size), n = 1 + below(MOST_COPIED);
    if (n > from->size - start) n = from->size - start;
    const size_t at = below(in->size + 1);
    if (below(2) && in->size + n <= MAX_BYTES) open_gap(in, at, n);
    if (n > in->size - at) n = in->size - at;
    memcpy(in->data + at, from->data + start, n);
}

static void mutate(input *in)
{
    const size_t at = below(in->size), n = 1 + below(in->size - at < 32 ? in->size - at : 32);
    switch (below(9)) {
    case 0:
        if (in->size) in->data[at] ^= (uint8_t)(1u << below(8));
        break;
    case 1:
        if (in->size) in->data[at] = (uint8_t)random_bits();
        break;
    case 2:
    case 3: put_number(in->data, in->size); break;
    case 4:
        if (in->size == MAX_BYTES) break;
        open_gap(in, at, 1);
        in->data[at] = (uint8_t)random_bits();
        break;
    case 5: /* a run goes away */
        if (n > in->size - at) break;
        memmove(in->data + at, in->data + at + n, in->size - at - n);
        in->size -= n;
        break;
    case 6: /* a run comes twice */
        if (n > in->size - at || in->size + n > MAX_BYTES) break;
        open_gap(in, at, n);
        break;
    case 7: borrow(in); break;
    case 8:
        if (below(8) == 0) in->size = at; /* cut, now and then */
        break;
    }
}

static void run_mutated(long runs)
{
    input in = {malloc(2 * MAX_BYTES), 0};
    if (!in.data) abort();
    for (long i = 0; i < runs; i++) {
        const input *from = &corpus[below(n_corpus)];
        memcpy(in.data, from->data, from->size);
        in.size = from->size;
        for (size_t k = 1 + below(MOST_MUTATIONS); k > 0; k--) mutate(&in);
        run_one(in.data, in.size);
    }
    free(in.data);
}

int main(int argc, char **argv)
{
    static uint8_t nothing[1];
    long runs = 5000;
    random_state = 1;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "-runs=", 6) == 0)
            runs = atol(argv[i] + 6);
        else if (strncmp(argv[i], "-seed=", 6) == 0)
            random_state = strtoull(argv[i] + 6, NULL, 10);
        else
            add_path(argv[i]);
    }
    watch_for_crashes(argv[0]);
    for (size_t i = 0; i < n_corpus; i++) run_one(corpus[i].data, corpus[i].size);
    if (n_corpus == 0) corpus[n_corpus++] = (input){nothing, 0};
    run_mutated(runs);
    printf("%s: %zu inputs, %ld mutations\n", argv[0], n_corpus, runs);
    return 0;
}
