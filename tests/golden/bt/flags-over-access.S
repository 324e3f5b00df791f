#include "golden.inc"
/* Flags live through a memory access, and dead ones. */
GOLDEN flags-over-access, 64
    add eax, ecx
    mov rdx, [rbx]
    adc edx, 0
    mov [rbx], rdx
    cmp eax, 5
    mov rsi, [rbx]
    xor edi, edi
    hlt
GOLDEN_END flags-over-access
