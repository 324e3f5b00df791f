#include "core/cpuid.h"

#include <string.h>

#include "core/error.h"

enum { EAX, EBX, ECX, EDX };
/* Emulated whatever the host is; executed by the host's CPU, so it must have it; or ours, but only by name: a guest that had it could not
 * move to a host, or to KVM, without it. */
enum { OURS, HOST, NAMED };

static const struct {
    const char *name;
    uint32_t leaf;
    uint8_t subleaf, reg, bit, origin;
} features[] = {
    { "fpu", 1, 0, EDX, 0, OURS },         { "vme", 1, 0, EDX, 1, OURS },          { "de", 1, 0, EDX, 2, OURS },
    { "pse", 1, 0, EDX, 3, OURS },         { "tsc", 1, 0, EDX, 4, OURS },          { "msr", 1, 0, EDX, 5, OURS },
    { "pae", 1, 0, EDX, 6, OURS },         { "mce", 1, 0, EDX, 7, OURS },          { "cx8", 1, 0, EDX, 8, OURS },
    { "apic", 1, 0, EDX, 9, OURS },        { "sep", 1, 0, EDX, 11, OURS },         { "mtrr", 1, 0, EDX, 12, OURS },
    { "pge", 1, 0, EDX, 13, OURS },        { "mca", 1, 0, EDX, 14, OURS },         { "cmov", 1, 0, EDX, 15, OURS },
    { "pat", 1, 0, EDX, 16, OURS },        { "pse36", 1, 0, EDX, 17, OURS },       { "clflush", 1, 0, EDX, 19, OURS },
    { "mmx", 1, 0, EDX, 23, HOST },        { "fxsr", 1, 0, EDX, 24, OURS },        { "sse", 1, 0, EDX, 25, HOST },
    { "sse2", 1, 0, EDX, 26, HOST },
    { "pni", 1, 0, ECX, 0, HOST },         { "pclmulqdq", 1, 0, ECX, 1, HOST },    { "ssse3", 1, 0, ECX, 9, HOST },
    { "fma", 1, 0, ECX, 12, HOST },        { "cx16", 1, 0, ECX, 13, HOST },        { "pcid", 1, 0, ECX, 17, OURS },
    { "sse4.1", 1, 0, ECX, 19, HOST },     { "sse4.2", 1, 0, ECX, 20, HOST },      { "x2apic", 1, 0, ECX, 21, OURS },
    { "movbe", 1, 0, ECX, 22, HOST },      { "popcnt", 1, 0, ECX, 23, HOST },      { "tsc-deadline", 1, 0, ECX, 24, OURS },
    { "aes", 1, 0, ECX, 25, HOST },        { "xsave", 1, 0, ECX, 26, HOST },       { "avx", 1, 0, ECX, 28, HOST },
    { "f16c", 1, 0, ECX, 29, HOST },       { "rdrand", 1, 0, ECX, 30, HOST },      { "hypervisor", 1, 0, ECX, 31, OURS },
    { "fsgsbase", 7, 0, EBX, 0, OURS },    { "tsc_adjust", 7, 0, EBX, 1, OURS },   { "bmi1", 7, 0, EBX, 3, HOST },
    { "avx2", 7, 0, EBX, 5, HOST },        { "smep", 7, 0, EBX, 7, OURS },         { "bmi2", 7, 0, EBX, 8, HOST },
    { "erms", 7, 0, EBX, 9, OURS },        { "invpcid", 7, 0, EBX, 10, OURS },     { "rdseed", 7, 0, EBX, 18, HOST },
    { "adx", 7, 0, EBX, 19, HOST },        { "smap", 7, 0, EBX, 20, OURS },        { "clflushopt", 7, 0, EBX, 23, OURS },
    { "clwb", 7, 0, EBX, 24, OURS },       { "sha-ni", 7, 0, EBX, 29, HOST },      { "umip", 7, 0, ECX, 2, OURS },
    { "pku", 7, 0, ECX, 3, NAMED },        { "pks", 7, 0, ECX, 31, NAMED },
    { "gfni", 7, 0, ECX, 8, HOST },        { "vaes", 7, 0, ECX, 9, HOST },         { "vpclmulqdq", 7, 0, ECX, 10, HOST },
    { "rdpid", 7, 0, ECX, 22, OURS },      { "fsrm", 7, 0, EDX, 4, OURS },         { "avx-vnni", 7, 1, EAX, 4, HOST },
    { "avx512f", 7, 0, EBX, 16, HOST },    { "avx512dq", 7, 0, EBX, 17, HOST },    { "avx512ifma", 7, 0, EBX, 21, HOST },
    { "avx512cd", 7, 0, EBX, 28, HOST },   { "avx512bw", 7, 0, EBX, 30, HOST },    { "avx512vl", 7, 0, EBX, 31, HOST },
    { "avx512vbmi", 7, 0, ECX, 1, HOST },  { "avx512-vbmi2", 7, 0, ECX, 6, HOST }, { "avx512-vnni", 7, 0, ECX, 11, HOST },
    { "avx512-bitalg", 7, 0, ECX, 12, HOST },       { "avx512-vpopcntdq", 7, 0, ECX, 14, HOST },
    { "avx512-vp2intersect", 7, 0, EDX, 8, HOST },  { "avx512-bf16", 7, 1, EAX, 5, HOST },
    { "xsaveopt", 0xd, 1, EAX, 0, HOST },  { "xsavec", 0xd, 1, EAX, 1, HOST },     { "xgetbv1", 0xd, 1, EAX, 2, HOST },
    /* Speculation: a translator's guest is safe from it by other means.  With these a kernel takes "enhanced IBRS", which costs nothing, rather
     * than return trampolines, which cost much. */
    { "spec-ctrl", 7, 0, EDX, 26, OURS },  { "arch-capabilities", 7, 0, EDX, 29, OURS },
    { "lfence-always-serializing", 0x80000021, 0, EAX, 2, OURS }, { "auto-ibrs", 0x80000021, 0, EAX, 8, OURS },
    { "lahf-lm", 0x80000001, 0, ECX, 0, OURS },       { "abm", 0x80000001, 0, ECX, 5, HOST },
    { "3dnowprefetch", 0x80000001, 0, ECX, 8, OURS }, { "syscall", 0x80000001, 0, EDX, 11, OURS },
    { "nx", 0x80000001, 0, EDX, 20, OURS },           { "mmxext", 0x80000001, 0, EDX, 22, HOST },
    { "pdpe1gb", 0x80000001, 0, EDX, 26, OURS },      { "rdtscp", 0x80000001, 0, EDX, 27, OURS },
    { "lm", 0x80000001, 0, EDX, 29, OURS },           { "invtsc", 0x80000007, 0, EDX, 8, OURS },
};

