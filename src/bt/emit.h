/*
 * The host encoder: tiny functions that append one x86-64 instruction.
 *
 * There is no error path: a writer checks once, before a block, that the cache has room for the largest block (cache.h).
 * Register numbers are the encoding's: 0 = RAX … 15 = R15.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "bt/cpu.h"

enum { H_RAX, H_RCX, H_RDX, H_RBX, H_RSP, H_RBP, H_RSI, H_RDI, H_R8, H_R9, H_R10, H_R11, H_R12, H_R13, H_R14, H_R15 };

/* Host registers with a role of their own; the other eleven hold the guest register of the same number.  The four guest registers
 * without one are those that compilers use least. */
#define H_GUEST_RSP H_R8  /* holds guest RSP */
#define H_T0        H_R9  /* address; free between instructions */
#define H_T1        H_R10 /* second scratch */
#define H_T2        H_R11 /* host address shared by several accesses (translate-group.c), or unused */

/* Opcodes by name. */
enum {
    XO_ADD_RM = 0x03, XO_ADD_MR = 0x01, XO_OR_RM = 0x0b, XO_AND_RM = 0x23, XO_SUB_RM = 0x2b, XO_XOR_RM = 0x33, XO_CMP_RM = 0x3b,
    XO_CMP_MR = 0x39, XO_MOV_MR = 0x89, XO_MOV_RM = 0x8b, XO_MOV8_MR = 0x88, XO_MOV8_RM = 0x8a, XO_LEA = 0x8d, XO_MOVSXD = 0x63,
};
/* Digits of group 1 (80/81/83). */
enum { XG_ADD, XG_OR, XG_ADC, XG_SBB, XG_AND, XG_SUB, XG_XOR, XG_CMP };
/* Condition codes. */
enum { CC_O, CC_NO, CC_B, CC_AE, CC_E, CC_NE, CC_BE, CC_A, CC_S, CC_NS, CC_P, CC_NP, CC_L, CC_GE, CC_LE, CC_G };

typedef struct Emit {
    uint8_t *p;     /* next byte, in the writable view */
    int64_t to_exec; /* add to a writable address to get the executable one */
    uint32_t cpu_at; /* address of the vCPU block, below 2 GiB: code names it by that; 0: it is reached through GS */
    bool t1_lost;   /* T1 was named since this was cleared */
} Emit;

#define CPU_OFF(field) ((int32_t)offsetof(BtCpu, field))
#define GPR_OFF(n) ((int32_t)(offsetof(BtCpu, gpr) + 8 * (size_t)(n)))

static inline void e8(Emit *e, unsigned b) { *e->p++ = (uint8_t)b; }
static inline void e32(Emit *e, uint32_t v) { memcpy(e->p, &v, 4); e->p += 4; }
static inline void e64(Emit *e, uint64_t v) { memcpy(e->p, &v, 8); e->p += 8; }

/* What an operand in the vCPU block begins with, before other prefixes, and ends with. */
static inline void e_cpu_prefix(Emit *e)
{
    if (!e->cpu_at)
        e8(e, 0x65);
}
static inline void e_cpu_disp(Emit *e, int32_t disp) { e32(e, e->cpu_at + (uint32_t)disp); }

static inline void e_rex(Emit *e, bool w, unsigned reg, unsigned index, unsigned rm, bool force)
{
    if (reg == H_T1 || index == H_T1 || rm == H_T1)
        e->t1_lost = true;
    unsigned rex = 0x40u | (w ? 8u : 0) | (reg >> 3 & 1) << 2 | (index >> 3 & 1) << 1 | (rm >> 3 & 1);
    if (rex != 0x40 || force)
        e8(e, rex);
}

/* op reg, rm (register form); opcode one byte. */
static inline void e_rr(Emit *e, bool w, unsigned opcode, unsigned reg, unsigned rm)
{
    e_rex(e, w, reg, 0, rm, false);
    e8(e, opcode);
    e8(e, 0xc0u | (reg & 7) << 3 | (rm & 7));
}

/* op reg, gs:[disp32] */
static inline void e_gs(Emit *e, bool w, unsigned opcode, unsigned reg, int32_t disp)
{
    e_cpu_prefix(e);
    e_rex(e, w, reg, 0, 0, false);
    e8(e, opcode);
    e8(e, 0x04u | (reg & 7) << 3);
    e8(e, 0x25);
    e_cpu_disp(e, disp);
}

