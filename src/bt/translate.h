/*
 * From guest bytes to a block of host code.
 *
 * Register assignment, the memory check, where the flags are and the entries of a block are described at the top of translate.c.
 */
#pragma once

#include "bt/cache.h"
#include "bt/emit.h"

#define MODE_ONE 0x80000000u /* key bit: a block of exactly one instruction that ends in the dispatcher, without a poll */
#define MODE_PLAIN 0x40000000u /* key bit: every access has a check of its own; see translate-group.c */

/**
 * bt_translate: translates the block at @rip for the vCPU's current mode and inserts it.
 * @mode: cpu->mode, possibly with MODE_ONE
 *
 * Returns NULL with cpu->exception set when the first instruction cannot be fetched (#PF) or is longer than 15 bytes
 * (#GP).  Requires cache_has_room().  Runs with the host's vector state.  Thread: the vCPU's own.
 */
BtBlock *bt_translate(BtCpu *cpu, uint64_t rip, uint32_t mode);

/* stubs_emit: writes the fixed entry and exit code at the start of the cache.  Once, at creation. */
void stubs_emit(Bt *bt);

/* Parks the status flags in status_of/status_ah, and brings them back.  T1 is lost. */
void e_flags_save(Emit *e);
void e_flags_restore(Emit *e);

/* C entry points of the stubs (dispatch.c). */
void *bt_dispatch(BtCpu *cpu);                                  /* where to go on, NULL: leave to bt_run() */
uint8_t *bt_mem_slow(BtCpu *cpu, Gva gva, uint32_t desc, const uint8_t *pc);
uint32_t bt_commit(BtCpu *cpu, const uint8_t *pc, uint64_t host_flags);
uint32_t bt_exec(BtCpu *cpu, uint32_t index);
void bt_exec_end(BtCpu *cpu, uint32_t index);
void bt_follow(BtCpu *cpu, uint32_t exit_index);
#define INDIRECT_DISPATCH 0x80000000u /* in @site: the branch goes on through the dispatcher */
void *bt_indirect(BtCpu *cpu, uint64_t rip, uint64_t site); /* @site: indirect_site() of translate-edge.c */
void bt_seg_slow(BtCpu *cpu, uint64_t offset, uint32_t desc, const uint8_t *pc);

/* Descriptor of a memory access, as the slow path gets it. */
#define ACCESS_SIZE(d)  ((d) & 0xff)
#define ACCESS_READ     0x100u
#define ACCESS_WRITE    0x200u
#define ACCESS_STACK    0x400u /* #SS rather than #GP */
#define ACCESS_ALIGNED  0x2000000u /* misaligned it raises #GP, by itself, and never #AC */
#define ACCESS_LOCKED   0x800u /* atomic against the other vCPUs */
/* An EVEX mask selects elements: its register, bytes of an element in memory, how many bits count. */
#define ACCESS_MASKED   0x1000000u
#define ACCESS_PACKED   0x8000u /* the selected elements stand together */
#define ACCESS_MASK(d)  ((d) >> 16 & 7)
#define ACCESS_ELEMENT(d) (1u << ((d) >> 19 & 3))
#define ACCESS_MASK_BITS(d) (1u << ((d) >> 21 & 7))
#define ACCESS_MASK_SHIFT 16
#define ACCESS_ELEMENT_SHIFT 19
#define ACCESS_MASK_BITS_SHIFT 21
#define ACCESS_SEG_SHIFT 12
#define ACCESS_SEG(d)   ((d) >> ACCESS_SEG_SHIFT & 7)

/* What bt_group_slow() gets: the span in bytes and these. */
#define GROUP_LEADER_WRITES 0x10000u
#define GROUP_WRITES        0x20000u
/* bt_group_slow: the host address of @gva when the span from there is now in the TLB with all rights, else NULL.  Raises nothing. */
uint8_t *bt_group_slow(BtCpu *cpu, Gva gva, uint32_t desc);

/* What bt_commit() has to do after a store whose operand was not plain RAM. */
enum { COMMIT_NONE, COMMIT_CODE, COMMIT_BOUNCE, COMMIT_MASKED };