/* AMD repeats these bits of leaf 1 EDX in 0x80000001 EDX. */
#define REPEATED_EDX 0x0183f3ffu
#define AVX_XCR0 4u
#define AVX512_XCR0 0xe0u
#define AVX_END 832u /* of the XSAVE area with AVX */

enum { PKRU_COMPONENT = 9, PKRU_SIZE = 8 };

/* XSAVE components of AVX-512: opmask, upper halves of ZMM0–15, ZMM16–31.  Their places are the host's. */
enum { AVX512_FIRST = 5, AVX512_LAST = 7 };
static const uint16_t avx512_sizes[] = { 64, 512, 1024 };

/* IA32_ARCH_CAPABILITIES: RDCL_NO IBRS_ALL SKIP_L1DFL_VMENTRY SSB_NO MDS_NO PSCHANGE_MC_NO TAA_NO SBDR_SSDP_NO FBSDP_NO PSDP_NO BHI_NO
 * PBRSB_NO GDS_NO RFDS_NO (SDM 4 table 2-2): a translator's guest cannot speculate past its own pages' tables. */
#define ARCH_CAPABILITIES 0x0d10e17bu

bool cpuid_feature(unsigned i, CpuidFeature *out)
{
    if (i >= G_N_ELEMENTS(features))
        return false;
    *out = (CpuidFeature){ features[i].name, features[i].leaf, features[i].subleaf, features[i].reg, features[i].bit };
    return true;
}

