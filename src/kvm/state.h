/*
 * X86State to and from the structures that KVM takes and gives.  Pure conversion: no system call.
 *
 * What KVM cannot hold: a bit that tells an acknowledged interrupt from an exception.  An interrupt that KVM has taken and not delivered yet
 * becomes exception_pending with its vector (32–255) and no code, which every engine delivers in the same way.
 */
#pragma once

#include <linux/kvm.h>

#include "x86/state.h"

#define KVM_STATE_COUNT_MSR(name, number) +1
enum { KVM_STATE_NMSRS = 0 X86_MSR_ROWS(KVM_STATE_COUNT_MSR) };
#undef KVM_STATE_COUNT_MSR

typedef struct KvmState {
    struct kvm_regs regs;
    struct kvm_sregs2 sregs;
    struct kvm_debugregs debugregs;
    struct kvm_vcpu_events events;
    struct kvm_xcrs xcrs;
    struct kvm_xsave xsave;
    struct kvm_msr_entry msr[KVM_STATE_NMSRS]; /* in the order of X86_MSR_ROWS */
    uint64_t tsc;
    bool halted; /* the engine's own knowledge: KVM forgets it when the local APIC is not in the kernel */
} KvmState;

/* kvm_state_from: everything is written, reserved fields as zero. */
void kvm_state_from(KvmState *out_kvm, const X86State *state);
void kvm_state_to(const KvmState *kvm, X86State *out_state);
/*
 * kvm_state_suit_svm: the task register as AMD's CPUs hold it, not busy; KVM adds the bit when it is asked.  QEMU's emulation of SVM ends
 * ("invalid tss type") at the first interrupt in user mode of a 32-bit guest whose task is busy, as X86State has it.
 */
void kvm_state_suit_svm(KvmState *kvm);
