/*
 * A BtCpu over 4 MiB of RAM in an array, set up by hand, for tests of exec functions.
 *
 * Fixed places: GDT 0x1000, IDT 0x2000, TSS 0x3000 (32-bit: TSS_B at 0x3400), LDT 0x3800, code 0x5000, ring 3 stack 0x8000, ring 0 stack
 * 0x9000, IST1 stack 0xa000, page tables from 0x10000, data from 0x20000.  With paging on, [0, 2 MiB) is identity mapped by 4 KiB
 * pages, writable and user.
 */
#pragma once

#include <string.h>

#include "bt/exec-seg.h"
#include "bt/insn-table.h"

#include <check.h> /* last: its <math.h> has an M_E too */

#define GDT 0x1000u
#define IDT 0x2000u
#define TSS 0x3000u
#define TSS_B 0x3400u
#define LDT 0x3800u
#define CODE 0x5000u
#define STACK3 0x8000u
#define STACK0 0x9000u
#define STACK_IST 0xa000u
#define TABLES 0x10000u
#define DATA 0x20000u

/* Selectors of the GDT that fx_protected() and fx_long() write. */
enum {
    SEL_CODE0 = 0x08, SEL_DATA0 = 0x10, SEL_CODE3 = 0x18, SEL_DATA3 = 0x20, SEL_TSS = 0x28, SEL_TSS_B = 0x38, SEL_LDT = 0x40,
    SEL_CODE64_0 = 0x48, SEL_CODE64_3 = 0x50, SEL_GATE = 0x58, SEL_CONFORMING = 0x68, SEL_READ_ONLY = 0x70, SEL_ABSENT = 0x78,
    SEL_EXECUTE_ONLY = 0x80, SEL_DOWN = 0x88, SEL_CODE16 = 0x90, SEL_TASK_GATE = 0x98, SEL_END = 0xa0
};

extern BtCpu *fx;    /* the vCPU */
extern uint8_t *fx_ram;

#define FX_DONE (-1) /* fx_run(): the instruction completed */

void fx_setup(void);
void fx_teardown(void);

/* fx_run: carries out @insn by @fn at cpu->rip; returns FX_DONE or the vector raised (exception_pending is then set). */
int fx_run(void (*fn)(BtCpu *, const Insn *), Insn insn);
/* fx_call: the same for code that is no exec function. */
int fx_call(void (*fn)(void *), void *arg);
/* fx_deliver_pending: bt_deliver_pending() until nothing is pending or the vCPU has shut down. */
void fx_deliver_pending(void);

void fx_real(void);      /* real mode at 0000:CODE, SS:SP = 0000:STACK0 */
void fx_protected(void); /* 32-bit flat, CPL 0, no paging, TSS loaded */
void fx_user(void);      /* fx_protected() at CPL 3 */
void fx_long(void);      /* 64-bit, CPL 0, paging on, 64-bit TSS */
void fx_long_user(void); /* fx_long() at CPL 3 */
void fx_v86(void);       /* virtual-8086 mode in fx_protected()'s tables, IOPL 3 */
void fx_page(Gva gva, uint64_t flags); /* fx_long(): PTE flags of one page below 2 MiB; 0: not present */

/* Instruction templates: opsize and addrsize as the code size has them, no operands. */
Insn fx_insn(uint8_t opcode);
Insn fx_insn_mem(uint8_t opcode, unsigned reg, Gva gva);
Insn fx_insn_reg(uint8_t opcode, unsigned reg, unsigned rm);

uint64_t fx_get(Gpa gpa, unsigned size);
void fx_put(Gpa gpa, unsigned size, uint64_t value);
uint64_t fx_descriptor(uint32_t base, uint32_t limit, uint32_t attr);
void fx_gate32(unsigned vector, unsigned selector, uint32_t offset, unsigned type, unsigned dpl);
void fx_gate64(unsigned vector, unsigned selector, uint64_t offset, unsigned type, unsigned dpl, unsigned ist);
void fx_segment(unsigned seg, unsigned selector); /* loads without checks, from the GDT */

/* Port and MSR accesses made, last one first. */
extern struct FxHost {
    unsigned nport_writes, nport_reads;
    uint64_t port, value, port_answer;
} fx_host;
extern unsigned fx_code_writes; /* calls of bt_code_written() */

int fx_main(Suite *suite);
