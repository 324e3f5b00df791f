/* Far JMP, CALL, RET and IRET.  Source: SDM 2A CALL, JMP, IRET; 2B RET; 3A 5.8 (control transfers). */
#include "bt/exec-seg.h"
#include "bt/insn-table.h"

/* Flags that POPF and IRET may load at the current privilege, by operand size (SDM 2A IRET, 2B POPF). */
static uint32_t loadable_flags(const BtCpu *cpu, unsigned size)
{
    uint32_t mask = X86_FLAGS_STATUS | X86_FLAG_TF | X86_FLAG_DF | X86_FLAG_NT;
    if (size > 2)
        mask |= X86_FLAG_AC | X86_FLAG_ID;
    if (cpu->cpl == 0)
        mask |= X86_FLAG_IOPL | (size > 2 ? X86_FLAG_VIF | X86_FLAG_VIP : 0u);
    if (cpu->cpl <= bt_iopl(cpu))
        mask |= X86_FLAG_IF;
    return mask;
}

static void load_flags(BtCpu *cpu, uint32_t value, uint32_t mask)
{
    bt_set_flags(cpu, (value & mask) | (bt_flags(cpu) & ~mask & ~X86_FLAG_RF));
}

/* IRET takes RF from the image; it matters, and is kept, only while there are breakpoints. */
static void load_resume_flag(BtCpu *cpu, uint32_t image)
{
    if (image & X86_FLAG_RF && bt_debug_wanted(cpu))
        cpu->eflags |= X86_FLAG_RF;
}

/* A code descriptor found: usable with @rpl as the privilege after a transfer that cannot change it. */
static void check_code_same_level(BtCpu *cpu, unsigned selector, const Descriptor *d)
{
    bool is_fine = d->attr & X86_SEG_CONFORMING ? X86_SEG_DPL(d->attr) <= cpu->cpl
                                                : (selector & 3) <= cpu->cpl && X86_SEG_DPL(d->attr) == cpu->cpl;
    if (!is_fine)
        bt_raise_code(cpu, X86_EXC_GP, selector & 0xfffc);
}

static void check_code_present(BtCpu *cpu, unsigned selector, const Descriptor *d)
{
    if (!(d->attr & X86_SEG_P))
        bt_raise_code(cpu, X86_EXC_NP, selector & 0xfffc);
    if (bt_long_mode(cpu) && (d->attr & (X86_SEG_L | X86_SEG_DB)) == (X86_SEG_L | X86_SEG_DB))
        bt_raise_code(cpu, X86_EXC_GP, selector & 0xfffc);
}

static bool is_code(const Descriptor *d)
{
    return (d->attr & (X86_SEG_S | X86_SEG_CODE)) == (X86_SEG_S | X86_SEG_CODE);
}

static void far_real(BtCpu *cpu, unsigned selector, uint64_t offset)
{
    if ((uint32_t)offset > (bt_is_v86(cpu) ? 0xffffu : cpu->seg[X86_CS].limit))
        bt_raise_code(cpu, X86_EXC_GP, 0);
    segment_load_real(cpu, X86_CS, selector);
    cpu->next_rip = (uint32_t)offset;
}

/* Checks that DPL allows the use of a gate or TSS. */
static void check_system_dpl(BtCpu *cpu, unsigned selector, const Descriptor *d)
{
    if (X86_SEG_DPL(d->attr) < cpu->cpl || X86_SEG_DPL(d->attr) < (selector & 3))
        bt_raise_code(cpu, X86_EXC_GP, selector & 0xfffc);
}

/* Reads a call gate: target selector, offset and its code descriptor, checked for existence. */
typedef struct CallGate {
    unsigned selector;
    unsigned size;    /* bytes of each stack item: 2, 4, 8 */
    unsigned nparams; /* items to copy */
    uint64_t offset;
    Descriptor cs;
} CallGate;

