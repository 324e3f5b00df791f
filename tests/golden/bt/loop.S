#include "golden.inc"
/* A conditional loop in one page. */
GOLDEN loop, 64
    xor eax, eax
1: add eax, [rbx]
    add rbx, 4
    dec ecx
    jnz 1b
    hlt
GOLDEN_END loop