static uint32_t *leaf_reg(CpuidModel *model, uint32_t leaf, uint32_t subleaf, unsigned reg)
{
    for (unsigned i = 0; i < model->nleaves; i++) {
        CpuidLeaf *row = &model->leaf[i];
        if (row->leaf == leaf && (!row->subleaf_significant || row->subleaf == subleaf))
            return reg == EAX ? &row->eax : reg == EBX ? &row->ebx : reg == ECX ? &row->ecx : &row->edx;
    }
    return NULL;
}

static CpuidLeaf *leaf_add(CpuidModel *model, uint32_t leaf, int subleaf)
{
    g_assert(model->nleaves < G_N_ELEMENTS(model->leaf));
    CpuidLeaf *row = &model->leaf[model->nleaves++];
    *row = (CpuidLeaf){ .leaf = leaf, .subleaf = subleaf < 0 ? 0 : (uint32_t)subleaf, .subleaf_significant = subleaf >= 0 };
    return row;
}

static void leaf_add_text(CpuidModel *model, uint32_t leaf, const char text[16])
{
    CpuidLeaf *row = leaf_add(model, leaf, -1);
    memcpy(&row->eax, text, 4);
    memcpy(&row->ebx, text + 4, 4);
    memcpy(&row->ecx, text + 8, 4);
    memcpy(&row->edx, text + 12, 4);
}

/* <cpuid.h> is not used: an include path with this folder on it would find our own header. */
static void host_cpuid(uint32_t leaf, uint32_t subleaf, uint32_t out_reg[4])
{
    __asm__ volatile("cpuid" : "=a"(out_reg[0]), "=b"(out_reg[1]), "=c"(out_reg[2]), "=d"(out_reg[3]) : "a"(leaf), "c"(subleaf));
}

static void host_leaf(uint32_t leaf, uint32_t subleaf, uint32_t out_reg[4])
{
    host_cpuid(leaf & 0x80000000u, 0, out_reg);
    if (out_reg[EAX] >= leaf)
        host_cpuid(leaf, subleaf, out_reg);
    else
        memset(out_reg, 0, 4 * sizeof out_reg[0]);
}

static bool host_has(uint32_t leaf, uint32_t subleaf, unsigned reg, unsigned bit)
{
    static struct {
        uint32_t leaf, subleaf, reg[4];
        bool is_known;
    } cache[8]; /* CPUID traps where we are a guest ourselves */
    for (unsigned i = 0; i < G_N_ELEMENTS(cache); i++) {
        if (!cache[i].is_known) {
            uint32_t *r = cache[i].reg;
            cache[i].leaf = leaf;
            cache[i].subleaf = subleaf;
            cache[i].is_known = true;
            host_leaf(leaf, subleaf, r);
        }
        if (cache[i].leaf == leaf && cache[i].subleaf == subleaf)
            return cache[i].reg[reg] >> bit & 1;
    }
    return false;
}

/* The host's kernel has turned AVX-512 on (XCR0). */
static bool host_enables_avx512(void)
{
    uint32_t low, high;
    if (!host_has(1, 0, ECX, 27))
        return false;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & AVX512_XCR0) == AVX512_XCR0;
}

/* AVX-512 is offered with AVX2 and its own parts F and BW (the translator moves 64-bit masks), or not at all. */
static void avx512_settle(CpuidModel *model, bool has_avx)
{
    bool has_it = has_avx && cpuid_model_has(model, "avx2") && cpuid_model_has(model, "avx512f") && host_has(7, 0, EBX, 30) &&
                  host_enables_avx512();
    for (size_t i = 0; i < G_N_ELEMENTS(features) && !has_it; i++)
        if (!strncmp(features[i].name, "avx512", 6))
            *leaf_reg(model, features[i].leaf, features[i].subleaf, features[i].reg) &= ~(1u << features[i].bit);
    uint32_t end = AVX_END;
    for (unsigned k = AVX512_FIRST; k <= AVX512_LAST; k++) {
        uint32_t reg[4] = { 0 }, size = avx512_sizes[k - AVX512_FIRST];
        if (has_it)
            host_leaf(0xd, k, reg);
        *leaf_reg(model, 0xd, k, EAX) = has_it ? size : 0;
        *leaf_reg(model, 0xd, k, EBX) = reg[EBX];
        end = MAX(end, reg[EBX] + size);
    }
    if (has_it) {
        model->xcr0_mask |= AVX512_XCR0;
        *leaf_reg(model, 0xd, 0, EAX) = (uint32_t)model->xcr0_mask;
        *leaf_reg(model, 0xd, 0, ECX) = end;
    }
}

