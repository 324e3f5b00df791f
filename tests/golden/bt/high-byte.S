#include "golden.inc"
/* AH, CH, DH, BH; with memory; beside spilled registers. */
GOLDEN high-byte, 64
    mov ah, bh
    add ch, [rbx]
    mov [rsi], dh
    movzx eax, ah
    test bh, 0x80
    hlt
GOLDEN_END high-byte
