/*
 * The CPU model that CPUID describes, fixed at power-on: what the translator implements, cut down to what the host's CPU executes where
 * it passes instructions on.  Identified as an AMD family 0x12 part: plain SYSCALL, NX and long mode, and kernels know that it needs no
 * page-table isolation.  Source: SDM 2A CPUID; AMD APM 3 appendix E.
 */
#pragma once

#include "core/cpu.h"

#define CPUID_PHYSICAL_BITS 40 /* MAXPHYADDR */

/* cpuid_model_init: everything there is ("max"). */
void cpuid_model_init(CpuidModel *out_model);

/**
 * cpuid_model_set: "+name" or "-name" of -cpu; names as QEMU has them.
 * Returns: FALSE with VMM_ERROR_USAGE when a feature that does not exist here is asked for, or the name is unknown.
 * Turning off one that is not there is fine.
 */
gboolean cpuid_model_set(CpuidModel *model, const char *name, bool on, GError **error);

/* cpuid_model_set_vendor: @vendor has 12 characters. */
void cpuid_model_set_vendor(CpuidModel *model, const char *vendor);

/* cpuid_model_set_clocks: leaf 0x40000010, in kHz.  Guests that know it, or the port that goes with it, calibrate nothing. */
void cpuid_model_set_clocks(CpuidModel *model, uint64_t tsc_hz, uint64_t apic_timer_hz);

/* cpuid_model_has: for the few that decide something outside the engine, such as "lm". */
bool cpuid_model_has(const CpuidModel *model, const char *name);
