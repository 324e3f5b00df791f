/* Stack, near branches and what else the translator leaves to C outside flat code.  Source: SDM 2A/2B, per instruction. */
#include "bt/exec-seg.h"
#include "bt/insn-table.h"

uint64_t bt_rm_read(BtCpu *cpu, const Insn *insn, unsigned size)
{
    if (!insn->has_mem)
        return bt_get_reg(cpu, insn->rm, size);
    return bt_load(cpu, bt_operand(cpu, insn, size, MMU_READ), size);
}

void bt_rm_write(BtCpu *cpu, const Insn *insn, unsigned size, uint64_t value)
{
    if (insn->has_mem)
        bt_store(cpu, bt_operand(cpu, insn, size, MMU_WRITE), size, value);
    else
        bt_set_reg(cpu, insn->rm, size, value);
}

uint64_t bt_stack_peek(BtCpu *cpu, uint64_t offset, unsigned size)
{
    uint64_t sp = (cpu->gpr[X86_RSP] + offset) & bt_stack_mask(cpu);
    return bt_load(cpu, bt_linear(cpu, X86_SS, sp, size, MMU_READ), size);
}

void bt_push(BtCpu *cpu, unsigned size, uint64_t value)
{
    uint64_t sp = (cpu->gpr[X86_RSP] - size) & bt_stack_mask(cpu);
    bt_store(cpu, bt_linear(cpu, X86_SS, sp, size, MMU_WRITE), size, value);
    bt_stack_set(cpu, sp);
}

void bt_branch(BtCpu *cpu, uint64_t target, unsigned opsize)
{
    if (bt_code64(cpu)) {
        if (opsize == 2)
            target = (uint16_t)target;
        if (!gva_is_canonical(target))
            bt_raise_code(cpu, X86_EXC_GP, 0);
    } else {
        target = opsize == 2 ? (uint16_t)target : (uint32_t)target;
        if (target > cpu->seg[X86_CS].limit)
            bt_raise_code(cpu, X86_EXC_GP, 0);
    }
    cpu->next_rip = target;
}

static unsigned opcode_register(const Insn *insn) { return (insn->opcode & 7) | (insn->rex & 1 ? 8 : 0); }

void ex_push_reg(BtCpu *cpu, const Insn *insn) { bt_push(cpu, insn->opsize, cpu->gpr[opcode_register(insn)]); }
void ex_push_imm(BtCpu *cpu, const Insn *insn) { bt_push(cpu, insn->opsize, insn->imm); }
void ex_push_rm(BtCpu *cpu, const Insn *insn) { bt_push(cpu, insn->opsize, bt_rm_read(cpu, insn, insn->opsize)); }

void ex_pop_reg(BtCpu *cpu, const Insn *insn)
{
    uint64_t value = bt_stack_peek(cpu, 0, insn->opsize);
    bt_stack_drop(cpu, insn->opsize);
    bt_set_reg(cpu, opcode_register(insn), insn->opsize, value);
}

/* POP r/m: an address with rSP as base is computed after the increment; a fault leaves rSP as it was. */
void ex_pop_rm(BtCpu *cpu, const Insn *insn)
{
    uint64_t value = bt_stack_peek(cpu, 0, insn->opsize);
    uint64_t old_sp = cpu->gpr[X86_RSP];
    if (insn->has_mem) {
        bt_stack_drop(cpu, insn->opsize);
        uint64_t offset = bt_effective_address(cpu, insn);
        uint64_t new_sp = cpu->gpr[X86_RSP];
        cpu->gpr[X86_RSP] = old_sp;
        bt_store(cpu, bt_linear(cpu, insn->segment, offset, insn->opsize, MMU_WRITE), insn->opsize, value);
        cpu->gpr[X86_RSP] = new_sp;
    } else {
        bt_stack_drop(cpu, insn->opsize);
        bt_set_reg(cpu, insn->rm, insn->opsize, value);
    }
}

/* PUSH/POP ES CS SS DS: 06 07 0E 16 17 1E 1F; FS, GS: 0F A0 A1 A8 A9.  A push writes the whole operand size (zero extended). */
static unsigned opcode_segment(const Insn *insn) { return insn->map == MAP_0F ? (insn->opcode & 8 ? X86_GS : X86_FS) : insn->opcode >> 3 & 3u; }

