/*
 * Creation, state in and out, and the calls from other threads.
 */
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <x86intrin.h>

#include "core/cpuid.h"
#include "core/dirty.h"
#include "core/error.h"
#include "core/log.h"
#include "kvm/cpu-int.h"

static KvmCpu *kvm_cpu(Cpu *cpu) { return (KvmCpu *)cpu; }

static void on_kick_signal(int number) { } /* its arrival is all that matters: KVM_RUN returns EINTR */

static void signal_install(void)
{
    static gsize done;
    if (!g_once_init_enter(&done))
        return;
    struct sigaction action = { .sa_handler = on_kick_signal };
    sigemptyset(&action.sa_mask);
    sigaction(KVM_CPU_KICK_SIGNAL, &action, NULL);
    g_once_init_leave(&done, 1);
}

void kvm_cpu_fail(KvmCpu *cpu, const char *format, ...)
{
    if (cpu->failure[0])
        return;
    va_list args;
    va_start(args, format);
    g_vsnprintf(cpu->failure, sizeof cpu->failure, format, args);
    va_end(args);
}

bool kvm_slots_sync(KvmCpu *cpu)
{
    g_autofree char *refused = kvm_vm_slots(cpu->vm);
    if (refused)
        kvm_cpu_fail(cpu, "%s", refused);
    return !refused;
}

static bool has_extension(const KvmCpu *cpu, int number) { return ioctl(cpu->vm->kvm, KVM_CHECK_EXTENSION, number) > 0; }

static void kvm_cpu_free(Cpu *base)
{
    KvmCpu *cpu = kvm_cpu(base);
    if (!cpu)
        return;
    if (cpu->run)
        munmap(cpu->run, cpu->run_size);
    kvm_stats_free(cpu->stats);
    if (cpu->vcpu >= 0)
        close(cpu->vcpu);
    kvm_vm_unref(cpu->vm);
    g_free(cpu);
}

static gboolean fail(GError **error, const char *what)
{
    g_set_error(error, VMM_ERROR, VMM_ERROR_HOST, "%s: %s", what, kvm_strerror(errno));
    return FALSE;
}

static void msrs_probe(KvmCpu *cpu)
{
    kvm_state_from(&cpu->state, &(X86State){ .tsc = 0 });
    for (unsigned i = 0; i < KVM_STATE_NMSRS; i++) {
        struct {
            struct kvm_msrs head;
            struct kvm_msr_entry entry;
        } one = { .head.nmsrs = 1, .entry.index = cpu->state.msr[i].index };
        cpu->msr_ok[i] = ioctl(cpu->vcpu, KVM_GET_MSRS, &one) == 1;
    }
}

/* IA32_SPEC_CTRL: where the guest's CPU has it. */
static void spec_ctrl_transfer(KvmCpu *cpu, unsigned long request, uint64_t *value)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry;
    } one = { .head.nmsrs = 1, .entry = { .index = X86_MSR_SPEC_CTRL, .data = *value } };
    if (cpu->has_spec_ctrl && ioctl(cpu->vcpu, request, &one) == 1)
        *value = one.entry.data;
}

static gboolean vcpu_open(KvmCpu *cpu, GError **error)
{
    cpu->vcpu = ioctl(cpu->vm->vm, KVM_CREATE_VCPU, (unsigned long)cpu->config.index);
    if (cpu->vcpu < 0)
        return fail(error, "KVM_CREATE_VCPU");
    int size = ioctl(cpu->vm->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (size < 0)
        return fail(error, "KVM_GET_VCPU_MMAP_SIZE");
    void *run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu->vcpu, 0);
    if (run == MAP_FAILED)
        return fail(error, "mmap of the vCPU");
    cpu->run = run;
    cpu->run_size = (size_t)size;
    cpu->stats = kvm_stats_open(cpu->vcpu);
    cpu->has_xcrs = has_extension(cpu, KVM_CAP_XCRS);
    cpu->is_svm = kvm_host_has_svm();
    struct kvm_device_attr offset = { .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET };
    cpu->can_block_irqs = ioctl(cpu->vm->kvm, KVM_CHECK_EXTENSION, KVM_CAP_SET_GUEST_DEBUG2) > 0 &&
                          ioctl(cpu->vm->kvm, KVM_CHECK_EXTENSION, KVM_CAP_SET_GUEST_DEBUG2) & KVM_GUESTDBG_BLOCKIRQ;
    cpu->has_tsc_offset = ioctl(cpu->vcpu, KVM_HAS_DEVICE_ATTR, &offset) == 0;
    if (!kvm_cpuid_set(cpu, error))
        return FALSE;
    msrs_probe(cpu);
    cpu->has_spec_ctrl = cpuid_model_has(cpu->config.cpuid, "spec-ctrl");
    return TRUE;
}

