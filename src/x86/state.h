/*
 * X86State: the whole architectural state of one virtual CPU, in canonical form.
 *
 * Every engine loads and saves exactly this; switching, snapshots and tests compare it field by field.  Plain data: no
 * pointers, no padding that carries meaning.  Vector state is a standard-format XSAVE image (SDM 1 13.4).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "x86/bits.h"

typedef struct X86Segment {
    uint16_t selector;
    uint32_t attr;  /* X86_SEG_*: VMX access-rights layout */
    uint32_t limit; /* bytes - 1, after applying G */
    uint64_t base;
} X86Segment;

typedef struct X86Table {
    uint64_t base;
    uint16_t limit; /* bytes - 1 */
} X86Table;

/* MSRs that belong to the state and have no field of their own elsewhere: one row each. */
#define X86_MSR_ROWS(ROW)                              \
    ROW(sysenter_cs, X86_MSR_SYSENTER_CS)              \
    ROW(sysenter_esp, X86_MSR_SYSENTER_ESP)            \
    ROW(sysenter_eip, X86_MSR_SYSENTER_EIP)            \
    ROW(star, X86_MSR_STAR)                            \
    ROW(lstar, X86_MSR_LSTAR)                          \
    ROW(cstar, X86_MSR_CSTAR)                          \
    ROW(sfmask, X86_MSR_SFMASK)                        \
    ROW(kernel_gs_base, X86_MSR_KERNEL_GS_BASE)        \
    ROW(tsc_aux, X86_MSR_TSC_AUX)                      \
    ROW(tsc_adjust, X86_MSR_TSC_ADJUST)                \
    ROW(pat, X86_MSR_PAT)                              \
    ROW(misc_enable, X86_MSR_MISC_ENABLE)              \
    ROW(mtrr_deftype, X86_MSR_MTRR_DEFTYPE)

#define X86_XSAVE_SIZE 4096 /* bytes; holds every component up to AVX-512 and PKRU in standard format */

typedef struct X86State {
    uint64_t gpr[X86_NGPRS]; /* in encoding order: RAX RCX RDX RBX RSP RBP RSI RDI R8… */
    uint64_t rip;
    uint64_t rflags;
    X86Segment seg[X86_NSEGS];
    X86Table gdtr, idtr;
    uint64_t cr0, cr2, cr3, cr4, cr8, efer;
    uint64_t pdptr[4]; /* PAE paging only: the four entries as loaded at the last CR3 write */
    uint64_t dr[8];    /* DR4 and DR5 unused */
    uint64_t apic_base;
#define X86_STATE_MSR_FIELD(name, number) uint64_t name;
    X86_MSR_ROWS(X86_STATE_MSR_FIELD)
#undef X86_STATE_MSR_FIELD
    uint64_t tsc; /* guest TSC value at the moment of saving */
    /* Guest TSC - host TSC, exact; means nothing on another host.  Loading goes by it where @tsc is zero and this is not: so a switch
     * of engines neither loses nor repeats a tick, whenever it is made. */
    int64_t tsc_offset;
    uint64_t spec_ctrl; /* IA32_SPEC_CTRL, where CPUID has it */
    uint64_t pkrs;      /* IA32_PKRS, likewise; KVM offers none.  PKRU is in xsave[], where CPUID leaf 0xd says */
    uint64_t xcr0;
    uint8_t xsave[X86_XSAVE_SIZE] __attribute__((aligned(64)));

    /* Events. */
    bool exception_pending; /* raised, not yet delivered; vector and code below */
    uint8_t exception_vector;
    bool exception_has_code;
    uint32_t exception_code;
    bool nmi_pending, nmi_masked;
    bool interrupt_shadow; /* STI or MOV SS just executed */
    bool halted;
    bool waits_for_sipi; /* a startup IPI: known to engines that have the local APIC; elsewhere the machine looks after it */
} X86State;
