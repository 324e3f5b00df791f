/* The TSS: inner stacks, hardware task switches.  Source: SDM 3A chapter 7. */
#include "bt/exec-seg.h"

/* Layout of a 32-bit and a 16-bit TSS (SDM 3A figures 7-2, 7-10): offsets of IP, FLAGS, first GPR, first segment (ES CS SS DS [FS GS]),
 * LDT; size of items. */
typedef struct TssLayout {
    uint8_t item, min_limit, cr3, ip, flags, gpr, seg, nsegs, ldt;
} TssLayout;

static const TssLayout tss32 = {.item = 4, .min_limit = 103, .cr3 = 28, .ip = 32, .flags = 36, .gpr = 40, .seg = 72, .nsegs = 6, .ldt = 96};
static const TssLayout tss16 = {.item = 2, .min_limit = 43, .ip = 14, .flags = 16, .gpr = 18, .seg = 34, .nsegs = 4, .ldt = 42};

void tss_stack(BtCpu *cpu, unsigned level, uint16_t *out_ss, uint32_t *out_sp)
{
    const X86Segment *tr = &cpu->seg[X86_TR];
    bool is32 = tr->attr & 8;
    unsigned item = is32 ? 4 : 2;
    unsigned at = item + level * 2 * item;
    if (at + 2 * item - 1 > tr->limit)
        bt_raise_code(cpu, X86_EXC_TS, tr->selector & 0xfffc);
    *out_sp = (uint32_t)bt_load_sys(cpu, (uint32_t)(tr->base + at), item);
    *out_ss = (uint16_t)bt_load_sys(cpu, (uint32_t)(tr->base + at + item), 2);
}

uint64_t tss_stack_64(BtCpu *cpu, unsigned slot)
{
    const X86Segment *tr = &cpu->seg[X86_TR];
    unsigned at = 4 + slot * 8 + (slot >= 3 ? 8 : 0);
    if (at + 7 > tr->limit)
        bt_raise_code(cpu, X86_EXC_TS, tr->selector & 0xfffc);
    uint64_t sp = bt_load_sys(cpu, tr->base + at, 8);
    if (!gva_is_canonical(sp))
        bt_raise_code(cpu, X86_EXC_SS, 0);
    return sp;
}

/* What is read from the new TSS before anything changes. */
typedef struct NewTask {
    uint32_t cr3, ip, flags;
    uint32_t gpr[8];
    uint16_t seg[6], ldt;
    bool has_trap;
} NewTask;

static void new_task_read(BtCpu *cpu, const TssLayout *layout, Gva base, NewTask *out)
{
    unsigned item = layout->item;
    out->cr3 = layout->cr3 ? (uint32_t)bt_load_sys(cpu, base + layout->cr3, 4) : 0;
    out->ip = (uint32_t)bt_load_sys(cpu, base + layout->ip, item);
    out->flags = (uint32_t)bt_load_sys(cpu, base + layout->flags, item);
    for (unsigned i = 0; i < 8; i++)
        out->gpr[i] = (uint32_t)bt_load_sys(cpu, base + layout->gpr + i * item, item);
    for (unsigned i = 0; i < 6; i++)
        out->seg[i] = i < layout->nsegs ? (uint16_t)bt_load_sys(cpu, base + layout->seg + i * item, 2) : 0;
    out->ldt = (uint16_t)bt_load_sys(cpu, base + layout->ldt, 2);
    out->has_trap = item == 4 && bt_load_sys(cpu, base + 100, 2) & 1;
}

static void old_task_save(BtCpu *cpu, const TssLayout *layout, Gva base, uint32_t ip, uint32_t flags)
{
    unsigned item = layout->item;
    bt_store_sys(cpu, base + layout->ip, item, ip);
    bt_store_sys(cpu, base + layout->flags, item, flags);
    for (unsigned i = 0; i < 8; i++)
        bt_store_sys(cpu, base + layout->gpr + i * item, item, cpu->gpr[i]);
    for (unsigned i = 0; i < layout->nsegs; i++)
        bt_store_sys(cpu, base + layout->seg + i * item, 2, cpu->seg[i].selector);
}

