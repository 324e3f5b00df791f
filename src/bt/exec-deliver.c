/* Raising and delivering exceptions and interrupts.  Source: SDM 3A chapter 6; 20.1–20.3 (real, virtual-8086); SDM 2A INT n. */
#include "bt/exec-seg.h"
#include "bt/trace.h"
#include "core/log.h"

/* What bt_deliver() was delivering when a fault came up; BtCpu.delivery_class. */
enum { CLASS_BENIGN, CLASS_CONTRIBUTORY, CLASS_PAGE_FAULT, CLASS_DOUBLE_FAULT };

static unsigned exception_class(unsigned vector)
{
    switch (vector) {
    case X86_EXC_DE: case X86_EXC_TS: case X86_EXC_NP: case X86_EXC_SS: case X86_EXC_GP: return CLASS_CONTRIBUTORY;
    case X86_EXC_PF: return CLASS_PAGE_FAULT;
    case X86_EXC_DF: return CLASS_DOUBLE_FAULT;
    default: return CLASS_BENIGN;
    }
}

static void __attribute__((noreturn)) raise_exception(BtCpu *cpu, unsigned vector, bool has_code, uint32_t code)
{
    cpu->exception.vector = (uint8_t)vector;
    cpu->exception.has_code = has_code;
    cpu->exception.code = code;
    cpu->exception_pending = true;
    cpu->unwind(cpu);
}

void bt_raise(BtCpu *cpu, unsigned vector) { raise_exception(cpu, vector, false, 0); }

void bt_raise_code(BtCpu *cpu, unsigned vector, uint32_t code)
{
    /* EXT: the fault came up while an event external to the program was delivered (SDM 3A 6.13). */
    if (cpu->delivering && cpu->delivery_external && vector >= X86_EXC_TS && vector <= X86_EXC_GP)
        code |= 1;
    raise_exception(cpu, vector, true, code);
}

void bt_raise_pf(BtCpu *cpu, Gva gva, uint32_t code)
{
    cpu->exception.cr2 = gva;
    raise_exception(cpu, X86_EXC_PF, true, code);
}

static void finish(BtCpu *cpu, uint64_t rip)
{
    cpu->rip = cpu->next_rip = rip;
    cpu->delivering = false;
    cpu->step = 0; /* TF is off: a single step of the interrupted instruction is forgotten */
}

/* RFLAGS as the frame shows them: RF set for faults (SDM 3B 17.3.1.1). */
static uint32_t frame_flags(const BtCpu *cpu, unsigned vector, bool is_software_int)
{
    bool is_fault = cpu->delivering && !is_software_int && !cpu->delivery_interrupt && vector != X86_EXC_DB && vector != X86_EXC_BP &&
                    vector != X86_EXC_OF && vector != X86_EXC_DF;
    return bt_flags(cpu) | (is_fault ? X86_FLAG_RF : 0);
}

static void deliver_real(BtCpu *cpu, unsigned vector, uint64_t return_rip)
{
    if (vector * 4 + 3 > cpu->idtr.limit)
        bt_raise_code(cpu, X86_EXC_GP, vector * 8 + 2);
    uint64_t entry = bt_load_sys(cpu, (uint32_t)(cpu->idtr.base + vector * 4), 4);
    StackFrame frame = stack_frame_current(cpu);
    stack_frame_push(&frame, 2, bt_flags(cpu));
    stack_frame_push(&frame, 2, cpu->seg[X86_CS].selector);
    stack_frame_push(&frame, 2, return_rip);
    stack_frame_commit(&frame);
    bt_set_flags(cpu, bt_flags(cpu) & ~(X86_FLAG_IF | X86_FLAG_TF | X86_FLAG_AC | X86_FLAG_RF));
    segment_load_real(cpu, X86_CS, (unsigned)(entry >> 16));
    finish(cpu, entry & 0xffff);
}

/* Code segment of an interrupt or trap gate; returns the new CPL. */
static unsigned gate_target(BtCpu *cpu, unsigned selector, Descriptor *out)
{
    descriptor_read(cpu, selector, X86_EXC_GP, out);
    if ((out->attr & (X86_SEG_S | X86_SEG_CODE)) != (X86_SEG_S | X86_SEG_CODE) || X86_SEG_DPL(out->attr) > cpu->cpl)
        bt_raise_code(cpu, X86_EXC_GP, selector & 0xfffc);
    if (!(out->attr & X86_SEG_P))
        bt_raise_code(cpu, X86_EXC_NP, selector & 0xfffc);
    if (bt_long_mode(cpu) && (out->attr & (X86_SEG_L | X86_SEG_DB)) != X86_SEG_L)
        bt_raise_code(cpu, X86_EXC_GP, selector & 0xfffc);
    return out->attr & X86_SEG_CONFORMING ? cpu->cpl : X86_SEG_DPL(out->attr);
}

static void clear_handler_flags(BtCpu *cpu, bool is_interrupt_gate)
{
    bt_set_flags(cpu, bt_flags(cpu) & ~(X86_FLAG_TF | X86_FLAG_NT | X86_FLAG_RF | X86_FLAG_VM | (is_interrupt_gate ? X86_FLAG_IF : 0u)));
}

