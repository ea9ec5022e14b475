/* Messages between two ranks: a header, by which their calls are compared, and bytes through a ring. */
#include "emu/nccl_impl.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace emu::nccl
{

const char *type_name(int type)
{
    static const char *const names[] = {"int8",    "uint8",   "int32",   "uint32",   "int64",      "uint64",
                                        "float16", "float32", "float64", "bfloat16", "float8e4m3", "float8e5m2"};
    return type >= 0 && type < ncclNumTypes ? names[type] : "unknown type";
}

size_t type_bytes(ncclDataType_t type)
{
    static const size_t bytes[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1};
    return type >= 0 && type < ncclNumTypes ? bytes[type] : 0;
}

header header_of(const char *name, uint64_t count, ncclDataType_t type, int reduction, int root)
{
    header h = {};
    snprintf(h.name, sizeof h.name, "%s", name);
    h.type = type;
    h.reduction = reduction;
    h.root = root;
    h.count = count;
    return h;
}

namespace
{

std::string text_of(const header &h)
{
    char text[128];
    snprintf(text, sizeof text, "%s(%llu %s, op %d, root %d)", h.name, (unsigned long long)h.count, type_name(h.type),
             h.reduction, h.root);
    return text;
}

header mirrored(header h)
{
    if (strcmp(h.name, "ncclSend") == 0)
        strcpy(h.name, "ncclRecv");
    else if (strcmp(h.name, "ncclRecv") == 0)
        strcpy(h.name, "ncclSend");
    return h;
}

size_t flow_bytes(const flow &f)
{
    return sizeof f.head + f.bytes;
}

/* Where the next byte of a flow is, and how many follow it in one piece. */
unsigned char *flow_at(flow &f, size_t *piece)
{
    if (f.moved < sizeof f.head) {
        *piece = sizeof f.head - f.moved;
        return reinterpret_cast<unsigned char *>(f.sends ? &f.head : &f.got) + f.moved;
    }
    *piece = flow_bytes(f) - f.moved;
    return f.data + (f.moved - sizeof f.head);
}

size_t move_piece(channel &ch, flow &f)
{
    const uint64_t written = ch.written, read = ch.read;
    const uint64_t at = f.sends ? written : read, room = f.sends ? RING - (written - read) : written - read;
    size_t n;
    unsigned char *here = flow_at(f, &n);
    n = std::min({n, (size_t)room, (size_t)(RING - at % RING)});
    if (n == 0) return 0;
    if (f.sends) {
        memcpy(ch.ring + at % RING, here, n);
        ch.written = at + n;
    } else {
        memcpy(here, ch.ring + at % RING, n);
        ch.read = at + n;
    }
    f.moved += n;
    return n;
}

/* True when something moved. A header that is not the expected one fails the communicator by name. */
bool move(ncclComm &c, flow &f)
{
    channel &ch = f.sends ? c.place->channels[c.rank][f.peer] : c.place->channels[f.peer][c.rank];
    bool any = false;
    while (f.moved < flow_bytes(f) && c.error == ncclSuccess && move_piece(ch, f) > 0) {
        any = true;
        if (f.sends || f.moved != sizeof f.head) continue;
        const header expected = mirrored(f.head);
        if (memcmp(&expected, &f.got, sizeof expected) == 0) continue;
        fail(c, ncclInvalidUsage, "rank %d calls %s, rank %d calls %s", c.rank, text_of(f.head).c_str(), f.peer,
             text_of(f.got).c_str());
        fprintf(stderr, "emu: nccl: %s\n", c.last_error.c_str());
    }
    return any;
}

} // namespace

bool pump(ncclComm &c, std::vector<flow> &flows, bool *awaited)
{
    bool any = false, busy[2][MAX_RANKS] = {};
    for (flow &f : flows) {
        if (busy[f.sends][f.peer]) continue;
        any |= move(c, f);
        if (f.moved == flow_bytes(f)) continue;
        busy[f.sends][f.peer] = awaited[f.peer] = true;
    }
    return any;
}

} // namespace emu::nccl
