/* Host profiles, guest families and the default table, as data. */
#include <string.h>

#include "core/error.h"
#include "vm/plan.h"

#define KVM_ON .kvm = HOST_KVM_USABLE
#define KVM_OFF .kvm = HOST_KVM_MISSING

static const HostFacts hosts[] = {
    { .name = "intel-modern", .vendor = HOST_VENDOR_INTEL, .column = HOST_NEHALEM, .is_64bit = true, .has_virtualization = true,
      .has_slat = true, KVM_ON },
    { .name = "intel-nehalem", .vendor = HOST_VENDOR_INTEL, .column = HOST_NEHALEM, .is_64bit = true, .has_virtualization = true,
      .has_slat = true, KVM_ON },
    { .name = "intel-core2-45nm", .vendor = HOST_VENDOR_INTEL, .column = HOST_CORE2_45NM, .is_64bit = true, .has_virtualization = true,
      KVM_ON },
    { .name = "intel-core2-65nm-flexpri", .vendor = HOST_VENDOR_INTEL, .column = HOST_CORE2_65NM_FLEXPRI, .is_64bit = true,
      .has_virtualization = true, KVM_ON },
    { .name = "intel-core2-65nm", .vendor = HOST_VENDOR_INTEL, .column = HOST_CORE2_65NM, .is_64bit = true, .has_virtualization = true,
      KVM_ON },
    { .name = "intel-p4-vt", .vendor = HOST_VENDOR_INTEL, .column = HOST_P4_VT, .is_64bit = true, .has_virtualization = true, KVM_ON },
    { .name = "intel-em64t-novt", .vendor = HOST_VENDOR_INTEL, .column = HOST_NO_VT, .is_64bit = true, KVM_OFF },
    /* With VT-x, as the 32-bit Core Duo has it: the rule that hardware modes need a 64-bit CPU is about it. */
    { .name = "intel-32bit", .vendor = HOST_VENDOR_INTEL, .column = HOST_NO_VT, .has_virtualization = true, KVM_ON },
    { .name = "amd-32bit", .vendor = HOST_VENDOR_AMD, .column = HOST_AMD_32BIT, KVM_OFF },
    { .name = "amd-0fh-pre-d", .vendor = HOST_VENDOR_AMD, .column = HOST_AMD_0FH_PRE_D, .is_64bit = true, .is_amd_0fh = true, KVM_OFF },
    /* Revision D and what followed it in the family, which has AMD-V without RVI. */
    { .name = "amd-0fh-d", .vendor = HOST_VENDOR_AMD, .column = HOST_AMD_0FH_D, .is_64bit = true, .is_amd_0fh = true,
      .has_segment_limits = true, .has_virtualization = true, KVM_ON },
    { .name = "amd-10h", .vendor = HOST_VENDOR_AMD, .column = HOST_AMD_10H, .is_64bit = true, .has_segment_limits = true,
      .has_virtualization = true, .has_slat = true, KVM_ON },
    { .name = "amd-modern", .vendor = HOST_VENDOR_AMD, .column = HOST_AMD_MODERN, .is_64bit = true, .has_segment_limits = true,
      .has_virtualization = true, .has_slat = true, KVM_ON },
    { .name = "none", .vendor = HOST_VENDOR_UNKNOWN, .column = HOST_NO_VT, .is_64bit = true, KVM_OFF },
};

const char *plan_host_name(unsigned index) { return index < G_N_ELEMENTS(hosts) ? hosts[index].name : NULL; }

const HostFacts *plan_host(const char *name, GError **error)
{
    GString *list = g_string_new("this");
    for (size_t i = 0; i < G_N_ELEMENTS(hosts); i++) {
        if (!strcmp(name, hosts[i].name)) {
            g_string_free(list, TRUE);
            return &hosts[i];
        }
        g_string_append_printf(list, ", %s", hosts[i].name);
    }
    g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "host profile '%s' is unknown; known: %s", name, list->str);
    g_string_free(list, TRUE);
    return NULL;
}

/* The Intel half was published.  The AMD half is derived: 64-bit guests run in bt from Revision D; nested paging (RVI) makes hwmmu the best for
 * all that is modern; AMD-V without RVI is no default; where the TPR is not virtualized (family 10h) Windows XP stays in bt. */
static const struct {
    const char *name;
    PlanCell cell[HOST_NCOLUMNS];
} families[PLAN_NFAMILIES] = {
#define BT PLAN_CELL_BT
#define JB PLAN_CELL_BT_JUMPS
#define HV PLAN_CELL_HV
#define HM PLAN_CELL_HWMMU
#define ON PLAN_CELL_ORIGINAL_NONE
#define NO PLAN_CELL_NONE
    /*                                      published: Nehalem 45nm 65nmFP 65nm P4 noVT | derived: 32bit pre-D D 10h modern */
    [PLAN_FAMILY_64] = { "64-bit",                       { HM, HV, HV, HV, HV, ON,                 NO, ON, BT, HM, HM } },
    [PLAN_FAMILY_VMI] = { "paravirtual VMI kernel",      { BT, BT, BT, BT, BT, BT,                 BT, BT, BT, BT, BT } },
    [PLAN_FAMILY_UNIX] = { "32-bit Linux or FreeBSD",    { HM, HV, JB, JB, JB, BT,                 BT, BT, BT, HM, HM } },
    [PLAN_FAMILY_XP] = { "32-bit Windows XP or 2003",    { HM, HV, HV, JB, JB, BT,                 BT, BT, BT, BT, HM } },
    [PLAN_FAMILY_VISTA] = { "32-bit Windows Vista or 2008 and later", { HM, HV, HV, JB, JB, BT,    BT, BT, BT, HM, HM } },
    [PLAN_FAMILY_LEGACY] = { "2000, NT, DOS, 9x, NetWare or 32-bit Solaris", { JB, JB, JB, JB, JB, BT, BT, BT, BT, BT, BT } },
    [PLAN_FAMILY_OTHER] = { "other 32-bit",              { HM, HV, HV, HV, HV, BT,                 BT, BT, BT, HM, HM } },
#undef BT
#undef JB
#undef HV
#undef HM
#undef ON
#undef NO
};

