/* Stacks, and a switch between them that costs a dozen instructions. */
#ifndef VG_EMU_FIBER_H
#define VG_EMU_FIBER_H

#include <cstddef>

namespace emu
{

enum { STACK_BYTES = 128 << 10 };

/* Stack i (0 .. 1023); a page below it traps. Taken anew or from an earlier fiber, it needs no cleaning. */
char *stack_low(unsigned i);
/* Is p in any stack? */
bool stack_contains(const void *p);

/* A fiber that runs entry() on stack i when first switched to; entry must not return. */
void *fiber_new(unsigned i, void (*entry)());
/* Suspends the running fiber into *from and resumes to. */
extern "C" void emu_fiber_switch(void **from, void *to);

} // namespace emu

#endif
