#include "emu/fiber.h"

#include "emu/shadow.h"

#include <cstdint>
#include <cstring>
#include <sys/mman.h>

namespace emu
{

enum { N_STACKS = 1024, GUARD_BYTES = 4096 };

#if defined __x86_64__
/* Callee-saved registers go on the stack that is left; the return address above them is where it goes on. */
asm(R"(
.text
.globl emu_fiber_switch
.hidden emu_fiber_switch
.type emu_fiber_switch, @function
emu_fiber_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emu_fiber_switch, .-emu_fiber_switch
)");
enum { SAVED_WORDS = 8, ENTRY_WORD = 6 }; /* six registers, where to return to, and what aligns the stack at entry */
#elif defined __aarch64__
asm(R"(
.text
.globl emu_fiber_switch
.hidden emu_fiber_switch
.type emu_fiber_switch, %function
emu_fiber_switch:
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
.size emu_fiber_switch, .-emu_fiber_switch
)");
enum { SAVED_WORDS = 20, ENTRY_WORD = 11 };
#endif

static char *all_stacks()
{
    static char *const base = [] {
        char *p = (char *)reserve((size_t)N_STACKS * STACK_BYTES, PROT_READ | PROT_WRITE, "stacks");
        for (int i = 0; i < N_STACKS; i++) mprotect(p + (size_t)i * STACK_BYTES, GUARD_BYTES, PROT_NONE);
        return p;
    }();
    return base;
}

char *stack_low(unsigned i)
{
    return all_stacks() + (size_t)i * STACK_BYTES;
}

bool stack_contains(const void *p)
{
    return (size_t)((const char *)p - all_stacks()) < (size_t)N_STACKS * STACK_BYTES;
}

void *fiber_new(unsigned i, void (*entry)())
{
    const size_t color = (size_t)(i % 31) * 128; /* equal page offsets would meet in the same lines of the cache */
    uint64_t *const sp = (uint64_t *)(stack_low(i) + STACK_BYTES - color) - SAVED_WORDS;
    memset(sp, 0, SAVED_WORDS * sizeof *sp);
    sp[ENTRY_WORD] = (uint64_t)entry;
    return sp;
}

} // namespace emu