static void call_gate_read(BtCpu *cpu, unsigned selector, const Descriptor *gate, CallGate *out)
{
    bool is_long = bt_long_mode(cpu);
    check_system_dpl(cpu, selector, gate);
    if (!(gate->attr & X86_SEG_P))
        bt_raise_code(cpu, X86_EXC_NP, selector & 0xfffc);
    out->selector = gate->raw >> 16 & 0xffff;
    out->offset = (gate->raw & 0xffff) | (gate->raw >> 32 & 0xffff0000u);
    out->size = is_long ? 8 : (gate->attr & 0xf) == SYS_CALL32 ? 4 : 2;
    out->nparams = is_long ? 0 : gate->raw >> 32 & 31;
    if (is_long)
        out->offset |= descriptor_base_high(cpu, selector, gate);
    else if (out->size == 2)
        out->offset &= 0xffff;
    descriptor_read(cpu, out->selector, X86_EXC_GP, &out->cs);
    if (!is_code(&out->cs) || X86_SEG_DPL(out->cs.attr) > cpu->cpl ||
        (is_long && (out->cs.attr & (X86_SEG_L | X86_SEG_DB)) != X86_SEG_L))
        bt_raise_code(cpu, X86_EXC_GP, out->selector & 0xfffc);
    if (!(out->cs.attr & X86_SEG_P))
        bt_raise_code(cpu, X86_EXC_NP, out->selector & 0xfffc);
}

/* System descriptor as target of JMP or CALL: returns true when it is a call gate, after having dealt with tasks. */
static bool far_system(BtCpu *cpu, unsigned selector, const Descriptor *d, TaskSwitchKind kind)
{
    unsigned type = d->attr & 0x1f;
    if (type == SYS_CALL32 || (type == SYS_CALL16 && !bt_long_mode(cpu)))
        return true;
    if (bt_long_mode(cpu) || (type != SYS_TSS16 && type != SYS_TSS32 && type != SYS_TASK_GATE))
        bt_raise_code(cpu, X86_EXC_GP, selector & 0xfffc);
    check_system_dpl(cpu, selector, d);
    if (!(d->attr & X86_SEG_P))
        bt_raise_code(cpu, X86_EXC_NP, selector & 0xfffc);
    if (type == SYS_TASK_GATE)
        task_gate(cpu, d->raw, kind, cpu->next_rip, false, 0);
    else
        task_switch(cpu, selector, d, kind, cpu->next_rip, false, 0);
    return false;
}

static void far_jump(BtCpu *cpu, unsigned selector, uint64_t offset)
{
    Descriptor d;
    if (!bt_is_protected(cpu)) {
        far_real(cpu, selector, offset);
        return;
    }
    descriptor_read(cpu, selector, X86_EXC_GP, &d);
    if (is_code(&d)) {
        check_code_same_level(cpu, selector, &d);
        check_code_present(cpu, selector, &d);
        code_check_target(cpu, &d, offset);
        descriptor_set_accessed(cpu, &d);
        segment_set_cs(cpu, selector, &d, cpu->cpl);
        cpu->next_rip = d.attr & X86_SEG_L && bt_long_mode(cpu) ? offset : (uint32_t)offset;
        return;
    }
    if (d.attr & X86_SEG_S)
        bt_raise_code(cpu, X86_EXC_GP, selector & 0xfffc);
    if (!far_system(cpu, selector, &d, TASK_JMP))
        return;
    CallGate gate;
    call_gate_read(cpu, selector, &d, &gate);
    if (!(gate.cs.attr & X86_SEG_CONFORMING) && X86_SEG_DPL(gate.cs.attr) != cpu->cpl)
        bt_raise_code(cpu, X86_EXC_GP, gate.selector & 0xfffc);
    code_check_target(cpu, &gate.cs, gate.offset);
    descriptor_set_accessed(cpu, &gate.cs);
    segment_set_cs(cpu, gate.selector, &gate.cs, cpu->cpl);
    cpu->next_rip = gate.offset;
}