/* The XSAVE component of PKRU: where the host has it, so that an image fits both; else behind all others. */
static void pkru_settle(CpuidModel *model, bool has_xsave)
{
    uint32_t reg[4] = { 0 };
    bool has_it = has_xsave && cpuid_model_has(model, "pku");
    if (has_it)
        host_leaf(0xd, PKRU_COMPONENT, reg);
    uint32_t *max = leaf_reg(model, 0xd, 0, ECX), at = !has_it ? 0 : reg[EAX] ? reg[EBX] : MAX(*max, AVX_END);
    *leaf_reg(model, 0xd, PKRU_COMPONENT, EAX) = has_it ? PKRU_SIZE : 0;
    *leaf_reg(model, 0xd, PKRU_COMPONENT, EBX) = at;
    if (!has_it)
        return;
    model->xcr0_mask |= 1u << PKRU_COMPONENT;
    *leaf_reg(model, 0xd, 0, EAX) = (uint32_t)model->xcr0_mask;
    *max = MAX(*max, at + PKRU_SIZE);
}

uint32_t cpuid_pkru_at(const CpuidModel *model)
{
    const uint32_t *at = model ? leaf_reg((CpuidModel *)model, 0xd, PKRU_COMPONENT, EBX) : NULL;
    return at ? *at : 0;
}

void cpuid_model_settle(CpuidModel *model)
{
    *leaf_reg(model, 0x80000001, 0, EDX) &= ~REPEATED_EDX;
    if (!model->is_intel)
        *leaf_reg(model, 0x80000001, 0, EDX) |= *leaf_reg(model, 1, 0, EDX) & REPEATED_EDX;
    bool has_xsave = cpuid_model_has(model, "xsave"), has_avx = has_xsave && cpuid_model_has(model, "avx");
    model->xcr0_mask = has_xsave ? 3 | (has_avx ? AVX_XCR0 : 0) : 1;
    *leaf_reg(model, 0xd, 0, EAX) = has_xsave ? (uint32_t)model->xcr0_mask : 0;
    *leaf_reg(model, 0xd, 0, ECX) = !has_xsave ? 0 : has_avx ? 832 : 576;
    *leaf_reg(model, 0xd, 2, EAX) = has_avx ? 256 : 0;
    *leaf_reg(model, 0xd, 2, EBX) = has_avx ? 576 : 0;
    avx512_settle(model, has_avx);
    if (!has_xsave)
        *leaf_reg(model, 0xd, 1, EAX) = 0;
    pkru_settle(model, has_xsave);
}

