#include "golden.inc"
/* R13-R15 live in memory. */
GOLDEN spilled, 64
    mov r13, [r14]
    add r15, r13
    mov [r15 + r13 * 2], r14d
    imul r14, r15, 100
    xchg r13, rax
    hlt
GOLDEN_END spilled