static void deliver_long(BtCpu *cpu, unsigned vector, bool has_code, uint32_t code, bool is_software_int, uint64_t return_rip)
{
    uint32_t gate_code = vector * 8 + 2;
    if (vector * 16 + 15 > cpu->idtr.limit)
        bt_raise_code(cpu, X86_EXC_GP, gate_code);
    uint64_t low = bt_load_sys(cpu, cpu->idtr.base + vector * 16, 8);
    uint64_t high = bt_load_sys(cpu, cpu->idtr.base + vector * 16 + 8, 8);
    uint32_t attr = descriptor_attr(low);
    if ((attr & 0x1f) != SYS_INT32 && (attr & 0x1f) != SYS_TRAP32)
        bt_raise_code(cpu, X86_EXC_GP, gate_code);
    if (is_software_int && X86_SEG_DPL(attr) < cpu->cpl)
        bt_raise_code(cpu, X86_EXC_GP, gate_code);
    if (!(attr & X86_SEG_P))
        bt_raise_code(cpu, X86_EXC_NP, gate_code);
    uint64_t target = (low & 0xffff) | (low >> 32 & 0xffff0000u) | high << 32;
    unsigned selector = low >> 16 & 0xffff;
    unsigned ist = low >> 32 & 7;

    Descriptor cs;
    unsigned cpl = gate_target(cpu, selector, &cs);
    if (!gva_is_canonical(target))
        bt_raise_code(cpu, X86_EXC_GP, 0);
    uint64_t sp = ist ? tss_stack_64(cpu, 2 + ist) : cpl < cpu->cpl ? tss_stack_64(cpu, cpl) : cpu->gpr[X86_RSP];
    StackFrame frame = stack_frame_64(cpu, sp & ~(uint64_t)15, cpl);
    stack_frame_push(&frame, 8, cpu->seg[X86_SS].selector);
    stack_frame_push(&frame, 8, cpu->gpr[X86_RSP]);
    stack_frame_push(&frame, 8, frame_flags(cpu, vector, is_software_int));
    stack_frame_push(&frame, 8, cpu->seg[X86_CS].selector);
    stack_frame_push(&frame, 8, return_rip);
    if (has_code)
        stack_frame_push(&frame, 8, code);
    descriptor_set_accessed(cpu, &cs);

    bool is_inner = cpl < cpu->cpl;
    segment_set_cs(cpu, selector, &cs, cpl);
    if (is_inner)
        segment_null(cpu, X86_SS, cpl);
    cpu->gpr[X86_RSP] = frame.sp;
    clear_handler_flags(cpu, (attr & 0x1f) == SYS_INT32);
    finish(cpu, target);
}

/* Interrupt or trap gate of protected mode, also out of virtual-8086 mode. */
static void deliver_gate(BtCpu *cpu, uint64_t gate, unsigned vector, bool has_code, uint32_t code, bool is_software_int,
                         uint64_t return_rip)
{
    uint32_t type = descriptor_attr(gate) & 0x1f;
    unsigned size = type & 8 ? 4 : 2;
    unsigned selector = gate >> 16 & 0xffff;
    uint64_t target = size == 4 ? (gate & 0xffff) | (gate >> 32 & 0xffff0000u) : gate & 0xffff;
    Descriptor cs;
    unsigned cpl = gate_target(cpu, selector, &cs);
    bool was_v86 = bt_is_v86(cpu);
    if (was_v86 && cpl != 0)
        bt_raise_code(cpu, X86_EXC_GP, selector & 0xfffc);

    uint32_t flags = frame_flags(cpu, vector, is_software_int);
    X86Segment ss = cpu->seg[X86_SS];
    bool is_inner = cpl < cpu->cpl;
    StackFrame frame;
    if (is_inner) {
        uint16_t new_ss;
        uint32_t new_sp;
        tss_stack(cpu, cpl, &new_ss, &new_sp);
        ss = segment_check_stack(cpu, new_ss, cpl, X86_EXC_TS);
        frame = stack_frame_on(cpu, &ss, new_sp, cpl, new_ss & 0xfffc);
        if (was_v86) {
            stack_frame_push(&frame, size, cpu->seg[X86_GS].selector);
            stack_frame_push(&frame, size, cpu->seg[X86_FS].selector);
            stack_frame_push(&frame, size, cpu->seg[X86_DS].selector);
            stack_frame_push(&frame, size, cpu->seg[X86_ES].selector);
        }
        stack_frame_push(&frame, size, cpu->seg[X86_SS].selector);
        stack_frame_push(&frame, size, cpu->gpr[X86_RSP]);
    } else {
        frame = stack_frame_current(cpu);
    }
    stack_frame_push(&frame, size, flags);
    stack_frame_push(&frame, size, cpu->seg[X86_CS].selector);
    stack_frame_push(&frame, size, return_rip);
    if (has_code)
        stack_frame_push(&frame, size, code);
    code_check_target(cpu, &cs, target);
    descriptor_set_accessed(cpu, &cs);

    if (was_v86) {
        segment_null(cpu, X86_ES, 0);
        segment_null(cpu, X86_DS, 0);
        segment_null(cpu, X86_FS, 0);
        segment_null(cpu, X86_GS, 0);
    }
    if (is_inner)
        cpu->seg[X86_SS] = ss;
    stack_frame_commit(&frame);
    segment_set_cs(cpu, selector, &cs, cpl);
    clear_handler_flags(cpu, (type & 7) == SYS_INT16);
    finish(cpu, target);
}