static void set_busy(BtCpu *cpu, Gva descriptor, bool is_busy)
{
    uint64_t byte = bt_load_sys(cpu, descriptor + 5, 1);
    bt_store_sys(cpu, descriptor + 5, 1, is_busy ? byte | 2 : byte & ~(uint64_t)2);
}

static void load_ldt(BtCpu *cpu, unsigned selector)
{
    Descriptor d;
    segment_null(cpu, X86_LDTR, selector);
    if (selector_is_null(selector))
        return;
    if (selector & 4 || !descriptor_find(cpu, selector, &d) || (d.attr & 0x1f) != SYS_LDT || !(d.attr & X86_SEG_P))
        bt_raise_code(cpu, X86_EXC_TS, selector & 0xfffc);
    cpu->seg[X86_LDTR] = descriptor_segment(selector, &d);
}

static void load_task_cs(BtCpu *cpu, unsigned selector)
{
    Descriptor d;
    descriptor_read(cpu, selector, X86_EXC_TS, &d);
    unsigned rpl = selector & 3, dpl = X86_SEG_DPL(d.attr);
    bool is_code = (d.attr & (X86_SEG_S | X86_SEG_CODE)) == (X86_SEG_S | X86_SEG_CODE);
    if (!is_code || (d.attr & X86_SEG_CONFORMING ? dpl > rpl : dpl != rpl))
        bt_raise_code(cpu, X86_EXC_TS, selector & 0xfffc);
    if (!(d.attr & X86_SEG_P))
        bt_raise_code(cpu, X86_EXC_NP, selector & 0xfffc);
    descriptor_set_accessed(cpu, &d);
    segment_set_cs(cpu, selector, &d, rpl);
}

static void load_task_data(BtCpu *cpu, unsigned seg, unsigned selector)
{
    Descriptor d;
    if (selector_is_null(selector)) {
        segment_null(cpu, seg, selector);
        return;
    }
    descriptor_read(cpu, selector, X86_EXC_TS, &d);
    bool is_code = d.attr & X86_SEG_CODE;
    bool is_conforming = is_code && d.attr & X86_SEG_CONFORMING;
    if (!(d.attr & X86_SEG_S) || (is_code && !(d.attr & X86_SEG_READABLE)) ||
        (!is_conforming && (X86_SEG_DPL(d.attr) < (selector & 3) || X86_SEG_DPL(d.attr) < cpu->cpl)))
        bt_raise_code(cpu, X86_EXC_TS, selector & 0xfffc);
    if (!(d.attr & X86_SEG_P))
        bt_raise_code(cpu, X86_EXC_NP, selector & 0xfffc);
    descriptor_set_accessed(cpu, &d);
    cpu->seg[seg] = descriptor_segment(selector, &d);
}

static void load_segments(BtCpu *cpu, const NewTask *task)
{
    load_ldt(cpu, task->ldt);
    if (task->flags & X86_FLAG_VM) {
        cpu->cpl = 3;
        for (unsigned i = 0; i < 6; i++)
            segment_load_real(cpu, i, task->seg[i]);
        return;
    }
    load_task_cs(cpu, task->seg[X86_CS]);
    cpu->seg[X86_SS] = segment_check_stack(cpu, task->seg[X86_SS], cpu->cpl, X86_EXC_TS);
    load_task_data(cpu, X86_ES, task->seg[X86_ES]);
    load_task_data(cpu, X86_DS, task->seg[X86_DS]);
    load_task_data(cpu, X86_FS, task->seg[X86_FS]);
    load_task_data(cpu, X86_GS, task->seg[X86_GS]);
}