/* CALL through a gate to a more privileged level: a new stack with the old one's address and the parameters on it. */
static void call_inner(BtCpu *cpu, CallGate *gate)
{
    unsigned cpl = X86_SEG_DPL(gate->cs.attr);
    X86Segment ss;
    StackFrame frame;
    if (gate->size == 8) {
        frame = stack_frame_64(cpu, tss_stack_64(cpu, cpl), cpl);
    } else {
        uint16_t new_ss;
        uint32_t new_sp;
        tss_stack(cpu, cpl, &new_ss, &new_sp);
        ss = segment_check_stack(cpu, new_ss, cpl, X86_EXC_TS);
        frame = stack_frame_on(cpu, &ss, new_sp, cpl, new_ss & 0xfffc);
    }
    stack_frame_push(&frame, gate->size, cpu->seg[X86_SS].selector);
    stack_frame_push(&frame, gate->size, cpu->gpr[X86_RSP]);
    for (unsigned i = gate->nparams; i-- > 0;)
        stack_frame_push(&frame, gate->size, bt_stack_peek(cpu, (uint64_t)i * gate->size, gate->size));
    stack_frame_push(&frame, gate->size, cpu->seg[X86_CS].selector);
    stack_frame_push(&frame, gate->size, cpu->next_rip);
    code_check_target(cpu, &gate->cs, gate->offset);
    descriptor_set_accessed(cpu, &gate->cs);
    segment_set_cs(cpu, gate->selector, &gate->cs, cpl);
    if (gate->size == 8)
        segment_null(cpu, X86_SS, cpl);
    else
        cpu->seg[X86_SS] = ss;
    stack_frame_commit(&frame);
    cpu->next_rip = gate->offset;
}

static void push_return(BtCpu *cpu, StackFrame *frame, unsigned size)
{
    *frame = stack_frame_current(cpu);
    stack_frame_push(frame, size, cpu->seg[X86_CS].selector);
    stack_frame_push(frame, size, cpu->next_rip);
}

static void far_call(BtCpu *cpu, unsigned selector, uint64_t offset, unsigned opsize)
{
    Descriptor d;
    StackFrame frame;
    if (!bt_is_protected(cpu)) {
        push_return(cpu, &frame, opsize);
        far_real(cpu, selector, offset);
        stack_frame_commit(&frame);
        return;
    }
    descriptor_read(cpu, selector, X86_EXC_GP, &d);
    if (is_code(&d)) {
        check_code_same_level(cpu, selector, &d);
        check_code_present(cpu, selector, &d);
        push_return(cpu, &frame, opsize);
        code_check_target(cpu, &d, offset);
        descriptor_set_accessed(cpu, &d);
        stack_frame_commit(&frame);
        segment_set_cs(cpu, selector, &d, cpu->cpl);
        cpu->next_rip = d.attr & X86_SEG_L && bt_long_mode(cpu) ? offset : (uint32_t)offset;
        return;
    }
    if (d.attr & X86_SEG_S)
        bt_raise_code(cpu, X86_EXC_GP, selector & 0xfffc);
    if (!far_system(cpu, selector, &d, TASK_CALL))
        return;
    CallGate gate;
    call_gate_read(cpu, selector, &d, &gate);
    if (!(gate.cs.attr & X86_SEG_CONFORMING) && X86_SEG_DPL(gate.cs.attr) < cpu->cpl) {
        call_inner(cpu, &gate);
        return;
    }
    push_return(cpu, &frame, gate.size);
    code_check_target(cpu, &gate.cs, gate.offset);
    descriptor_set_accessed(cpu, &gate.cs);
    stack_frame_commit(&frame);
    segment_set_cs(cpu, gate.selector, &gate.cs, cpu->cpl);
    cpu->next_rip = gate.offset;
}

/* Far pointer operand: in the instruction (9A, EA) or in memory (FF /3, FF /5). */
static void far_pointer(BtCpu *cpu, const Insn *insn, unsigned *out_selector, uint64_t *out_offset)
{
    unsigned size = insn->opsize;
    if (!insn->has_modrm) {
        *out_selector = insn->imm2;
        *out_offset = size == 2 ? (uint16_t)insn->imm : (uint32_t)insn->imm;
        return;
    }
    if (!insn->has_mem)
        bt_raise(cpu, X86_EXC_UD);
    Gva gva = bt_operand(cpu, insn, size + 2, MMU_READ);
    *out_offset = bt_load(cpu, gva, size);
    *out_selector = (unsigned)bt_load_as(cpu, gva + size, 2, bt_mmu_index(cpu));
}

