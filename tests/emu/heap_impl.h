/* The heap, for the checker. */
#ifndef VG_EMU_HEAP_IMPL_H
#define VG_EMU_HEAP_IMPL_H

#include "emu/shadow.h"

namespace emu
{

const shadow &heap_shadow();

} // namespace emu

#endif