static Cpu *kvm_cpu_create(const CpuConfig *config, GError **error)
{
    if (log_on(LOG_KVM)) {
        g_auto(KvmProbe) probe = { 0 };
        if (kvm_probe(NULL, &probe, NULL))
            log_text(LOG_KVM, "%s", probe.text);
    }
    signal_install();
    KvmCpu *cpu = g_new0(KvmCpu, 1);
    cpu->base.ops = &kvm_cpu_ops;
    cpu->config = *config;
    cpu->host = config->host;
    cpu->host_opaque = config->host_opaque;
    cpu->vcpu = -1;
    cpu->vm = kvm_vm_get(config, error);
    cpu->base.has_apic = cpu->vm && cpu->vm->has_apic;
    if (cpu->vm && vcpu_open(cpu, error))
        return &cpu->base;
    kvm_cpu_free(&cpu->base);
    return NULL;
}

/* --- state --- */

bool kvm_cpu_ioctl(KvmCpu *cpu, unsigned long request, const char *name, void *argument)
{
    if (ioctl(cpu->vcpu, request, argument) >= 0)
        return true;
    kvm_cpu_fail(cpu, "KVM refuses the vCPU's state: %s: %s", name, kvm_strerror(errno));
    return false;
}

/* KVM on AMD cuts SYSENTER_ESP and _EIP of an AMD guest to 32 bits (SYSENTER does not exist in its long mode).  The half that the guest
 * has not written since is still what was loaded. */
static uint64_t msr_merge(uint32_t index, uint64_t before, uint64_t now)
{
    bool is_cut = (index == X86_MSR_SYSENTER_ESP || index == X86_MSR_SYSENTER_EIP) && now >> 32 == 0;
    return is_cut && (uint32_t)before == now ? before : now;
}

/* MSRs that KVM does not have keep their value in cpu->state. @request: KVM_SET_MSRS or KVM_GET_MSRS. */
static void msrs_transfer(KvmCpu *cpu, unsigned long request)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry[KVM_STATE_NMSRS];
    } msrs;
    unsigned position[KVM_STATE_NMSRS], n = 0, first = 0;
    for (unsigned i = 0; i < KVM_STATE_NMSRS; i++)
        if (cpu->msr_ok[i])
            position[n++] = i;
    while (first < n) {
        memset(&msrs.head, 0, sizeof msrs.head);
        msrs.head.nmsrs = n - first;
        for (unsigned i = first; i < n; i++)
            msrs.entry[i - first] = cpu->state.msr[position[i]];
        int done = ioctl(cpu->vcpu, request, &msrs);
        for (int i = 0; i < done; i++) {
            struct kvm_msr_entry *entry = &cpu->state.msr[position[first + (unsigned)i]];
            entry->data = msr_merge(entry->index, entry->data, msrs.entry[i].data);
        }
        first += (unsigned)MAX(done, 0);
        if (first < n) { /* KVM stopped at this one */
            log_text(LOG_KVM, "kvm: MSR %#x: value %#llx refused", cpu->state.msr[position[first]].index,
                     (unsigned long long)cpu->state.msr[position[first]].data);
            first++;
        }
    }
}

/* @request: KVM_SET_DEVICE_ATTR or KVM_GET_DEVICE_ATTR. */
static bool tsc_offset_transfer(KvmCpu *cpu, unsigned long request, int64_t *offset)
{
    struct kvm_device_attr attr = { .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)offset };
    return cpu->has_tsc_offset && ioctl(cpu->vcpu, request, &attr) == 0;
}

/* The guest's TSC becomes what @state says.  By the offset where KVM has it: a write of the MSR within a second of another means "the same
 * value". */
