/* Registers of a CPU at reset and at the entry points that boot protocols define. */
#include <string.h>

#include "vm/boot.h"

#define ATTR_CODE16 (X86_SEG_P | X86_SEG_S | X86_SEG_CODE | X86_SEG_READABLE | X86_SEG_ACCESSED)
#define ATTR_DATA16 (X86_SEG_P | X86_SEG_S | X86_SEG_WRITABLE | X86_SEG_ACCESSED)
#define ATTR_FLAT (X86_SEG_G | X86_SEG_P | X86_SEG_S | X86_SEG_ACCESSED)
#define SELECTOR_CODE 0x10
#define SELECTOR_DATA 0x18

void boot_state_reset(X86State *state)
{
    memset(state, 0, sizeof *state);
    for (int i = 0; i < X86_NSEGS; i++)
        state->seg[i] = (X86Segment){ .attr = ATTR_DATA16, .limit = 0xffff };
    state->seg[X86_CS] = (X86Segment){ .selector = 0xf000, .attr = ATTR_CODE16, .limit = 0xffff, .base = 0xffff0000 };
    state->seg[X86_LDTR].attr = X86_SEG_P | 2;
    state->seg[X86_TR].attr = X86_SEG_P | 11;
    state->rip = 0xfff0;
    state->gpr[X86_RDX] = 0x600; /* family 6 */
    state->rflags = X86_FLAG_FIXED;
    state->cr0 = X86_CR0_CD | X86_CR0_NW | X86_CR0_ET;
    state->gdtr.limit = state->idtr.limit = 0xffff;
    state->dr[6] = 0xffff0ff0;
    state->dr[7] = 0x400;
    state->apic_base = 0xfee00900; /* enabled, boot processor */
    state->pat = UINT64_C(0x0007040600070406);
    state->misc_enable = 1; /* fast strings */
    state->xcr0 = 1;
    /* XSAVE image: x87 control word and MXCSR as after reset (SDM 3A table 9-1). */
    state->xsave[0] = 0x40;
    state->xsave[24] = 0x80;
    state->xsave[25] = 0x1f;
}

static void gdt_write(const Ram *ram, uint64_t code)
{
    uint64_t gdt[4] = { 0, 0, code, UINT64_C(0x00cf93000000ffff) };
    void *at = ram_slice(ram, BOOT_GDT, sizeof gdt);
    if (at)
        memcpy(at, gdt, sizeof gdt);
    ram_wrote(ram, BOOT_GDT, sizeof gdt);
}

static void segments_flat(X86State *state, uint32_t code_mode)
{
    for (int i = X86_ES; i <= X86_GS; i++)
        state->seg[i] = (X86Segment){ .selector = SELECTOR_DATA, .attr = ATTR_FLAT | X86_SEG_DB | X86_SEG_WRITABLE,
                                      .limit = UINT32_MAX };
    state->seg[X86_CS] = (X86Segment){ .selector = SELECTOR_CODE,
                                       .attr = ATTR_FLAT | X86_SEG_CODE | X86_SEG_READABLE | code_mode, .limit = UINT32_MAX };
    state->gdtr = (X86Table){ .base = BOOT_GDT, .limit = 31 };
    state->idtr = (X86Table){ .base = 0, .limit = 0 };
    state->gpr[X86_RSP] = BOOT_STACK;
    state->gpr[X86_RDX] = 0;
    state->cr0 = X86_CR0_ET | X86_CR0_NE | X86_CR0_PE;
}

void boot_state_flat32(X86State *state, const Ram *ram)
{
    boot_state_reset(state);
    gdt_write(ram, UINT64_C(0x00cf9b000000ffff));
    segments_flat(state, X86_SEG_DB);
}

void boot_state_flat64(X86State *state, const Ram *ram)
{
    boot_state_reset(state);
    gdt_write(ram, UINT64_C(0x00af9b000000ffff));
    segments_flat(state, X86_SEG_L);
    uint64_t *table = ram_slice(ram, BOOT_PAGE_TABLES, 6 * PAGE_SIZE);
    if (table) {
        memset(table, 0, 6 * PAGE_SIZE);
        table[0] = (BOOT_PAGE_TABLES + PAGE_SIZE) | 3;
        for (unsigned i = 0; i < 4; i++)
            table[512 + i] = (BOOT_PAGE_TABLES + (2 + i) * PAGE_SIZE) | 3;
        for (unsigned i = 0; i < 2048; i++)
            table[1024 + i] = (uint64_t)i << 21 | 0x83; /* 2 MiB pages */
    }
    ram_wrote(ram, BOOT_PAGE_TABLES, 6 * PAGE_SIZE);
    state->cr3 = BOOT_PAGE_TABLES;
    state->cr4 = X86_CR4_PAE;
    state->cr0 |= X86_CR0_PG;
    state->efer = X86_EFER_LME | X86_EFER_LMA;
}
