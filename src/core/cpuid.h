/*
 * The CPU model that CPUID describes, fixed at power-on and the same in every engine: what the translator implements, cut down to what the
 * host's CPU executes where it passes instructions on, and to what the host's KVM offers where the guest may ever run in it.
 *
 * Without KVM it is identified as an AMD family 0x12 part: plain SYSCALL, NX and long mode, and kernels know that it needs no page-table
 * isolation.  Where a hardware engine may run the guest it is the host's own vendor, family, model and stepping, because the guest must
 * know which of the host's vulnerabilities it is exposed to.  Source: SDM 2A CPUID; AMD APM 3 appendix E.
 */
#pragma once

#include "core/cpu.h"

#define CPUID_PHYSICAL_BITS 40 /* MAXPHYADDR */

/* cpuid_model_init: everything there is but what must be named (pku, pks): "base". */
void cpuid_model_init(CpuidModel *out_model);

/**
 * cpuid_model_set: "+name" or "-name" of -cpu; names as QEMU has them.
 * Returns: FALSE with VMM_ERROR_USAGE when a feature that does not exist here is asked for, or the name is unknown.
 * Turning off one that is not there is fine.
 */
gboolean cpuid_model_set(CpuidModel *model, const char *name, bool on, GError **error);

/* cpuid_model_set_vendor: @vendor has 12 characters.  The signature becomes that of a plain part of this vendor, if we know one. */
void cpuid_model_set_vendor(CpuidModel *model, const char *vendor);
/* cpuid_model_set_signature: family, model and stepping as CPUID leaf 1 has them in EAX. */
void cpuid_model_set_signature(CpuidModel *model, uint32_t eax);
/* cpuid_model_follow_host: vendor and signature of the CPU that this runs on. */
void cpuid_model_follow_host(CpuidModel *model);

/* cpuid_pkru_at: where PKRU is in an XSAVE image of the standard format, as CPUID tells the guest.  0: no such component. */
uint32_t cpuid_pkru_at(const CpuidModel *model);

/* cpuid_model_mask: the bits of register @reg (0–3: EAX EBX ECX EDX) that are not in @mask are gone.  Call cpuid_model_settle() after the last. */
void cpuid_model_mask(CpuidModel *model, uint32_t leaf, uint32_t subleaf, unsigned reg, uint32_t mask);
/* cpuid_model_settle: what follows from other bits: XSAVE's sizes, repeated leaves. */
void cpuid_model_settle(CpuidModel *model);

/* cpuid_model_set_clocks: leaf 0x40000010, in kHz.  Guests that know it, or the port that goes with it, calibrate nothing. */
void cpuid_model_set_clocks(CpuidModel *model, uint64_t tsc_hz, uint64_t apic_timer_hz);

/* cpuid_model_has: for the few that decide something outside the engine, such as "lm". */
bool cpuid_model_has(const CpuidModel *model, const char *name);

/* A feature that has a name: bit @bit of register @reg (0–3: EAX EBX ECX EDX). */
typedef struct CpuidFeature {
    const char *name;
    uint32_t leaf;
    uint8_t subleaf, reg, bit;
} CpuidFeature;
/* cpuid_feature: number @i of all; false: there are no more. */
bool cpuid_feature(unsigned i, CpuidFeature *out);

/* How the logical processors of a machine are arranged; every number at least 1. */
typedef struct CpuidTopology {
    unsigned nsockets, ncores, nthreads; /* packages, cores in each, threads of each core */
} CpuidTopology;

/* cpuid_apic_id: the initial APIC ID of processor number @cpu: package, core and thread in fields of bits of their own (SDM 3A 9.9). */
unsigned cpuid_apic_id(const CpuidTopology *topology, unsigned cpu);
/* cpuid_model_set_place: the leaves that tell a processor which one it is; after the last cpuid_model_settle().  A machine with one processor has none. */
void cpuid_model_set_place(CpuidModel *model, unsigned cpu, const CpuidTopology *topology);
