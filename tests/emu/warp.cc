/* Collectives of a warp: one primitive. Each lane brings a request and waits; the last of the mask answers all. */
#include "emu/exec_impl.h"
#include "emu/report.h"

#include <cstring>

namespace emu
{

namespace
{
unsigned lane_of(const thread &t)
{
    return t.number % WARP;
}

bool in(unsigned mask, unsigned lane)
{
    return mask >> lane & 1;
}

/* What is wrong when this lane waits for that one, or NULL. */
const char *mismatch(const request &mine, unsigned lane, const thread *first)
{
    if (lane >= lanes_of(first)) return "is not in the block";
    const thread &other = first[lane];
    if (other.exited) return "has ended";
    if (other.waits != wait::warp_collective) return nullptr;
    const request &its = other.asks;
    if (its.op != mine.op || its.kind != mine.kind || its.site.line != mine.site.line ||
        strcmp(its.site.file, mine.site.file) != 0)
        return "waits in another collective";
    return its.mask == mine.mask ? nullptr : "names other lanes";
}

[[noreturn]] void refuse(const request &r, unsigned lane, const char *why)
{
    report("warp mask", place_of(r.site), "%s, mask 0x%08x at %s: lane %u %s", where(*self).c_str(), r.mask,
           text(r.site).c_str(), lane, why);
    abandon();
}

/* Is everyone of the mask here? Refuses what can never be. */
bool complete(const request &r, const thread *first)
{
    if (!in(r.mask, lane_of(*self))) refuse(r, lane_of(*self), "calls it and is not in the mask");
    bool all = true;
    for (unsigned lane = 0; lane < WARP; lane++) {
        if (!in(r.mask, lane) || lane == lane_of(*self)) continue;
        if (const char *why = mismatch(r, lane, first)) refuse(r, lane, why);
        all &= first[lane].waits == wait::warp_collective;
    }
    return all;
}

/* The lane whose value a lane gets, itself when there is none. */
unsigned shuffle_source(const request &r, unsigned lane)
{
    const int width = r.width, self_in = (int)lane % width, base = (int)lane - self_in;
    int from = self_in;
    switch (r.kind) {
    case EMU_SHUFFLE_INDEX: from = r.arg & (width - 1); break;
    case EMU_SHUFFLE_UP: from = self_in - r.arg; break;
    case EMU_SHUFFLE_DOWN: from = self_in + r.arg; break;
    case EMU_SHUFFLE_XOR: from = self_in ^ r.arg; break;
    }
    return (unsigned)(from < 0 || from >= width ? (int)lane : base + from);
}

void answer_shuffle(thread *first, unsigned mask)
{
    uint64_t bits[WARP];
    for (unsigned lane = 0; lane < WARP; lane++) bits[lane] = in(mask, lane) ? first[lane].asks.bits : 0;
    for (unsigned lane = 0; lane < WARP; lane++) {
        if (!in(mask, lane)) continue;
        const unsigned from = shuffle_source(first[lane].asks, lane);
        if (!in(mask, from)) refuse(first[lane].asks, from, "is read and not in the mask");
        first[lane].asks.bits = bits[from];
    }
}

void answer_ballot(thread *first, unsigned mask)
{
    unsigned lanes = 0;
    for (unsigned lane = 0; lane < WARP; lane++)
        if (in(mask, lane) && first[lane].asks.bits) lanes |= 1u << lane;
    for (unsigned lane = 0; lane < WARP; lane++)
        if (in(mask, lane)) first[lane].asks.bits = lanes;
}

float bf16_half(unsigned pair, int i)
{
    const unsigned bits = i == 0 ? pair << 16 : pair & 0xffff0000u;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The fragments of PTX ISA, "Matrix fragments for mma.m16n8k16": with group = lane / 4 and pair = lane % 4, register r
 * of a holds row group + 8 (r % 2), columns 2 pair + 8 (r / 2) and the next; register r of b column group, rows 2 pair
 * + 8 r and the next; d rows group and group + 8, columns 2 pair and the next. */
void answer_mma(thread *first)
{
    float a[16][16], b[16][8];
    for (int lane = 0; lane < WARP; lane++) {
        const request &r = first[lane].asks;
        const int group = lane / 4, column = lane % 4 * 2;
        for (int i = 0; i < 2; i++) {
            for (int reg = 0; reg < 4; reg++)
                a[group + 8 * (reg % 2)][column + 8 * (reg / 2) + i] = bf16_half(r.a[reg], i);
            for (int reg = 0; reg < 2; reg++) b[column + 8 * reg + i][group] = bf16_half(r.b[reg], i);
        }
    }
    for (int lane = 0; lane < WARP; lane++) {
        for (int i = 0; i < 4; i++) {
            const int row = lane / 4 + 8 * (i / 2), column = lane % 4 * 2 + i % 2;
            double sum = first[lane].asks.d[i];
            for (int k = 0; k < 16; k++) sum += (double)a[row][k] * b[k][column];
            first[lane].asks.d[i] = (float)sum;
        }
    }
}

void answer_ldmatrix(thread *first, int n, bool transposed)
{
    for (int matrix = 0; matrix < n; matrix++) {
        uint16_t m[8][8];
        for (int row = 0; row < 8; row++) memcpy(m[row], &first[8 * matrix + row].asks.row, sizeof m[row]);
        for (int lane = 0; lane < WARP; lane++) {
            const int row = lane / 4, column = lane % 4 * 2;
            const unsigned low = transposed ? m[column][row] : m[row][column];
            const unsigned high = transposed ? m[column + 1][row] : m[row][column + 1];
            first[lane].asks.out[matrix] = low | high << 16;
        }
    }
}

void answer(const request &r, thread *first)
{
    switch (r.op) {
    case collective::barrier:
        if (checking()) check_warp_barrier(first, r.mask);
        break;
    case collective::shuffle: answer_shuffle(first, r.mask); break;
    case collective::ballot: answer_ballot(first, r.mask); break;
    case collective::mma: answer_mma(first); break;
    case collective::ldmatrix: answer_ldmatrix(first, r.arg, r.width != 0); break;
    }
}

/* Takes part; what comes back is in self->asks. */
void collect(const request &r)
{
    self->asks = r;
    thread *const first = warp_of(*self);
    if (!complete(r, first)) {
        suspend(wait::warp_collective);
        return;
    }
    answer(r, first);
    for (unsigned lane = 0; lane < WARP; lane++)
        if (in(r.mask, lane) && &first[lane] != self) make_ready(first[lane]);
}
} // namespace

thread *warp_of(const thread &t)
{
    return &now.threads[t.number / WARP * WARP];
}

unsigned lanes_of(const thread *first)
{
    const unsigned left = now.n_threads - first->number;
    return left < WARP ? left : (unsigned)WARP;
}

void warp_exit(const thread &t)
{
    const thread *const first = warp_of(t);
    for (unsigned lane = 0; lane < lanes_of(first); lane++) {
        const thread &other = first[lane];
        if (other.waits == wait::warp_collective && in(other.asks.mask, lane_of(t)))
            refuse(other.asks, lane_of(t), "ends while others wait for it");
    }
}

} // namespace emu

using namespace emu;

void emu_warp_barrier(emu_site site, unsigned mask)
{
    request r{};
    r.op = collective::barrier, r.site = site, r.mask = mask;
    collect(r);
}

uint64_t emu_shuffle(emu_site site, unsigned mask, emu_shuffle_kind kind, uint64_t bits, int arg, int width)
{
    request r{};
    r.op = collective::shuffle, r.site = site, r.mask = mask;
    r.kind = kind, r.bits = bits, r.arg = arg, r.width = width;
    collect(r);
    return self->asks.bits;
}

unsigned emu_ballot(emu_site site, unsigned mask, bool predicate)
{
    request r{};
    r.op = collective::ballot, r.site = site, r.mask = mask, r.bits = predicate;
    collect(r);
    return (unsigned)self->asks.bits;
}

void emu_mma_bf16(emu_site site, float d[4], const unsigned a[4], const unsigned b[2])
{
    request r{};
    r.op = collective::mma, r.site = site, r.mask = ~0u;
    r.d = d, r.a = a, r.b = b;
    collect(r);
}

void emu_ldmatrix(emu_site site, unsigned *out, int n, bool transposed, const void *row)
{
    request r{};
    r.op = collective::ldmatrix, r.site = site, r.mask = ~0u;
    r.out = out, r.arg = n, r.width = transposed;
    if (lane_of(*self) < 8u * (unsigned)n) {
        check_operand("ldmatrix", row, sizeof r.row, __builtin_return_address(0));
        if (checking()) check_access(row, sizeof r.row, false, __builtin_return_address(0));
        memcpy(&r.row, row, sizeof r.row);
    }
    collect(r);
}
