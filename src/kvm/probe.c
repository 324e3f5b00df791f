/* What /dev/kvm on this host can do, as a report and as errors with remedies. */
#include "kvm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "core/error.h"
#include "kvm/cpu-int.h"

static const struct {
    int number;
    const char *name;
    bool is_needed;
} extensions[] = {
#define NEEDED(name) { name, #name, true }
#define USEFUL(name) { name, #name, false }
    NEEDED(KVM_CAP_USER_MEMORY),     NEEDED(KVM_CAP_SET_TSS_ADDR), NEEDED(KVM_CAP_EXT_CPUID),       NEEDED(KVM_CAP_VCPU_EVENTS),
    NEEDED(KVM_CAP_DEBUGREGS),       NEEDED(KVM_CAP_XSAVE),        NEEDED(KVM_CAP_READONLY_MEM),    NEEDED(KVM_CAP_IMMEDIATE_EXIT),
    NEEDED(KVM_CAP_SREGS2),          USEFUL(KVM_CAP_XCRS),         USEFUL(KVM_CAP_VCPU_ATTRIBUTES), USEFUL(KVM_CAP_SPLIT_IRQCHIP),
    USEFUL(KVM_CAP_X2APIC_API),      USEFUL(KVM_CAP_TSC_DEADLINE_TIMER), USEFUL(KVM_CAP_SIGNAL_MSI),
    USEFUL(KVM_CAP_IRQFD),           USEFUL(KVM_CAP_IOEVENTFD),    USEFUL(KVM_CAP_X86_USER_SPACE_MSR), USEFUL(KVM_CAP_X86_MSR_FILTER),
    USEFUL(KVM_CAP_TSC_CONTROL),     USEFUL(KVM_CAP_XSAVE2),       USEFUL(KVM_CAP_SYNC_REGS),
    USEFUL(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2),
#undef NEEDED
#undef USEFUL
};

static void host_cpuid(uint32_t leaf, uint32_t out_reg[4])
{
    __asm__ volatile("cpuid" : "=a"(out_reg[0]), "=b"(out_reg[1]), "=c"(out_reg[2]), "=d"(out_reg[3]) : "a"(leaf), "c"(0));
}

/* Whether the CPU itself offers virtualization, as far as it may be seen from here. */
static bool cpu_can_virtualize(bool is_intel)
{
    uint32_t reg[4];
    host_cpuid(is_intel ? 1 : 0x80000001u, reg);
    return is_intel ? reg[2] >> 5 & 1 : reg[2] >> 2 & 1;
}

bool kvm_host_has_svm(void) { return cpu_can_virtualize(false); }

static gboolean fail(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
static gboolean fail(GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error_literal(error, VMM_ERROR, VMM_ERROR_NO_MODE, text);
    return FALSE;
}

gboolean kvm_open_failed(const char *path, int errnum, bool can_virtualize, const char *module, GError **error)
{
    switch (errnum) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
        if (can_virtualize)
            return fail(error, "%s is missing: the host's kernel has no KVM loaded; load it (modprobe %s), or use -accel bt", path, module);
        return fail(error, "%s is missing: the host's CPU shows no virtualization extension; enable it in the firmware (or nested "
                           "virtualization in the hypervisor below), or use -accel bt", path);
    case EACCES:
    case EPERM:
        return fail(error, "%s: no permission to open it; add this user to the device's group (usually kvm) and log in again, "
                           "or use -accel bt", path);
    default:
        return fail(error, "%s is there but does not work: open: %s; see the kernel's log, or use -accel bt", path, g_strerror(errnum));
    }
}

static KvmMmu mmu_read(bool is_intel)
{
    const char *path = is_intel ? "/sys/module/kvm_intel/parameters/ept" : "/sys/module/kvm_amd/parameters/npt";
    g_autofree char *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return KVM_MMU_ANY;
    return text[0] == 'Y' || text[0] == '1' ? KVM_MMU_NESTED : KVM_MMU_SHADOW;
}

