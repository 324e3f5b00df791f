/*
 * The guest's status flags are the host's.
 *
 * What translated code does in between (memory checks, lookups) destroys them, so a backward pass finds at which instructions they are still
 * needed; only there they are parked in the vCPU block: LAHF's byte in status_ah, OF in status_of.  At the end of a block all flags
 * count as needed, because the next block may read them.
 *
 * Parking is not needed when the instruction that made the flags can be done again with what is still in registers: TEST, CMP, ADD and SUB of
 * a constant, and the logic ones as a TEST of their result (FLAGS_AGAIN).  This is done where somebody does want the flags, most often nobody:
 * on slow paths, and on the way to a block that reads them on entry.
 *
 * A fault delivered at a point where the pass proved a flag dead (overwritten before any read in the same block) pushes a stale value of
 * that flag; the interrupted code itself cannot tell, since it overwrites the flag after the return.
 */
#include "bt/translate-priv.h"

/* What the row says, made sharper by the immediate: a shift by a constant that is not zero keeps no flag. */
static uint16_t flags_read(const Insn *in)
{
    const InsnRow *row = in->row;
    bool shift = in->map == MAP_1B && (in->opcode == 0xc0 || in->opcode == 0xc1);
    bool double_shift = in->map == MAP_0F && (in->opcode == 0xa4 || in->opcode == 0xac);
    unsigned size = insn_size_bytes(in, row->operand[0] & 0xff);
    /* SHLD and SHRD of 16 bits by more than 16 leave the flags undefined: whatever the host makes of them, from the same inputs. */
    if ((!shift && !double_shift) || (in->imm & (size == 8 ? 63 : 31)) == 0 || (double_shift && size == 2))
        return row->flags_read;
    return shift && (row->digit == 2 || row->digit == 3) ? X86_FLAG_CF : 0;
}

void tr_flags_analyse(Tr *t)
{
    uint16_t live = X86_FLAGS_STATUS;
    for (unsigned i = t->ninsns; i-- > 0;) {
        const InsnRow *row = t->insns[i].row;
        t->live_out[i] = live;
        if (!row || row->how == HOW_CALL || insn_is_jcc(&t->insns[i])) /* a branch: the other side may read all of them */
            live = X86_FLAGS_STATUS;
        else
            live = (uint16_t)((live & ~row->flags_written) | flags_read(&t->insns[i]));
        t->live_in[i] = live;
    }
    if (t->ninsns == 0)
        t->live_in[0] = X86_FLAGS_STATUS;
}

/* Uses T1 to keep RAX; changes no guest-visible register. */
void e_flags_save(Emit *e)
{
    e_mov_rr(e, true, H_T1, H_RAX);
    e8(e, 0x0f); /* seto al */
    e8(e, 0x90);
    e8(e, 0xc0);
    e8(e, 0x9f); /* lahf */
    e8(e, 0x66); /* mov gs:[status_of], ax */
    e_gs(e, false, XO_MOV_MR, H_RAX, CPU_OFF(status_of));
    e_mov_rr(e, true, H_RAX, H_T1);
}

void e_flags_restore(Emit *e)
{
    e_mov_rr(e, true, H_T1, H_RAX);
    e_gs_movzx(e, H_RAX, CPU_OFF(status_of), true);
    e8(e, 0x04); /* add al, 0x7f: OF = (al == 1) */
    e8(e, 0x7f);
    e8(e, 0x9e); /* sahf */
    e_mov_rr(e, true, H_RAX, H_T1);
}

/* How far a register is from the value it had for the recipe.  False: it has another. */
static bool value_distance(const Tr *t, unsigned at, int reg, TrValue then, int32_t *out_distance)
{
    TrValue now = t->value[at][reg];
    *out_distance = now.delta - then.delta;
    return now.symbol == then.symbol;
}