static void tsc_load(KvmCpu *cpu, const X86State *state)
{
    if (!state->tsc && !state->tsc_offset)
        return;
    uint64_t now = __rdtsc(), tsc = state->tsc ? state->tsc : now + (uint64_t)state->tsc_offset;
    int64_t offset = state->tsc ? (int64_t)(state->tsc - now) : state->tsc_offset;
    if (tsc_offset_transfer(cpu, KVM_SET_DEVICE_ATTR, &offset))
        return;
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry;
    } one = { .head.nmsrs = 1, .entry = { .index = X86_MSR_TSC, .data = tsc } };
    ioctl(cpu->vcpu, KVM_SET_MSRS, &one);
}

static void host_apic_load(KvmCpu *cpu, const X86State *state)
{
    if (state->apic_base)
        cpu->host->apic_msr_write(cpu->host_opaque, X86_MSR_APIC_BASE, state->apic_base);
    cpu->host->cr8_write(cpu->host_opaque, state->cr8);
    cpu->apic_base = state->apic_base;
    cpu->cr8 = state->cr8;
    cpu->is_cr8_stale = false;
}

static void kvm_cpu_load(Cpu *base, const X86State *state)
{
    KvmCpu *cpu = kvm_cpu(base);
    cpu->failure[0] = 0;
    kvm_cpu_complete(cpu); /* what was half done belongs to the old state */
    KvmState *kvm = &cpu->state;
    kvm_state_from(kvm, state);
    if (cpu->is_svm)
        kvm_state_suit_svm(kvm);
    host_apic_load(cpu, state);
    if (cpu->base.has_apic && !state->apic_base) /* that of the machine's chip stays */
        cpu->host->apic_msr_read(cpu->host_opaque, X86_MSR_APIC_BASE, (uint64_t *)&kvm->sregs.apic_base);
    uint64_t xfeatures;
    memcpy(&xfeatures, (uint8_t *)kvm->xsave.region + 512, sizeof xfeatures);
    xfeatures &= cpu->xfeatures;
    memcpy((uint8_t *)kvm->xsave.region + 512, &xfeatures, sizeof xfeatures);

    bool is_ok = kvm_apic_activity_load(cpu, state) && KVM_CPU_IOCTL(cpu, KVM_SET_REGS, &kvm->regs) && KVM_CPU_IOCTL(cpu, KVM_SET_SREGS2, &kvm->sregs) && KVM_CPU_IOCTL(cpu, KVM_SET_XSAVE, &kvm->xsave);
    if (is_ok && cpu->has_xcrs)
        is_ok = KVM_CPU_IOCTL(cpu, KVM_SET_XCRS, &kvm->xcrs);
    is_ok = is_ok && KVM_CPU_IOCTL(cpu, KVM_SET_DEBUGREGS, &kvm->debugregs);
    if (is_ok) {
        msrs_transfer(cpu, KVM_SET_MSRS);
        cpu->spec_ctrl = state->spec_ctrl;
        spec_ctrl_transfer(cpu, KVM_SET_MSRS, &cpu->spec_ctrl);
        tsc_load(cpu, state);
        KVM_CPU_IOCTL(cpu, KVM_SET_VCPU_EVENTS, &kvm->events);
    }
    kvm_cpu_debug_again(cpu);
    cpu->halted = state->halted && !cpu->base.has_apic;
    __atomic_store_n(&cpu->nmi_line, false, __ATOMIC_SEQ_CST);
    cpu->run->cr8 = state->cr8;
    cpu->run->ready_for_interrupt_injection = 0; /* KVM says at the next exit */
    cpu->run->if_flag = (state->rflags & X86_FLAG_IF) != 0;
}