void cpuid_model_init(CpuidModel *out_model)
{
    CpuidModel *model = out_model;
    memset(model, 0, sizeof *model);
    leaf_add(model, 0, -1)->eax = 0xd;
    leaf_add(model, 1, -1)->ebx = 0x00010800; /* CLFLUSH 64 bytes, one logical processor */
    leaf_add(model, 7, 0)->eax = 1;
    leaf_add(model, 7, 1);
    leaf_add(model, 0xd, 0);
    leaf_add(model, 0xd, 1);
    for (int k = 2; k <= AVX512_LAST; k++)
        leaf_add(model, 0xd, k);
    leaf_add(model, 0xd, PKRU_COMPONENT);
    leaf_add_text(model, 0x40000000, "\x10\0\0\x40VMwareVMware"); /* what goes with it: core/vmware.h */
    leaf_add(model, 0x40000010, -1);
    leaf_add(model, 0x80000000, -1)->eax = 0x80000021;
    leaf_add(model, 0x80000001, -1);
    leaf_add_text(model, 0x80000002, "Segue Virtual CP");
    leaf_add_text(model, 0x80000003, "U\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    leaf_add_text(model, 0x80000004, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    /* L1 32 KiB each and L2 512 KiB, 8-way, 64-byte lines. */
    *leaf_add(model, 0x80000005, -1) = (CpuidLeaf){ .leaf = 0x80000005, .ecx = 0x20080140, .edx = 0x20080140 };
    *leaf_add(model, 0x80000006, -1) = (CpuidLeaf){ .leaf = 0x80000006, .ecx = 0x02006140 };
    leaf_add(model, 0x80000007, -1);
    leaf_add(model, 0x80000008, -1)->eax = 48 << 8 | CPUID_PHYSICAL_BITS; /* 48 linear address bits */
    leaf_add(model, 0x80000021, -1);
    for (size_t i = 0; i < G_N_ELEMENTS(features); i++)
        if (features[i].origin == OURS ||
            (features[i].origin == HOST && host_has(features[i].leaf, features[i].subleaf, features[i].reg, features[i].bit)))
            *leaf_reg(model, features[i].leaf, features[i].subleaf, features[i].reg) |= 1u << features[i].bit;
    model->arch_capabilities = ARCH_CAPABILITIES;
    cpuid_model_set_vendor(model, "AuthenticAMD");
}

/* Other spellings that scripts use; "_" and "-" are the same, also in the table's names. */
static const char *name_canonical(const char *name)
{
    static const char *const aliases[][2] = { { "sse3", "pni" },       { "sse4-1", "sse4.1" },  { "sse4-2", "sse4.2" }, { "lzcnt", "abm" },
                                              { "xd", "nx" },          { "i64", "lm" },         { "clfsh", "clflush" }, { "pclmuldq", "pclmulqdq" },
                                              { "tsc-deadline-timer", "tsc-deadline" }, { "lahf_lm", "lahf-lm" } };
    for (size_t i = 0; i < G_N_ELEMENTS(aliases); i++)
        if (!g_ascii_strcasecmp(name, aliases[i][0]))
            return aliases[i][1];
    return name;
}

static int feature_find(const char *name)
{
    g_autofree char *wanted = g_strdelimit(g_strdup(name_canonical(name)), "_", '-');
    for (size_t i = 0; i < G_N_ELEMENTS(features); i++) {
        g_autofree char *ours = g_strdelimit(g_strdup(features[i].name), "_", '-');
        if (!g_ascii_strcasecmp(name_canonical(wanted), ours))
            return (int)i;
    }
    return -1;
}

gboolean cpuid_model_set(CpuidModel *model, const char *name, bool on, GError **error)
{
    int i = feature_find(name);
    bool exists = i >= 0 && (features[i].origin != HOST || host_has(features[i].leaf, features[i].subleaf, features[i].reg, features[i].bit));
    if (on && !exists) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "-cpu +%s: %s; drop it", name,
                    i < 0 ? "this feature is not in this version" : "the host's CPU does not have this feature");
        return FALSE;
    }
    if (i < 0)
        return TRUE;
    uint32_t *reg = leaf_reg(model, features[i].leaf, features[i].subleaf, features[i].reg);
    *reg = on ? *reg | 1u << features[i].bit : *reg & ~(1u << features[i].bit);
    cpuid_model_settle(model);
    return TRUE;
}

void cpuid_model_set_signature(CpuidModel *model, uint32_t eax)
{
    *leaf_reg(model, 1, 0, EAX) = eax;
    *leaf_reg(model, 0x80000001, 0, EAX) = model->is_intel ? 0 : eax;
}

void cpuid_model_set_vendor(CpuidModel *model, const char *vendor)
{
    /* Plain parts: AMD family 0x12 model 1, which needs no page-table isolation; Intel family 6 model 0x5e. */
    static const struct {
        const char *vendor;
        uint32_t signature;
    } parts[] = { { "AuthenticAMD", 0x00300f10 }, { "GenuineIntel", 0x000506e3 } };
    static const uint32_t leaves[] = { 0, 0x80000000 };
    for (size_t i = 0; i < G_N_ELEMENTS(leaves); i++) {
        memcpy(leaf_reg(model, leaves[i], 0, EBX), vendor, 4);
        memcpy(leaf_reg(model, leaves[i], 0, EDX), vendor + 4, 4);
        memcpy(leaf_reg(model, leaves[i], 0, ECX), vendor + 8, 4);
    }
    model->is_intel = !memcmp(vendor, "GenuineIntel", 12);
    if (model->is_intel) /* reserved there */
        memset(leaf_reg(model, 0x80000000, 0, EBX), 0, 3 * sizeof(uint32_t));
    for (size_t i = 0; i < G_N_ELEMENTS(parts); i++)
        if (!memcmp(vendor, parts[i].vendor, 12))
            cpuid_model_set_signature(model, parts[i].signature);
    cpuid_model_settle(model);
}