/* The recipe for instruction @i, which writes all flags; registers are as after it. */
static void again_note(Tr *t, unsigned i)
{
    const Insn *in = &t->insns[i];
    TrAgain *a = &t->again;
    unsigned op = in->opcode, digit = in->reg & 7, is_byte = !(op & 1) && op != 0x83;
    *a = (TrAgain){.kind = AGAIN_NOT, .reg2 = -1};
    if (!t->has_values || in->encoding != ENC_LEGACY || in->map != MAP_1B || in->has_mem || in->row->how != HOW_SAME || in->lock)
        return;
    AgainKind kind = AGAIN_NOT;
    unsigned reg = in->rm, alu = op < 0x40 ? op >> 3 : op >= 0x80 && op <= 0x83 ? digit : 8;
    bool has_imm = op >= 0x40 || (op & 7) >= 4;
    if (op < 0x40) {
        if ((op & 7) > 5)
            return;
        if ((op & 7) >= 4)
            reg = X86_RAX;
        else if ((op & 7) >= 2)
            reg = in->reg;
    } else if (op == 0x84 || op == 0x85 || op == 0xa8 || op == 0xa9 || ((op == 0xf6 || op == 0xf7) && digit <= 1)) {
        alu = 9;
        has_imm = op != 0x84 && op != 0x85;
        reg = op == 0xa8 || op == 0xa9 ? X86_RAX : in->rm;
    }
    switch (alu) {
    case 0: kind = AGAIN_ADD; break;
    case 5: kind = AGAIN_SUB; break;
    case 7: kind = AGAIN_CMP; break;
    case 9: kind = AGAIN_TEST; break;
    case 1: case 4: case 6: /* OR, AND, XOR: as the result tested with itself */
        kind = AGAIN_TEST;
        a->reg2 = (int8_t)reg;
        break;
    default: return;
    }
    if (!has_imm && a->reg2 < 0) {
        if (kind == AGAIN_ADD || kind == AGAIN_SUB)
            return;
        a->reg2 = (int8_t)(op < 0x40 && (op & 7) >= 2 ? in->rm : in->reg);
    }
    a->size = (uint8_t)(is_byte ? 1 : in->opsize);
    bool high = is_byte && !in->rex && (reg >= 4 || a->reg2 >= 4);
    if (a->size == 2 || high || (is_byte && kind != AGAIN_CMP && kind != AGAIN_TEST) || reg_is_spilled(reg) ||
        (is_byte && reg == X86_RSP) || (a->reg2 >= 0 && (reg_is_spilled((unsigned)a->reg2) || (is_byte && a->reg2 == X86_RSP))))
        return;
    a->reg = (int8_t)reg;
    a->imm = (int32_t)in->imm;
    a->value = t->value[i + 1][reg];
    if (a->reg2 >= 0)
        a->value2 = t->value[i + 1][a->reg2];
    a->kind = kind;
}

static bool again_works(const Tr *t, const TrAgain *a, unsigned at)
{
    int32_t distance;
    if (!value_distance(t, at, a->reg, a->value, &distance))
        return false;
    int64_t imm = a->imm, disp = a->kind == AGAIN_ADD ? -imm - distance : a->kind == AGAIN_SUB ? imm - distance : -(int64_t)distance;
    if (disp != (int32_t)disp || (a->size == 1 && distance))
        return false;
    if (a->reg2 < 0 || a->reg2 == a->reg)
        return true;
    return value_distance(t, at, a->reg2, a->value2, &distance) && distance == 0;
}

/* Whether the flags can be made again wherever they may be wanted: until something writes all of them, or to the end. */
static bool again_works_to_end(const Tr *t)
{
    if (t->again.kind == AGAIN_NOT)
        return false;
    for (unsigned at = t->i; at <= t->ninsns; at++) {
        if (!again_works(t, &t->again, at))
            return false;
        if (at < t->ninsns && t->live_out[at] && t->insns[at].row &&
            (t->insns[at].row->flags_written & X86_FLAGS_STATUS) == X86_FLAGS_STATUS && t->insns[at].row->how == HOW_SAME)
            return true;
    }
    return true;
}

