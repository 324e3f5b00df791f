/*
 * The state of a vCPU as a section of saved state, the same for every engine.  Loading checks what an engine relies on (modes that exist,
 * canonical bases, an XSAVE image that the host's XRSTOR takes): an engine may trust an X86State, a file may not be trusted.
 */
#pragma once

#include "core/cpu.h"
#include "core/stream.h"

typedef struct CpuStream {
    X86State state;
    const CpuidModel *cpuid; /* what this machine's guest may use */
} CpuStream;

extern const StateOps cpu_stream_state; /* device is a CpuStream */

/* x86_state_wrong: what no CPU of this model can be in, a few words; NULL when the state is possible. */
const char *x86_state_wrong(const X86State *state, const CpuidModel *cpuid);
