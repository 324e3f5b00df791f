/*
 * Exits that the engine answers itself, as `bt` answers the same instructions: MSRs that KVM does not have or must not have, and the hypervisor
 * port of VMware's monitors.
 */
#include <errno.h>
#include <sys/ioctl.h>

#include "core/log.h"
#include "core/msr.h"
#include "core/vmware.h"
#include "kvm/cpu-int.h"

/* KVM's own paravirtual MSRs, old and new, and Hyper-V's: no CPUID leaf offers them, but KVM serves some unasked. */
static const struct {
    uint32_t base, count;
} hidden[] = { { 0x11, 2 }, { 0x40000000, 0x200 }, { 0x4b564d00, 0x100 } };

void kvm_answer_enable(int kvm, int vm)
{
    struct kvm_enable_cap exits = { .cap = KVM_CAP_X86_USER_SPACE_MSR, .args = { KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER } };
    if (ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_X86_USER_SPACE_MSR) <= 0 || ioctl(kvm, KVM_CHECK_EXTENSION, KVM_CAP_X86_MSR_FILTER) <= 0 ||
        ioctl(vm, KVM_ENABLE_CAP, &exits) < 0)
        return; /* KVM raises #GP itself, and its own MSRs can be seen */
    static uint8_t denied[0x200 / 8];
    struct kvm_msr_filter filter = { .flags = KVM_MSR_FILTER_DEFAULT_ALLOW };
    for (size_t i = 0; i < G_N_ELEMENTS(hidden); i++)
        filter.ranges[i] = (struct kvm_msr_filter_range){ .flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE, .base = hidden[i].base,
                                                          .nmsrs = hidden[i].count, .bitmap = denied };
    if (ioctl(vm, KVM_X86_SET_MSR_FILTER, &filter) < 0)
        log_text(LOG_KVM, "kvm: KVM_X86_SET_MSR_FILTER: %s", kvm_strerror(errno));
}

void kvm_answer_msr(KvmCpu *cpu)
{
    struct kvm_run *run = cpu->run;
    bool is_quiet = msr_is_quiet(run->msr.index);
    if (is_quiet && run->exit_reason == KVM_EXIT_X86_RDMSR)
        run->msr.data = msr_quiet_value(run->msr.index);
    run->msr.error = !is_quiet; /* #GP */
    cpu->is_completion_due = true;
}

bool kvm_answer_port_in(KvmCpu *cpu, uint32_t *out_eax)
{
    struct kvm_regs regs;
    if (ioctl(cpu->vcpu, KVM_GET_REGS, &regs) < 0)
        return false;
    uint64_t gpr[X86_NGPRS] = { [X86_RAX] = regs.rax, [X86_RBX] = regs.rbx, [X86_RCX] = regs.rcx };
    if (!vmware_port_in(cpu->config.cpuid, gpr))
        return false;
    /* KVM itself puts RAX in place, at the end of the instruction; the others can be set after it only. */
    *out_eax = (uint32_t)gpr[X86_RAX];
    cpu->is_completion_due = true;
    kvm_cpu_complete(cpu);
    if (ioctl(cpu->vcpu, KVM_GET_REGS, &regs) < 0)
        return true;
    regs.rbx = gpr[X86_RBX];
    regs.rcx = gpr[X86_RCX];
    KVM_CPU_IOCTL(cpu, KVM_SET_REGS, &regs);
    return true;
}
