/*
 * exec.h: what src/bt/exec-*.c offers to the translator and the dispatcher.
 *
 * An exec function carries out one instruction on BtCpu.  It leaves either by returning (next_rip says where to go on; a long string
 * instruction asked to pause sets it to itself), or through cpu->unwind after bt_raise*(), with exception_pending set and guest state
 * unchanged (a string instruction keeps its progress in rCX/rSI/rDI); the dispatcher then calls bt_deliver_pending() and goes
 * on at cpu->rip.
 *
 * Outside an exec function cpu->rip is where the guest stands; the dispatcher keeps it so before it calls anything here.
 */
#pragma once

#include "bt/cpu.h"
#include "bt/mem.h"

/**
 * bt_deliver:
 * @is_software_int: INT n, INT3, INTO: the gate's DPL counts, the return address is rip + @instruction_length
 *
 * Delivers through the IVT or IDT in every mode; afterwards rip == next_rip == first instruction of the handler.  A fault
 * during delivery unwinds like any other; bt_deliver_pending() then combines the two.  Source: SDM 3A chapter 6, 20.3.
 */
void bt_deliver(BtCpu *cpu, unsigned vector, bool has_code, uint32_t code, bool is_software_int, unsigned instruction_length);

/* bt_deliver_pending: delivers cpu->exception if there is one, as #DF or shutdown where SDM 3A tables 6-4 and 6-5 say so.  Returns false when
 * nothing was pending; after a triple fault returns true with cpu->shutdown set. */
bool bt_deliver_pending(BtCpu *cpu);

/* bt_interrupt_deliver: external interrupt @vector (already acknowledged) at cpu->rip.  bt_nmi_deliver: NMI; masks further ones until IRET.
 * Both end a HLT.  They unwind when delivery faults, like bt_deliver(). */
bool bt_interrupt_deliver(BtCpu *cpu, unsigned vector);
void bt_nmi_deliver(BtCpu *cpu);
/* bt_nmi_unmask: IRET is through: an NMI latched meanwhile may come, one only.  Source: SDM 3A 6.7.1. */
void bt_nmi_unmask(BtCpu *cpu);

/* exec-debug.c.  bt_debug_trap: #DB for what is in debug_hits, and the single step if @is_step; cpu->rip is the next instruction.
 * bt_debug_fetch: #DB if a breakpoint is on the instruction at cpu->rip.  Both unwind.  bt_debug_access, bt_debug_port: note hits. */
#define DR6_GENERAL_DETECT (1u << 13)
#define DR6_STEP           (1u << 14)
#define DR6_TASK_SWITCH    (1u << 15)
#define DR7_GENERAL_DETECT (1u << 13)
bool bt_debug_wanted(const BtCpu *cpu);
void bt_debug_trap(BtCpu *cpu, bool is_step) __attribute__((noreturn));
void bt_debug_fetch(BtCpu *cpu);
void bt_debug_port(BtCpu *cpu, unsigned port, unsigned size);

/* bt_update_mode: recomputes cpu->mode (and CPL in real and virtual-8086 mode); clears mode_dirty. */
void bt_update_mode(BtCpu *cpu);

/* bt_load_state, bt_save_state: canonical state ← → BtCpu.  Vector state must not be live (bt_fpu_park()).  A tsc of 0 in @state goes by
 * tsc_offset, and where that is zero, too, keeps the TSC as it is.  CR8 and APIC_BASE travel through CpuHost; when loading, zero APIC_BASE leaves both alone. */
void bt_load_state(BtCpu *cpu, const X86State *state);
void bt_save_state(BtCpu *cpu, X86State *out_state);

/* bt_reset: power-on state (SDM 3A table 9-1).  The MMU must be initialised. */
void bt_reset(BtCpu *cpu);

/* General instructions that the translator emits itself in flat 32- and 64-bit code; these take any mode and size.  The operand forms
 * are read from the Insn: opsize, code_size, modrm, imm. */
#define EXEC(name) void name(BtCpu *cpu, const Insn *insn)
EXEC(ex_push_reg);  /* 50–57 */
EXEC(ex_pop_reg);   /* 58–5F */
EXEC(ex_push_imm);  /* 68, 6A */
EXEC(ex_push_rm);   /* FF /6 */
EXEC(ex_pop_rm);    /* 8F /0 */
EXEC(ex_pushf);     /* 9C */
EXEC(ex_popf);      /* 9D */
EXEC(ex_call_rel);  /* E8 */
EXEC(ex_call_rm);   /* FF /2 */
EXEC(ex_jmp_rel);   /* E9, EB */
EXEC(ex_jmp_rm);    /* FF /4 */
EXEC(ex_jcc);       /* 70–7F, 0F 80–8F */
EXEC(ex_loop);      /* E0–E2 */
EXEC(ex_jcxz);      /* E3 */
EXEC(ex_ret);       /* C2, C3 */
EXEC(ex_leave);     /* C9 */
EXEC(ex_xlat);      /* D7 */
EXEC(ex_moffs);     /* A0–A3 */
EXEC(ex_lea);       /* 8D */
EXEC(ex_cli);       /* FA */
EXEC(ex_sti);       /* FB */
EXEC(ex_cld);       /* FC */
EXEC(ex_std);       /* FD */
EXEC(ex_clac);      /* 0F 01 CA */
EXEC(ex_stac);      /* 0F 01 CB */
EXEC(ex_swapgs);    /* 0F 01 F8 */
EXEC(ex_rdtsc);     /* 0F 31 */
EXEC(ex_ud);        /* 0F 0B, 0F B9, 0F FF: #UD */
EXEC(ex_fpu_check); /* raises what CR0.EM/TS, CR4 and XCR0 say about the row's A_X87, A_MMX, A_SSE, A_AVX; else returns */

