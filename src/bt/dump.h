/*
 * Listings of guest and host code for `-d bt` and `--dump=bt`.  The only printer of instructions; runs with the host's vector
 * state, never on a hot path.  Thread: any, while the cache it reads is not being written.
 */
#pragma once

#include "bt/cache.h"

/* dump_prepare: loads the disassembler, or settles that there is none: in the sandbox nothing is loaded.  Without this call, whoever needs it first
 * loads it.  dump_is_ready: there is one.  Thread: main, before others want listings. */
void dump_prepare(bool is_wanted);
bool dump_is_ready(void);

/**
 * dump_code:
 * @host: @n bytes of code     @address: what the first byte's address is shown as     @code_size: 2, 4 or 8
 *
 * Returns: (transfer full): one line an instruction, Intel syntax; a byte that is no instruction is shown as `db`.
 */
char *dump_code(const uint8_t *host, size_t n, uint64_t address, unsigned code_size);

/**
 * dump_block:
 * @guest: the block's guest bytes, block->guest_size of them
 *
 * Returns: (transfer full): each guest instruction followed by the host code made from it; stubs and slow paths last.
 */
char *dump_block(const Bt *bt, const BtBlock *block, const uint8_t *guest);
