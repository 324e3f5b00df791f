/* Descriptor reads, segment register loads and stack frames. */
#include "bt/exec-seg.h"

bool descriptor_find(BtCpu *cpu, unsigned selector, Descriptor *out)
{
    uint64_t base, limit;
    if (selector & 4) {
        if (cpu->seg[X86_LDTR].attr & X86_SEG_UNUSABLE)
            return false;
        base = cpu->seg[X86_LDTR].base;
        limit = cpu->seg[X86_LDTR].limit;
    } else {
        base = cpu->gdtr.base;
        limit = cpu->gdtr.limit;
    }
    if ((selector | 7u) > limit)
        return false;
    out->gva = base + (selector & 0xfff8);
    if (!bt_long_mode(cpu))
        out->gva = (uint32_t)out->gva;
    out->raw = bt_load_sys(cpu, out->gva, 8);
    out->attr = descriptor_attr(out->raw);
    return true;
}

void descriptor_read(BtCpu *cpu, unsigned selector, unsigned vector, Descriptor *out)
{
    if (selector_is_null(selector))
        bt_raise_code(cpu, vector, 0);
    if (!descriptor_find(cpu, selector, out))
        bt_raise_code(cpu, vector, selector & 0xfffc);
}

uint64_t descriptor_base_high(BtCpu *cpu, unsigned selector, const Descriptor *descriptor)
{
    const X86Segment *ldt = &cpu->seg[X86_LDTR];
    uint64_t limit = selector & 4 ? ldt->limit : cpu->gdtr.limit;
    if ((selector & 0xfff8u) + 15 > limit)
        bt_raise_code(cpu, X86_EXC_GP, selector & 0xfffc);
    uint64_t high = bt_load_sys(cpu, descriptor->gva + 8, 8);
    if (high >> 40 & 0x1f)
        bt_raise_code(cpu, X86_EXC_GP, selector & 0xfffc);
    return high << 32;
}

void descriptor_set_accessed(BtCpu *cpu, Descriptor *descriptor)
{
    if (descriptor->attr & X86_SEG_ACCESSED)
        return;
    descriptor->attr |= X86_SEG_ACCESSED;
    descriptor->raw |= (uint64_t)X86_SEG_ACCESSED << 40;
    bt_store_sys(cpu, descriptor->gva + 5, 1, descriptor->raw >> 40 & 0xff);
}

void segment_null(BtCpu *cpu, unsigned seg, unsigned selector)
{
    X86Segment *s = &cpu->seg[seg];
    s->selector = (uint16_t)selector;
    s->attr = X86_SEG_UNUSABLE;
    if (seg == X86_SS) /* keeps DPL = CPL */
        s->attr |= (uint32_t)cpu->cpl << X86_SEG_DPL_SHIFT | X86_SEG_DB;
    s->base = 0;
    s->limit = 0;
    cpu->mode_dirty = true;
}

void segment_load_real(BtCpu *cpu, unsigned seg, unsigned selector)
{
    X86Segment *s = &cpu->seg[seg];
    s->selector = (uint16_t)selector;
    s->base = (uint64_t)(selector & 0xffff) << 4;
    if (bt_is_v86(cpu)) {
        s->limit = 0xffff;
        s->attr = 0xf3;
    } else if (s->attr & X86_SEG_UNUSABLE) {
        s->limit = 0xffff;
        s->attr = 0x93;
    } else {
        /* Limits and D/B survive from protected mode ("unreal mode"); SeaBIOS and boot loaders rely on it. */
        s->attr = (s->attr & 0xff00) | 0x93;
    }
    cpu->mode_dirty = true;
}

X86Segment segment_check_stack(BtCpu *cpu, unsigned selector, unsigned cpl, unsigned vector)
{
    Descriptor d;
    descriptor_read(cpu, selector, vector, &d);
    if ((selector & 3) != cpl || X86_SEG_DPL(d.attr) != cpl ||
        (d.attr & (X86_SEG_S | X86_SEG_CODE | X86_SEG_WRITABLE)) != (X86_SEG_S | X86_SEG_WRITABLE))
        bt_raise_code(cpu, vector, selector & 0xfffc);
    if (!(d.attr & X86_SEG_P))
        bt_raise_code(cpu, X86_EXC_SS, selector & 0xfffc);
    descriptor_set_accessed(cpu, &d);
    return descriptor_segment(selector, &d);
}

void segment_load(BtCpu *cpu, unsigned seg, unsigned selector)
{
    Descriptor d;
    selector &= 0xffff;
    if (!bt_is_protected(cpu)) {
        segment_load_real(cpu, seg, selector);
        return;
    }
    if (seg == X86_SS) {
        if (selector_is_null(selector)) {
            /* SDM 2B MOV: a null SS is fine in 64-bit mode below CPL 3, with RPL = CPL. */
            if (!bt_code64(cpu) || cpu->cpl == 3 || (selector & 3) != cpu->cpl)
                bt_raise_code(cpu, X86_EXC_GP, 0);
            segment_null(cpu, seg, selector);
            return;
        }
        cpu->seg[X86_SS] = segment_check_stack(cpu, selector, cpu->cpl, X86_EXC_GP);
        cpu->mode_dirty = true;
        return;
    }
    if (selector_is_null(selector)) {
        segment_null(cpu, seg, selector);
        return;
    }
    descriptor_read(cpu, selector, X86_EXC_GP, &d);
    bool is_code = d.attr & X86_SEG_CODE;
    if (!(d.attr & X86_SEG_S) || (is_code && !(d.attr & X86_SEG_READABLE)))
        bt_raise_code(cpu, X86_EXC_GP, selector & 0xfffc);
    if (!(is_code && d.attr & X86_SEG_CONFORMING) && (X86_SEG_DPL(d.attr) < (selector & 3) || X86_SEG_DPL(d.attr) < cpu->cpl))
        bt_raise_code(cpu, X86_EXC_GP, selector & 0xfffc);
    if (!(d.attr & X86_SEG_P))
        bt_raise_code(cpu, X86_EXC_NP, selector & 0xfffc);
    descriptor_set_accessed(cpu, &d);
    cpu->seg[seg] = descriptor_segment(selector, &d);
    cpu->mode_dirty = true;
}