static void deliver_protected(BtCpu *cpu, unsigned vector, bool has_code, uint32_t code, bool is_software_int, uint64_t return_rip)
{
    uint32_t gate_code = vector * 8 + 2;
    if (vector * 8 + 7 > cpu->idtr.limit)
        bt_raise_code(cpu, X86_EXC_GP, gate_code);
    uint64_t gate = bt_load_sys(cpu, (uint32_t)(cpu->idtr.base + vector * 8), 8);
    uint32_t attr = descriptor_attr(gate);
    switch (attr & 0x1f) {
    case SYS_TASK_GATE: case SYS_INT16: case SYS_TRAP16: case SYS_INT32: case SYS_TRAP32: break;
    default: bt_raise_code(cpu, X86_EXC_GP, gate_code);
    }
    if (is_software_int && X86_SEG_DPL(attr) < cpu->cpl)
        bt_raise_code(cpu, X86_EXC_GP, gate_code);
    if (!(attr & X86_SEG_P))
        bt_raise_code(cpu, X86_EXC_NP, gate_code);
    if ((attr & 0x1f) == SYS_TASK_GATE) {
        task_gate(cpu, gate, TASK_INT, return_rip, has_code, code);
        finish(cpu, cpu->rip);
        return;
    }
    deliver_gate(cpu, gate, vector, has_code, code, is_software_int, return_rip);
}

static void deliver(BtCpu *cpu, unsigned vector, bool has_code, uint32_t code, bool is_software_int, uint64_t return_rip)
{
    cpu->delivering = true;
    cpu->delivery_external = !is_software_int;
    if (log_on(LOG_INT))
        bt_host_call(cpu, trace_event, vector, has_code ? code : ~(uint64_t)0, is_software_int);
    if (bt_is_real(cpu))
        deliver_real(cpu, vector, return_rip);
    else if (bt_long_mode(cpu))
        deliver_long(cpu, vector, has_code, code, is_software_int, return_rip);
    else
        deliver_protected(cpu, vector, has_code, code, is_software_int, return_rip);
}

void bt_deliver(BtCpu *cpu, unsigned vector, bool has_code, uint32_t code, bool is_software_int, unsigned instruction_length)
{
    uint64_t return_rip = cpu->rip + instruction_length;
    cpu->delivery_class = is_software_int ? CLASS_BENIGN : (uint8_t)exception_class(vector);
    cpu->delivery_interrupt = false;
    deliver(cpu, vector, has_code, code, is_software_int, bt_code64(cpu) ? return_rip : (uint32_t)return_rip);
}

bool bt_deliver_pending(BtCpu *cpu)
{
    if (!cpu->exception_pending)
        return false;
    BtException e = cpu->exception;
    cpu->exception_pending = false;
    if (e.vector == X86_EXC_PF)
        cpu->cr2 = e.cr2;
    if (cpu->delivering) {
        unsigned second = exception_class(e.vector);
        cpu->delivering = false;
        if (cpu->delivery_class == CLASS_DOUBLE_FAULT) {
            cpu->shutdown = true;
            cpu->shutdown_reason = "triple fault: an exception came up while a double fault was delivered";
            return true;
        }
        bool is_double = (cpu->delivery_class == CLASS_CONTRIBUTORY && second == CLASS_CONTRIBUTORY) ||
                         (cpu->delivery_class == CLASS_PAGE_FAULT && (second == CLASS_CONTRIBUTORY || second == CLASS_PAGE_FAULT));
        if (is_double)
            e = (BtException){.vector = X86_EXC_DF, .has_code = true};
    }
    cpu->halted = false;
    bt_deliver(cpu, e.vector, e.has_code, e.code, false, 0);
    return true;
}

bool bt_interrupt_deliver(BtCpu *cpu, unsigned vector)
{
    cpu->halted = false;
    cpu->delivery_class = CLASS_BENIGN;
    cpu->delivery_interrupt = true;
    deliver(cpu, vector, false, 0, false, cpu->rip);
    return true;
}

void bt_nmi_deliver(BtCpu *cpu)
{
    cpu->nmi_masked = true;
    bt_interrupt_deliver(cpu, X86_EXC_NMI);
}

void bt_nmi_unmask(BtCpu *cpu)
{
    uint32_t too_many = 2;
    if (cpu->nmi_masked)
        __atomic_compare_exchange_n(&cpu->nmi_line, &too_many, 1, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
    cpu->nmi_masked = false;
}
