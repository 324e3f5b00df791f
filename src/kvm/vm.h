/* KvmVm: the KVM virtual machine that the vCPUs of one machine share: memory slots, interrupt routes. */
#pragma once

#include "core/cpu.h"
#include "kvm/stats.h"

#define KVM_VM_NPINS 24 /* of the I/O APIC */

typedef struct KvmVm {
    int nrefs;
    int kvm, vm;           /* file descriptors */
    KvmStats *stats;       /* NULL: this KVM has none */
    const Ram *ram;
    uint64_t indexes;      /* one bit a vCPU that was made in it */
    bool has_apic;         /* KVM_CAP_SPLIT_IRQCHIP is on */
    GMutex lock;           /* of what follows */
    unsigned nslots;       /* of RAM, that KVM knows already */
    bool is_logging;       /* dirty pages are logged */
    struct {
        uint64_t address;
        uint32_t data;     /* 0: nothing */
    } route[KVM_VM_NPINS];
} KvmVm;

/**
 * kvm_vm_get: the virtual machine for a vCPU as @config describes it: that of its fellows, which were made for the same RAM and with other
 * numbers, or a new one.  A CPU model is frozen when a vCPU first runs, so a second life of the same vCPU needs a new machine.
 *
 * Returns: a reference, or NULL with VMM_ERROR_HOST.
 */
KvmVm *kvm_vm_get(const CpuConfig *config, GError **error);
void kvm_vm_unref(KvmVm *vm);

/* kvm_vm_slots: tells KVM of RAM and ROM slots it has not seen.  Returns: NULL, or what KVM refuses; (transfer full). */
char *kvm_vm_slots(KvmVm *vm);
/* kvm_vm_route, kvm_vm_msi: CpuOps.route and CpuOps.msi. */
void kvm_vm_route(KvmVm *vm, unsigned pin, uint64_t address, uint32_t data);
bool kvm_vm_msi(KvmVm *vm, uint64_t address, uint32_t data);
/* kvm_vm_log: see kvm_dirty_log().   kvm_vm_dirty: see kvm_dirty_take(). */
gboolean kvm_vm_log(KvmVm *vm, bool on, GError **error);
gboolean kvm_vm_dirty(KvmVm *vm, unsigned slot, uint64_t *out_bits, GError **error);