void cpuid_model_follow_host(CpuidModel *model)
{
    uint32_t reg[4];
    host_leaf(0, 0, reg);
    char vendor[12];
    memcpy(vendor, &reg[EBX], 4);
    memcpy(vendor + 4, &reg[EDX], 4);
    memcpy(vendor + 8, &reg[ECX], 4);
    cpuid_model_set_vendor(model, vendor);
    host_leaf(1, 0, reg);
    cpuid_model_set_signature(model, reg[EAX]);
}

void cpuid_model_mask(CpuidModel *model, uint32_t leaf, uint32_t subleaf, unsigned reg, uint32_t mask)
{
    uint32_t *value = leaf_reg(model, leaf, subleaf, reg);
    if (value)
        *value &= mask;
}

bool cpuid_model_has(const CpuidModel *model, const char *name)
{
    int i = feature_find(name);
    if (i < 0)
        return false;
    const uint32_t *reg = leaf_reg((CpuidModel *)model, features[i].leaf, features[i].subleaf, features[i].reg);
    return reg && *reg >> features[i].bit & 1;
}

void cpuid_model_set_clocks(CpuidModel *model, uint64_t tsc_hz, uint64_t apic_timer_hz)
{
    *leaf_reg(model, 0x40000010, 0, EAX) = (uint32_t)(tsc_hz / 1000);
    *leaf_reg(model, 0x40000010, 0, EBX) = (uint32_t)(apic_timer_hz / 1000);
}

static unsigned bits_for(unsigned count)
{
    unsigned bits = 0;
    while (1u << bits < count)
        bits++;
    return bits;
}

unsigned cpuid_apic_id(const CpuidTopology *topology, unsigned cpu)
{
    unsigned thread = cpu % topology->nthreads, core = cpu / topology->nthreads % topology->ncores;
    unsigned socket = cpu / topology->nthreads / topology->ncores;
    unsigned thread_bits = bits_for(topology->nthreads), core_bits = bits_for(topology->ncores);
    return socket << (thread_bits + core_bits) | core << thread_bits | thread;
}

#define LEAF1_EDX_HTT (1u << 28)
#define AMD_ECX_CMP_LEGACY (1u << 1)
enum { LEVEL_THREAD = 1, LEVEL_CORE = 2 };

void cpuid_model_set_place(CpuidModel *model, unsigned cpu, const CpuidTopology *topology)
{
    unsigned in_package = topology->ncores * topology->nthreads;
    if (in_package * topology->nsockets == 1)
        return;
    unsigned id = cpuid_apic_id(topology, cpu), thread_bits = bits_for(topology->nthreads);
    unsigned package_bits = thread_bits + bits_for(topology->ncores);
    uint32_t *ebx = leaf_reg(model, 1, 0, EBX);
    *ebx = (*ebx & 0xffff) | in_package << 16 | id << 24;
    if (in_package > 1)
        *leaf_reg(model, 1, 0, EDX) |= LEAF1_EDX_HTT;
    const CpuidLeaf levels[] = {
        { .leaf = 0xb, .eax = thread_bits, .ebx = topology->nthreads, .ecx = LEVEL_THREAD << 8, .edx = id },
        { .leaf = 0xb, .eax = package_bits, .ebx = in_package, .ecx = LEVEL_CORE << 8 | 1, .edx = id },
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(levels); i++) {
        CpuidLeaf *row = leaf_add(model, 0xb, (int)i);
        *row = levels[i];
        row->subleaf = i;
        row->subleaf_significant = true;
    }
    if (!model->is_intel) {
        if (in_package > 1)
            *leaf_reg(model, 0x80000001, 0, ECX) |= AMD_ECX_CMP_LEGACY;
        *leaf_reg(model, 0x80000008, 0, ECX) = (in_package - 1) | package_bits << 12;
    }
}
