#include "golden.inc"
/* Gathers and scatters are done in C; a masked move is not, and raises #GP itself when it is not aligned. */
GOLDEN gather, 64, 0, 0xe7
    vpgatherdd zmm1{k1}, [rbx + zmm2*4]
    vpscatterdq [rbx + ymm3*8]{k2}, zmm4
    vmovaps zmm5{k1}, [rax]
    hlt
GOLDEN_END gather
