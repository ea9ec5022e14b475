/* Check mode: what each access of a kernel may touch, and what must have happened before it.
 *
 * The plug-in for check mode is compiled with -fsanitize=thread, which puts a call before each access; the functions of
 * that name are these (the sanitizer's own runtime is never linked). Two accesses to the same bytes, one of them a
 * write, need an order: the same thread, a __syncthreads or a __syncwarp of both between them, or another launch. */
#include "emu/counters.h"
#include "emu/exec_impl.h"
#include "emu/fiber.h"
#include "emu/heap.h"
#include "emu/heap_impl.h"
#include "emu/report.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <dlfcn.h>

namespace emu
{

namespace
{
enum : unsigned { READ = 1, WRITE = 2, ATOMIC = 4 };

const char *verb(unsigned kind)
{
    return kind & ATOMIC ? "atomically changes" : kind & WRITE ? "writes" : "reads";
}

/* "layernorm.cu:41", asked of addr2line: the innermost line outside the dialect itself. A return address lies behind
 * its call. */
std::string source_of(const void *place)
{
    Dl_info object;
    if (!dladdr(place, &object)) return "an unknown place";
    char command[1024], line[512];
    snprintf(command, sizeof command, "LD_PRELOAD= addr2line -i -s -e '%s' 0x%zx 2>/dev/null", object.dli_fname,
             (size_t)((const char *)place - (const char *)object.dli_fbase) - 1);
    std::string source;
    if (FILE *answer = popen(command, "r")) {
        while (fgets(line, sizeof line, answer))
            if (source.empty() || source.rfind("device.h:", 0) == 0) source.assign(line, strcspn(line, " \n"));
        pclose(answer);
    }
    return source.empty() || source[0] == '?' ? object.dli_fname : source;
}

std::string target_text(const void *p)
{
    if (is_shared(p)) return shared_text(p);
    const allocation *a = heap_find(p);
    char text[160];
    if (a)
        snprintf(text, sizeof text, "allocation %d of %zu bytes, byte %zu", a->number, a->bytes,
                 (size_t)((const char *)p - a->base));
    else
        snprintf(text, sizeof text, "%p of device memory, which is not allocated", p);
    return text;
}

void report_access(const char *finding, const void *p, size_t n, unsigned kind, const void *place, const char *target,
                   const char *remark)
{
    if (is_known(finding, place)) return;
    report(finding, place, "%s at %s %s %zu bytes: %s%s", where(*self).c_str(), source_of(place).c_str(), verb(kind), n,
           target ? target : target_text(p).c_str(), remark);
}

/* Is that access before what the running thread does now? */
bool before_now(const access &a, bool shared)
{
    if (a.serial != now.serial) return shared || a.serial < now.first_serial;
    return a.thread == self->number || a.clock < now.barrier_clock ||
           (a.thread / WARP == self->number / WARP && a.clock < self->known[a.thread % WARP]);
}

void report_race(const void *p, size_t n, unsigned kind, const void *place, const access &other, bool wrote)
{
    char remark[160];
    if (other.serial != now.serial)
        snprintf(remark, sizeof remark, "; another block %s them", wrote ? "wrote" : "read");
    else
        snprintf(remark, sizeof remark, "; thread %u of the block %s them, and nothing orders the two", other.thread,
                 wrote ? "wrote" : "read");
    report_access("race", p, n, kind, place, nullptr, remark);
}

/* Two bytes of one access: looks for a race, then remembers the access. */
void check_cell(cell &c, access mine, bool shared, const void *p, size_t n, unsigned kind, const void *place)
{
    const bool atomic = kind & ATOMIC;
    if ((c.writer.bytes & mine.bytes) && !(atomic && c.writer.atomic) && !before_now(c.writer, shared))
        report_race(p, n, kind, place, c.writer, true);
    if (kind & WRITE) {
        for (const access &r : c.reader)
            if ((r.bytes & mine.bytes) && !(atomic && r.atomic) && !before_now(r, shared))
                report_race(p, n, kind, place, r, false);
        if (c.writer.serial == mine.serial && c.writer.thread == mine.thread && c.writer.clock == mine.clock)
            mine.bytes |= c.writer.bytes;
        c.writer = mine;
    } else {
        const bool same = c.reader[0].serial == mine.serial && c.reader[0].thread == mine.thread;
        access &slot = c.reader[same || before_now(c.reader[0], shared) ? 0 : 1];
        if (slot.serial == mine.serial && slot.thread == mine.thread && slot.clock == mine.clock)
            mine.bytes |= slot.bytes;
        slot = mine;
    }
}

void check_shadowed(const shadow &s, bool shared, const void *p, size_t n, unsigned kind, const void *place)
{
    const size_t at = s.offset(p);
    unsigned char *const state = s.state + at;
    bool exists = true, raw = false;
    for (size_t i = 0; i < n; i++) {
        exists &= state[i] != BYTE_NONE;
        raw |= state[i] == BYTE_RAW;
    }
    if (!exists) {
        report_access("out of bounds", p, n, kind, place, nullptr, "");
        abandon();
    }
    if (raw && (kind & READ)) report_access("uninitialised", p, n, kind, place, nullptr, "; nothing wrote them before");
    if (kind & WRITE) memset(state, BYTE_VALUE, n);
    access mine{};
    mine.serial = now.serial & 0x7fffffffu;
    mine.atomic = (kind & ATOMIC) != 0;
    mine.thread = self->number & 0x3ffu;
    mine.clock = self->clock & 0xfffffu;
    for (size_t byte = at; byte < at + n;) {
        const size_t in_cell = std::min((size_t)CELL_BYTES - byte % CELL_BYTES, at + n - byte);
        mine.bytes = (in_cell == 2 ? 3 : 1 << byte % CELL_BYTES) & 3;
        check_cell(s.cells[byte / CELL_BYTES], mine, shared, p, n, kind, place);
        byte += in_cell;
    }
}

/* Arguments, and tables of constants beside the kernels. */
bool is_constant(const void *p)
{
    if ((size_t)((const char *)p - (const char *)now.l.args) < now.l.k->args_bytes) return true;
    Dl_info code, data;
    return dladdr((const void *)now.l.k->body, &code) && dladdr(p, &data) && code.dli_fbase == data.dli_fbase;
}

void check(const void *p, size_t n, unsigned kind, const void *place)
{
    if (!self || (size_t)((const char *)p - self->stack_base) < STACK_BYTES) return;
    if (heap_contains(p)) {
        check_shadowed(heap_shadow(), false, p, n, kind, place);
        if (counting() && kind & READ) counters_access(heap_shadow().offset(p), n, false, place);
        if (counting() && kind & WRITE) counters_access(heap_shadow().offset(p), n, true, place);
    } else if (is_shared(p)) {
        check_shadowed(shared_shadow(), true, p, n, kind, place);
    } else if (stack_contains(p)) {
        report_access("foreign local", p, n, kind, place, "a local variable of another thread", "");
        abandon();
    } else if (kind & WRITE || !is_constant(p)) {
        report_access("host pointer", p, n, kind, place, "memory of the host", "");
        abandon();
    }
}
} // namespace

void check_access(const void *p, size_t n, bool write, const void *place)
{
    check(p, n, write ? WRITE : READ, place);
}

void check_begin_thread(thread &t)
{
    t.clock = 1;
    memset(t.known, 0, sizeof t.known);
}

void check_block_barrier()
{
    uint32_t latest = 0;
    for (unsigned i = 0; i < now.n_threads; i++) latest = std::max(latest, now.threads[i].clock);
    now.barrier_clock = latest + 1;
    for (unsigned i = 0; i < now.n_threads; i++) now.threads[i].clock = now.barrier_clock;
}

void check_warp_barrier(thread *first, unsigned mask)
{
    uint32_t known[WARP] = {};
    for (unsigned lane = 0; lane < WARP; lane++) {
        if (!(mask >> lane & 1)) continue;
        for (unsigned i = 0; i < WARP; i++) known[i] = std::max(known[i], first[lane].known[i]);
        first[lane].clock++;
    }
    for (unsigned lane = 0; lane < WARP; lane++)
        if (mask >> lane & 1) known[lane] = first[lane].clock;
    for (unsigned lane = 0; lane < WARP; lane++)
        if (mask >> lane & 1) memcpy(first[lane].known, known, sizeof known);
}

} // namespace emu

