#include "golden.inc"
/* Addresses relative to RIP. */
GOLDEN rip-relative, 64
    mov rax, [rip + 0x1000]
    cmp dword ptr [rip - 0x800], 7
    lea rsi, [rip + 0x20]
    jmp [rip + 0x3000]
GOLDEN_END rip-relative
