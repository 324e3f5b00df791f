/*
 * Insn: one decoded guest instruction, and InsnRow: what insn-table.def says about it.
 *
 * A row names the operands in the SDM's own letters (volume 2D appendix A.2), so that it can be checked by laying the manual's opcode
 * map beside it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "x86/bits.h"

typedef struct BtCpu BtCpu;
typedef struct Insn Insn;

/* Opcode maps. */
typedef enum InsnMap { MAP_1B, MAP_0F, MAP_38, MAP_3A } InsnMap;

/* Encodings a row may be written in; a row lists those that exist. */
#define ENC_LEGACY 1u
#define ENC_VEX    2u
#define ENC_EVEX   4u

/* Mandatory prefix of a row. */
typedef enum InsnPrefix { PP_NONE, PP_66, PP_F3, PP_F2, PP_ANY } InsnPrefix;

/* Operand: method letter and size letter. */
typedef enum InsnMethod {
    M_NONE,
    M_E,  /* ModRM r/m: GPR or memory */
    M_G,  /* ModRM reg: GPR */
    M_M,  /* ModRM r/m: memory only */
    M_R,  /* ModRM r/m: GPR only */
    M_V,  /* ModRM reg: vector register */
    M_W,  /* ModRM r/m: vector register or memory */
    M_U,  /* ModRM r/m: vector register only */
    M_H,  /* VEX.vvvv: vector register (absent in the legacy form) */
    M_L,  /* imm8[7:4]: vector register */
    M_P,  /* ModRM reg: MMX */
    M_Q,  /* ModRM r/m: MMX or memory */
    M_N,  /* ModRM r/m: MMX only */
    M_B,  /* VEX.vvvv: GPR */
    M_S,  /* ModRM reg: segment register */
    M_C,  /* ModRM reg: control register */
    M_D,  /* ModRM reg: debug register */
    M_I,  /* immediate */
    M_J,  /* relative branch target */
    M_A,  /* far pointer in the instruction */
    M_O,  /* memory at the moffs in the instruction */
    M_X,  /* DS:rSI */
    M_Y,  /* ES:rDI */
    M_Z,  /* GPR in opcode bits 2:0 */
    M_ACC,/* AL/AX/EAX/RAX */
    M_CL, M_DX, M_ONE,
    M_ST, /* x87 stack register, encoded in r/m with mod = 3 */
    M_FP, /* x87 memory operand or register form, r/m */
    M_MK, /* opmask registers: reg field */
    M_RK, /* r/m: opmask or memory */
} InsnMethod;

typedef enum InsnSize {
    S_NONE,
    S_b, S_w, S_d, S_q, S_dq, S_qq, /* 1 2 4 8 16 32 bytes */
    S_v,  /* operand size: 2, 4 or 8 */
    S_z,  /* operand size, at most 4 */
    S_y,  /* 4, or 8 with REX.W/VEX.W */
    S_x,  /* vector length: 16 or 32 (64) */
    S_xh, S_xq, S_xe, /* half, quarter, eighth of the vector length */
    S_t,  /* 10 bytes */
    S_p,  /* far pointer: operand size + 2 */
    S_s,  /* pseudo-descriptor: 6 or 10 */
    S_mx, /* memory block whose size the exec function knows (XSAVE, FNSAVE, …) */
} InsnSize;

/* How a row is carried out. */
typedef enum InsnHow {
    HOW_SAME,  /* re-encoded with registers renamed and the memory operand replaced */
    HOW_CALL,  /* by the C function exec */
    HOW_EMIT,  /* by a tr_* function of its own in translate.c (named tr) */
    HOW_NOP,   /* nothing at all */
} InsnHow;

/* Access to the ModRM memory operand. */
#define ACC_NONE 0u
#define ACC_R    1u
#define ACC_W    2u
#define ACC_RW   3u

/* Row attributes. */
#define A_LOCK  0x0001u /* LOCK allowed with a memory destination */
#define A_I64   0x0002u /* invalid in 64-bit mode */
#define A_O64   0x0004u /* only in 64-bit mode */
#define A_D64   0x0008u /* operand size defaults to 64 in 64-bit mode (push, near branches) */
#define A_F64   0x0010u /* operand size is 64 in 64-bit mode, 66 ignored */
#define A_CPL0  0x0020u /* #GP(0) unless CPL = 0 */
#define A_ENDS  0x0040u /* ends the block */
#define A_X87   0x0080u /* x87: #NM if EM or TS; waits for pending #MF */
#define A_MMX   0x0100u /* MMX: #UD if EM, #NM if TS */
#define A_SSE   0x0200u /* legacy SSE: #UD if EM or !OSFXSR, #NM if TS */
#define A_AVX   0x0400u /* VEX-encoded form needs OSXSAVE and XCR0[2:1] = 3 */
#define A_MEM   0x0800u /* r/m must be memory, else #UD */
#define A_REG   0x1000u /* r/m must be a register, else another row or #UD */
#define A_PM    0x2000u /* #UD in real and virtual-8086 mode */
#define A_NOW   0x4000u /* writes no register or flag at all (cmp-like: destination operand is only read) */
#define A_W0    0x8000u /* VEX.W = 0 or REX.W absent */
#define A_W1    0x10000u /* VEX.W = 1 or REX.W present */
#define A_L0    0x20000u /* VEX.L = 0 only */
#define A_L1    0x40000u /* VEX.L = 1 only */
#define A_BITS  0x80000u /* BT family: register bit offset reaches beyond the operand in memory */
#define A_VSIB  0x100000u /* gather: vector index */
#define A_WO    0x400000u /* operand[0] is written without being read (mov-like); 8- and 16-bit registers still merge */
#define A_W2    0x800000u /* operand[1] is written as well (XCHG, XADD, MULX) */
#define A_AVX512 0x1000000u /* needs OSXSAVE and XCR0[7:5] = 7 and XCR0[2:1] = 3 */
#define A_PACKED 0x2000000u /* compress, expand: the elements that the mask selects stand together in memory */
/* Bytes of memory that a bit of the mask governs, and of the register operand it stands for: see insn-evex.def. */
#define A_LOG2_(n) ((n) == 8 ? 4u : (n) == 4 ? 3u : (n) == 2 ? 2u : (n) == 1 ? 1u : 0u)
#define A_ELEMENT(n) (A_LOG2_(n) << 26)
#define A_GRANULE(n) (A_LOG2_(n) << 29)
#define A_ALIGN 0x200000u /* memory operand must be naturally aligned (legacy SSE, 16 bytes); the host enforces it */