/* op reg, gs:[base + disp32]; base is neither RSP nor R12 */
static inline void e_gs_base(Emit *e, bool w, unsigned opcode, unsigned reg, unsigned base, int32_t disp)
{
    e_cpu_prefix(e);
    e_rex(e, w, reg, 0, base, false);
    e8(e, opcode);
    e8(e, 0x80u | (reg & 7) << 3 | (base & 7));
    e_cpu_disp(e, disp);
}

/* ModRM, SIB and displacement for [base + index * scale + disp]; base or index may be -1. */
static inline void e_modrm_mem(Emit *e, unsigned reg, int base, int index, unsigned scale, int32_t disp)
{
    unsigned r = (reg & 7) << 3;
    unsigned ss = scale == 8 ? 3u : scale == 4 ? 2u : scale == 2 ? 1u : 0u;
    if (base < 0) {
        e8(e, r | 4);
        e8(e, ss << 6 | (index < 0 ? 4u : (unsigned)index & 7) << 3 | 5);
        e32(e, (uint32_t)disp);
        return;
    }
    unsigned mod = disp == 0 && (base & 7) != 5 ? 0u : disp >= -128 && disp < 128 ? 1u : 2u;
    if (index >= 0 || (base & 7) == 4) {
        e8(e, mod << 6 | r | 4);
        e8(e, ss << 6 | (index < 0 ? 4u : (unsigned)index & 7) << 3 | ((unsigned)base & 7));
    } else {
        e8(e, mod << 6 | r | ((unsigned)base & 7));
    }
    if (mod == 1)
        e8(e, (uint8_t)disp);
    else if (mod == 2)
        e32(e, (uint32_t)disp);
}

/* The same with a base, and without the one-byte displacement. */
static inline void e_modrm_mem_long(Emit *e, unsigned reg, unsigned base, int index, unsigned scale, int32_t disp)
{
    unsigned mod = disp == 0 && (base & 7) != 5 ? 0 : 0x80;
    unsigned ss = scale == 8 ? 3u : scale == 4 ? 2u : scale == 2 ? 1u : 0u;
    if (index >= 0 || (base & 7) == 4) {
        e8(e, mod | (reg & 7) << 3 | 4);
        e8(e, ss << 6 | (index < 0 ? 4u : (unsigned)index & 7) << 3 | (base & 7));
    } else {
        e8(e, mod | (reg & 7) << 3 | (base & 7));
    }
    if (mod)
        e32(e, (uint32_t)disp);
}

/* op reg, [base + index * scale + disp] */
static inline void e_mem(Emit *e, bool w, unsigned opcode, unsigned reg, int base, int index, unsigned scale, int32_t disp)
{
    e_rex(e, w, reg, index < 0 ? 0 : (unsigned)index, base < 0 ? 0 : (unsigned)base, false);
    e8(e, opcode);
    e_modrm_mem(e, reg, base, index, scale, disp);
}

/* group-1 op rm, imm32 */
static inline void e_ri(Emit *e, bool w, unsigned digit, unsigned rm, int32_t imm)
{
    e_rex(e, w, 0, 0, rm, false);
    if (imm >= -128 && imm < 128) {
        e8(e, 0x83);
        e8(e, 0xc0u | digit << 3 | (rm & 7));
        e8(e, (uint8_t)imm);
    } else {
        e8(e, 0x81);
        e8(e, 0xc0u | digit << 3 | (rm & 7));
        e32(e, (uint32_t)imm);
    }
}

/* group-1 op dword gs:[disp], imm32 */
static inline void e_gs_imm32(Emit *e, unsigned digit, int32_t disp, uint32_t imm)
{
    e_cpu_prefix(e);
    e8(e, 0x81);
    e8(e, 0x04u | digit << 3);
    e8(e, 0x25);
    e_cpu_disp(e, disp);
    e32(e, imm);
}

/* cmp dword gs:[disp], 0 */
static inline void e_gs_cmp0(Emit *e, int32_t disp)
{
    e_cpu_prefix(e);
    e8(e, 0x83);
    e8(e, 0x3c);
    e8(e, 0x25);
    e_cpu_disp(e, disp);
    e8(e, 0);
}

/* mov byte gs:[disp], imm8 */
static inline void e_gs_mov8(Emit *e, int32_t disp, unsigned imm)
{
    e_cpu_prefix(e);
    e8(e, 0xc6);
    e8(e, 0x04);
    e8(e, 0x25);
    e_cpu_disp(e, disp);
    e8(e, imm);
}