void ex_push_seg(BtCpu *cpu, const Insn *insn) { bt_push(cpu, insn->opsize, cpu->seg[opcode_segment(insn)].selector); }

void ex_pop_seg(BtCpu *cpu, const Insn *insn)
{
    unsigned seg = opcode_segment(insn);
    unsigned selector = bt_stack_peek(cpu, 0, insn->opsize) & 0xffff;
    uint64_t mask = bt_stack_mask(cpu); /* of the stack popped from, should SS change */
    segment_load(cpu, seg, selector);
    uint64_t sp = cpu->gpr[X86_RSP] + insn->opsize;
    cpu->gpr[X86_RSP] = mask == 0xffff ? (cpu->gpr[X86_RSP] & ~mask) | (sp & mask) : sp & mask;
    if (seg == X86_SS)
        cpu->interrupt_shadow = cpu->debug_shadow = true;
}

void ex_mov_from_seg(BtCpu *cpu, const Insn *insn)
{
    if (insn->reg > X86_GS)
        bt_raise(cpu, X86_EXC_UD);
    bt_rm_write(cpu, insn, insn->has_mem ? 2 : insn->opsize, cpu->seg[insn->reg].selector);
}

void ex_mov_to_seg(BtCpu *cpu, const Insn *insn)
{
    if (insn->reg > X86_GS || insn->reg == X86_CS)
        bt_raise(cpu, X86_EXC_UD);
    segment_load(cpu, insn->reg, (unsigned)bt_rm_read(cpu, insn, 2));
    if (insn->reg == X86_SS)
        cpu->interrupt_shadow = cpu->debug_shadow = true;
}

/* LES C4, LDS C5, LSS 0F B2, LFS 0F B4, LGS 0F B5. */
void ex_load_far(BtCpu *cpu, const Insn *insn)
{
    unsigned size = insn->opsize;
    unsigned seg = insn->map == MAP_1B ? (insn->opcode == 0xc4 ? X86_ES : X86_DS)
                                       : (insn->opcode == 0xb2 ? X86_SS : insn->opcode == 0xb4 ? X86_FS : X86_GS);
    Gva gva = bt_operand(cpu, insn, size + 2, MMU_READ);
    uint64_t offset = bt_load_as(cpu, gva, size, bt_mmu_index(cpu));
    unsigned selector = (unsigned)bt_load_as(cpu, gva + size, 2, bt_mmu_index(cpu));
    segment_load(cpu, seg, selector);
    bt_set_reg(cpu, insn->reg, size, offset);
}

void ex_pusha(BtCpu *cpu, const Insn *insn)
{
    unsigned size = insn->opsize;
    StackFrame frame = stack_frame_current(cpu);
    for (unsigned i = 0; i < 8; i++)
        stack_frame_push(&frame, size, cpu->gpr[i]);
    stack_frame_commit(&frame);
}

void ex_popa(BtCpu *cpu, const Insn *insn)
{
    unsigned size = insn->opsize;
    uint64_t value[8];
    StackFrame frame = stack_frame_current(cpu);
    for (unsigned i = 8; i-- > 0;)
        value[i] = stack_frame_pop(&frame, size);
    for (unsigned i = 0; i < 8; i++)
        if (i != X86_RSP)
            bt_set_reg(cpu, i, size, value[i]);
    stack_frame_commit(&frame);
}

