/*
 * insn-table.h: the words that rows of insn-*.def are written in, and the table they become.
 *
 *   SAME(name, map, enc, pp, first, last, digit, access, OPS, flags read, flags written, flags undefined, attr)
 *   CALL(name, map, enc, pp, first, last, digit, access, OPS, flags read, flags written, flags undefined, attr, exec)
 *   EMIT(name, map, enc, pp, first, last, digit, access, OPS, flags read, flags written, flags undefined, attr, tr)
 *   NOP (name, map, enc, pp, first, last, digit, access, OPS, attr)
 *   CALLX / SAMEX(name, map, enc, pp, opcode, modrm byte, …as above): one whole ModRM byte
 *
 * Rows for one opcode are tried in file order; the first that fits (encoding, prefix, digit, modrm, mod by A_MEM/A_REG, W, L, 64-bit
 * validity) wins.  A mandatory-prefix row (PP_66/F3/F2) fits only under that prefix; PP_NONE fits only without 66/F2/F3;
 * PP_ANY fits always and treats 66 as the operand-size prefix.
 *
 * "flags written" are those the instruction may change, so a CL-count shift also lists them in "flags read" (they may survive).
 */
#pragma once

#include "bt/insn.h"

#define OP_(m, s) ((uint16_t)(M_##m << 8 | S_##s))
#define O0 {0, 0, 0, 0}
#define O1(a, b) {OP_(a, b), 0, 0, 0}
#define O2(a, b, c, d) {OP_(a, b), OP_(c, d), 0, 0}
#define O3(a, b, c, d, e, f) {OP_(a, b), OP_(c, d), OP_(e, f), 0}
#define O4(a, b, c, d, e, f, g, h) {OP_(a, b), OP_(c, d), OP_(e, f), OP_(g, h)}

#define F_NONE 0
#define F_ALL X86_FLAGS_STATUS
#define F_C X86_FLAG_CF
#define F_P X86_FLAG_PF
#define F_A X86_FLAG_AF
#define F_Z X86_FLAG_ZF
#define F_S X86_FLAG_SF
#define F_O X86_FLAG_OF

#define LEG ENC_LEGACY
#define VEX ENC_VEX
#define LVX (ENC_LEGACY | ENC_VEX)

/* Handlers of HOW_EMIT rows: the functions tr_<name> of translate-*.c. */
typedef enum InsnTr {
    TR_NONE,
    TR_LEA, TR_PUSH, TR_POP, TR_PUSH_IMM, TR_PUSH_RM, TR_POP_RM, TR_LEAVE, TR_CALL, TR_CALL_RM, TR_RET, TR_JMP,
    TR_JMP_RM, TR_JCC, TR_LOOP, TR_JCXZ, TR_XCHG_ACC, TR_MOFFS, TR_CLI, TR_STI, TR_CLD, TR_STD,
    TR_PUSHF, TR_POPF, TR_ACLAC, TR_STAC, TR_SWAPGS, TR_RDTSC, TR_XLAT, TR_PREFETCH, TR_UD,
} InsnTr;

extern const InsnRow insn_table[]; /* ends with name == NULL */
extern const unsigned insn_table_rows;

/* Exec functions, declared from the rows. */
#define SAME(...)
#define SAMEX(...)
#define EMIT(...)
#define EMITX(...)
#define NOP(...)
#define CALL(name, map, enc, pp, first, last, digit, access, ops, fr, fw, fu, attr, exec) \
    void exec(BtCpu *cpu, const Insn *insn);
#define CALLX(name, map, enc, pp, opcode, modrm, access, ops, fr, fw, fu, attr, exec) \
    void exec(BtCpu *cpu, const Insn *insn);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wredundant-decls"
#include "bt/insn-table.def"
#pragma GCC diagnostic pop
#undef SAME
#undef SAMEX
#undef EMIT
#undef EMITX
#undef NOP
#undef CALL
#undef CALLX
