#include "golden.inc"
/* Branches of 32-bit code. */
GOLDEN branches32, 32
    cmp eax, 3
    ja 1f
    call ebx
1: jmp dword ptr [eax * 4 + 0x200000]
GOLDEN_END branches32