/* attr_element, attr_granule: 0 as in A_ELEMENT and A_GRANULE. */
static inline unsigned attr_element(uint32_t attr) { return (1u << (attr >> 26 & 7)) >> 1; }
static inline unsigned attr_granule(uint32_t attr) { return (1u << (attr >> 29)) >> 1; }

typedef struct InsnRow {
    const char *name;  /* SDM mnemonic, lower case; NULL ends the table */
    uint8_t map;       /* InsnMap */
    uint8_t encodings; /* ENC_* */
    uint8_t prefix;    /* InsnPrefix */
    uint8_t opcode_first, opcode_last;
    int8_t digit;      /* ModRM.reg that selects this row (/0–/7), -1: any */
    int16_t modrm;     /* whole ModRM byte that selects this row (0F 01 C8, D9 E0), -1: any */
    uint8_t how;       /* InsnHow */
    uint8_t access;    /* ACC_* */
    uint16_t operand[4]; /* InsnMethod << 8 | InsnSize; destination first */
    uint16_t flags_read, flags_written, flags_undefined; /* X86_FLAG_* status bits; undefined ⊆ written */
    uint32_t attr;
    void (*exec)(BtCpu *cpu, const Insn *insn); /* HOW_CALL */
    int tr;                                      /* HOW_EMIT: InsnTr */
} InsnRow;

#define INSN_REG_NONE (-1)
#define INSN_REG_RIP  (-2)

struct Insn {
    const InsnRow *row;
    uint64_t va;      /* linear address of the first byte (CS base included) */
    uint64_t ip;      /* RIP of the first byte: va - CS base */
    uint64_t imm;     /* sign-extended as the instruction defines; for M_J the displacement; for M_A the offset; M_O the moffs */
    uint16_t imm2;    /* ENTER's second immediate, far pointer's selector, EXTRQ/INSERTQ's second */
    int32_t disp;     /* memory operand */
    uint8_t bytes[15];
    uint8_t length;
    uint8_t opcode_at; /* index in bytes[] of the opcode byte */
    uint8_t imm_at;    /* index in bytes[] of the first immediate byte (== length if none) */
    uint8_t map, encoding, opcode;
    uint8_t code_size; /* 2, 4, 8: 16-, 32-, 64-bit code segment */
    uint8_t opsize;    /* 1, 2, 4, 8 bytes: of the v-sized operands */
    uint8_t addrsize;  /* 2, 4, 8 */
    bool lock, rep, repne, opsize_prefix;
    uint8_t rex;       /* 0x40 | WRXB, 0 when there is none */
    bool w;            /* REX.W, VEX.W or EVEX.W */
    uint8_t vex_l;     /* 0: 128, 1: 256, 2: 512; L'L of EVEX where it is the rounding mode: 2 */
    uint8_t vvvv;      /* register number, 0 when unused */
    uint8_t pp;        /* InsnPrefix in force: the mandatory one */
    uint8_t segment;   /* X86_*: the segment of the memory operand, default or overridden */
    bool has_segment_prefix;
    bool has_modrm, has_mem, vsib;
    uint8_t modrm, mod, reg, rm; /* reg and rm with REX extension */
    int8_t base, index;          /* GPR number, INSN_REG_NONE, INSN_REG_RIP (base only); index = vector register with vsib */
    uint8_t scale;               /* 1, 2, 4, 8 */
    uint8_t mem_size;            /* bytes the ModRM memory operand has; 0: exec knows */
    uint8_t evex[3];             /* P0–P2 of an EVEX prefix */
};

/* insn_is_masked: an EVEX instruction whose mask decides which elements of its memory operand are touched. */
static inline bool insn_is_masked(const Insn *insn)
{
    return insn->encoding == ENC_EVEX && insn->evex[2] & 7 && attr_element(insn->row->attr);
}

/* insn_size_bytes: bytes of an operand with size letter @size in @insn. */
unsigned insn_size_bytes(const Insn *insn, unsigned size);
