#include "golden.inc"
/* Loads, stores, address forms. */
GOLDEN move, 64
    mov rax, [rbx]
    mov [rbx + rcx * 8 + 0x40], eax
    movzx edx, byte ptr [rsi - 1]
    mov qword ptr [rdi], 0x1234
    lea r8, [rax + rdx * 4 + 5]
    mov r9d, [0x200000]
    hlt
GOLDEN_END move
