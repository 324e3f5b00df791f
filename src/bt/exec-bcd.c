/* BCD arithmetic, which 64-bit mode does not have.  Source: SDM 2A AAA, AAD, AAM, AAS, DAA, DAS. */
#include "bt/exec.h"
#include "bt/insn-table.h"

/* SF, ZF and PF from AL; CF and AF as given. */
static void set_status(BtCpu *cpu, uint8_t al, bool cf, bool af)
{
    cpu->status_ah = (uint8_t)(2 | (al & 0x80) | (al == 0 ? 0x40 : 0) | (__builtin_parity(al) ? 0 : 4) | (af ? 0x10 : 0) | cf);
    cpu->status_of = 0;
}

void ex_daa(BtCpu *cpu, const Insn *insn)
{
    uint8_t al = (uint8_t)cpu->gpr[X86_RAX], old = al;
    bool cf = cpu->status_ah & 1, af = cpu->status_ah & 0x10, carry = false;
    if ((al & 15) > 9 || af) {
        carry = cf || al > 0xf9;
        al = (uint8_t)(al + 6);
        af = true;
    }
    if (old > 0x99 || cf) {
        al = (uint8_t)(al + 0x60);
        carry = true;
    }
    bt_set_reg(cpu, X86_RAX, 1, al);
    set_status(cpu, al, carry, af);
}

void ex_das(BtCpu *cpu, const Insn *insn)
{
    uint8_t al = (uint8_t)cpu->gpr[X86_RAX], old = al;
    bool cf = cpu->status_ah & 1, af = cpu->status_ah & 0x10, carry = false;
    if ((al & 15) > 9 || af) {
        carry = cf || al < 6;
        al = (uint8_t)(al - 6);
        af = true;
    }
    if (old > 0x99 || cf) {
        al = (uint8_t)(al - 0x60);
        carry = true;
    }
    bt_set_reg(cpu, X86_RAX, 1, al);
    set_status(cpu, al, carry, af);
}

static void adjust_ascii(BtCpu *cpu, unsigned ax_change)
{
    unsigned ax = cpu->gpr[X86_RAX] & 0xffff;
    bool is_adjusted = (ax & 15) > 9 || cpu->status_ah & 0x10;
    if (is_adjusted)
        ax += ax_change;
    ax &= 0xff0f;
    bt_set_reg(cpu, X86_RAX, 2, ax);
    set_status(cpu, (uint8_t)ax, is_adjusted, is_adjusted);
}

void ex_aaa(BtCpu *cpu, const Insn *insn) { adjust_ascii(cpu, 0x106); }
void ex_aas(BtCpu *cpu, const Insn *insn) { adjust_ascii(cpu, 0u - 0x106); }

void ex_aam(BtCpu *cpu, const Insn *insn)
{
    unsigned base = (uint8_t)insn->imm, al = cpu->gpr[X86_RAX] & 0xff;
    if (base == 0)
        bt_raise(cpu, X86_EXC_DE);
    bt_set_reg(cpu, X86_RAX, 2, (al / base) << 8 | al % base);
    set_status(cpu, (uint8_t)(al % base), false, false);
}

void ex_aad(BtCpu *cpu, const Insn *insn)
{
    unsigned base = (uint8_t)insn->imm, ax = cpu->gpr[X86_RAX] & 0xffff;
    uint8_t al = (uint8_t)((ax >> 8) * base + ax);
    bt_set_reg(cpu, X86_RAX, 2, al);
    set_status(cpu, al, false, false);
}

/* SALC (D6): AL = CF ? FF : 00. */
void ex_salc(BtCpu *cpu, const Insn *insn) { bt_set_reg(cpu, X86_RAX, 1, cpu->status_ah & 1 ? 0xff : 0); }
