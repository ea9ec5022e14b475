/* The memory of the emulated device: one reserved range of addresses that the host can touch only while an emulated
 * operation runs. Host code that dereferences a device pointer stops with a line that names the allocation.
 *
 *     float *x = (float *)emu::heap_alloc(bytes);      filled with NaN bytes
 *     {
 *         emu::heap_open open;                         device memory is reachable in this block (nests)
 *         memcpy(x, host, bytes);
 *         emu::heap_wrote(x, bytes);                   check mode: these bytes have a value now
 *     }
 *     emu::heap_free(x);
 *
 * One OS thread at a time. */
#ifndef VG_EMU_HEAP_H
#define VG_EMU_HEAP_H

#include <cstddef>
#include <cstdint>

namespace emu
{

struct allocation {
    char *base;
    size_t bytes;
    int number; /* counts the allocations of the process */
};

/* Device memory of at least one byte, 256-byte aligned, or NULL when what is left of the device is too small. The
 * device has VG_EMU_MEMORY bytes (default 8 GiB). */
void *heap_alloc(size_t bytes);
/* False when p is not the start of an allocation. */
bool heap_free(void *p);

size_t heap_capacity();
size_t heap_in_use();

/* Is it an address of the device, allocated or not? */
bool heap_contains(const void *p);
/* The allocation that p lies in, or NULL; valid until the next alloc or free. */
const allocation *heap_find(const void *p);
/* Do all n bytes at p lie in one allocation? */
bool heap_holds(const void *p, size_t n);

/* Makes device memory reachable for its lifetime. */
class heap_open
{
  public:
    heap_open();
    ~heap_open();
    heap_open(const heap_open &) = delete;
    heap_open &operator=(const heap_open &) = delete;
};

/* What operations other than kernels do (copies, products), so that check mode knows which bytes have values. `what`
 * names the operation in a report about bytes that have none. No-ops in fast mode. */
void heap_wrote(const void *p, size_t n);
void heap_reads(const void *p, size_t n, const char *what);
void heap_copied(const void *to, const void *from, size_t n);

} // namespace emu

#endif
