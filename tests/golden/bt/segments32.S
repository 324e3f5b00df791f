#include "golden.inc"
/* FS in 32-bit code: base and limit; flat DS. */
GOLDEN segments32, 32
    mov eax, fs:[ebx]
    mov fs:[ecx + 4], dl
    mov esi, [edi]
    push eax
    pop edx
    hlt
GOLDEN_END segments32