/* What the instrumented code calls. */
#define TSAN EMU_CALL
#define TSAN_SIZE(n)                                               \
    TSAN void __tsan_read##n(void *p)                              \
    {                                                              \
        emu::check(p, n, emu::READ, __builtin_return_address(0));  \
    }                                                              \
    TSAN void __tsan_write##n(void *p)                             \
    {                                                              \
        emu::check(p, n, emu::WRITE, __builtin_return_address(0)); \
    }                                                              \
    TSAN void __tsan_unaligned_read##n(void *p)                    \
    {                                                              \
        emu::check(p, n, emu::READ, __builtin_return_address(0));  \
    }                                                              \
    TSAN void __tsan_unaligned_write##n(void *p)                   \
    {                                                              \
        emu::check(p, n, emu::WRITE, __builtin_return_address(0)); \
    }
TSAN_SIZE(1)
TSAN_SIZE(2)
TSAN_SIZE(4)
TSAN_SIZE(8)
TSAN_SIZE(16)

TSAN void __tsan_init()
{
}
TSAN void __tsan_read_range(void *p, size_t n)
{
    emu::check(p, n, emu::READ, __builtin_return_address(0));
}
TSAN void __tsan_write_range(void *p, size_t n)
{
    emu::check(p, n, emu::WRITE, __builtin_return_address(0));
}

#define TSAN_ATOMIC(bits, T)                                                                              \
    TSAN T __tsan_atomic##bits##_load(const volatile T *p, int)                                           \
    {                                                                                                     \
        emu::check((const void *)p, sizeof(T), emu::READ | emu::ATOMIC, __builtin_return_address(0));     \
        return *p;                                                                                        \
    }                                                                                                     \
    TSAN int __tsan_atomic##bits##_compare_exchange_strong(volatile T *p, T *expected, T value, int, int) \
    {                                                                                                     \
        const unsigned kind = emu::READ | emu::WRITE | emu::ATOMIC;                                       \
        emu::check((const void *)p, sizeof(T), kind, __builtin_return_address(0));                        \
        const T old = *p, wanted = *expected;                                                             \
        *expected = old;                                                                                  \
        if (old == wanted) *p = value;                                                                    \
        return old == wanted;                                                                             \
    }
TSAN_ATOMIC(32, unsigned)
TSAN_ATOMIC(64, unsigned long)

/* -fsanitize=alignment: as the sanitizer's runtime declares it. */
struct alignment_site {
    const char *file;
    unsigned line, column;
};
TSAN void __ubsan_handle_type_mismatch_v1(const alignment_site *site, const void *p)
{
    using namespace emu;
    if (!self) return;
    report("misaligned", site, "%s at %s accesses %p", where(*self).c_str(),
           text({site->file, (int)site->line}).c_str(), p);
    abandon();
}