static void kvm_cpu_save(Cpu *base, X86State *out_state)
{
    KvmCpu *cpu = kvm_cpu(base);
    kvm_cpu_complete(cpu);
    KvmState *kvm = &cpu->state;
    kvm_apic_activity_save(cpu);
    KVM_CPU_IOCTL(cpu, KVM_GET_VCPU_EVENTS, &kvm->events); /* first: it settles what is pending */
    KVM_CPU_IOCTL(cpu, KVM_GET_REGS, &kvm->regs);
    KVM_CPU_IOCTL(cpu, KVM_GET_SREGS2, &kvm->sregs);
    KVM_CPU_IOCTL(cpu, KVM_GET_XSAVE, &kvm->xsave);
    if (cpu->has_xcrs)
        KVM_CPU_IOCTL(cpu, KVM_GET_XCRS, &kvm->xcrs);
    KVM_CPU_IOCTL(cpu, KVM_GET_DEBUGREGS, &kvm->debugregs);
    msrs_transfer(cpu, KVM_GET_MSRS);
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry;
    } tsc = { .head.nmsrs = 1, .entry.index = X86_MSR_TSC };
    if (ioctl(cpu->vcpu, KVM_GET_MSRS, &tsc) == 1)
        kvm->tsc = tsc.entry.data;
    kvm->halted = cpu->halted || cpu->activity == KVM_MP_STATE_HALTED;
    kvm_state_to(kvm, out_state);
    spec_ctrl_transfer(cpu, KVM_GET_MSRS, &cpu->spec_ctrl);
    out_state->spec_ctrl = cpu->spec_ctrl;
    if (!tsc_offset_transfer(cpu, KVM_GET_DEVICE_ATTR, &out_state->tsc_offset))
        out_state->tsc_offset = (int64_t)(kvm->tsc - __rdtsc());
    out_state->nmi_pending |= __atomic_load_n(&cpu->nmi_line, __ATOMIC_SEQ_CST);
    out_state->waits_for_sipi = cpu->activity == KVM_MP_STATE_UNINITIALIZED || cpu->activity == KVM_MP_STATE_INIT_RECEIVED;
    if (cpu->base.has_apic)
        return; /* CR8 and APIC_BASE are KVM's own */
    out_state->cr8 = cpu->host->cr8_read(cpu->host_opaque);
    cpu->host->apic_msr_read(cpu->host_opaque, X86_MSR_APIC_BASE, &out_state->apic_base);
}

static const char *kvm_cpu_failure(Cpu *base)
{
    KvmCpu *cpu = kvm_cpu(base);
    return cpu->failure[0] ? cpu->failure : NULL;
}

/* --- other threads --- */

