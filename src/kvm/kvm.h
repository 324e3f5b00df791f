/*
 * /dev/kvm as an execution engine: CpuOps over one KVM virtual machine with one vCPU, and the probe that says whether it can be used here.
 *
 * The local APIC stays in the monitor; KVM injects what CpuHost.irq_acknowledge() names.  With `ept` or `npt` off in the host's module KVM
 * keeps shadow page tables (mode `hv`), with it on the CPU walks two levels of tables (mode `hwmmu`).
 * Source: Documentation/virt/kvm/api.rst of Linux.
 */
#pragma once

#include "core/cpu.h"

extern const CpuOps kvm_cpu_ops;

typedef enum KvmMmu {
    KVM_MMU_ANY,    /* kvm_require: either will do;   KvmProbe: the host does not say */
    KVM_MMU_SHADOW, /* ept=0 or npt=0 */
    KVM_MMU_NESTED,
} KvmMmu;

typedef struct KvmProbe {
    int api_version;
    bool is_intel;  /* the CPU's vendor; else AMD */
    bool is_nested; /* this host is a guest itself */
    KvmMmu mmu;
    char *missing;  /* extensions that the engine needs and KVM does not have, "KVM_CAP_A, KVM_CAP_B"; NULL: none */
    char *text;     /* the report, some lines */
} KvmProbe;

/**
 * kvm_probe:
 * @path: NULL for /dev/kvm
 *
 * FALSE with VMM_ERROR_NO_MODE, three different sentences with their remedies: the device is missing, is not permitted, or does not
 * work.  A KVM that lacks extensions is a success with @missing set.
 */
gboolean kvm_probe(const char *path, KvmProbe *out_probe, GError **error);
void kvm_probe_clear(KvmProbe *probe);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(KvmProbe, kvm_probe_clear)

/* kvm_require: KVM is usable and pages as @wanted.  FALSE with VMM_ERROR_NO_MODE and the remedy. */
gboolean kvm_require(KvmMmu wanted, GError **error);

/* kvm_check: the decision of kvm_require() on a given probe. */
gboolean kvm_check(const KvmProbe *probe, KvmMmu wanted, GError **error);

/* kvm_has_apic: KVM offers local APICs alone, without the other interrupt controllers (KVM_CAP_SPLIT_IRQCHIP). */
bool kvm_has_apic(void);

/**
 * kvm_cpuid_restrict: takes from @model what KVM on this host does not offer a guest, so that it may move there at any time.
 * @has_apic: the guest's local APIC will be KVM's, which alone has x2APIC and TSC-deadline
 *
 * FALSE with VMM_ERROR_HOST when KVM does not answer.
 */
gboolean kvm_cpuid_restrict(CpuidModel *model, bool has_apic, GError **error);

/* kvm_cpuid_check: FALSE with VMM_ERROR_NO_MODE when @model, as a guest already has it, is more than KVM on this host offers. */
gboolean kvm_cpuid_check(const CpuidModel *model, bool has_apic, GError **error);

/* kvm_dirty_log: KVM notes from now on which pages of guest RAM the guest writes; @cpu is any vCPU of the machine.   FALSE with VMM_ERROR_HOST.
 * What the monitor itself writes is told by Ram.written only. */
gboolean kvm_dirty_log(Cpu *cpu, bool on, GError **error);
/**
 * kvm_dirty_take: the pages of RAM slot @slot written since the last call or kvm_dirty_log(); the note is cleared.
 * @out_bits: room for a bit a page of the slot, rounded up to whole words; page 0 is bit 0 of word 0
 *
 * Any thread.  FALSE with VMM_ERROR_HOST.
 */
gboolean kvm_dirty_take(Cpu *cpu, unsigned slot, uint64_t *out_bits, GError **error);
