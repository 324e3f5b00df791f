/*
 * What others do to guest memory that a vCPU has translated or may write: devices, the boot loader, other vCPUs.  It is noted here by whoever
 * does it, and the vCPU acts on it before it goes on: for device writes at the latest when it takes the interrupt that announces the data.
 */
#pragma once

#include "bt/cpu.h"

void bt_foreign_init(BtCpu *cpu);   /* before bt_peers_join(): from then on other vCPUs post here */
void bt_foreign_listen(BtCpu *cpu); /* to cpu->ram, once mmu.code is there */
void bt_foreign_clear(BtCpu *cpu); /* nobody else knows it any more */

/* Any thread.  bt_foreign_written: [@start, @start + @size) was written.   bt_foreign_drop_writes: another vCPU translates the page at
 * @gpa.   bt_foreign_kick: leave the guest once. */
void bt_foreign_written(BtCpu *cpu, Gpa start, uint64_t size);
uint64_t bt_foreign_drop_writes(BtCpu *cpu, Gpa gpa); /* through when cpu->foreign.done has come to this number */
void bt_foreign_kick(BtCpu *cpu);

/* bt_foreign_apply: the vCPU's thread, between two instructions, vector state not live. */
void bt_foreign_apply(BtCpu *cpu);