void ex_enter(BtCpu *cpu, const Insn *insn)
{
    unsigned size = insn->opsize, level = insn->imm2 & 31;
    uint64_t mask = bt_stack_mask(cpu);
    StackFrame frame = stack_frame_current(cpu);
    stack_frame_push(&frame, size, cpu->gpr[X86_RBP]);
    uint64_t frame_pointer = mask == 0xffff ? (cpu->gpr[X86_RSP] & ~mask) | frame.sp : frame.sp; /* FrameTemp is all of eSP */
    if (level > 0) {
        for (unsigned i = 1; i < level; i++) {
            uint64_t at = (cpu->gpr[X86_RBP] - (uint64_t)i * size) & mask;
            stack_frame_push(&frame, size, bt_load(cpu, bt_linear(cpu, X86_SS, at, size, MMU_READ), size));
        }
        stack_frame_push(&frame, size, frame_pointer);
    }
    frame.sp = (frame.sp - (uint16_t)insn->imm) & mask;
    Gva top = bt_linear(cpu, X86_SS, frame.sp, size, MMU_WRITE);
    bt_check_alignment(cpu, top, size);
    bt_probe(cpu, top, size, MMU_WRITE, bt_mmu_index(cpu));
    stack_frame_commit(&frame);
    bt_set_reg(cpu, X86_RBP, size, frame_pointer);
}

void ex_leave(BtCpu *cpu, const Insn *insn)
{
    unsigned size = insn->opsize;
    uint64_t sp = cpu->gpr[X86_RBP] & bt_stack_mask(cpu);
    uint64_t value = bt_load(cpu, bt_linear(cpu, X86_SS, sp, size, MMU_READ), size);
    bt_stack_set(cpu, sp + size);
    bt_set_reg(cpu, X86_RBP, size, value);
}

void ex_call_rel(BtCpu *cpu, const Insn *insn)
{
    uint64_t back = cpu->next_rip;
    bt_branch(cpu, back + insn->imm, insn->opsize);
    bt_push(cpu, insn->opsize, back);
}

void ex_call_rm(BtCpu *cpu, const Insn *insn)
{
    uint64_t back = cpu->next_rip;
    bt_branch(cpu, bt_rm_read(cpu, insn, insn->opsize), insn->opsize);
    bt_push(cpu, insn->opsize, back);
}

void ex_jmp_rel(BtCpu *cpu, const Insn *insn) { bt_branch(cpu, cpu->next_rip + insn->imm, insn->opsize); }
void ex_jmp_rm(BtCpu *cpu, const Insn *insn) { bt_branch(cpu, bt_rm_read(cpu, insn, insn->opsize), insn->opsize); }

void ex_ret(BtCpu *cpu, const Insn *insn)
{
    uint64_t target = bt_stack_peek(cpu, 0, insn->opsize);
    bt_branch(cpu, target, insn->opsize);
    bt_stack_drop(cpu, insn->opsize + (insn->opcode == 0xc2 ? (uint16_t)insn->imm : 0u));
}

/* The sixteen conditions of Jcc (SDM 2A, opcode bits 3:0). */
static bool condition_holds(const BtCpu *cpu, unsigned cc)
{
    uint32_t flags = bt_flags(cpu);
    bool cf = flags & X86_FLAG_CF, zf = flags & X86_FLAG_ZF, sf = flags & X86_FLAG_SF, of = flags & X86_FLAG_OF;
    bool is_true = false;
    switch (cc >> 1) {
    case 0: is_true = of; break;
    case 1: is_true = cf; break;
    case 2: is_true = zf; break;
    case 3: is_true = cf || zf; break;
    case 4: is_true = sf; break;
    case 5: is_true = flags & X86_FLAG_PF; break;
    case 6: is_true = sf != of; break;
    case 7: is_true = zf || sf != of; break;
    }
    return is_true != (cc & 1);
}

void ex_jcc(BtCpu *cpu, const Insn *insn)
{
    if (condition_holds(cpu, insn->opcode & 15))
        ex_jmp_rel(cpu, insn);
}

void ex_loop(BtCpu *cpu, const Insn *insn)
{
    uint64_t count = bt_get_reg(cpu, X86_RCX, insn->addrsize) - 1;
    bool zf = bt_flags(cpu) & X86_FLAG_ZF;
    bool is_taken = insn->addrsize == 8 ? count != 0 : insn->addrsize == 4 ? (uint32_t)count != 0 : (uint16_t)count != 0;
    if (insn->opcode == 0xe0)
        is_taken = is_taken && !zf;
    else if (insn->opcode == 0xe1)
        is_taken = is_taken && zf;
    if (is_taken)
        ex_jmp_rel(cpu, insn);
    bt_set_reg(cpu, X86_RCX, insn->addrsize, count);
}

