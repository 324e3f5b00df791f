/*
 * The loop around KVM_RUN: what goes in before it, and what an exit asks of the machine.
 *
 * Kicks: whoever wants the vCPU out writes its wish, then run->immediate_exit, then signals the thread when it is in.  The loop clears
 * immediate_exit, says that it is in, and only then looks at the wishes; so one of the two always sees the other, and no wish waits for the
 * next exit.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include "core/log.h"
#include "core/vmware.h"
#include "kvm/cpu-int.h"

const char *kvm_exit_name(unsigned reason)
{
    static const char *const names[] = {
        [KVM_EXIT_UNKNOWN] = "unknown",       [KVM_EXIT_EXCEPTION] = "exception", [KVM_EXIT_IO] = "io",
        [KVM_EXIT_HYPERCALL] = "hypercall",   [KVM_EXIT_DEBUG] = "debug",         [KVM_EXIT_HLT] = "hlt",
        [KVM_EXIT_MMIO] = "mmio",             [KVM_EXIT_IRQ_WINDOW_OPEN] = "irq-window",
        [KVM_EXIT_SHUTDOWN] = "shutdown",     [KVM_EXIT_FAIL_ENTRY] = "fail-entry", [KVM_EXIT_INTR] = "intr",
        [KVM_EXIT_SET_TPR] = "set-tpr",       [KVM_EXIT_INTERNAL_ERROR] = "internal-error",
        [KVM_EXIT_SYSTEM_EVENT] = "system-event", [KVM_EXIT_IOAPIC_EOI] = "eoi",   [KVM_EXIT_X86_RDMSR] = "rdmsr",
        [KVM_EXIT_X86_WRMSR] = "wrmsr",
    };
    return reason < G_N_ELEMENTS(names) && names[reason] ? names[reason] : "other";
}

/* --- exits --- */

static void exit_io(KvmCpu *cpu)
{
    struct kvm_run *run = cpu->run;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;
    if (run->io.port == VMWARE_PORT && run->io.direction == KVM_EXIT_IO_IN && run->io.size == 4 && run->io.count == 1 &&
        kvm_answer_port_in(cpu, (uint32_t *)data))
        return;
    cpu->is_completion_due = true;
    for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
        uint64_t value = 0;
        if (run->io.direction == KVM_EXIT_IO_OUT) {
            memcpy(&value, data, run->io.size);
            cpu->host->port_write(cpu->host_opaque, run->io.port, run->io.size, value);
        } else {
            value = cpu->host->port_read(cpu->host_opaque, run->io.port, run->io.size);
            memcpy(data, &value, run->io.size);
        }
    }
}

/* KVM cuts an access at page boundaries, so any length from 1 to 8 arrives here. */
static void exit_mmio(KvmCpu *cpu)
{
    struct kvm_run *run = cpu->run;
    Gpa gpa = run->mmio.phys_addr;
    const RamSlot *slot = ram_find(cpu->config.ram, gpa);
    if (slot && slot->is_rom && run->mmio.is_write)
        return;
    uint8_t *data = run->mmio.data;
    uint32_t left = MIN(run->mmio.len, (uint32_t)sizeof run->mmio.data);
    while (left) {
        unsigned size = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
        uint64_t value = 0;
        if (run->mmio.is_write) {
            memcpy(&value, data, size);
            cpu->host->mmio_write(cpu->host_opaque, gpa, size, value);
        } else {
            value = cpu->host->mmio_read(cpu->host_opaque, gpa, size);
            memcpy(data, &value, size);
        }
        data += size;
        gpa += size;
        left -= size;
    }
    cpu->is_cr8_stale |= run->mmio.is_write;
}

static CpuExit exit_error(KvmCpu *cpu) { return (CpuExit){ .kind = CPU_EXIT_ERROR, .reason = cpu->failure }; }

