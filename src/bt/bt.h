/*
 * The binary translator as an execution engine: CpuOps over BtCpu.  Needs nothing from the host but executable memory.
 */
#pragma once

#include "core/cpu.h"

extern const CpuOps bt_cpu_ops;
