/* Which kernels there are. Plug-ins register from constructors, before those of this library may have run: the table is
 * made at its first use. */
#include "emu/calls.h"
#include "emu/exec.h"

#include <map>
#include <string>

namespace emu
{

static std::map<std::string, kernel> &table()
{
    static std::map<std::string, kernel> kernels;
    return kernels;
}

static bool any_checked;

const kernel *kernel_find(const char *name)
{
    const auto found = table().find(name);
    return found == table().end() ? nullptr : &found->second;
}

bool checking()
{
    return any_checked;
}

} // namespace emu

void emu_register(const char *name, size_t args_bytes, unsigned max_threads, bool checked,
                  void (*body)(const void *args))
{
    emu::table()[name] = {name, args_bytes, max_threads, checked, body};
    emu::any_checked |= checked;
}
