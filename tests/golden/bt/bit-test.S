#include "golden.inc"
/* BT with a register offset reaches beyond its operand. */
GOLDEN bit-test, 64
    bt [rdi], rax
    bts dword ptr [rdi], ecx
    bt qword ptr [rdi], 9
    setc dl
    hlt
GOLDEN_END bit-test
