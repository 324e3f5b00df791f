/*
 * The local APICs in the kernel (KVM_CAP_SPLIT_IRQCHIP); I/O APIC, 8259 and 8254 stay the machine's.  Messages go in by KVM_SIGNAL_MSI; the
 * 8259's interrupts as without, by KVM_INTERRUPT, when the APIC's LINT0 takes them.
 */
#include <string.h>
#include <sys/ioctl.h>

#include "core/log.h"
#include "kvm/cpu-int.h"

bool kvm_apic_msi(Cpu *base, uint64_t address, uint32_t data) { return kvm_vm_msi(((KvmCpu *)base)->vm, address, data); }

void kvm_apic_route(Cpu *base, unsigned pin, uint64_t address, uint32_t data)
{
    kvm_vm_route(((KvmCpu *)base)->vm, pin, address, data);
}

typedef struct OneMsr {
    struct kvm_msrs head;
    struct kvm_msr_entry entry;
} OneMsr;

static uint64_t msr_get(KvmCpu *cpu, uint32_t index)
{
    OneMsr one = { .head.nmsrs = 1, .entry.index = index };
    return ioctl(cpu->vcpu, KVM_GET_MSRS, &one) == 1 ? one.entry.data : 0;
}

static void msr_set(KvmCpu *cpu, uint32_t index, uint64_t value)
{
    OneMsr one = { .head.nmsrs = 1, .entry = { .index = index, .data = value } };
    if (ioctl(cpu->vcpu, KVM_SET_MSRS, &one) != 1)
        log_text(LOG_KVM, "kvm: MSR %#x: value %#llx refused", index, (unsigned long long)value);
}

void kvm_apic_get(Cpu *base, CpuApic *out_apic)
{
    KvmCpu *cpu = (KvmCpu *)base;
    struct kvm_lapic_state lapic;
    memset(out_apic, 0, sizeof *out_apic);
    kvm_cpu_complete(cpu); /* a half-done access may be followed by interrupts of the same KVM_RUN */
    out_apic->base = msr_get(cpu, X86_MSR_APIC_BASE);
    out_apic->tsc_deadline = msr_get(cpu, X86_MSR_TSC_DEADLINE);
    if (KVM_CPU_IOCTL(cpu, KVM_GET_LAPIC, &lapic))
        memcpy(out_apic->page, lapic.regs, sizeof lapic.regs);
}

/* Setting the registers starts the timer with the current count, so the deadline, which is in no register, comes last. */
void kvm_apic_set(Cpu *base, const CpuApic *apic)
{
    KvmCpu *cpu = (KvmCpu *)base;
    struct kvm_lapic_state lapic;
    memcpy(lapic.regs, apic->page, sizeof lapic.regs);
    msr_set(cpu, X86_MSR_APIC_BASE, apic->base);
    KVM_CPU_IOCTL(cpu, KVM_SET_LAPIC, &lapic);
    if (apic->tsc_deadline)
        msr_set(cpu, X86_MSR_TSC_DEADLINE, apic->tsc_deadline);
}

/* After INIT a vCPU takes a startup IPI; one that never had INIT ignores it, and ours always has. */
bool kvm_apic_activity_load(KvmCpu *cpu, const X86State *state)
{
    struct kvm_mp_state activity = { .mp_state = state->waits_for_sipi ? KVM_MP_STATE_INIT_RECEIVED
                                                 : state->halted       ? KVM_MP_STATE_HALTED
                                                                       : KVM_MP_STATE_RUNNABLE };
    cpu->activity = activity.mp_state;
    return !cpu->base.has_apic || KVM_CPU_IOCTL(cpu, KVM_SET_MP_STATE, &activity);
}

void kvm_apic_activity_save(KvmCpu *cpu)
{
    struct kvm_mp_state activity = { .mp_state = KVM_MP_STATE_RUNNABLE };
    if (cpu->base.has_apic)
        KVM_CPU_IOCTL(cpu, KVM_GET_MP_STATE, &activity);
    cpu->activity = activity.mp_state;
}