/* movzx reg32, byte (or word) gs:[disp] */
static inline void e_gs_movzx(Emit *e, unsigned reg, int32_t disp, bool word)
{
    e_cpu_prefix(e);
    e_rex(e, false, reg, 0, 0, false);
    e8(e, 0x0f);
    e8(e, word ? 0xb7 : 0xb6);
    e8(e, 0x04u | (reg & 7) << 3);
    e8(e, 0x25);
    e_cpu_disp(e, disp);
}

static inline void e_mov_rr(Emit *e, bool w, unsigned dst, unsigned src) { e_rr(e, w, XO_MOV_RM, dst, src); }
static inline void e_load_gs(Emit *e, unsigned reg, int32_t disp) { e_gs(e, true, XO_MOV_RM, reg, disp); }
static inline void e_store_gs(Emit *e, unsigned reg, int32_t disp) { e_gs(e, true, XO_MOV_MR, reg, disp); }

/* mov reg, imm: the shortest of three forms; sets the whole register, changes no flag. */
static inline void e_mov_imm(Emit *e, unsigned reg, uint64_t imm)
{
    if (imm <= UINT32_MAX) {
        e_rex(e, false, 0, 0, reg, false);
        e8(e, 0xb8 | (reg & 7));
        e32(e, (uint32_t)imm);
    } else if ((int64_t)imm == (int32_t)imm) {
        e_rex(e, true, 0, 0, reg, false);
        e8(e, 0xc7);
        e8(e, 0xc0 | (reg & 7));
        e32(e, (uint32_t)imm);
    } else {
        e_rex(e, true, 0, 0, reg, false);
        e8(e, 0xb8 | (reg & 7));
        e64(e, imm);
    }
}

/* neg reg */
static inline void e_neg(Emit *e, unsigned reg)
{
    e_rex(e, true, 0, 0, reg, false);
    e8(e, 0xf7);
    e8(e, 0xd8 | (reg & 7));
}

/* shift group C1 /digit imm8: 4 shl, 5 shr, 7 sar */
static inline void e_shift(Emit *e, bool w, unsigned digit, unsigned rm, unsigned count)
{
    e_rex(e, w, 0, 0, rm, false);
    e8(e, 0xc1);
    e8(e, 0xc0u | digit << 3 | (rm & 7));
    e8(e, count);
}

/* rorx dst, src, count (BMI2): changes no flag */
static inline void e_rorx(Emit *e, bool w, unsigned dst, unsigned src, unsigned count)
{
    if (dst == H_T1)
        e->t1_lost = true;
    e8(e, 0xc4);
    e8(e, (~(dst >> 3) & 1) << 7 | 0x40u | (~(src >> 3) & 1) << 5 | 3);
    e8(e, (w ? 0x80u : 0) | 0x78 | 3);
    e8(e, 0xf0);
    e8(e, 0xc0u | (dst & 7) << 3 | (src & 7));
    e8(e, count);
}

/* Jumps within the cache.  e_jmp/e_jcc to a known executable address; *_later return the rel32 field to patch. */
static inline void e_patch32(uint8_t *field, const uint8_t *target_rw)
{
    int32_t rel = (int32_t)(target_rw - (field + 4));
    memcpy(field, &rel, 4);
}

static inline uint8_t *e_jmp_later(Emit *e)
{
    e8(e, 0xe9);
    e32(e, 0);
    return e->p - 4;
}

static inline uint8_t *e_jcc_later(Emit *e, unsigned cc)
{
    e8(e, 0x0f);
    e8(e, 0x80 | cc);
    e32(e, 0);
    return e->p - 4;
}

static inline void e_jmp(Emit *e, const uint8_t *target_rw) { e_patch32(e_jmp_later(e), target_rw); }
static inline void e_jcc(Emit *e, unsigned cc, const uint8_t *target_rw) { e_patch32(e_jcc_later(e, cc), target_rw); }

static inline void e_call(Emit *e, const uint8_t *target_rw)
{
    e8(e, 0xe8);
    e32(e, 0);
    e_patch32(e->p - 4, target_rw);
}

/* mov rax, imm64; call rax: to C. */
static inline void e_call_c(Emit *e, const void *function)
{
    e_mov_imm(e, H_RAX, (uint64_t)(uintptr_t)function);
    e8(e, 0xff);
    e8(e, 0xd0);
}

static inline void e_jmp_reg(Emit *e, unsigned reg)
{
    e_rex(e, false, 0, 0, reg, false);
    e8(e, 0xff);
    e8(e, 0xe0 | (reg & 7));
}