void ex_far_jmp(BtCpu *cpu, const Insn *insn)
{
    unsigned selector;
    uint64_t offset;
    far_pointer(cpu, insn, &selector, &offset);
    far_jump(cpu, selector, offset);
}

void ex_far_call(BtCpu *cpu, const Insn *insn)
{
    unsigned selector;
    uint64_t offset;
    far_pointer(cpu, insn, &selector, &offset);
    far_call(cpu, selector, offset, insn->opsize);
}

/* CS popped by RETF and IRET: a code segment at RPL or conforming below it. */
static void check_return_cs(BtCpu *cpu, unsigned selector, Descriptor *out)
{
    unsigned rpl = selector & 3;
    descriptor_read(cpu, selector, X86_EXC_GP, out);
    bool is_fine = is_code(out) && rpl >= cpu->cpl &&
                   (out->attr & X86_SEG_CONFORMING ? X86_SEG_DPL(out->attr) <= rpl : X86_SEG_DPL(out->attr) == rpl);
    if (!is_fine)
        bt_raise_code(cpu, X86_EXC_GP, selector & 0xfffc);
    check_code_present(cpu, selector, out);
}

/* SS popped together with CS of privilege @rpl.  Null is allowed for 64-bit code below CPL 3. */
static X86Segment check_return_ss(BtCpu *cpu, unsigned selector, unsigned rpl, const Descriptor *cs)
{
    if (selector_is_null(selector)) {
        if (!bt_long_mode(cpu) || !(cs->attr & X86_SEG_L) || rpl == 3 || (selector & 3) != rpl)
            bt_raise_code(cpu, X86_EXC_GP, 0);
        return (X86Segment){.selector = (uint16_t)selector,
                            .attr = X86_SEG_UNUSABLE | X86_SEG_DB | rpl << X86_SEG_DPL_SHIFT};
    }
    return segment_check_stack(cpu, selector, rpl, X86_EXC_GP);
}

/* Commits the stack after a return to CS:SS as loaded now. */
static void return_stack(BtCpu *cpu, uint64_t sp) { bt_stack_set(cpu, sp); }

void ex_far_ret(BtCpu *cpu, const Insn *insn)
{
    unsigned size = insn->opsize;
    uint64_t drop = insn->opcode == 0xca ? (uint16_t)insn->imm : 0;
    StackFrame frame = stack_frame_current(cpu);
    uint64_t offset = stack_frame_pop(&frame, size);
    unsigned selector = stack_frame_pop(&frame, size) & 0xffff;
    if (!bt_is_protected(cpu)) {
        far_real(cpu, selector, offset);
        frame.sp += drop;
        stack_frame_commit(&frame);
        return;
    }
    Descriptor cs;
    unsigned rpl = selector & 3;
    check_return_cs(cpu, selector, &cs);
    frame.sp += drop;
    if (rpl == cpu->cpl) {
        code_check_target(cpu, &cs, offset);
        descriptor_set_accessed(cpu, &cs);
        segment_set_cs(cpu, selector, &cs, rpl);
        stack_frame_commit(&frame);
    } else {
        uint64_t sp = stack_frame_pop(&frame, size);
        X86Segment ss = check_return_ss(cpu, stack_frame_pop(&frame, size) & 0xffff, rpl, &cs);
        code_check_target(cpu, &cs, offset);
        descriptor_set_accessed(cpu, &cs);
        segment_set_cs(cpu, selector, &cs, rpl);
        cpu->seg[X86_SS] = ss;
        return_stack(cpu, sp + drop);
        segment_drop_inaccessible(cpu);
    }
    cpu->next_rip = offset;
}