void tr_flags_again(Tr *t, const TrAgain *a, unsigned at)
{
    Emit *e = &t->e;
    bool wide = a->size == 8;
    unsigned reg = reg_host((unsigned)a->reg), reg2 = a->reg2 < 0 ? 0 : reg_host((unsigned)a->reg2);
    int32_t distance;
    g_assert(again_works(t, a, at));
    value_distance(t, at, a->reg, a->value, &distance);
    int32_t disp = a->kind == AGAIN_ADD ? -a->imm - distance : a->kind == AGAIN_SUB ? a->imm - distance : -distance;
    if (disp || a->kind == AGAIN_ADD || a->kind == AGAIN_SUB) {
        e_mem(e, wide, XO_LEA, H_T1, (int)reg, -1, 1, disp);
        if (a->reg2 == a->reg)
            reg2 = H_T1;
        reg = H_T1;
    }
    if (a->size == 1) {
        e_rex(e, false, a->reg2 < 0 ? 0 : reg2, 0, reg, true);
        if (a->reg2 >= 0) {
            e8(e, a->kind == AGAIN_TEST ? 0x84 : 0x38);
            e8(e, 0xc0 | (reg2 & 7) << 3 | (reg & 7));
        } else {
            e8(e, a->kind == AGAIN_TEST ? 0xf6 : 0x80);
            e8(e, 0xc0 | (a->kind == AGAIN_TEST ? 0u : 7u) << 3 | (reg & 7));
            e8(e, (uint8_t)a->imm);
        }
        return;
    }
    if (a->reg2 >= 0) {
        e_rr(e, wide, a->kind == AGAIN_TEST ? 0x85 : XO_CMP_MR, reg2, reg);
    } else if (a->kind == AGAIN_TEST) {
        e_rex(e, wide, 0, 0, reg, false);
        e8(e, 0xf7);
        e8(e, 0xc0 | (reg & 7));
        e32(e, (uint32_t)a->imm);
    } else {
        e_ri(e, wide, a->kind == AGAIN_ADD ? XG_ADD : a->kind == AGAIN_SUB ? XG_SUB : XG_CMP, reg, a->imm);
    }
}

static void flags_clobber(Tr *t, bool is_live)
{
    if (t->flags == FLAGS_HOST && is_live && again_works_to_end(t)) {
        t->flags = FLAGS_AGAIN;
        return;
    }
    if (t->flags == FLAGS_HOST && is_live)
        e_flags_save(&t->e);
    if (t->flags == FLAGS_HOST)
        t->flags = is_live ? FLAGS_SLOT : FLAGS_NONE;
    else if (t->flags == FLAGS_BOTH)
        t->flags = FLAGS_SLOT;
    else if (t->flags == FLAGS_AGAIN && !is_live)
        t->flags = FLAGS_NONE;
}

void tr_flags_clobber(Tr *t) { flags_clobber(t, t->i < t->ninsns && t->live_in[t->i] != 0); }
void tr_flags_clobber_at_end(Tr *t) { flags_clobber(t, true); }

void tr_flags_to_host(Tr *t)
{
    if (t->flags == FLAGS_SLOT) {
        e_flags_restore(&t->e);
        t->flags = FLAGS_BOTH;
    } else if (t->flags == FLAGS_AGAIN) {
        tr_flags_again(t, &t->again, t->i);
        t->flags = FLAGS_HOST;
    }
}

void tr_flags_to_slot(Tr *t)
{
    if (t->flags == FLAGS_AGAIN)
        tr_flags_to_host(t);
    if (t->flags == FLAGS_HOST) {
        e_flags_save(&t->e);
        t->flags = FLAGS_BOTH;
    }
}

static bool needs_flags(const Tr *t, const Insn *insn)
{
    uint16_t survive = t->live_out[t->i] & (uint16_t)~insn->row->flags_written;
    return flags_read(insn) || (insn->row->flags_written && survive);
}

/* By itself, on the host: the handler looks for flags in the slot. */
static bool may_fault(const Insn *insn)
{
    return insn->row->attr & (A_X87 | A_MMX | A_SSE | A_AVX | A_ALIGN) || (insn->map == MAP_0F && insn->opcode == 0xc7);
}

bool tr_flags_before_emits(const Tr *t, const Insn *insn)
{
    return (needs_flags(t, insn) && t->flags != FLAGS_NONE) || (t->flags == FLAGS_AGAIN && may_fault(insn));
}

void tr_flags_before(Tr *t, const Insn *insn)
{
    if (needs_flags(t, insn))
        tr_flags_to_host(t);
    if (t->flags == FLAGS_AGAIN && may_fault(insn))
        tr_flags_to_slot(t);
}

void tr_flags_after(Tr *t, const Insn *insn)
{
    if (!insn->row->flags_written)
        return;
    t->flags = FLAGS_HOST;
    t->again.kind = AGAIN_NOT;
    if ((insn->row->flags_written & X86_FLAGS_STATUS) == X86_FLAGS_STATUS)
        again_note(t, t->i);
}