void ex_jcxz(BtCpu *cpu, const Insn *insn)
{
    if (bt_get_reg(cpu, X86_RCX, insn->addrsize) == 0)
        ex_jmp_rel(cpu, insn);
}

void ex_xlat(BtCpu *cpu, const Insn *insn)
{
    uint64_t offset = cpu->gpr[X86_RBX] + (uint8_t)cpu->gpr[X86_RAX];
    offset = insn->addrsize == 8 ? offset : insn->addrsize == 4 ? (uint32_t)offset : (uint16_t)offset;
    unsigned seg = insn->has_segment_prefix ? insn->segment : X86_DS;
    bt_set_reg(cpu, X86_RAX, 1, bt_load(cpu, bt_linear(cpu, seg, offset, 1, MMU_READ), 1));
}

/* A0/A1: accumulator ← [moffs]; A2/A3: the other way. */
void ex_moffs(BtCpu *cpu, const Insn *insn)
{
    unsigned size = insn->opcode & 1 ? insn->opsize : 1;
    unsigned seg = insn->has_segment_prefix ? insn->segment : X86_DS;
    if (insn->opcode & 2)
        bt_store(cpu, bt_linear(cpu, seg, insn->imm, size, MMU_WRITE), size, cpu->gpr[X86_RAX]);
    else
        bt_set_reg(cpu, X86_RAX, size, bt_load(cpu, bt_linear(cpu, seg, insn->imm, size, MMU_READ), size));
}

void ex_lea(BtCpu *cpu, const Insn *insn)
{
    if (!insn->has_mem)
        bt_raise(cpu, X86_EXC_UD);
    bt_set_reg(cpu, insn->reg, insn->opsize, bt_effective_address(cpu, insn));
}

/* CLI and STI act on VIF under VME (virtual-8086) or PVI (CPL 3) when IOPL is too small (SDM 2A CLI table 3-7). */
static bool uses_vif(const BtCpu *cpu)
{
    if (bt_is_v86(cpu))
        return cpu->mmu.cr4 & X86_CR4_VME;
    return cpu->cpl == 3 && cpu->mmu.cr4 & X86_CR4_PVI;
}

static bool may_change_if(const BtCpu *cpu) { return bt_is_real(cpu) || cpu->cpl <= bt_iopl(cpu); }

void ex_cli(BtCpu *cpu, const Insn *insn)
{
    if (may_change_if(cpu))
        cpu->eflags &= ~X86_FLAG_IF;
    else if (uses_vif(cpu))
        cpu->eflags &= ~X86_FLAG_VIF;
    else
        bt_raise_code(cpu, X86_EXC_GP, 0);
}

void ex_sti(BtCpu *cpu, const Insn *insn)
{
    if (may_change_if(cpu)) {
        if (!(cpu->eflags & X86_FLAG_IF))
            cpu->interrupt_shadow = true;
        bt_set_flags(cpu, bt_flags(cpu) | X86_FLAG_IF);
    } else if (uses_vif(cpu) && !(cpu->eflags & X86_FLAG_VIP)) {
        cpu->eflags |= X86_FLAG_VIF;
    } else {
        bt_raise_code(cpu, X86_EXC_GP, 0);
    }
}

void ex_cld(BtCpu *cpu, const Insn *insn) { cpu->eflags &= ~X86_FLAG_DF; }
void ex_std(BtCpu *cpu, const Insn *insn) { cpu->eflags |= X86_FLAG_DF; }

void ex_clac(BtCpu *cpu, const Insn *insn)
{
    if (cpu->cpl != 0 || !bt_has(cpu, FEATURE_SMAP))
        bt_raise(cpu, X86_EXC_UD);
    bt_set_flags(cpu, bt_flags(cpu) & ~X86_FLAG_AC);
}

void ex_stac(BtCpu *cpu, const Insn *insn)
{
    if (cpu->cpl != 0 || !bt_has(cpu, FEATURE_SMAP))
        bt_raise(cpu, X86_EXC_UD);
    bt_set_flags(cpu, bt_flags(cpu) | X86_FLAG_AC);
}

