/*
 * A debugger's break- and watchpoints under KVM: KVM_SET_GUEST_DEBUG puts them into the CPU's debug registers while the guest runs; what the
 * guest has in its own waits meanwhile.  Source: Linux, Documentation/virt/kvm/api.rst 4.87; SDM 3B 17.2.
 */
#include <errno.h>
#include <sys/ioctl.h>

#include "core/error.h"
#include "kvm/cpu-int.h"

#define DR7_LE_GE 0x600u

static unsigned length_bits(uint64_t size) { return size == 8 ? 2 : size == 4 ? 3 : (unsigned)size - 1; }

static void point_set(struct kvm_guest_debug_arch *arch, unsigned i, Gva gva, unsigned condition, unsigned length)
{
    arch->debugreg[i] = gva;
    arch->debugreg[7] |= DR7_LE_GE | (uint64_t)2 << (2 * i) | (uint64_t)(condition | length << 2) << (16 + 4 * i);
}

gboolean kvm_cpu_debug(Cpu *base, const CpuDebug *debug, GError **error)
{
    KvmCpu *cpu = (KvmCpu *)base;
    struct kvm_guest_debug control = { 0 };
    unsigned npoints = debug ? debug->nbreaks + debug->nwatches : 0;
    if (npoints > KVM_CPU_DEBUG_POINTS) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "KVM has room for %u break- and watchpoints together, not for %u; delete some",
                    KVM_CPU_DEBUG_POINTS, npoints);
        return FALSE;
    }
    for (unsigned i = 0; debug && i < debug->nbreaks; i++) {
        point_set(&control.arch, i, debug->breaks[i], 0, 0);
        cpu->debug_at[i] = debug->breaks[i];
    }
    for (unsigned i = 0; debug && i < debug->nwatches; i++) {
        const CpuWatch *watch = &debug->watches[i];
        if (watch->size > 8 || watch->size & (watch->size - 1) || watch->start & (watch->size - 1)) {
            g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "KVM watches 1, 2, 4 or 8 aligned bytes, not %u", (unsigned)watch->size);
            return FALSE;
        }
        point_set(&control.arch, debug->nbreaks + i, watch->start, watch->on_read ? 3 : 1, length_bits(watch->size));
        cpu->debug_at[debug->nbreaks + i] = watch->start;
    }
    cpu->debug_nbreaks = debug ? debug->nbreaks : 0;
    if (npoints)
        control.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_USE_HW_BP;
    if (debug && debug->steps)
        control.control |= KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP | (cpu->can_block_irqs ? KVM_GUESTDBG_BLOCKIRQ : 0);
    kvm_cpu_complete(cpu);
    cpu->debug = control;
    if (ioctl(cpu->vcpu, KVM_SET_GUEST_DEBUG, &control) >= 0)
        return TRUE;
    g_set_error(error, VMM_ERROR, VMM_ERROR_HOST, "KVM_SET_GUEST_DEBUG: %s", kvm_strerror(errno));
    return FALSE;
}

void kvm_cpu_debug_again(KvmCpu *cpu)
{
    if (cpu->debug.control)
        ioctl(cpu->vcpu, KVM_SET_GUEST_DEBUG, &cpu->debug);
}

CpuExit kvm_cpu_debug_exit(const KvmCpu *cpu)
{
    const struct kvm_debug_exit_arch *arch = &cpu->run->debug.arch;
    CpuExit exit = { .kind = CPU_EXIT_DEBUG, .stop = CPU_STOP_STEP, .address = arch->pc };
    for (unsigned i = 0; i < KVM_CPU_DEBUG_POINTS; i++)
        if (arch->dr6 >> i & 1) {
            exit.stop = i < cpu->debug_nbreaks ? CPU_STOP_BREAK : CPU_STOP_WATCH;
            exit.address = cpu->debug_at[i];
            break;
        }
    return exit;
}