static void report_write(KvmProbe *probe, int fd)
{
    static const char *const mmus[] = { "not known", "off", "on" };
    GString *text = g_string_new(NULL), *missing = g_string_new(NULL);
    g_string_append_printf(text, "kvm: API version %d, %s, %s %s%s\nkvm: extensions:", probe->api_version,
                           probe->is_intel ? "Intel VT-x" : "AMD-V", probe->is_intel ? "ept" : "npt", mmus[probe->mmu],
                           probe->is_nested ? ", this host is a guest itself" : "");
    for (size_t i = 0; i < G_N_ELEMENTS(extensions); i++) {
        int value = ioctl(fd, KVM_CHECK_EXTENSION, extensions[i].number);
        if (value > 0)
            g_string_append_printf(text, " %s=%d", extensions[i].name + strlen("KVM_CAP_"), value);
        else if (extensions[i].is_needed)
            g_string_append_printf(missing, "%s%s", missing->len ? ", " : "", extensions[i].name);
    }
    if (missing->len)
        g_string_append_printf(text, "\nkvm: missing: %s", missing->str);
    probe->text = g_string_free(text, FALSE);
    probe->missing = g_string_free(missing, missing->len == 0);
}

gboolean kvm_probe(const char *path, KvmProbe *out_probe, GError **error)
{
    KvmProbe *probe = out_probe;
    memset(probe, 0, sizeof *probe);
    if (!path)
        path = KVM_PATH;
    uint32_t reg[4];
    host_cpuid(0, reg);
    probe->is_intel = reg[1] == 0x756e6547; /* "Genu" */
    host_cpuid(1, reg);
    probe->is_nested = reg[2] >> 31;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return kvm_open_failed(path, errno, cpu_can_virtualize(probe->is_intel), probe->is_intel ? "kvm_intel" : "kvm_amd", error);
    probe->api_version = ioctl(fd, KVM_GET_API_VERSION, 0);
    int vm = probe->api_version == KVM_API_VERSION ? ioctl(fd, KVM_CREATE_VM, 0) : -1;
    int saved = errno;
    if (vm >= 0) {
        probe->mmu = mmu_read(probe->is_intel);
        report_write(probe, fd);
        close(vm);
    }
    close(fd);
    if (probe->api_version < 0)
        return fail(error, "%s is there but does not work: KVM_GET_API_VERSION: %s; it is not the KVM device, or use -accel bt", path,
                    g_strerror(saved));
    if (probe->api_version != KVM_API_VERSION)
        return fail(error, "%s is there but does not work: its API version is %d, not %d; use -accel bt", path, probe->api_version,
                    KVM_API_VERSION);
    if (vm < 0)
        return fail(error, "%s is there but does not work: KVM_CREATE_VM: %s; see the kernel's log (another hypervisor may hold the CPU), "
                           "or use -accel bt", path, g_strerror(saved));
    return TRUE;
}

void kvm_probe_clear(KvmProbe *probe)
{
    g_clear_pointer(&probe->missing, g_free);
    g_clear_pointer(&probe->text, g_free);
}

gboolean kvm_check(const KvmProbe *probe, KvmMmu wanted, GError **error)
{
    const char *module = probe->is_intel ? "kvm_intel" : "kvm_amd", *parameter = probe->is_intel ? "ept" : "npt";
    if (probe->missing)
        return fail(error, KVM_PATH ": this kernel's KVM lacks %s; a newer host kernel (5.17 or later) has it, or use -accel bt",
                    probe->missing);
    if (wanted == KVM_MMU_ANY || probe->mmu == wanted)
        return TRUE;
    const char *mode = wanted == KVM_MMU_SHADOW ? "hv" : "hwmmu";
    if (probe->mmu == KVM_MMU_ANY)
        return fail(error, "-accel %s: the host does not say whether %s is on (/sys/module/%s/parameters/%s); use -accel kvm", mode,
                    parameter, module, parameter);
    return fail(error, "-accel %s: %s is loaded with %s=%d; reload it (rmmod %s && modprobe %s %s=%d), or use -accel kvm", mode, module,
                parameter, probe->mmu == KVM_MMU_NESTED, module, module, parameter, wanted == KVM_MMU_NESTED);
}

gboolean kvm_require(KvmMmu wanted, GError **error)
{
    g_auto(KvmProbe) probe = { 0 };
    return kvm_probe(NULL, &probe, error) && kvm_check(&probe, wanted, error);
}

bool kvm_has_apic(void)
{
    int fd = open(KVM_PATH, O_RDWR | O_CLOEXEC);
    bool has = fd >= 0 && ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_SPLIT_IRQCHIP) > 0 &&
               ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_X2APIC_API) > 0 && ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0 &&
               ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_SIGNAL_MSI) > 0;
    if (fd >= 0)
        close(fd);
    return has;
}
