/*
 * Inspect: the guest's memory as its own page tables show it, for monitors.  Reads only: no accessed or dirty bit is set.  Pure over an
 * X86State and a Ram, so the vCPU may be in any engine.
 * Thread: any, while nobody frees @ram; a guest that runs meanwhile may change what is read.
 */
#pragma once

#include <stdbool.h>

#include "core/ram.h"
#include "x86/state.h"

typedef struct InspectPage {
    Gva gva;        /* its first byte, canonical in long mode */
    Gpa gpa;
    uint64_t size;  /* bytes: 4 KiB, 2 MiB, 4 MiB or 1 GiB */
    uint64_t entry; /* the entry that maps it, with the rights of all levels: PTE_RW and PTE_US ANDed, PTE_NX ORed */
} InspectPage;

/* inspect_find: the page that holds @gva.  Returns: false when none is mapped there.  Without paging, the page at the same address. */
bool inspect_find(const X86State *state, const Ram *ram, Gva gva, InspectPage *out_page);

/* inspect_next: the first mapped page at or above *cursor, which moves behind it.  *budget: how many entries may still be looked at;
 * tables that lead to themselves map more pages than anyone can list.
 * Returns: false behind the last one, when *budget is used up, and without paging. */
bool inspect_next(const X86State *state, const Ram *ram, Gva *cursor, unsigned *budget, InspectPage *out_page);

/* inspect_read: copies @size bytes from linear addresses.  Returns: how many could be read before a hole. */
size_t inspect_read(const X86State *state, const Ram *ram, Gva gva, void *out_bytes, size_t size);
