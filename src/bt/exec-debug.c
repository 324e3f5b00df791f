/*
 * Debug traps and breakpoints: DR0–DR3 by DR7, DR6's bits.  Source: SDM 3B 17.2 (registers), 17.3.1 (#DB), 3A 6.8.3 (MOV SS).
 *
 * While DR7 enables a breakpoint the mode has MODE_DEBUG: every instruction is a block of its own that ends in the dispatcher, and every
 * access takes the slow path, which calls bt_debug_access().
 */
#include "bt/debugger.h"
#include "bt/exec-seg.h"
#include "bt/insn-table.h"

enum { ON_FETCH, ON_WRITE, ON_PORT, ON_ACCESS };

static bool is_enabled(const BtCpu *cpu, unsigned i) { return cpu->dr[7] >> (2 * i) & 3; }
static unsigned condition(const BtCpu *cpu, unsigned i) { return cpu->dr[7] >> (16 + 4 * i) & 3; }

static uint64_t length(const BtCpu *cpu, unsigned i)
{
    static const uint8_t bytes[4] = {1, 2, 8, 4};
    return bytes[cpu->dr[7] >> (18 + 4 * i) & 3];
}

static bool overlaps(const BtCpu *cpu, unsigned i, uint64_t at, uint64_t size)
{
    uint64_t bytes = length(cpu, i), start = cpu->dr[i] & ~(bytes - 1);
    return at < start + bytes && start < at + size;
}

bool bt_debug_wanted(const BtCpu *cpu) { return cpu->dr[7] & 0xff || (cpu->debugger && cpu->debugger->nwatches); }

void bt_debug_access(BtCpu *cpu, Gva gva, unsigned size, bool is_write)
{
    for (unsigned i = 0; i < 4; i++) {
        unsigned on = condition(cpu, i);
        if (is_enabled(cpu, i) && (on == ON_ACCESS || (on == ON_WRITE && is_write)) && overlaps(cpu, i, gva, size))
            cpu->debug_hits |= 1u << i;
    }
    if (cpu->debugger)
        bt_debugger_access(cpu, gva, size, is_write);
}

void bt_debug_port(BtCpu *cpu, unsigned port, unsigned size)
{
    for (unsigned i = 0; i < 4 && cpu->mmu.cr4 & X86_CR4_DE; i++)
        if (is_enabled(cpu, i) && condition(cpu, i) == ON_PORT && overlaps(cpu, i, port, size))
            cpu->debug_hits |= 1u << i;
}

/* DR6.B0–B3 show what matched this time; the other bits stay until software clears them. */
static void note(BtCpu *cpu, uint32_t more)
{
    cpu->dr[6] = (cpu->dr[6] & ~(uint64_t)15) | cpu->debug_hits | more;
    cpu->debug_hits = 0;
}

void bt_debug_trap(BtCpu *cpu, bool is_step)
{
    note(cpu, is_step ? DR6_STEP : 0);
    bt_raise(cpu, X86_EXC_DB);
}

/* Right after MOV SS too: AMD's CPUs, as which we present ourselves, hold back traps only. */
void bt_debug_fetch(BtCpu *cpu)
{
    uint64_t base = bt_code64(cpu) ? 0 : cpu->seg[X86_CS].base;
    Gva gva = bt_code64(cpu) ? cpu->rip : (uint32_t)(cpu->rip + base);
    bool is_hit = false;
    if (cpu->eflags & X86_FLAG_RF)
        return;
    for (unsigned i = 0; i < 4; i++)
        if (is_enabled(cpu, i) && condition(cpu, i) == ON_FETCH && cpu->dr[i] == gva) {
            cpu->debug_hits |= 1u << i;
            is_hit = true;
        }
    if (is_hit)
        bt_debug_trap(cpu, false);
}

/* Checks common to both directions of MOV DR; returns the register meant: 4 and 5 are 6 and 7 without CR4.DE. */
static unsigned debug_register(BtCpu *cpu, const Insn *insn)
{
    unsigned number = insn->reg;
    if (number > 7 || ((number == 4 || number == 5) && cpu->mmu.cr4 & X86_CR4_DE))
        bt_raise(cpu, X86_EXC_UD);
    if (cpu->dr[7] & DR7_GENERAL_DETECT) {
        cpu->dr[7] &= ~(uint64_t)DR7_GENERAL_DETECT;
        note(cpu, DR6_GENERAL_DETECT);
        bt_raise(cpu, X86_EXC_DB);
    }
    return number == 4 || number == 5 ? number + 2 : number;
}

void ex_mov_from_dr(BtCpu *cpu, const Insn *insn)
{
    unsigned number = debug_register(cpu, insn);
    bt_set_reg(cpu, insn->rm, insn->code_size == 8 ? 8 : 4, cpu->dr[number]);
}

void ex_mov_to_dr(BtCpu *cpu, const Insn *insn)
{
    unsigned number = debug_register(cpu, insn);
    uint64_t value = bt_get_reg(cpu, insn->rm, insn->code_size == 8 ? 8 : 4);
    if (number >= 6 && value >> 32)
        bt_raise_code(cpu, X86_EXC_GP, 0);
    if (number == 6)
        value = (value & 0xe00f) | 0xffff0ff0;
    else if (number == 7)
        value = (value & 0xffff2fff) | 0x400;
    cpu->dr[number] = value;
    cpu->eflags &= ~X86_FLAG_RF; /* of an earlier return: it was for one instruction */
    cpu->mode_dirty = true;
}

/* INT1: #DB as a trap, without the gate's DPL check.  It takes along what MOV SS held back. */
void ex_int1(BtCpu *cpu, const Insn *insn)
{
    if (cpu->debug_hits)
        note(cpu, 0);
    bt_deliver(cpu, X86_EXC_DB, false, 0, false, insn->length);
}

/* --- a debugger's --- */

static bool is_among(const Gva *list, unsigned count, Gva gva)
{
    while (count > 0) {
        unsigned middle = count / 2;
        if (list[middle] == gva)
            return true;
        if (list[middle] < gva) {
            list += middle + 1;
            count -= middle + 1;
        } else {
            count = middle;
        }
    }
    return false;
}

bool bt_debugger_is_fence(const BtCpu *cpu, Gva gva) { return is_among(cpu->debugger->fences, cpu->debugger->nfences, gva); }

Gva bt_debugger_here(const BtCpu *cpu) { return bt_code64(cpu) ? cpu->rip : (uint32_t)(cpu->rip + cpu->seg[X86_CS].base); }

bool bt_debugger_stops(BtCpu *cpu)
{
    BtDebugger *debugger = cpu->debugger;
    if (debugger->stop != CPU_STOP_NONE)
        return true;
    Gva here = bt_debugger_here(cpu);
    if (debugger->steps && debugger->has_stepped)
        debugger->stop = CPU_STOP_STEP;
    else if (is_among(debugger->breaks, debugger->nbreaks, here))
        debugger->stop = CPU_STOP_BREAK;
    else
        return false;
    debugger->address = here;
    return true;
}

void bt_debugger_access(BtCpu *cpu, Gva gva, unsigned size, bool is_write)
{
    BtDebugger *debugger = cpu->debugger;
    for (unsigned i = 0; i < debugger->nwatches; i++) {
        const CpuWatch *watch = &debugger->watches[i];
        if ((is_write ? watch->on_write : watch->on_read) && gva < watch->start + watch->size && watch->start < gva + size) {
            debugger->stop = CPU_STOP_WATCH;
            debugger->address = watch->start;
        }
    }
}