void task_switch(BtCpu *cpu, unsigned selector, const Descriptor *tss, TaskSwitchKind kind, uint64_t return_rip, bool has_code,
                 uint32_t code)
{
    const TssLayout *layout = tss->attr & 8 ? &tss32 : &tss16;
    X86Segment *tr = &cpu->seg[X86_TR];
    const TssLayout *old_layout = tr->attr & 8 ? &tss32 : &tss16;
    X86Segment new_tr = descriptor_segment(selector, tss);
    Gva old_base = tr->base, new_base = new_tr.base;
    bool is_nested = kind == TASK_CALL || kind == TASK_INT;
    NewTask task;

    if (new_tr.limit < layout->min_limit)
        bt_raise_code(cpu, X86_EXC_TS, selector & 0xfffc);
    bt_probe(cpu, old_base, old_layout->min_limit + 1u, MMU_WRITE, MMU_KERNEL);
    if (is_nested)
        bt_probe(cpu, new_base, 2, MMU_WRITE, MMU_KERNEL);
    new_task_read(cpu, layout, new_base, &task);
    if (layout->cr3 && cpu->mmu.cr0 & X86_CR0_PG && cpu->mmu.cr4 & X86_CR4_PAE && !mmu_load_pdptrs(&cpu->mmu, task.cr3))
        bt_raise_code(cpu, X86_EXC_GP, 0);

    uint32_t flags = bt_flags(cpu);
    if (kind == TASK_IRET)
        flags &= ~X86_FLAG_NT;
    if (!is_nested)
        set_busy(cpu, (uint32_t)(cpu->gdtr.base + (tr->selector & 0xfff8)), false);
    old_task_save(cpu, old_layout, old_base, (uint32_t)return_rip, flags);
    if (is_nested) {
        bt_store_sys(cpu, new_base, 2, tr->selector);
        task.flags |= X86_FLAG_NT;
    }
    if (kind != TASK_IRET)
        set_busy(cpu, tss->gva, true);
    *tr = new_tr;
    tr->attr |= 2;

    /* From here the new task runs: what goes wrong is its own fault. */
    mmu_set_paging(&cpu->mmu, cpu->mmu.cr0 | X86_CR0_TS, cpu->mmu.cr4, cpu->mmu.efer);
    if (layout->cr3 && cpu->mmu.cr0 & X86_CR0_PG)
        mmu_set_cr3(&cpu->mmu, task.cr3);
    cpu->rip = cpu->next_rip = task.ip;
    for (unsigned i = 0; i < 8; i++)
        cpu->gpr[i] = layout->item == 4 ? task.gpr[i] : (cpu->gpr[i] & 0xffff0000u) | task.gpr[i];
    bt_set_flags(cpu, task.flags & ~X86_FLAG_RF);
    cpu->dr[7] &= ~(uint64_t)0x155;
    cpu->mode_dirty = true;
    load_segments(cpu, &task);
    if (has_code) {
        StackFrame frame = stack_frame_current(cpu);
        stack_frame_push(&frame, layout->item, code);
        stack_frame_commit(&frame);
    }
    if (task.ip > cpu->seg[X86_CS].limit)
        bt_raise_code(cpu, X86_EXC_GP, 0);
    if (task.has_trap) {
        cpu->dr[6] |= 1u << 15;
        bt_raise(cpu, X86_EXC_DB);
    }
}

void task_gate(BtCpu *cpu, uint64_t gate, TaskSwitchKind kind, uint64_t return_rip, bool has_code, uint32_t code)
{
    Descriptor tss;
    unsigned selector = gate >> 16 & 0xffff;
    if (selector & 4 || selector_is_null(selector) || !descriptor_find(cpu, selector, &tss))
        bt_raise_code(cpu, X86_EXC_GP, selector & 0xfffc);
    unsigned type = tss.attr & 0x1f;
    if (type != SYS_TSS16 && type != SYS_TSS32)
        bt_raise_code(cpu, X86_EXC_GP, selector & 0xfffc);
    if (!(tss.attr & X86_SEG_P))
        bt_raise_code(cpu, X86_EXC_NP, selector & 0xfffc);
    task_switch(cpu, selector, &tss, kind, return_rip, has_code, code);
}
