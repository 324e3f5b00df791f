#include "core/cpu-stream.h"

#include <string.h>

#include "core/cpuid.h"

#define MAX_MSRS 256u
#define KNOWN_CR0 (X86_CR0_PE | X86_CR0_MP | X86_CR0_EM | X86_CR0_TS | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP | X86_CR0_AM | X86_CR0_NW | \
                   X86_CR0_CD | X86_CR0_PG)
#define KNOWN_CR4 (X86_CR4_VME | X86_CR4_PVI | X86_CR4_TSD | X86_CR4_DE | X86_CR4_PSE | X86_CR4_PAE | X86_CR4_MCE | X86_CR4_PGE | \
                   X86_CR4_PCE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_UMIP | X86_CR4_FSGSBASE | X86_CR4_PCIDE | \
                   X86_CR4_OSXSAVE | X86_CR4_SMEP | X86_CR4_SMAP | X86_CR4_PKE | X86_CR4_PKS)
/* The engines look at these; the rest (AMD's TCE, automatic IBRS and so on) is kept for the guest, and KVM has an opinion of its own. */
#define KNOWN_EFER (X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE | 0x3ff000u)
#define XSAVE_MXCSR 24u
#define XSAVE_HEADER 512u
#define XSAVE_HEADER_SIZE 64u
#define XCR0_AVX512 0xe0u

/* --- what is possible --- */

static bool is_canonical(uint64_t address) { return (uint64_t)((int64_t)(address << 16) >> 16) == address; }

/* SDM 1 13.5.2: only the components that the guest may have, in standard format, nothing in the reserved bytes. */
static const char *xsave_wrong(const X86State *state, const CpuidModel *cpuid)
{
    uint64_t have, header[8], xcr0 = state->xcr0;
    uint32_t mxcsr;
    memcpy(header, state->xsave + XSAVE_HEADER, XSAVE_HEADER_SIZE);
    memcpy(&mxcsr, state->xsave + XSAVE_MXCSR, sizeof mxcsr);
    have = GUINT64_FROM_LE(header[0]);
    if (have & ~(cpuid->xcr0_mask | 3))
        return "vector state that this CPU model does not have";
    for (unsigned i = 1; i < G_N_ELEMENTS(header); i++)
        if (header[i])
            return "header of the vector state";
    if (GUINT32_FROM_LE(mxcsr) & 0xffff0000u)
        return "MXCSR";
    if (xcr0 & ~(cpuid->xcr0_mask | 1) || ((xcr0 & 4) && !(xcr0 & 2)) || ((xcr0 & XCR0_AVX512) && (xcr0 & (XCR0_AVX512 | 4)) != (XCR0_AVX512 | 4)))
        return "XCR0";
    if (state->pkrs >> 32 || (state->pkrs && !cpuid_model_has(cpuid, "pks")))
        return "IA32_PKRS";
    return NULL;
}

static const char *modes_wrong(const X86State *state, const CpuidModel *cpuid)
{
    uint64_t cr0 = state->cr0, cr4 = state->cr4, efer = state->efer;
    bool is_long = efer & X86_EFER_LMA;
    if (cr0 & ~(uint64_t)KNOWN_CR0 || ((cr0 & X86_CR0_PG) && !(cr0 & X86_CR0_PE)) || ((cr0 & X86_CR0_NW) && !(cr0 & X86_CR0_CD)))
        return "CR0";
    if (cr4 & ~(uint64_t)KNOWN_CR4 || ((cr4 & X86_CR4_PCIDE) && !is_long))
        return "CR4";
    if (efer & ~(uint64_t)KNOWN_EFER || is_long != ((efer & X86_EFER_LME) && (cr0 & X86_CR0_PG)) || (is_long && !(cr4 & X86_CR4_PAE)) ||
        ((efer & X86_EFER_LME) && !cpuid_model_has(cpuid, "lm")))
        return "EFER";
    if (state->cr3 >> CPUID_PHYSICAL_BITS || state->cr8 > 15)
        return "CR3 or CR8";
    if (state->rflags >> 22 || ((state->rflags & X86_FLAG_VM) && (is_long || !(cr0 & X86_CR0_PE))))
        return "RFLAGS";
    if ((state->seg[X86_CS].attr & X86_SEG_L) && !is_long && (cr0 & X86_CR0_PE))
        return "CS";
    return NULL;
}

