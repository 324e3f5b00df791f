/* The machine's CPU model, cut down to what KVM offers.  Leaves without feature bits pass unchanged. */
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/cpuid.h"
#include "core/error.h"
#include "kvm/cpu-int.h"

#define SUPPORTED_MAX 256

enum { EAX, EBX, ECX, EDX };

/* Registers made of feature bits: the model's AND KVM's. @apic: with a local APIC in the kernel only, and then KVM always serves them, whatever
 * it says (TSC deadline: by an extension that all kernels have had since 3.2); @keep: KVM need not know. */
static const struct {
    uint32_t leaf;
    int subleaf; /* -1: the leaf has none */
    uint8_t reg;
    uint32_t apic, keep;
} masks[] = {
    { 1, -1, ECX, 1u << 21 /* x2APIC */ | 1u << 24 /* TSC deadline */, 1u << 31 /* hypervisor */ },
    { 1, -1, EDX, 0, 0 },
    { 7, 0, EBX, 0, 0 },
    { 7, 0, ECX, 0, 0 },
    { 7, 0, EDX, 0, 0 },
    { 7, 1, EAX, 0, 0 },
    { 0xd, 0, EAX, 0, 0 },
    { 0xd, 1, EAX, 0, 0 },
    { 0x80000001, -1, ECX, 0, 0 },
    { 0x80000001, -1, EDX, 0, 0 },
    { 0x80000008, -1, EBX, 0, 0 },
    { 0x80000021, -1, EAX, 0, 0 },
};

static uint32_t *entry_reg(struct kvm_cpuid_entry2 *entry, unsigned reg)
{
    return reg == EAX ? &entry->eax : reg == EBX ? &entry->ebx : reg == ECX ? &entry->ecx : &entry->edx;
}

static uint32_t supported_reg(const struct kvm_cpuid2 *supported, uint32_t leaf, uint32_t subleaf, unsigned reg)
{
    for (unsigned i = 0; i < supported->nent; i++) {
        const struct kvm_cpuid_entry2 *entry = &supported->entries[i];
        if (entry->function == leaf && (!(entry->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) || entry->index == subleaf))
            return *entry_reg((struct kvm_cpuid_entry2 *)entry, reg);
    }
    return 0;
}

/* Row @m of the table: which bits the guest may have. */
static uint32_t mask_value(size_t m, const struct kvm_cpuid2 *supported, uint32_t subleaf, bool has_apic)
{
    uint32_t offered = supported_reg(supported, masks[m].leaf, subleaf, masks[m].reg) | masks[m].keep;
    return has_apic ? offered | masks[m].apic : offered & ~masks[m].apic;
}

void kvm_cpuid_cut(const CpuidModel *model, const struct kvm_cpuid2 *supported, unsigned index, bool has_apic,
                   struct kvm_cpuid_entry2 *out_entries, unsigned *out_count, uint64_t *out_xfeatures)
{
    *out_xfeatures = 3;
    for (unsigned i = 0; i < model->nleaves; i++) {
        const CpuidLeaf *row = &model->leaf[i];
        struct kvm_cpuid_entry2 *entry = &out_entries[i];
        *entry = (struct kvm_cpuid_entry2){ .function = row->leaf, .index = row->subleaf, .eax = row->eax, .ebx = row->ebx,
                                            .ecx = row->ecx, .edx = row->edx,
                                            .flags = row->subleaf_significant ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0 };
        for (size_t m = 0; m < G_N_ELEMENTS(masks); m++) {
            if (masks[m].leaf != row->leaf || (masks[m].subleaf >= 0 && (uint32_t)masks[m].subleaf != row->subleaf))
                continue;
            *entry_reg(entry, masks[m].reg) &= mask_value(m, supported, row->subleaf, has_apic);
        }
        if (row->leaf == 1)
            entry->ebx = (entry->ebx & 0x00ffffff) | index << 24;
        if (row->leaf == 0xd && row->subleaf == 0)
            *out_xfeatures = entry->eax | 3;
    }
    *out_count = model->nleaves;
}

