#include "golden.inc"
/* AVX-512: spilled and high registers, masks, broadcasts, compressed displacements, rounding, mask registers. */
GOLDEN evex, 64, 0, 0xe7
    vmovdqu64 zmm0, [rbx + 0x40]
    vmovdqu32 zmm17{k1}{z}, [rbx + rcx*4 + 0x80]
    vpaddd zmm18, zmm17, [rsi + 4]{1to16}
    vaddps zmm19{k2}, zmm18, zmm17, {rz-sae}
    vmovdqu8 [rdi - 0x40]{k3}, zmm31
    vpcompressd [rdi + 8]{k4}, zmm2
    kmovq k5, [rbx + 0x100]
    kmovd r9d, k5
    kortestw k1, k2
    vpbroadcastd zmm20, r10d
    vcvttsd2si r11, [rdx + 0x18]
    hlt
GOLDEN_END evex