void ex_ud(BtCpu *cpu, const Insn *insn) { bt_raise(cpu, X86_EXC_UD); }

/* Software interrupts: CD, CC, CE, F1. */

/* INT n in virtual-8086 mode with VME: does the TSS's redirection bitmap keep it in the task?  (SDM 3A 20.3.3 table 20-2.) */
static bool is_redirected(BtCpu *cpu, unsigned vector)
{
    const X86Segment *tr = &cpu->seg[X86_TR];
    if (!(tr->attr & 8) || tr->limit < 103)
        return false;
    unsigned map = (unsigned)bt_load_sys(cpu, (uint32_t)(tr->base + 102), 2);
    unsigned at = map - 32 + vector / 8;
    if (map < 32 || at > tr->limit)
        return false;
    return !(bt_load_sys(cpu, (uint32_t)(tr->base + at), 1) >> (vector & 7) & 1);
}

static void int_redirected(BtCpu *cpu, unsigned vector)
{
    bool is_virtual_if = bt_iopl(cpu) < 3;
    uint32_t flags = bt_flags(cpu), image = flags;
    uint32_t entry = (uint32_t)bt_load_as(cpu, vector * 4, 4, MMU_USER);
    if (is_virtual_if)
        image = (image & ~X86_FLAG_IF) | X86_FLAG_IOPL | (flags & X86_FLAG_VIF ? X86_FLAG_IF : 0);
    StackFrame frame = stack_frame_current(cpu);
    stack_frame_push(&frame, 2, image);
    stack_frame_push(&frame, 2, cpu->seg[X86_CS].selector);
    stack_frame_push(&frame, 2, cpu->next_rip);
    stack_frame_commit(&frame);
    bt_set_flags(cpu, flags & ~(X86_FLAG_TF | (is_virtual_if ? X86_FLAG_VIF : X86_FLAG_IF)));
    segment_load_real(cpu, X86_CS, entry >> 16);
    cpu->next_rip = entry & 0xffff;
}

void ex_int(BtCpu *cpu, const Insn *insn)
{
    unsigned vector = (uint8_t)insn->imm;
    if (bt_is_v86(cpu)) {
        if (cpu->mmu.cr4 & X86_CR4_VME && is_redirected(cpu, vector)) {
            int_redirected(cpu, vector);
            return;
        }
        if (bt_iopl(cpu) < 3)
            bt_raise_code(cpu, X86_EXC_GP, 0);
    }
    bt_deliver(cpu, vector, false, 0, true, insn->length);
}

void ex_int3(BtCpu *cpu, const Insn *insn) { bt_deliver(cpu, X86_EXC_BP, false, 0, true, insn->length); }

void ex_into(BtCpu *cpu, const Insn *insn)
{
    if (cpu->status_of)
        bt_deliver(cpu, X86_EXC_OF, false, 0, true, insn->length);
}

void ex_bound(BtCpu *cpu, const Insn *insn)
{
    unsigned size = insn->opsize;
    Gva gva = bt_operand(cpu, insn, 2 * size, MMU_READ);
    int64_t low = (int64_t)bt_load(cpu, gva, size), high = (int64_t)bt_load(cpu, gva + size, size);
    int64_t index = (int64_t)bt_get_reg(cpu, insn->reg, size);
    bool is_outside = size == 2 ? (int16_t)index < (int16_t)low || (int16_t)index > (int16_t)high
                                : (int32_t)index < (int32_t)low || (int32_t)index > (int32_t)high;
    if (is_outside)
        bt_raise(cpu, X86_EXC_BR);
}

void ex_arpl(BtCpu *cpu, const Insn *insn)
{
    unsigned to = (unsigned)bt_rm_read(cpu, insn, 2), from = (unsigned)bt_get_reg(cpu, insn->reg, 2);
    bool is_raised = (to & 3) < (from & 3);
    if (is_raised)
        bt_rm_write(cpu, insn, 2, (to & ~3u) | (from & 3));
    cpu->status_ah = (uint8_t)((cpu->status_ah & ~0x40) | (is_raised ? 0x40 : 0));
}