/* Returns: (transfer full), or NULL. */
static struct kvm_cpuid2 *supported_get(int kvm, GError **error)
{
    g_autofree struct kvm_cpuid2 *supported = g_malloc0(sizeof *supported + SUPPORTED_MAX * sizeof supported->entries[0]);
    supported->nent = SUPPORTED_MAX;
    if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, supported) < 0) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_HOST, "KVM_GET_SUPPORTED_CPUID: %s", g_strerror(errno));
        return NULL;
    }
    return g_steal_pointer(&supported);
}

/* What the host's CPU is not vulnerable to; nothing when KVM does not say. */
static uint64_t arch_capabilities_get(int kvm)
{
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry;
    } one = { .head.nmsrs = 1, .entry.index = X86_MSR_ARCH_CAPABILITIES };
    return ioctl(kvm, KVM_GET_MSRS, &one) == 1 ? one.entry.data : 0;
}

gboolean kvm_cpuid_restrict(CpuidModel *model, bool has_apic, GError **error)
{
    int kvm = open(KVM_PATH, O_RDWR | O_CLOEXEC);
    if (kvm < 0) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_HOST, "%s: %s", KVM_PATH, g_strerror(errno));
        return FALSE;
    }
    g_autofree struct kvm_cpuid2 *supported = supported_get(kvm, error);
    model->arch_capabilities = arch_capabilities_get(kvm);
    close(kvm);
    if (!supported)
        return FALSE;
    for (size_t m = 0; m < G_N_ELEMENTS(masks); m++) {
        uint32_t subleaf = masks[m].subleaf < 0 ? 0 : (uint32_t)masks[m].subleaf;
        cpuid_model_mask(model, masks[m].leaf, subleaf, masks[m].reg, mask_value(m, supported, subleaf, has_apic));
    }
    cpuid_model_settle(model);
    return TRUE;
}

gboolean kvm_cpuid_check(const CpuidModel *model, bool has_apic, GError **error)
{
    static const char *const names[] = { "EAX", "EBX", "ECX", "EDX" };
    CpuidModel common = *model;
    if (!kvm_cpuid_restrict(&common, has_apic, error))
        return FALSE;
    for (unsigned i = 0; i < model->nleaves; i++)
        for (unsigned reg = EAX; reg <= EDX; reg++) {
            const CpuidLeaf *a = &model->leaf[i], *b = &common.leaf[i];
            uint32_t lost = ((const uint32_t[]){ a->eax & ~b->eax, a->ebx & ~b->ebx, a->ecx & ~b->ecx, a->edx & ~b->edx })[reg];
            if (!lost)
                continue;
            g_set_error(error, VMM_ERROR, VMM_ERROR_NO_MODE, "the guest was started with a CPU that has more than KVM offers (leaf %#x, %s "
                        "bits %#x); start it where KVM can be used, or without these features (-cpu)", model->leaf[i].leaf, names[reg], lost);
            return FALSE;
        }
    return TRUE;
}

bool kvm_cpuid_set(KvmCpu *cpu, GError **error)
{
    g_autofree struct kvm_cpuid2 *supported = supported_get(cpu->vm->kvm, error);
    if (!supported)
        return false;
    const CpuidModel *model = cpu->config.cpuid;
    g_autofree struct kvm_cpuid2 *cpuid = g_malloc0(sizeof *cpuid + G_N_ELEMENTS(model->leaf) * sizeof cpuid->entries[0]);
    kvm_cpuid_cut(model, supported, cpu->config.index, cpu->base.has_apic, cpuid->entries, &cpuid->nent, &cpu->xfeatures);
    if (ioctl(cpu->vcpu, KVM_SET_CPUID2, cpuid) < 0) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_HOST, "KVM_SET_CPUID2: KVM refuses the CPU model: %s", g_strerror(errno));
        return false;
    }
    struct {
        struct kvm_msrs head;
        struct kvm_msr_entry entry;
    } one = { .head.nmsrs = 1, .entry = { .index = X86_MSR_ARCH_CAPABILITIES, .data = model->arch_capabilities } };
    ioctl(cpu->vcpu, KVM_SET_MSRS, &one); /* where KVM has none, the guest has none */
    return true;
}
