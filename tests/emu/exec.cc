/* Launches: blocks one after another, the threads of a block as fibers that run until they wait. */
#include "emu/exec.h"

#include "emu/counters.h"
#include "emu/exec_impl.h"
#include "emu/fiber.h"
#include "emu/report.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>

namespace emu
{

thread *self;
block now;

namespace
{
enum { MAX_DYNAMIC_SHARED = 227 << 10 };

thread *ready[MAX_THREADS]; /* a ring: a thread is in it at most once */
size_t n_readied, n_resumed;
std::vector<unsigned> free_stacks;
std::vector<unsigned> thread_order;
void *scheduler;

void thread_main()
{
    now.l.k->body(now.l.args);
    thread &t = *self;
    t.exited = true;
    if (!t.copies.empty())
        report("copy under way", t.copies.front().place,
               "%s ends and has not waited for a cp.async: it may come at any time", where(t).c_str());
    t.copies.clear();
    now.n_exited++;
    free_stacks.push_back(t.stack);
    warp_exit(t);
    if (now.n_at_barrier > 0)
        report("exit before barrier", place_of(now.barrier_site), "%s ends while others wait at %s", where(t).c_str(),
               text(now.barrier_site).c_str());
    emu_fiber_switch(&t.fiber, scheduler);
    abort(); /* a fiber that has ended never runs again */
}

void resume(thread &t)
{
    if (!t.fiber) {
        t.stack = free_stacks.back();
        free_stacks.pop_back();
        t.stack_base = stack_low(t.stack);
        t.fiber = fiber_new(t.stack, thread_main);
    }
    self = &t;
    emu_fiber_switch(&scheduler, t.fiber);
    self = nullptr;
}

void begin_thread(thread &t, unsigned number)
{
    const dim3 &size = now.l.block;
    t.number = number;
    t.index = {number % size.x, number / size.x % size.y, number / size.x / size.y};
    t.fiber = nullptr;
    t.exited = false;
    t.waits = wait::nothing;
    t.copies.clear();
    t.copy_group = 0;
    if (checking()) check_begin_thread(t);
}

void open_barrier()
{
    now.n_at_barrier = 0;
    now.n_voted = now.n_true;
    now.n_true = 0;
    if (checking()) check_block_barrier();
    for (unsigned i : thread_order)
        if (now.threads[i].waits == wait::barrier) make_ready(now.threads[i]);
}

/* Who waits where, when nobody can go on. */
void report_deadlock()
{
    std::map<std::string, int> waiting;
    for (unsigned i = 0; i < now.n_threads; i++) {
        const thread &t = now.threads[i];
        if (t.waits == wait::barrier) waiting["at the barrier of " + text(t.site)]++;
        if (t.waits == wait::warp_collective) waiting["in the warp collective of " + text(t.asks.site)]++;
    }
    std::string all;
    for (const auto &[place, n] : waiting) all += (all.empty() ? "" : ", ") + std::to_string(n) + " " + place;
    report("deadlock", nullptr, "%s, block (%u,%u,%u): %u threads have ended, %s", now.l.k->name, now.index.x,
           now.index.y, now.index.z, now.n_exited, all.c_str());
    now.abandoned = true;
}

void run_block(unsigned number)
{
    const dim3 &grid = now.l.grid;
    now.index = {number % grid.x, number / grid.x % grid.y, number / grid.x / grid.y};
    now.serial++;
    now.n_exited = now.n_at_barrier = 0;
    now.n_true = 0;
    now.barrier_clock = 0;
    shared_begin_block();
    order_fill(thread_order, now.n_threads);
    for (unsigned i = 0; i < now.n_threads; i++) begin_thread(now.threads[i], i);
    n_readied = n_resumed = 0;
    for (unsigned i : thread_order) make_ready(now.threads[i]);
    while (now.n_exited < now.n_threads && !now.abandoned) {
        if (n_resumed < n_readied) {
            resume(*ready[n_resumed++ % MAX_THREADS]);
        } else if (now.n_at_barrier > 0 && now.n_at_barrier + now.n_exited == now.n_threads) {
            open_barrier();
        } else {
            report_deadlock();
        }
    }
    if (counting()) counters_end_block();
}
} // namespace

void make_ready(thread &t)
{
    t.waits = wait::nothing;
    ready[n_readied++ % MAX_THREADS] = &t;
}

void suspend(wait why)
{
    self->waits = why;
    emu_fiber_switch(&self->fiber, scheduler);
}

void abandon()
{
    now.abandoned = true;
    emu_fiber_switch(&self->fiber, scheduler);
    abort(); /* the block is never resumed */
}

std::string text(emu_site site)
{
    const char *name = strrchr(site.file, '/');
    return std::string(name ? name + 1 : site.file) + ":" + std::to_string(site.line);
}

const void *place_of(emu_site site)
{
    return (const void *)((uintptr_t)site.file + (uintptr_t)site.line);
}

std::string where(const thread &t)
{
    char line[256];
    snprintf(line, sizeof line, "%s, block (%u,%u,%u), thread (%u,%u,%u)", now.l.k->name, now.index.x, now.index.y,
             now.index.z, t.index.x, t.index.y, t.index.z);
    return line;
}

void order_fill(std::vector<unsigned> &order, unsigned n)
{
    static const std::string setting = [] {
        const char *s = getenv("VG_EMU_ORDER");
        return std::string(s ? s : "forward");
    }();
    static std::mt19937 random((unsigned)strtoul(setting.c_str(), nullptr, 10));
    order.resize(n);
    for (unsigned i = 0; i < n; i++) order[i] = i;
    if (setting == "reversed")
        std::reverse(order.begin(), order.end());
    else if (setting != "forward")
        std::shuffle(order.begin(), order.end(), random);
}

const char *launch_error(const launch &l)
{
    const size_t n_threads = (size_t)l.block.x * l.block.y * l.block.z;
    if (n_threads == 0 || (size_t)l.grid.x * l.grid.y * l.grid.z == 0) return "an empty grid or block";
    if (l.grid.x > 0x7fffffffu || l.grid.y > 65535 || l.grid.z > 65535) return "a grid larger than a device takes";
    if (n_threads > MAX_THREADS || l.block.z > 64) return "a block larger than a device takes";
    if (n_threads > l.k->max_threads) return "more threads in a block than the kernel declares";
    if (l.shared_bytes > MAX_DYNAMIC_SHARED) return "more dynamic shared memory than a device has";
    return nullptr;
}

bool run(const launch &l)
{
    if (const char *why = launch_error(l)) {
        report("launch", nullptr, "%s: %s", l.k->name, why);
        return false;
    }
    std::vector<char> args(l.k->args_bytes);
    memcpy(args.data(), l.args, args.size());
    now.l = l;
    now.l.args = args.data();
    now.n_threads = l.block.x * l.block.y * l.block.z;
    now.first_serial = now.serial + 1;
    now.launch_number++;
    now.abandoned = false;
    free_stacks.clear();
    for (unsigned i = MAX_THREADS; i-- > 0;) free_stacks.push_back(i);
    shared_begin_launch(now.launch_number, l.shared_bytes);

    std::vector<unsigned> blocks;
    order_fill(blocks, l.grid.x * l.grid.y * l.grid.z);
    for (unsigned i : blocks)
        if (!now.abandoned) run_block(i);
    if (counting()) counters_end_launch();
    return !now.abandoned;
}

} // namespace emu

