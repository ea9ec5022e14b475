#include "emu/counters.h"

#include "emu/exec_impl.h"
#include "emu/heap.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/mman.h>
#include <unordered_map>

namespace emu
{

enum { SECTOR = 32 };

namespace
{
struct span {
    size_t offset, bytes;
};

struct totals {
    uint64_t bytes, sectors, least, fetched, touched;
};

/* Reads, or writes. */
struct direction {
    totals sum{};
    uint32_t *by_block, *by_launch; /* who counted a sector last */

    direction()
    {
        const size_t n = heap_capacity() / SECTOR * sizeof(uint32_t);
        by_block = (uint32_t *)reserve(n, PROT_READ | PROT_WRITE, "counters");
        by_launch = (uint32_t *)reserve(n, PROT_READ | PROT_WRITE, "counters");
    }
};

/* An instruction at its n-th time, and what the lanes of a warp access by it. */
using instant = uint64_t;
struct warp_access {
    std::vector<span> spans;
    bool write;
};

struct state {
    FILE *file = fopen(getenv("VG_EMU_COUNTERS"), "a");
    direction read, written;
    std::unordered_map<const void *, unsigned> places; /* numbered as they are met */
    std::vector<unsigned> times[MAX_THREADS];          /* how often a thread was at a place, in this block */
    std::unordered_map<instant, warp_access> open[MAX_THREADS / WARP];

    state()
    {
        if (file) return;
        perror(getenv("VG_EMU_COUNTERS"));
        exit(1);
    }
};

state &the_state()
{
    static state &s = *new state;
    return s;
}

void count_sectors(direction &d, size_t offset, size_t n)
{
    for (size_t sector = offset / SECTOR; sector <= (offset + n - 1) / SECTOR; sector++) {
        d.sum.fetched += d.by_block[sector] != now.serial;
        d.sum.touched += d.by_launch[sector] != now.launch_number;
        d.by_block[sector] = now.serial;
        d.by_launch[sector] = now.launch_number;
    }
}

/* All lanes have made the access: what it takes. */
void close_access(state &s, warp_access &a)
{
    totals &sum = (a.write ? s.written : s.read).sum;
    std::sort(a.spans.begin(), a.spans.end(), [](span x, span y) { return x.offset < y.offset; });
    size_t end = 0, distinct = 0, last_sector = SIZE_MAX;
    for (const span &x : a.spans) {
        distinct += x.offset + x.bytes - std::min(std::max(x.offset, end), x.offset + x.bytes);
        end = std::max(end, x.offset + x.bytes);
        for (size_t sector = x.offset / SECTOR; sector <= (x.offset + x.bytes - 1) / SECTOR; sector++) {
            sum.sectors += last_sector == SIZE_MAX || sector > last_sector;
            last_sector = last_sector == SIZE_MAX ? sector : std::max(sector, last_sector);
        }
    }
    sum.least += (distinct + SECTOR - 1) / SECTOR;
}

void write_totals(FILE *file, const char *name, totals &t)
{
    fprintf(file,
            ", \"%s\": {\"bytes\": %llu, \"sectors\": %llu, \"least\": %llu, \"fetched\": %llu, \"touched\": %llu}",
            name, (unsigned long long)t.bytes, (unsigned long long)t.sectors, (unsigned long long)t.least,
            (unsigned long long)t.fetched, (unsigned long long)t.touched);
    t = {};
}
} // namespace

bool counting()
{
    static const bool on = checking() && getenv("VG_EMU_COUNTERS");
    return on;
}

void counters_access(size_t offset, size_t n, bool write, const void *place)
{
    state &s = the_state();
    direction &d = write ? s.written : s.read;
    d.sum.bytes += n;
    count_sectors(d, offset, n);

    const unsigned at = s.places.emplace(place, (unsigned)s.places.size()).first->second;
    std::vector<unsigned> &times = s.times[self->number];
    if (times.size() <= at) times.resize(at + 1);
    const instant when = (instant)times[at]++ << 32 | at;
    auto &open = s.open[self->number / WARP];
    warp_access &a = open[when];
    a.write = write;
    a.spans.push_back({offset, n});
    if (a.spans.size() < lanes_of(warp_of(*self))) return;
    close_access(s, a);
    open.erase(when);
}

void counters_end_block()
{
    state &s = the_state();
    for (unsigned i = 0; i < now.n_threads; i++) s.times[i].clear();
    for (auto &open : s.open) {
        for (auto &[when, a] : open) close_access(s, a);
        open.clear();
    }
}

void counters_end_launch()
{
    state &s = the_state();
    const dim3 &grid = now.l.grid, &block = now.l.block;
    fprintf(s.file, "{\"kernel\": \"%s\", \"grid\": [%u, %u, %u], \"block\": [%u, %u, %u]", now.l.k->name, grid.x,
            grid.y, grid.z, block.x, block.y, block.z);
    write_totals(s.file, "read", s.read.sum);
    write_totals(s.file, "written", s.written.sum);
    fputs("}\n", s.file);
    fflush(s.file); /* whole lines, also when several processes write */
}

} // namespace emu
