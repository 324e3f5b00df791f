/*
 * The guest's status flags are the host's.
 *
 * What translated code does in between (memory checks, lookups) destroys them, so a backward pass finds at which instructions they are still
 * needed; only there they are parked in the vCPU block: LAHF's byte in status_ah, OF in status_of.  At the end of a block all flags
 * count as needed, because the next block may read them.
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

void tr_flags_clobber(Tr *t)
{
    bool is_live = t->i < t->ninsns && t->live_in[t->i] != 0;
    if (t->flags == FLAGS_HOST && is_live)
        e_flags_save(&t->e);
    if (t->flags == FLAGS_HOST)
        t->flags = is_live ? FLAGS_SLOT : FLAGS_NONE;
    else if (t->flags == FLAGS_BOTH)
        t->flags = FLAGS_SLOT;
}

void tr_flags_to_host(Tr *t)
{
    if (t->flags == FLAGS_SLOT) {
        e_flags_restore(&t->e);
        t->flags = FLAGS_BOTH;
    }
}

void tr_flags_to_slot(Tr *t)
{
    if (t->flags == FLAGS_HOST) {
        e_flags_save(&t->e);
        t->flags = FLAGS_BOTH;
    }
}

void tr_flags_before(Tr *t, const Insn *insn)
{
    const InsnRow *row = insn->row;
    uint16_t survive = t->live_out[t->i] & (uint16_t)~row->flags_written;
    if (flags_read(insn) || (row->flags_written && survive))
        tr_flags_to_host(t);
}

void tr_flags_after(Tr *t, const Insn *insn)
{
    if (insn->row->flags_written)
        t->flags = FLAGS_HOST;
}
