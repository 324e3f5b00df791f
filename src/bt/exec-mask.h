/*
 * exec-mask.h: slow paths of accesses whose elements an AVX-512 mask register selects.  The access is described by ACCESS_* of translate.h.
 * Thread: the vCPU's own, with the guest's vector registers live.
 */
#pragma once

#include "bt/cpu.h"

/* bt_mask_direct: where the access at @gva, whose operand crosses a page or misses in the TLB, may be made as it stands: a host address for it when
 * all selected elements are on one page of plain RAM; the CPU does not touch the others.  NULL: bt_mask_begin() finds out. */
uint8_t *bt_mask_direct(BtCpu *cpu, Gva gva, uint32_t desc);

/* bt_mask_begin: the selected elements of a load at @gva in the bounce buffer, which is returned; for a store, they are only checked, and
 * bt_mask_commit() is to follow.  Raises what a selected element raises; cpu->rip must be the instruction's. */
uint8_t *bt_mask_begin(BtCpu *cpu, Gva gva, uint32_t desc);

/* bt_zmm_merge: writes the low 32 bytes of a ZMM register and keeps the rest. */
void bt_zmm_merge(unsigned reg, const uint8_t low[32]);

/* bt_mask_commit: writes the selected elements from the bounce buffer. */
void bt_mask_commit(BtCpu *cpu);