uint3 emu_thread_index()
{
    return emu::self->index;
}

uint3 emu_block_index()
{
    return emu::now.index;
}

uint3 emu_block_size()
{
    return {emu::now.l.block.x, emu::now.l.block.y, emu::now.l.block.z};
}

uint3 emu_grid_size()
{
    return {emu::now.l.grid.x, emu::now.l.grid.y, emu::now.l.grid.z};
}

int emu_barrier(emu_site site, bool predicate)
{
    using namespace emu;
    if (now.n_at_barrier == 0) {
        now.barrier_site = site;
    } else if (site.line != now.barrier_site.line || strcmp(site.file, now.barrier_site.file) != 0) {
        report("divergent barrier", place_of(site), "%s comes to %s while others wait at %s", where(*self).c_str(),
               text(site).c_str(), text(now.barrier_site).c_str());
        abandon();
    }
    if (now.n_exited > 0 && now.n_at_barrier == 0)
        report("exit before barrier", place_of(now.barrier_site), "%s waits at %s; %u threads have ended",
               where(*self).c_str(), text(site).c_str(), now.n_exited);
    self->site = site;
    now.n_at_barrier++;
    now.n_true += predicate;
    suspend(wait::barrier);
    return now.n_voted;
}

void emu_copy_async(void *shared, const void *global, unsigned bytes, unsigned valid)
{
    using namespace emu;
    check_operand("cp.async", shared, bytes, __builtin_return_address(0));
    self->copies.push_back({shared, global, bytes, valid, self->copy_group, __builtin_return_address(0)});
}

void emu_copy_async_commit()
{
    emu::self->copy_group++;
}

void emu_copy_async_wait(unsigned n)
{
    using namespace emu;
    auto &copies = self->copies;
    size_t done = 0;
    for (; done < copies.size() && copies[done].group + n < self->copy_group; done++) {
        const async_copy &c = copies[done];
        if (checking() && c.valid) check_access(c.from, c.valid, false, c.place);
        if (checking()) check_access(c.to, c.bytes, true, c.place);
        memcpy(c.to, c.from, c.valid);
        memset((char *)c.to + c.valid, 0, c.bytes - c.valid);
    }
    copies.erase(copies.begin(), copies.begin() + (ptrdiff_t)done);
}