static void iret_real(BtCpu *cpu, unsigned size)
{
    StackFrame frame = stack_frame_current(cpu);
    uint64_t offset = stack_frame_pop(&frame, size);
    unsigned selector = stack_frame_pop(&frame, size) & 0xffff;
    uint32_t flags = (uint32_t)stack_frame_pop(&frame, size);
    uint32_t mask = loadable_flags(cpu, size);
    if (bt_is_v86(cpu))
        mask &= ~X86_FLAG_IOPL;
    else
        mask &= ~(X86_FLAG_VIF | X86_FLAG_VIP);
    far_real(cpu, selector, offset);
    stack_frame_commit(&frame);
    load_flags(cpu, flags, mask);
}

/* 16-bit IRET in virtual-8086 mode with CR4.VME and IOPL < 3: IF means VIF (SDM 3A 20.3.3). */
static void iret_vme(BtCpu *cpu)
{
    StackFrame frame = stack_frame_current(cpu);
    uint64_t offset = stack_frame_pop(&frame, 2);
    unsigned selector = stack_frame_pop(&frame, 2) & 0xffff;
    uint32_t flags = (uint32_t)stack_frame_pop(&frame, 2);
    if ((flags & X86_FLAG_IF && bt_flags(cpu) & X86_FLAG_VIP) || flags & X86_FLAG_TF)
        bt_raise_code(cpu, X86_EXC_GP, 0);
    far_real(cpu, selector, offset);
    stack_frame_commit(&frame);
    uint32_t mask = X86_FLAGS_STATUS | X86_FLAG_TF | X86_FLAG_DF | X86_FLAG_NT | X86_FLAG_VIF;
    load_flags(cpu, flags & X86_FLAG_IF ? flags | X86_FLAG_VIF : flags & ~X86_FLAG_VIF, mask);
}

/* IRETD at CPL 0 with VM set in the image: nine dwords. */
static void iret_to_v86(BtCpu *cpu, StackFrame *frame, uint64_t offset, unsigned cs, uint32_t flags)
{
    static const uint8_t order[] = {X86_ES, X86_DS, X86_FS, X86_GS};
    uint16_t selector[4];
    uint32_t sp = (uint32_t)stack_frame_pop(frame, 4);
    unsigned ss = stack_frame_pop(frame, 4) & 0xffff;
    for (unsigned i = 0; i < 4; i++)
        selector[i] = (uint16_t)stack_frame_pop(frame, 4);
    bt_set_flags(cpu, flags & ~X86_FLAG_RF);
    load_resume_flag(cpu, flags);
    cpu->cpl = 3;
    segment_load_real(cpu, X86_CS, cs);
    segment_load_real(cpu, X86_SS, ss);
    for (unsigned i = 0; i < 4; i++)
        segment_load_real(cpu, order[i], selector[i]);
    cpu->gpr[X86_RSP] = sp;
    cpu->next_rip = (uint16_t)offset;
}

static void iret_protected(BtCpu *cpu, unsigned size)
{
    bool is_long = bt_long_mode(cpu);
    bool was_code64 = bt_code64(cpu);
    StackFrame frame = stack_frame_current(cpu);
    uint64_t offset = stack_frame_pop(&frame, size);
    unsigned selector = stack_frame_pop(&frame, size) & 0xffff;
    uint32_t flags = (uint32_t)stack_frame_pop(&frame, size);
    if (flags & X86_FLAG_VM && size == 4 && cpu->cpl == 0 && !is_long) {
        iret_to_v86(cpu, &frame, offset, selector, flags);
        return;
    }
    Descriptor cs;
    unsigned rpl = selector & 3;
    check_return_cs(cpu, selector, &cs);
    uint32_t mask = loadable_flags(cpu, size);
    if (rpl == cpu->cpl && !was_code64) {
        code_check_target(cpu, &cs, offset);
        descriptor_set_accessed(cpu, &cs);
        segment_set_cs(cpu, selector, &cs, rpl);
        stack_frame_commit(&frame);
    } else {
        bool is_outer = rpl != cpu->cpl;
        uint64_t sp = stack_frame_pop(&frame, size);
        X86Segment ss = check_return_ss(cpu, stack_frame_pop(&frame, size) & 0xffff, rpl, &cs);
        code_check_target(cpu, &cs, offset);
        descriptor_set_accessed(cpu, &cs);
        segment_set_cs(cpu, selector, &cs, rpl);
        cpu->seg[X86_SS] = ss;
        return_stack(cpu, sp);
        if (is_outer)
            segment_drop_inaccessible(cpu);
    }
    load_flags(cpu, flags, mask);
    if (size > 2)
        load_resume_flag(cpu, flags);
    cpu->next_rip = bt_code64(cpu) ? offset : (uint32_t)offset;
}

