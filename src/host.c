#include "host.h"

#include <cpuid.h>
#include <string.h>
#include <unistd.h>

#include "kvm/kvm.h"

static unsigned cpu_family(unsigned eax)
{
    unsigned family = eax >> 8 & 15;
    return family == 15 ? family + (eax >> 20 & 255) : family;
}

static unsigned cpu_model(unsigned eax) { return (eax >> 4 & 15) | (eax >> 12 & 0xf0); }

/* FlexPriority cannot be seen without privileges: a 65 nm Core 2 counts as one that lacks it. */
static HostColumn intel_column(unsigned eax)
{
    unsigned family = cpu_family(eax), model = cpu_model(eax);
    if (family == 15)
        return HOST_P4_VT;
    if (family != 6)
        return family > 6 ? HOST_NEHALEM : HOST_NO_VT;
    if (model == 0x17 || model == 0x1d)
        return HOST_CORE2_45NM;
    return model >= 0x1a ? HOST_NEHALEM : model == 0x0f || model == 0x16 ? HOST_CORE2_65NM : HOST_NO_VT;
}

/* Revision D of family 0Fh has extended model 1. */
static HostColumn amd_column(unsigned eax)
{
    unsigned family = cpu_family(eax);
    if (family < 15)
        return HOST_AMD_32BIT;
    if (family == 15)
        return cpu_model(eax) < 0x10 ? HOST_AMD_0FH_PRE_D : HOST_AMD_0FH_D;
    return family < 0x15 ? HOST_AMD_10H : HOST_AMD_MODERN;
}

static void cpu_look(HostFacts *host)
{
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0, signature = 0, features = 0;
    __get_cpuid(0, &eax, &ebx, &ecx, &edx);
    bool is_intel = ebx == signature_INTEL_ebx, is_amd = ebx == signature_AMD_ebx || ebx == 0x6f677948; /* "Hygo" */
    host->vendor = is_intel ? HOST_VENDOR_INTEL : is_amd ? HOST_VENDOR_AMD : HOST_VENDOR_UNKNOWN;
    __get_cpuid(1, &signature, &ebx, &features, &edx);
    ecx = edx = 0;
    __get_cpuid(0x80000001u, &eax, &ebx, &ecx, &edx);
    host->is_64bit = edx >> 29 & 1;
    host->has_virtualization = is_intel ? features >> 5 & 1 : is_amd && (ecx >> 2 & 1);
    host->column = is_intel ? intel_column(signature) : is_amd ? amd_column(signature) : HOST_NO_VT;
    host->is_amd_0fh = host->column == HOST_AMD_0FH_PRE_D || host->column == HOST_AMD_0FH_D;
    host->has_segment_limits = is_amd && host->column >= HOST_AMD_0FH_D;
    host->has_slat = host->has_virtualization && (host->column == HOST_NEHALEM || host->column >= HOST_AMD_10H);
}

static void kvm_look(HostFacts *host)
{
    g_auto(KvmProbe) probe = { 0 };
    g_autoptr(GError) cause = NULL;
    gboolean is_ok = kvm_probe(NULL, &probe, &cause) && kvm_check(&probe, KVM_MMU_ANY, &cause);
    if (!is_ok) {
        bool is_there = access("/dev/kvm", F_OK) == 0;
        host->kvm = !is_there ? HOST_KVM_MISSING : access("/dev/kvm", R_OK | W_OK) != 0 ? HOST_KVM_DENIED : HOST_KVM_BROKEN;
        host->kvm_text = g_strdup(cause->message); /* kept for the life of the process */
        /* A device that is there is the thing to complain about, whatever the CPU shows. */
        host->has_virtualization = host->has_virtualization || is_there;
        return;
    }
    host->has_virtualization = true;
    host->slat = probe.mmu == KVM_MMU_NESTED ? HOST_SLAT_ON : probe.mmu == KVM_MMU_SHADOW ? HOST_SLAT_OFF : HOST_SLAT_UNKNOWN;
    host->has_slat = host->has_slat || host->slat == HOST_SLAT_ON;
}

const HostFacts *host_this(void)
{
    static HostFacts host;
    if (!host.name) {
        host.name = "this";
        cpu_look(&host);
        kvm_look(&host);
    }
    return &host;
}

const HostFacts *host_find(const char *name, GError **error)
{
    return strcmp(name, "this") == 0 ? host_this() : plan_host(name, error);
}
