#ifndef VG_EMU_TRAP_H
#define VG_EMU_TRAP_H

namespace emu
{

/* Wild accesses, of host code to device memory above all, say whose they are before they end the process. */
void trap_install();

} // namespace emu

#endif
