/* The engine's own vCPU record, shared by the files of this folder. */
#pragma once

#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "kvm/kvm.h"
#include "kvm/state.h"
#include "kvm/vm.h"

#define KVM_PATH "/dev/kvm"
#define KVM_CPU_KICK_SIGNAL SIGRTMIN
#define KVM_CPU_DEBUG_POINTS 4u /* debug registers */
#define KVM_CPU_NEXITS 48 /* exit reasons counted one by one; all others share the last */

/* Where the vCPU's thread is, for kicks. */
enum { KVM_CPU_OUT, KVM_CPU_IN, KVM_CPU_SIGNALLED };

typedef struct KvmCpu {
    Cpu base;
    CpuConfig config;
    const CpuHost *host;
    void *host_opaque;

    KvmVm *vm;
    int vcpu; /* file descriptor */
    struct kvm_run *run;
    size_t run_size;
    bool has_xcrs, has_tsc_offset, has_spec_ctrl;
    bool is_svm; /* AMD-V */
    bool msr_ok[KVM_STATE_NMSRS]; /* KVM has this MSR */
    uint64_t xfeatures;           /* XSAVE components that KVM_SET_XSAVE takes */

    /* Written by any thread. */
    int place;    /* KVM_CPU_OUT … */
    bool kicked, irq_line, nmi_line;
    pthread_t thread; /* valid while place is not OUT */

    /* The vCPU's thread only. */
    bool halted;            /* without KVM's APIC: KVM forgets HLT */
    uint32_t activity;      /* KVM_MP_STATE_… with it, as last loaded or saved */
    bool is_completion_due; /* an access was served; the instruction ends at the next KVM_RUN */
    bool is_cr8_stale;      /* the guest may have written the TPR in the APIC's page */
    uint64_t cr8, apic_base; /* as the machine's APIC has them */
    uint64_t spec_ctrl; /* as last loaded or saved */
    struct kvm_guest_debug debug; /* as KVM has it */
    unsigned debug_nbreaks; /* of debug_at[]; the rest are watchpoints */
    Gva debug_at[KVM_CPU_DEBUG_POINTS];
    bool can_block_irqs;    /* KVM keeps interrupts away while stepping */
    char failure[320];      /* why the engine cannot go on; empty: it can */
    KvmState state;         /* last loaded or saved */

    KvmStats *stats; /* NULL: this KVM has none */
    uint64_t stat_exits[KVM_CPU_NEXITS], stat_interrupts, stat_signals;
} KvmCpu;

/* kvm_strerror: @errnum in the C locale.  g_strerror() opens files for the user's, which a sandboxed vCPU's thread may not. */
static inline const char *kvm_strerror(int errnum)
{
    const char *text = strerrordesc_np(errnum);
    return text ? text : "unknown error";
}

/* kvm_cpu_debug: CpuOps.debug.   kvm_cpu_debug_again: after the registers have been loaded, which a single step is tied to.
 * kvm_cpu_debug_exit: KVM_EXIT_DEBUG. */
gboolean kvm_cpu_debug(Cpu *base, const CpuDebug *debug, GError **error);
void kvm_cpu_debug_again(KvmCpu *cpu);
CpuExit kvm_cpu_debug_exit(const KvmCpu *cpu);
/* kvm_cpu_run: see CpuOps.run. */
CpuExit kvm_cpu_run(Cpu *base);
/* kvm_cpu_kick_thread: makes KVM_RUN return, if the vCPU is in it or about to be.  Any thread, any signal handler. */
void kvm_cpu_kick_thread(KvmCpu *cpu);
/* kvm_cpu_complete: ends an instruction whose access was served but not consumed yet, so that KVM_GET_* tells the truth. */
void kvm_cpu_complete(KvmCpu *cpu);
/* kvm_cpu_fail: the first failure counts. */
void kvm_cpu_fail(KvmCpu *cpu, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* kvm_cpu_ioctl: a request about the vCPU's state; a refusal is the vCPU's failure.  KVM_CPU_IOCTL() names it in the message. */
bool kvm_cpu_ioctl(KvmCpu *cpu, unsigned long request, const char *name, void *argument);
#define KVM_CPU_IOCTL(cpu, request, argument) kvm_cpu_ioctl(cpu, request, #request, argument)
/* kvm_slots_sync: tells KVM of RAM and ROM slots it has not seen. */
bool kvm_slots_sync(KvmCpu *cpu);
const char *kvm_exit_name(unsigned reason);

/* Local APICs in the kernel: CpuOps.msi and so on.   kvm_apic_activity_…: halted or running, which KVM knows only then. */
bool kvm_apic_msi(Cpu *base, uint64_t address, uint32_t data);
void kvm_apic_route(Cpu *base, unsigned pin, uint64_t address, uint32_t data);
void kvm_apic_get(Cpu *base, CpuApic *out_apic);
void kvm_apic_set(Cpu *base, const CpuApic *apic);
bool kvm_apic_activity_load(KvmCpu *cpu, const X86State *state);
void kvm_apic_activity_save(KvmCpu *cpu);

/* kvm_answer_enable: lets KVM ask.   kvm_answer_msr: the exits KVM_EXIT_X86_RDMSR and _WRMSR. */
void kvm_answer_enable(int kvm, int vm);
void kvm_answer_msr(KvmCpu *cpu);
/* kvm_answer_port_in: IN EAX at VMWARE_PORT.  *out_eax is what KVM has to put into EAX: the exit's data.  False: an ordinary access. */
bool kvm_answer_port_in(KvmCpu *cpu, uint32_t *out_eax);

/* kvm_cpuid_set: gives the vCPU what KVM supports of the machine's CPU model. */
bool kvm_cpuid_set(KvmCpu *cpu, GError **error);
/* kvm_cpuid_cut: @model without what @supported does not have; *out_count entries of @out_entries (room for all of @model). */
void kvm_cpuid_cut(const CpuidModel *model, const struct kvm_cpuid2 *supported, unsigned index, bool has_apic,
                   struct kvm_cpuid_entry2 *out_entries, unsigned *out_count, uint64_t *out_xfeatures);

/* kvm_host_has_svm: the host's CPU has AMD-V.   kvm_open_failed: the sentence for errno @errnum of opening @path.  Returns: FALSE. */
bool kvm_host_has_svm(void);
gboolean kvm_open_failed(const char *path, int errnum, bool can_virtualize, const char *module, GError **error);
