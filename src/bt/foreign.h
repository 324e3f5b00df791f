/*
 * Writes to guest memory by others than the vCPU: devices, the boot loader.  They know nothing of translations, so each such write is noted
 * here by whoever makes it, and the vCPU drops what was translated from those bytes before it goes on: at the latest when it takes the interrupt
 * that announces the data.
 */
#pragma once

#include "bt/cpu.h"

void bt_foreign_init(BtCpu *cpu);  /* listens to cpu->ram from now on */
void bt_foreign_clear(BtCpu *cpu);
/* bt_foreign_apply: the vCPU's thread, between two instructions, vector state not live. */
void bt_foreign_apply(BtCpu *cpu);