/* bt_xsave_size: bytes of an XSAVE area with the components @which, in standard or compacted format (exec-fpu.c). */
uint32_t bt_xsave_size(const BtCpu *cpu, uint64_t which, bool is_compact);

/* Shared by the exec files. */

/* Registers by size; 4-byte writes clear the upper half.  bt_get_reg8/bt_set_reg8 know AH–BH. */
static inline uint64_t bt_get_reg(const BtCpu *cpu, unsigned reg, unsigned size)
{
    uint64_t value = cpu->gpr[reg];
    return size == 8 ? value : size == 4 ? (uint32_t)value : size == 2 ? (uint16_t)value : (uint8_t)value;
}

static inline void bt_set_reg(BtCpu *cpu, unsigned reg, unsigned size, uint64_t value)
{
    if (size == 8)
        cpu->gpr[reg] = value;
    else if (size == 4)
        cpu->gpr[reg] = (uint32_t)value;
    else if (size == 2)
        cpu->gpr[reg] = (cpu->gpr[reg] & ~(uint64_t)0xffff) | (uint16_t)value;
    else
        cpu->gpr[reg] = (cpu->gpr[reg] & ~(uint64_t)0xff) | (uint8_t)value;
}

/* ModRM r/m operand of 2, 4 or 8 bytes, register or memory. */
uint64_t bt_rm_read(BtCpu *cpu, const Insn *insn, unsigned size);
void bt_rm_write(BtCpu *cpu, const Insn *insn, unsigned size, uint64_t value);

/* The stack at the current privilege.  bt_stack_peek() reads @size bytes at rSP + @offset. */
static inline uint64_t bt_stack_mask(const BtCpu *cpu)
{
    return bt_code64(cpu) ? ~(uint64_t)0 : cpu->seg[X86_SS].attr & X86_SEG_DB ? 0xffffffffu : 0xffffu;
}

static inline void bt_stack_set(BtCpu *cpu, uint64_t sp)
{
    uint64_t mask = bt_stack_mask(cpu);
    cpu->gpr[X86_RSP] = mask == 0xffff ? (cpu->gpr[X86_RSP] & ~mask) | (sp & mask) : sp & mask;
}

uint64_t bt_stack_peek(BtCpu *cpu, uint64_t offset, unsigned size);
void bt_push(BtCpu *cpu, unsigned size, uint64_t value);

static inline void bt_stack_drop(BtCpu *cpu, uint64_t bytes) { bt_stack_set(cpu, cpu->gpr[X86_RSP] + bytes); }

/* bt_branch: next_rip = @target cut to @opsize, after the limit or canonical check (#GP(0)). */
void bt_branch(BtCpu *cpu, uint64_t target, unsigned opsize);

static inline void bt_require_cpl0(BtCpu *cpu)
{
    if (cpu->cpl != 0)
        bt_raise_code(cpu, X86_EXC_GP, 0);
}

/* bt_write_cr: MOV to CR0/CR3/CR4 with all checks and effects.  Raises #GP(0). */
void bt_write_cr0(BtCpu *cpu, uint64_t value);
void bt_write_cr3(BtCpu *cpu, uint64_t value);
void bt_write_cr4(BtCpu *cpu, uint64_t value);

/* bt_cpuid_has: is the bit set in the CPU model?  @reg: 0 EAX, 1 EBX, 2 ECX, 3 EDX. */
bool bt_cpuid_has(const BtCpu *cpu, uint32_t leaf, unsigned reg, unsigned bit);

/* The same for what is asked often; BtCpu.features. */
#define FEATURE_KNOWN   1u
#define FEATURE_RDTSCP  2u
#define FEATURE_RDPID   4u
#define FEATURE_SMAP    8u
#define FEATURE_INVPCID 16u
void bt_update_features(BtCpu *cpu);

static inline bool bt_has(BtCpu *cpu, uint32_t feature)
{
    if (__builtin_expect(cpu->features_of != cpu->cpuid || !cpu->features, 0))
        bt_update_features(cpu);
    return cpu->features & feature;
}

static inline uint64_t bt_guest_tsc(const BtCpu *cpu)
{
    uint32_t low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return ((uint64_t)high << 32 | low) + (uint64_t)cpu->tsc_offset;
}
