/*
 * What `-d bt`, `-d int`, `-d exec`, `-d cpu` and `-d unimp` print.
 *
 * Ordinary C with the host's vector state: code that runs while the guest's is live reaches these through bt_host_call(), and only when
 * log_on() says so.  Thread: the vCPU's.
 */
#pragma once

#include "bt/cache.h"

/* trace_block: the block just translated: RIP, mode, guest and host listings. */
void trace_block(BtCpu *cpu, const BtBlock *block);

/* trace_undefined: no row of the table fits; printed once for an address with these bytes. */
void trace_undefined(const Insn *insn);

/* For bt_host_call(). */
uint64_t trace_event(BtCpu *cpu, uint64_t vector, uint64_t code, uint64_t is_software); /* code: ~0 when there is none */
uint64_t trace_enter(BtCpu *cpu, uint64_t rip, uint64_t mode, uint64_t unused);
