/* Host faults inside translated code become the guest's exceptions. */
#pragma once

#include "bt/cpu.h"

/* unwind_thread_init: handlers and an alternate signal stack for the calling thread, which runs @cpu. */
void unwind_thread_init(BtCpu *cpu);