const char *x86_state_wrong(const X86State *state, const CpuidModel *cpuid)
{
    const char *wrong = modes_wrong(state, cpuid);
    if (!wrong)
        wrong = xsave_wrong(state, cpuid);
    if (wrong)
        return wrong;
    for (unsigned i = 0; i < X86_NSEGS; i++)
        if (!is_canonical(state->seg[i].base))
            return "base of a segment";
    if (!is_canonical(state->gdtr.base) || !is_canonical(state->idtr.base))
        return "GDTR or IDTR";
    if (!is_canonical(state->sysenter_eip) || !is_canonical(state->sysenter_esp) || !is_canonical(state->lstar) ||
        !is_canonical(state->cstar) || !is_canonical(state->kernel_gs_base))
        return "an address in an MSR";
    for (unsigned i = 0; i < 8; i++)
        if ((i == 6 || i == 7) && state->dr[i] >> 32)
            return "DR6 or DR7";
    if (state->exception_pending && state->exception_vector > 31)
        return "pending exception";
    return NULL;
}

/* --- fields --- */

typedef struct MsrRow {
    uint32_t number;
    size_t offset;
} MsrRow;

static const MsrRow msr_rows[] = {
#define MSR_ROW(name, msr) { msr, G_STRUCT_OFFSET(X86State, name) },
    X86_MSR_ROWS(MSR_ROW)
    MSR_ROW(pkrs, X86_MSR_PKRS)
#undef MSR_ROW
};

/* By number, so that versions of this program with more or fewer of them understand each other as long as what one lacks is zero. */
static void msrs_visit(X86State *state, Stream *stream)
{
    uint32_t count = G_N_ELEMENTS(msr_rows);
    stream_u32(stream, &count);
    if (!stream_check(stream, count <= MAX_MSRS, "number of MSRs"))
        return;
    for (uint32_t i = 0; i < count; i++) {
        bool is_loading = stream_is_loading(stream), is_known = !is_loading;
        uint32_t number = is_loading ? 0 : msr_rows[i].number;
        uint64_t value = 0;
        if (!is_loading)
            memcpy(&value, (const uint8_t *)state + msr_rows[i].offset, sizeof value);
        stream_u32(stream, &number);
        stream_u64(stream, &value);
        for (size_t row = 0; is_loading && row < G_N_ELEMENTS(msr_rows); row++)
            if (msr_rows[row].number == number) {
                memcpy((uint8_t *)state + msr_rows[row].offset, &value, sizeof value);
                is_known = true;
            }
        if (!is_known && value) {
            g_autofree char *what = g_strdup_printf("MSR %#x, which this Segue does not have", number);
            stream_check(stream, false, what);
        }
    }
}

static void segments_visit(X86State *state, Stream *stream)
{
    for (unsigned i = 0; i < X86_NSEGS; i++) {
        stream_u16(stream, &state->seg[i].selector);
        stream_u32(stream, &state->seg[i].attr);
        stream_u32(stream, &state->seg[i].limit);
        stream_u64(stream, &state->seg[i].base);
    }
    stream_u64(stream, &state->gdtr.base);
    stream_u16(stream, &state->gdtr.limit);
    stream_u64(stream, &state->idtr.base);
    stream_u16(stream, &state->idtr.limit);
}

static void events_visit(X86State *state, Stream *stream)
{
    stream_bool(stream, &state->exception_pending);
    stream_u8(stream, &state->exception_vector);
    stream_bool(stream, &state->exception_has_code);
    stream_u32(stream, &state->exception_code);
    stream_bool(stream, &state->nmi_pending);
    stream_bool(stream, &state->nmi_masked);
    stream_bool(stream, &state->interrupt_shadow);
    stream_bool(stream, &state->halted);
}

static void state_visit(void *device, Stream *stream)
{
    CpuStream *cpu = device;
    X86State *state = &cpu->state;
    uint64_t *const words[] = { &state->rip, &state->rflags, &state->cr0, &state->cr2, &state->cr3, &state->cr4, &state->cr8, &state->efer,
                                &state->apic_base, &state->tsc, &state->spec_ctrl, &state->xcr0 };
    if (stream_is_loading(stream))
        memset(state, 0, sizeof *state);
    for (unsigned i = 0; i < X86_NGPRS; i++)
        stream_u64(stream, &state->gpr[i]);
    for (unsigned i = 0; i < G_N_ELEMENTS(words); i++)
        stream_u64(stream, words[i]);
    segments_visit(state, stream);
    for (unsigned i = 0; i < 4; i++)
        stream_u64(stream, &state->pdptr[i]);
    for (unsigned i = 0; i < 8; i++)
        stream_u64(stream, &state->dr[i]);
    msrs_visit(state, stream);
    stream_bytes(stream, state->xsave, sizeof state->xsave);
    events_visit(state, stream);
    if (!stream_is_loading(stream) || !stream_is_ok(stream))
        return;
    const char *wrong = x86_state_wrong(state, cpu->cpuid);
    stream_check(stream, !wrong, wrong ? wrong : "");
}

const StateOps cpu_stream_state = { .name = "cpu", .version = 1, .visit = state_visit };