static void internal_error_describe(KvmCpu *cpu)
{
    const struct kvm_run *run = cpu->run;
    struct kvm_regs regs = { 0 };
    ioctl(cpu->vcpu, KVM_GET_REGS, &regs);
    static const char *const suberrors[] = { "unknown suberror", "KVM cannot emulate an instruction", "two exceptions at once",
                                             "an exit during event delivery", "an unexpected exit reason" };
    GString *bytes = g_string_new(NULL);
    if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION && run->internal.ndata >= 3 &&
        run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) {
        g_string_append(bytes, ", bytes");
        for (unsigned i = 0; i < MIN(run->emulation_failure.insn_size, 15u); i++)
            g_string_append_printf(bytes, " %02x", run->emulation_failure.insn_bytes[i]);
    }
    unsigned suberror = run->internal.suberror;
    kvm_cpu_fail(cpu, "KVM_EXIT_INTERNAL_ERROR: %s (%u) at RIP %#llx%s", suberrors[suberror < G_N_ELEMENTS(suberrors) ? suberror : 0],
                 suberror, (unsigned long long)regs.rip, bytes->str);
    g_string_free(bytes, TRUE);
}

/* Returns: whether run() has something to tell the machine, in *out_exit. */
static bool exit_handle(KvmCpu *cpu, CpuExit *out_exit)
{
    struct kvm_run *run = cpu->run;
    cpu->stat_exits[MIN(run->exit_reason, KVM_CPU_NEXITS - 1u)]++;
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        exit_io(cpu);
        return false;
    case KVM_EXIT_X86_RDMSR:
    case KVM_EXIT_X86_WRMSR:
        kvm_answer_msr(cpu);
        return false;
    case KVM_EXIT_MMIO:
        exit_mmio(cpu);
        cpu->is_completion_due = true;
        return false;
    case KVM_EXIT_IRQ_WINDOW_OPEN:
    case KVM_EXIT_SET_TPR: /* CR8 itself is looked at after every exit */
    case KVM_EXIT_INTR:
        return false;
    case KVM_EXIT_IOAPIC_EOI:
        cpu->host->eoi(cpu->host_opaque, run->eoi.vector);
        return false;
    case KVM_EXIT_HLT:
        cpu->halted = true; /* the loop decides whether something ends it at once */
        return false;
    case KVM_EXIT_DEBUG:
        *out_exit = kvm_cpu_debug_exit(cpu);
        return true;
    case KVM_EXIT_SHUTDOWN:
        *out_exit = (CpuExit){ .kind = CPU_EXIT_SHUTDOWN, .reason = "triple fault" };
        return true;
    case KVM_EXIT_FAIL_ENTRY:
        kvm_cpu_fail(cpu, "KVM_EXIT_FAIL_ENTRY: the CPU refuses to enter the guest, hardware reason %#llx; see the host's kernel log",
                     (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
        break;
    case KVM_EXIT_INTERNAL_ERROR:
        internal_error_describe(cpu);
        break;
    default:
        kvm_cpu_fail(cpu, "KVM: exit reason %u (%s) is not one this engine asked for", run->exit_reason, kvm_exit_name(run->exit_reason));
        break;
    }
    *out_exit = exit_error(cpu);
    return true;
}

/* --- the loop --- */

/* The machine's APIC and KVM's copy of TPR and APIC_BASE. */
static void apic_in(KvmCpu *cpu)
{
    if (cpu->base.has_apic)
        return;
    if (cpu->is_cr8_stale) {
        cpu->cr8 = cpu->host->cr8_read(cpu->host_opaque);
        cpu->is_cr8_stale = false;
    }
    cpu->run->cr8 = cpu->cr8;
}

static void apic_out(KvmCpu *cpu)
{
    struct kvm_run *run = cpu->run;
    if (cpu->base.has_apic)
        return;
    if (G_UNLIKELY(run->cr8 != cpu->cr8)) {
        cpu->cr8 = run->cr8;
        cpu->host->cr8_write(cpu->host_opaque, run->cr8);
    }
    if (G_UNLIKELY(run->apic_base != cpu->apic_base)) {
        cpu->apic_base = run->apic_base;
        cpu->host->apic_msr_write(cpu->host_opaque, X86_MSR_APIC_BASE, run->apic_base);
    }
}

static void events_inject(KvmCpu *cpu)
{
    struct kvm_run *run = cpu->run;
    if (__atomic_exchange_n(&cpu->nmi_line, false, __ATOMIC_SEQ_CST))
        ioctl(cpu->vcpu, KVM_NMI, 0);
    if (__atomic_load_n(&cpu->irq_line, __ATOMIC_SEQ_CST) && run->ready_for_interrupt_injection && run->if_flag) {
        int vector = cpu->host->irq_acknowledge(cpu->host_opaque);
        if (vector >= 0) {
            struct kvm_interrupt interrupt = { .irq = (uint32_t)vector };
            if (ioctl(cpu->vcpu, KVM_INTERRUPT, &interrupt) < 0)
                kvm_cpu_fail(cpu, "KVM_INTERRUPT: vector %d: %s", vector, kvm_strerror(errno));
            run->ready_for_interrupt_injection = 0;
            cpu->stat_interrupts++;
        }
    }
    run->request_interrupt_window = __atomic_load_n(&cpu->irq_line, __ATOMIC_SEQ_CST);
}

static bool halt_ends(const KvmCpu *cpu)
{
    return __atomic_load_n(&cpu->nmi_line, __ATOMIC_SEQ_CST) ||
           (__atomic_load_n(&cpu->irq_line, __ATOMIC_SEQ_CST) && cpu->run->if_flag);
}

/* Says that the thread is in.  Wishes are looked at after this, never before. */
static void place_in(KvmCpu *cpu)
{
    __atomic_store_n(&cpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&cpu->place, KVM_CPU_IN, __ATOMIC_SEQ_CST);
}

static void place_out(KvmCpu *cpu) { __atomic_store_n(&cpu->place, KVM_CPU_OUT, __ATOMIC_SEQ_CST); }

void kvm_cpu_complete(KvmCpu *cpu)
{
    for (unsigned tries = 0; cpu->is_completion_due && tries < 64; tries++) {
        cpu->is_completion_due = false;
        __atomic_store_n(&cpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
        apic_in(cpu);
        if (ioctl(cpu->vcpu, KVM_RUN, 0) < 0)
            return; /* EINTR: done */
        CpuExit exit;
        exit_handle(cpu, &exit); /* the rest of a wide access */
    }
}

CpuExit kvm_cpu_run(Cpu *base)
{
    KvmCpu *cpu = (KvmCpu *)base;
    cpu->thread = pthread_self();
    if (cpu->failure[0] || !kvm_slots_sync(cpu))
        return exit_error(cpu);
    for (;;) {
        place_in(cpu);
        if (__atomic_load_n(&cpu->kicked, __ATOMIC_SEQ_CST)) {
            place_out(cpu);
            kvm_cpu_complete(cpu);
            __atomic_store_n(&cpu->kicked, false, __ATOMIC_SEQ_CST);
            return (CpuExit){ .kind = CPU_EXIT_KICKED };
        }
        if (cpu->halted) {
            if (!halt_ends(cpu)) {
                place_out(cpu);
                return (CpuExit){ .kind = CPU_EXIT_HALT };
            }
            cpu->halted = false;
        }
        apic_in(cpu);
        events_inject(cpu);
        int result = ioctl(cpu->vcpu, KVM_RUN, 0);
        int errnum = errno;
        place_out(cpu);
        cpu->is_completion_due = false;
        apic_out(cpu);
        if (result < 0) {
            if (errnum != EINTR && errnum != EAGAIN)
                kvm_cpu_fail(cpu, "KVM_RUN: %s", kvm_strerror(errnum));
            cpu->stat_signals++;
        } else {
            CpuExit exit;
            if (exit_handle(cpu, &exit))
                return exit;
        }
        if (cpu->failure[0])
            return exit_error(cpu);
    }
}