void ex_iret(BtCpu *cpu, const Insn *insn)
{
    unsigned size = insn->opsize;
    if (bt_is_real(cpu)) {
        iret_real(cpu, size);
    } else if (bt_is_v86(cpu)) {
        if (bt_iopl(cpu) == 3)
            iret_real(cpu, size);
        else if (cpu->mmu.cr4 & X86_CR4_VME && size == 2)
            iret_vme(cpu);
        else
            bt_raise_code(cpu, X86_EXC_GP, 0);
    } else if (cpu->eflags & X86_FLAG_NT) {
        if (bt_long_mode(cpu))
            bt_raise_code(cpu, X86_EXC_GP, 0);
        Descriptor tss;
        unsigned link = (unsigned)bt_load_sys(cpu, cpu->seg[X86_TR].base, 2);
        if (link & 4 || selector_is_null(link) || !descriptor_find(cpu, link, &tss) ||
            ((tss.attr & 0x1f) != SYS_TSS16_BUSY && (tss.attr & 0x1f) != SYS_TSS32_BUSY))
            bt_raise_code(cpu, X86_EXC_TS, link & 0xfffc);
        if (!(tss.attr & X86_SEG_P))
            bt_raise_code(cpu, X86_EXC_NP, link & 0xfffc);
        task_switch(cpu, link, &tss, TASK_IRET, cpu->next_rip, false, 0);
    } else {
        iret_protected(cpu, size);
    }
    bt_nmi_unmask(cpu);
}

void ex_pushf(BtCpu *cpu, const Insn *insn)
{
    uint32_t flags = bt_flags(cpu) & ~(X86_FLAG_VM | X86_FLAG_RF);
    if (bt_is_v86(cpu) && bt_iopl(cpu) < 3) {
        if (!(cpu->mmu.cr4 & X86_CR4_VME) || insn->opsize != 2)
            bt_raise_code(cpu, X86_EXC_GP, 0);
        flags = (flags & ~X86_FLAG_IF) | X86_FLAG_IOPL | (flags & X86_FLAG_VIF ? X86_FLAG_IF : 0);
    }
    bt_push(cpu, insn->opsize, flags);
}

void ex_popf(BtCpu *cpu, const Insn *insn)
{
    unsigned size = insn->opsize;
    bool is_v86 = bt_is_v86(cpu);
    bool is_vme = is_v86 && bt_iopl(cpu) < 3;
    if (is_vme && (!(cpu->mmu.cr4 & X86_CR4_VME) || size != 2))
        bt_raise_code(cpu, X86_EXC_GP, 0);
    uint32_t flags = (uint32_t)bt_stack_peek(cpu, 0, size);
    uint32_t mask = loadable_flags(cpu, size) & ~(X86_FLAG_VIF | X86_FLAG_VIP);
    if (is_vme) {
        if ((flags & X86_FLAG_IF && bt_flags(cpu) & X86_FLAG_VIP) || flags & X86_FLAG_TF)
            bt_raise_code(cpu, X86_EXC_GP, 0);
        mask |= X86_FLAG_VIF;
        flags = flags & X86_FLAG_IF ? flags | X86_FLAG_VIF : flags & ~X86_FLAG_VIF;
    }
    bt_stack_drop(cpu, size);
    load_flags(cpu, flags, mask);
}