PlanCell plan_cell(PlanFamily family, HostColumn column) { return families[family].cell[column]; }
bool plan_cell_is_derived(PlanFamily family, HostColumn column) { return column >= HOST_AMD_32BIT; }
const char *plan_family_name(PlanFamily family) { return families[family].name; }

/* How guestOS values begin; the first row that fits counts. */
static const struct {
    const char *prefix;
    PlanFamily family;
} guests[] = {
    { "winxp", PLAN_FAMILY_XP },          { "whistler", PLAN_FAMILY_XP },      { "winnet", PLAN_FAMILY_XP },
    { "winvista", PLAN_FAMILY_VISTA },    { "longhorn", PLAN_FAMILY_VISTA },   { "winserver2008", PLAN_FAMILY_VISTA },
    { "windows7", PLAN_FAMILY_VISTA },    { "windows8", PLAN_FAMILY_VISTA },   { "windows9", PLAN_FAMILY_VISTA },
    { "windows1", PLAN_FAMILY_VISTA },    { "windows2", PLAN_FAMILY_VISTA },   { "winhyperv", PLAN_FAMILY_VISTA },
    { "win2000", PLAN_FAMILY_LEGACY },    { "winnt", PLAN_FAMILY_LEGACY },     { "win9", PLAN_FAMILY_LEGACY },
    { "winme", PLAN_FAMILY_LEGACY },      { "win3", PLAN_FAMILY_LEGACY },      { "dos", PLAN_FAMILY_LEGACY },
    { "msdos", PLAN_FAMILY_LEGACY },      { "netware", PLAN_FAMILY_LEGACY },   { "solaris", PLAN_FAMILY_LEGACY },
    { "freebsd", PLAN_FAMILY_UNIX },      { "otherlinux", PLAN_FAMILY_UNIX },  { "other24xlinux", PLAN_FAMILY_UNIX },
    { "other26xlinux", PLAN_FAMILY_UNIX }, { "other3xlinux", PLAN_FAMILY_UNIX }, { "other4xlinux", PLAN_FAMILY_UNIX },
    { "other5xlinux", PLAN_FAMILY_UNIX }, { "other6xlinux", PLAN_FAMILY_UNIX }, { "linux", PLAN_FAMILY_UNIX },
    { "debian", PLAN_FAMILY_UNIX },       { "ubuntu", PLAN_FAMILY_UNIX },      { "redhat", PLAN_FAMILY_UNIX },
    { "rhel", PLAN_FAMILY_UNIX },         { "fedora", PLAN_FAMILY_UNIX },      { "centos", PLAN_FAMILY_UNIX },
    { "suse", PLAN_FAMILY_UNIX },         { "sles", PLAN_FAMILY_UNIX },        { "sled", PLAN_FAMILY_UNIX },
    { "opensuse", PLAN_FAMILY_UNIX },     { "oes", PLAN_FAMILY_UNIX },         { "nld", PLAN_FAMILY_UNIX },
    { "sjds", PLAN_FAMILY_UNIX },         { "mandrake", PLAN_FAMILY_UNIX },    { "mandriva", PLAN_FAMILY_UNIX },
    { "turbolinux", PLAN_FAMILY_UNIX },   { "oraclelinux", PLAN_FAMILY_UNIX }, { "asianux", PLAN_FAMILY_UNIX },
    { "coreos", PLAN_FAMILY_UNIX },       { "vmware-photon", PLAN_FAMILY_UNIX }, { "amazonlinux", PLAN_FAMILY_UNIX },
    { "rockylinux", PLAN_FAMILY_UNIX },   { "almalinux", PLAN_FAMILY_UNIX },   { "crxpod", PLAN_FAMILY_UNIX },
    { "openserver", PLAN_FAMILY_OTHER },  { "unixware", PLAN_FAMILY_OTHER },   { "os2", PLAN_FAMILY_OTHER },
    { "ecomstation", PLAN_FAMILY_OTHER }, { "darwin", PLAN_FAMILY_OTHER },     { "other", PLAN_FAMILY_OTHER },
};

PlanFamily plan_family(const char *guest_os, bool is_vmi, bool *out_is_known)
{
    *out_is_known = true;
    PlanFamily family = PLAN_FAMILY_OTHER;
    g_autofree char *lower = guest_os ? g_ascii_strdown(guest_os, -1) : NULL;
    if (lower) {
        *out_is_known = false;
        for (size_t i = 0; i < G_N_ELEMENTS(guests) && !*out_is_known; i++)
            if (g_str_has_prefix(lower, guests[i].prefix)) {
                family = guests[i].family;
                *out_is_known = true;
            }
        if (g_str_has_suffix(lower, "-64"))
            return PLAN_FAMILY_64;
    }
    return is_vmi ? PLAN_FAMILY_VMI : family;
}
