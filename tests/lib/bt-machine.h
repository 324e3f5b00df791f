/*
 * A real `bt` vCPU over 8 MiB of RAM in an array, for tests of the translator itself.
 *
 * Fixed places: page tables 0x1000–0x9fff, GDT 0xa000, IDT 0xb000, TSS 0xc000, handlers 0xd000 (a HLT for each vector, 16 bytes apart),
 * stack of all handlers up to 0xf000, code from 0x100000, its stack up to 0x1ff000, data from 0x200000, free from 0x400000.  Long mode maps
 * [0, 8 MiB) to itself by 4 KiB pages, writable, at CPL 0; the last page of it leads to a device.
 */
#pragma once

#include <string.h>

#include "bt/bt.h"
#include "bt/cache.h"
#include "bt/exec.h"

#define BM_RAM_SIZE 0x800000u
#define BM_TABLES 0x1000u
#define BM_OTHER_TABLES 0x8000u /* a second PML4, PDPT: bm_other_space() */
#define BM_CODE 0x100000u
#define BM_STACK 0x1ff000u
#define BM_DATA 0x200000u
#define BM_FREE 0x400000u
#define BM_DEVICE 0x7ff000u /* linear; device memory */
#define BM_SEL_CODE64 0x08u
#define BM_SEL_DATA 0x10u
#define BM_SEL_CODE32 0x18u

extern BtCpu *bm;     /* the vCPU */
extern uint8_t *bm_ram;
extern X86State bm_state; /* loaded by bm_run(), saved after it */

/* What the machine around it does. */
extern struct BmHost {
    int vector;         /* irq_acknowledge: this one, once; -1: none */
    void (*on_device)(void); /* called by each access to the device */
    uint64_t device_answer;
    unsigned ndevice;
} bm_host;

typedef struct BmStop {
    CpuExitKind exit;
    int vector;       /* of the exception or interrupt whose handler halted; -1: the guest's own HLT */
    uint32_t code;
    uint64_t rip, rflags, rsp; /* as the handler's frame has them; of the state when vector is -1 */
} BmStop;

void bm_setup(void);
void bm_teardown(void);
void bm_long(void);      /* bm_state: 64-bit, CPL 0, RIP at BM_CODE */
void bm_flat32(void);    /* bm_state: 32-bit, flat, CPL 0, no paging */
void bm_code(Gpa at, const void *bytes, size_t n);
/* bm_add_cpu: another vCPU over the same memory; it gets no interrupts.  Freed by whoever asked, before bm_teardown(). */
BtCpu *bm_add_cpu(void);
/* bm_run: loads bm_state, runs until the vCPU stops, saves. */
BmStop bm_run(void);
uint64_t *bm_pte(Gva gva); /* page-table entry of the first address space */
/* bm_other_space: tables for a second value of CR3, in which the page at @gva leads to @gpa; everything else is shared. */
void bm_other_space(Gva gva, Gpa gpa);
