/* Shared memory of the block that runs: arrays of SHARED get their places as a launch first meets them, each with a gap
 * after it; dynamic memory lies behind them. What a block finds is NaN bytes, whatever the one before left. */
#include "emu/exec_impl.h"
#include "emu/report.h"

#include <cstring>
#include <sys/mman.h>

namespace emu
{

enum { STATIC_BYTES = 256 << 10, DYNAMIC_BYTES = 256 << 10, GAP = 64 };

namespace
{
struct memory {
    char *base = (char *)reserve(STATIC_BYTES + DYNAMIC_BYTES, PROT_READ | PROT_WRITE, "shared memory");
    emu::shadow shadow =
        checking() ? shadow_new(base, STATIC_BYTES + DYNAMIC_BYTES) : emu::shadow{base, 0, nullptr, nullptr};
    unsigned launch = 0;
    size_t used = 0; /* of the static part */
    size_t dynamic = 0;
    std::vector<const emu_shared_array *> arrays;

    void make_raw(size_t offset, size_t bytes) const
    {
        memset(base + offset, 0xff, bytes);
        if (checking()) shadow_set(shadow, base + offset, bytes, BYTE_RAW);
    }
};

memory &the_memory()
{
    static memory m;
    return m;
}
} // namespace

void shared_begin_launch(unsigned launch_number, size_t dynamic_bytes)
{
    memory &m = the_memory();
    if (checking()) shadow_set(m.shadow, m.base, m.used, BYTE_NONE);
    if (checking()) shadow_set(m.shadow, m.base + STATIC_BYTES, m.dynamic, BYTE_NONE);
    m.launch = launch_number;
    m.used = 0;
    m.dynamic = dynamic_bytes;
    m.arrays.clear();
}

void shared_begin_block()
{
    const memory &m = the_memory();
    for (const emu_shared_array *a : m.arrays) m.make_raw(a->offset, a->bytes);
    m.make_raw(STATIC_BYTES, m.dynamic);
}

const shadow &shared_shadow()
{
    return the_memory().shadow;
}

std::string shared_text(const void *p)
{
    const memory &m = the_memory();
    const size_t at = m.shadow.offset(p);
    if (at >= STATIC_BYTES)
        return "dynamic shared memory of " + std::to_string(m.dynamic) + " bytes, byte " +
               std::to_string(at - STATIC_BYTES);
    const emu_shared_array *nearest = nullptr;
    for (const emu_shared_array *a : m.arrays)
        if (a->offset <= at && (!nearest || a->offset > nearest->offset)) nearest = a;
    if (!nearest) return "shared memory before any array";
    return std::string("shared array ") + nearest->name + " of " + std::to_string(nearest->bytes) + " bytes, byte " +
           std::to_string(at - nearest->offset);
}

bool is_shared(const void *p)
{
    return (size_t)((const char *)p - the_memory().base) < STATIC_BYTES + DYNAMIC_BYTES;
}

void check_operand(const char *instruction, const void *p, size_t bytes, const void *place)
{
    if (is_shared(p) && (uintptr_t)p % bytes == 0) return;
    report(is_shared(p) ? "misaligned" : "not shared", place, "%s: %s of %zu bytes at %p", where(*self).c_str(),
           instruction, bytes, p);
    abandon();
}

} // namespace emu

void *emu_shared(emu_shared_array *array)
{
    emu::memory &m = emu::the_memory();
    if (array->launch != m.launch) {
        const size_t alignment = array->alignment < 16 ? 16 : array->alignment;
        array->launch = m.launch;
        array->offset = (m.used + alignment - 1) / alignment * alignment;
        m.used = array->offset + array->bytes + emu::GAP;
        m.arrays.push_back(array);
        m.make_raw(array->offset, array->bytes);
    }
    return m.base + array->offset;
}

void *emu_dynamic_shared()
{
    return emu::the_memory().base + emu::STATIC_BYTES;
}
