/* Inside the executor: the threads of the block that runs. */
#ifndef VG_EMU_EXEC_IMPL_H
#define VG_EMU_EXEC_IMPL_H

#include "emu/calls.h"
#include "emu/exec.h"
#include "emu/shadow.h"

#include <string>
#include <vector>

namespace emu
{

enum { WARP = 32, MAX_THREADS = 1024 };

enum class wait { nothing, barrier, warp_collective };

enum class collective { barrier, shuffle, ballot, mma, ldmatrix };

/* What a lane brings to a collective of its warp, and takes from it. */
struct request {
    collective op;
    emu_site site;
    unsigned mask;
    uint64_t bits; /* shuffle: the value, then the result; ballot: the predicate, then the lanes */
    int arg, width;
    emu_shuffle_kind kind;
    float *d; /* mma */
    const unsigned *a, *b;
    unsigned *out; /* ldmatrix */
    uint4 row;
};

struct async_copy {
    void *to;
    const void *from;
    unsigned bytes, valid, group;
    const void *place;
};

struct thread {
    unsigned number; /* in its block; its lane is number % WARP */
    uint3 index;
    void *fiber; /* NULL before it starts */
    unsigned stack;
    const char *stack_base;
    bool exited;
    wait waits;
    emu_site site; /* of the barrier it waits at */
    request asks;
    std::vector<async_copy> copies;
    unsigned copy_group;
    /* Check mode: its clock counts its synchronizations; of each lane of its warp it has seen what came before known.
     */
    uint32_t clock, known[WARP];
};

struct block {
    launch l;
    uint3 index;
    unsigned n_threads, n_exited, n_at_barrier;
    int n_true, n_voted; /* predicates at the barrier that fills, and at the last */
    emu_site barrier_site;
    uint32_t serial;        /* counts the blocks of the process */
    uint32_t first_serial;  /* of this launch */
    uint32_t barrier_clock; /* of all threads when the last barrier opened */
    unsigned launch_number;
    bool abandoned;
    thread threads[MAX_THREADS];
};

/* The thread that runs now; NULL in host code. And its block. */
extern thread *self;
extern block now;

/* Lets others run until something makes this thread ready. */
void suspend(wait why);
void make_ready(thread &t);
/* Gives the kernel up after a report. */
[[noreturn]] void abandon();

/* "kernel layernorm_rows, block (3,0,0), thread (5,0,0)" */
std::string where(const thread &t);
std::string text(emu_site site);
/* One code address for each line, for report. */
const void *place_of(emu_site site);

/* Of the warp. */
thread *warp_of(const thread &t);       /* its first thread */
unsigned lanes_of(const thread *first); /* how many threads it has */
void warp_exit(const thread &t);

/* Shared memory. */
void shared_begin_launch(unsigned launch_number, size_t dynamic_bytes);
void shared_begin_block();
const shadow &shared_shadow();
bool is_shared(const void *p);
/* An instruction's operand in shared memory that must be aligned to its size; gives up with a report when it is not. */
void check_operand(const char *instruction, const void *shared, size_t bytes, const void *place);
/* "shared array tile of 1056 bytes, byte 1056" for a report. */
std::string shared_text(const void *p);

/* Orders of threads and blocks. */
void order_fill(std::vector<unsigned> &order, unsigned n);

/* Check mode: an access that no instrumented code makes. */
void check_access(const void *p, size_t n, bool write, const void *place);
void check_begin_thread(thread &t);
void check_block_barrier();
void check_warp_barrier(thread *first, unsigned mask);

} // namespace emu

#endif
