/* Descriptors and segment registers, for exec-*.c.  Source: SDM 3A chapters 3.4, 3.5 and 5. */
#pragma once

#include "bt/exec.h"

/* Types of system descriptors (SDM 3A table 3-2). */
enum {
    SYS_TSS16 = 1, SYS_LDT = 2, SYS_TSS16_BUSY = 3, SYS_CALL16 = 4, SYS_TASK_GATE = 5, SYS_INT16 = 6, SYS_TRAP16 = 7,
    SYS_TSS32 = 9, SYS_TSS32_BUSY = 11, SYS_CALL32 = 12, SYS_INT32 = 14, SYS_TRAP32 = 15
};

typedef struct Descriptor {
    Gva gva;      /* where it lies */
    uint64_t raw; /* first 8 bytes */
    uint32_t attr;
} Descriptor;

static inline uint32_t descriptor_attr(uint64_t raw) { return (uint32_t)(raw >> 40) & 0xf0ff; }
static inline uint32_t descriptor_base(uint64_t raw)
{
    return (uint32_t)(raw >> 16 & 0xffffff) | (uint32_t)(raw >> 56 << 24);
}
static inline uint32_t descriptor_limit(uint64_t raw)
{
    uint32_t limit = (uint32_t)(raw & 0xffff) | (uint32_t)(raw >> 32 & 0xf0000);
    return raw >> 55 & 1 ? limit << 12 | 0xfff : limit;
}

static inline bool selector_is_null(unsigned selector) { return (selector & 0xfffc) == 0; }

/* descriptor_find: reads the descriptor of @selector from GDT or LDT.  False: outside the table.  May raise #PF. */
bool descriptor_find(BtCpu *cpu, unsigned selector, Descriptor *out);
/* descriptor_read: the same, null or outside: raises @vector(selector). */
void descriptor_read(BtCpu *cpu, unsigned selector, unsigned vector, Descriptor *out);
/* descriptor_base_high: bits 63:32 of the base of a 16-byte system descriptor (long mode); checks that it lies within the table and
 * that its type field is zero, else raises #GP(selector). */
uint64_t descriptor_base_high(BtCpu *cpu, unsigned selector, const Descriptor *descriptor);
/* descriptor_set_accessed: sets the accessed bit in memory and in @descriptor. */
void descriptor_set_accessed(BtCpu *cpu, Descriptor *descriptor);

static inline X86Segment descriptor_segment(unsigned selector, const Descriptor *d)
{
    return (X86Segment){.selector = (uint16_t)selector, .attr = d->attr, .limit = descriptor_limit(d->raw),
                        .base = descriptor_base(d->raw)};
}

/* segment_load_real: selector and base as real and virtual-8086 mode do. */
void segment_load_real(BtCpu *cpu, unsigned seg, unsigned selector);
/* segment_load: MOV/POP/Lxs to a data or stack segment register, all modes, all checks. */
void segment_load(BtCpu *cpu, unsigned seg, unsigned selector);
/* segment_check_stack: descriptor fit for SS at @cpl?  Raises @vector(selector) or #SS(selector); sets accessed; returns the segment. */
X86Segment segment_check_stack(BtCpu *cpu, unsigned selector, unsigned cpl, unsigned vector);
/* segment_null: unusable, selector kept. */
void segment_null(BtCpu *cpu, unsigned seg, unsigned selector);
/* segment_set_cs: commits CS and CPL.  The RPL field becomes @cpl. */
void segment_set_cs(BtCpu *cpu, unsigned selector, const Descriptor *descriptor, unsigned cpl);
/* segment_drop_inaccessible: return to an outer level nulls data segments that are too privileged (SDM 2A RET). */
void segment_drop_inaccessible(BtCpu *cpu);

/* code_check_target: the offset fits the code segment that @descriptor describes, else #GP(0). */
void code_check_target(BtCpu *cpu, const Descriptor *descriptor, uint64_t offset);

/* A stack being built or read that need not be the current one. */
typedef struct StackFrame {
    BtCpu *cpu;
    uint64_t sp;
    uint64_t mask;
    uint64_t base;
    const X86Segment *ss; /* NULL: 64-bit, no limits */
    MmuIndex index;
    uint32_t fault_code; /* for #SS */
} StackFrame;

StackFrame stack_frame_current(BtCpu *cpu);
/* stack_frame_on: for a stack segment about to be loaded. */
StackFrame stack_frame_on(BtCpu *cpu, const X86Segment *ss, uint64_t sp, unsigned cpl, uint32_t fault_code);
StackFrame stack_frame_64(BtCpu *cpu, uint64_t sp, unsigned cpl);
void stack_frame_push(StackFrame *frame, unsigned size, uint64_t value);
uint64_t stack_frame_pop(StackFrame *frame, unsigned size);
/* stack_frame_commit: rSP = frame's, merged as the stack size asks. */
static inline void stack_frame_commit(const StackFrame *frame)
{
    BtCpu *cpu = frame->cpu;
    cpu->gpr[X86_RSP] = frame->mask == 0xffff ? (cpu->gpr[X86_RSP] & ~(uint64_t)0xffff) | (frame->sp & 0xffff) : frame->sp & frame->mask;
}

/* tss_stack: SS:rSP for @level from the current TSS.  Raises #TS(TR selector). */
void tss_stack(BtCpu *cpu, unsigned level, uint16_t *out_ss, uint32_t *out_sp);
/* tss_stack_64: RSP0–2 (@slot 0–2) or IST1–7 (@slot 3–9) of the 64-bit TSS.  Raises #TS(TR) or #SS(0) when not canonical. */
uint64_t tss_stack_64(BtCpu *cpu, unsigned slot);

typedef enum TaskSwitchKind { TASK_JMP, TASK_CALL, TASK_IRET, TASK_INT } TaskSwitchKind;
/* task_switch: SDM 3A 7.3.  @return_rip is saved in the old TSS.  @code is pushed on the new stack when @has_code.  Sets rip and next_rip. */
void task_switch(BtCpu *cpu, unsigned selector, const Descriptor *tss, TaskSwitchKind kind, uint64_t return_rip, bool has_code,
                 uint32_t code);
/* task_gate: follows a task gate's selector to an available TSS and switches. */
void task_gate(BtCpu *cpu, uint64_t gate, TaskSwitchKind kind, uint64_t return_rip, bool has_code, uint32_t code);