void kvm_cpu_kick_thread(KvmCpu *cpu)
{
    __atomic_store_n(&cpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    int in = KVM_CPU_IN;
    if (__atomic_compare_exchange_n(&cpu->place, &in, KVM_CPU_SIGNALLED, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
        pthread_kill(cpu->thread, KVM_CPU_KICK_SIGNAL);
}

static void kvm_cpu_kick(Cpu *base)
{
    KvmCpu *cpu = kvm_cpu(base);
    __atomic_store_n(&cpu->kicked, true, __ATOMIC_SEQ_CST);
    kvm_cpu_kick_thread(cpu);
}

static void kvm_cpu_set_irq(Cpu *base, bool level)
{
    KvmCpu *cpu = kvm_cpu(base);
    if (__atomic_exchange_n(&cpu->irq_line, level, __ATOMIC_SEQ_CST) != level && level)
        kvm_cpu_kick_thread(cpu);
}

static void kvm_cpu_nmi(Cpu *base)
{
    KvmCpu *cpu = kvm_cpu(base);
    __atomic_store_n(&cpu->nmi_line, true, __ATOMIC_SEQ_CST);
    kvm_cpu_kick_thread(cpu);
}

gboolean kvm_dirty_log(Cpu *cpu, bool on, GError **error) { return kvm_vm_log(kvm_cpu(cpu)->vm, on, error); }

gboolean kvm_dirty_take(Cpu *cpu, unsigned slot, uint64_t *out_bits, GError **error)
{
    return kvm_vm_dirty(kvm_cpu(cpu)->vm, slot, out_bits, error);
}

static gboolean kvm_cpu_log_take(Cpu *base, GError **error)
{
    DirtyLog *log = kvm_cpu(base)->config.ram->dirty;
    for (unsigned i = 0; i < log->pages.nslots; i++) {
        g_autofree uint64_t *bits = g_new0(uint64_t, log->pages.nwords[i]);
        if (log->ram->slot[i].is_rom)
            continue;
        if (!kvm_dirty_take(base, i, bits, error))
            return FALSE;
        for (uint64_t word = 0; word < log->pages.nwords[i]; word++)
            if (bits[word])
                __atomic_fetch_or(&log->pages.bits[i][word], bits[word], __ATOMIC_SEQ_CST);
    }
    return TRUE;
}

static char *kvm_cpu_describe(Cpu *base)
{
    static const char *const gpr[16] = { "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
                                         "R8 ", "R9 ", "R10", "R11", "R12", "R13", "R14", "R15" };
    static const char *const seg[8] = { "ES ", "CS ", "SS ", "DS ", "FS ", "GS ", "LDT", "TR " };
    KvmCpu *cpu = kvm_cpu(base);
    g_autofree X86State *state = g_new0(X86State, 1);
    kvm_cpu_save(base, state);
    GString *s = g_string_new(NULL);
#define HEX64 "%016" G_GINT64_MODIFIER "x"
    for (unsigned i = 0; i < 16; i++)
        g_string_append_printf(s, "%s=" HEX64 "%c", gpr[i], state->gpr[i], i % 4 == 3 ? '\n' : ' ');
    g_string_append_printf(s, "RIP=" HEX64 " RFL=%08x CPL=%u HLT=%d\n", state->rip, (unsigned)state->rflags,
                           X86_SEG_DPL(state->seg[X86_SS].attr), state->halted);
    for (unsigned i = 0; i < 8; i++)
        g_string_append_printf(s, "%s=%04x " HEX64 " %08x %08x\n", seg[i], state->seg[i].selector, state->seg[i].base,
                               state->seg[i].limit, state->seg[i].attr);
    g_string_append_printf(s, "GDT=" HEX64 " %04x IDT=" HEX64 " %04x\nCR0=%08x CR2=" HEX64 " CR3=" HEX64 " CR4=%08x EFER=%08x\n",
                           state->gdtr.base, state->gdtr.limit, state->idtr.base, state->idtr.limit, (unsigned)state->cr0, state->cr2,
                           state->cr3, (unsigned)state->cr4, (unsigned)state->efer);
#undef HEX64
    g_string_append(s, "exits:");
    for (unsigned i = 0; i < KVM_CPU_NEXITS; i++)
        if (cpu->stat_exits[i])
            g_string_append_printf(s, " %s=%" G_GUINT64_FORMAT, kvm_exit_name(i), cpu->stat_exits[i]);
    g_string_append_printf(s, " signals=%" G_GUINT64_FORMAT " interrupts=%" G_GUINT64_FORMAT "\n", cpu->stat_signals,
                           cpu->stat_interrupts);
    return g_string_free(s, FALSE);
}

static void kvm_cpu_counters(Cpu *base, CpuCounterFunc *row, void *opaque)
{
    const KvmCpu *cpu = kvm_cpu(base);
    uint64_t exits = 0;
    for (unsigned i = 0; i < KVM_CPU_NEXITS; i++) {
        uint64_t count = __atomic_load_n(&cpu->stat_exits[i], __ATOMIC_RELAXED);
        g_autofree char *name = g_strdup_printf("kvm-exits-%s", kvm_exit_name(i));
        exits += count;
        if (count)
            row(opaque, name, count);
    }
    row(opaque, "kvm-exits", exits);
    row(opaque, "kvm-signals", __atomic_load_n(&cpu->stat_signals, __ATOMIC_RELAXED));
    row(opaque, "kvm-interrupts", __atomic_load_n(&cpu->stat_interrupts, __ATOMIC_RELAXED));
    kvm_stats_each(cpu->stats, row, opaque);
    if (cpu->config.index == 0) /* the machine's, once */
        kvm_stats_each(cpu->vm->stats, row, opaque);
}

const CpuOps kvm_cpu_ops = {
    .name = "kvm",
    .create = kvm_cpu_create,
    .free = kvm_cpu_free,
    .run = kvm_cpu_run,
    .load = kvm_cpu_load,
    .save = kvm_cpu_save,
    .failure = kvm_cpu_failure,
    .kick = kvm_cpu_kick,
    .set_irq = kvm_cpu_set_irq,
    .nmi = kvm_cpu_nmi,
    .msi = kvm_apic_msi,
    .route = kvm_apic_route,
    .apic_get = kvm_apic_get,
    .apic_set = kvm_apic_set,
    .log_writes = kvm_dirty_log,
    .log_take = kvm_cpu_log_take,
    .debug = kvm_cpu_debug,
    .max_debug_points = KVM_CPU_DEBUG_POINTS,
    .describe = kvm_cpu_describe,
    .counters = kvm_cpu_counters,
};