void segment_set_cs(BtCpu *cpu, unsigned selector, const Descriptor *descriptor, unsigned cpl)
{
    cpu->seg[X86_CS] = descriptor_segment((selector & 0xfffc) | cpl, descriptor);
    cpu->cpl = (uint8_t)cpl;
    cpu->mode_dirty = true;
}

void segment_drop_inaccessible(BtCpu *cpu)
{
    static const uint8_t data[] = {X86_ES, X86_DS, X86_FS, X86_GS};
    for (unsigned i = 0; i < sizeof data; i++) {
        X86Segment *s = &cpu->seg[data[i]];
        bool is_conforming = (s->attr & (X86_SEG_CODE | X86_SEG_CONFORMING)) == (X86_SEG_CODE | X86_SEG_CONFORMING);
        if (s->attr & X86_SEG_UNUSABLE) {
            s->selector = 0;
        } else if (!is_conforming && X86_SEG_DPL(s->attr) < cpu->cpl) {
            uint64_t base = s->base;
            segment_null(cpu, data[i], 0);
            s->base = base; /* not reachable: the segment is unusable outside 64-bit code */
        }
    }
}

void code_check_target(BtCpu *cpu, const Descriptor *descriptor, uint64_t offset)
{
    if (bt_long_mode(cpu) && descriptor->attr & X86_SEG_L) {
        if (!gva_is_canonical(offset))
            bt_raise_code(cpu, X86_EXC_GP, 0);
    } else if ((uint32_t)offset > descriptor_limit(descriptor->raw)) {
        bt_raise_code(cpu, X86_EXC_GP, 0);
    }
}

StackFrame stack_frame_on(BtCpu *cpu, const X86Segment *ss, uint64_t sp, unsigned cpl, uint32_t fault_code)
{
    return (StackFrame){
        .cpu = cpu,
        .sp = sp,
        .mask = ss->attr & X86_SEG_DB ? 0xffffffffu : 0xffffu,
        .base = ss->base,
        .ss = ss,
        .index = cpl == 3 ? MMU_USER : MMU_KERNEL,
        .fault_code = fault_code,
    };
}

StackFrame stack_frame_64(BtCpu *cpu, uint64_t sp, unsigned cpl)
{
    return (StackFrame){.cpu = cpu, .sp = sp, .mask = ~(uint64_t)0, .index = cpl == 3 ? MMU_USER : MMU_KERNEL};
}

StackFrame stack_frame_current(BtCpu *cpu)
{
    StackFrame frame = bt_code64(cpu) ? stack_frame_64(cpu, cpu->gpr[X86_RSP], cpu->cpl)
                                      : stack_frame_on(cpu, &cpu->seg[X86_SS], cpu->gpr[X86_RSP], cpu->cpl, 0);
    frame.index = bt_mmu_index(cpu);
    return frame;
}

static Gva stack_frame_linear(const StackFrame *frame, uint64_t sp, unsigned size)
{
    BtCpu *cpu = frame->cpu;
    const X86Segment *ss = frame->ss;
    if (!ss) {
        if (!gva_is_canonical(sp) || !gva_is_canonical(sp + size - 1))
            bt_raise_code(cpu, X86_EXC_SS, frame->fault_code);
        return sp;
    }
    uint64_t last = sp + size - 1;
    bool is_inside = last <= ss->limit;
    if (!bt_is_real(cpu) && ss->attr & X86_SEG_EXPAND_DOWN)
        is_inside = sp > ss->limit && last <= (ss->attr & X86_SEG_DB ? 0xffffffffu : 0xffffu);
    if (!bt_is_real(cpu) && ss->attr & X86_SEG_UNUSABLE)
        is_inside = false;
    if (!is_inside)
        bt_raise_code(cpu, X86_EXC_SS, frame->fault_code);
    return (uint32_t)(frame->base + sp);
}

/* #AC is for accesses at CPL 3 only: not for the frame of an interrupt that leads out of it. */
static void stack_frame_check(const StackFrame *frame, Gva gva, unsigned size, bool is_write)
{
    BtCpu *cpu = frame->cpu;
    if (frame->index == MMU_USER)
        bt_check_access(cpu, gva, size, is_write);
    else if (cpu->mode & MODE_DEBUG)
        bt_debug_access(cpu, gva, size, is_write);
}

void stack_frame_push(StackFrame *frame, unsigned size, uint64_t value)
{
    uint64_t sp = (frame->sp - size) & frame->mask;
    Gva gva = stack_frame_linear(frame, sp, size);
    stack_frame_check(frame, gva, size, true);
    bt_store_as(frame->cpu, gva, size, value, frame->index);
    frame->sp = sp;
}

uint64_t stack_frame_pop(StackFrame *frame, unsigned size)
{
    uint64_t sp = frame->sp & frame->mask;
    Gva gva = stack_frame_linear(frame, sp, size);
    stack_frame_check(frame, gva, size, false);
    uint64_t value = bt_load_as(frame->cpu, gva, size, frame->index);
    frame->sp = (sp + size) & frame->mask;
    return value;
}
