/*
 * The binary translator as an execution engine: CpuOps over BtCpu.  Needs nothing from the host but executable memory.
 */
#pragma once

#include "core/cpu.h"

extern const CpuOps bt_cpu_ops;

/* The same one instruction at a time: every block has one, and ends in the dispatcher.  For finding out whether it is the translator that
 * does something wrong, and as a second engine to switch to where there is no KVM. */
extern const CpuOps bt_one_cpu_ops;
