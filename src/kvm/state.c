#include "kvm/state.h"

#include <string.h>

#define EXCEPTIONS 32 /* vectors below are exceptions, others interrupts */

static struct kvm_segment segment_from(const X86Segment *seg)
{
    uint32_t ar = seg->attr;
    return (struct kvm_segment){
        .base = seg->base,
        .limit = seg->limit,
        .selector = seg->selector,
        .type = X86_SEG_TYPE(ar),
        .s = (ar & X86_SEG_S) != 0,
        .dpl = X86_SEG_DPL(ar),
        .present = (ar & X86_SEG_P) != 0,
        .avl = (ar & X86_SEG_AVL) != 0,
        .l = (ar & X86_SEG_L) != 0,
        .db = (ar & X86_SEG_DB) != 0,
        .g = (ar & X86_SEG_G) != 0,
        .unusable = (ar & X86_SEG_UNUSABLE) != 0,
    };
}

static X86Segment segment_to(const struct kvm_segment *seg)
{
    uint32_t ar = (seg->type & 15u) | (seg->dpl & 3u) << X86_SEG_DPL_SHIFT;
    if (seg->s)
        ar |= X86_SEG_S;
    if (seg->present)
        ar |= X86_SEG_P;
    if (seg->avl)
        ar |= X86_SEG_AVL;
    if (seg->l)
        ar |= X86_SEG_L;
    if (seg->db)
        ar |= X86_SEG_DB;
    if (seg->g)
        ar |= X86_SEG_G;
    if (seg->unusable)
        ar |= X86_SEG_UNUSABLE;
    return (X86Segment){ .selector = seg->selector, .attr = ar, .limit = seg->limit, .base = seg->base };
}

/* Paging by four page-directory pointers that the CPU holds (SDM 3A 4.4.1). */
static bool has_pdptrs(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
    return cr0 & X86_CR0_PG && cr4 & X86_CR4_PAE && !(efer & X86_EFER_LMA);
}

static void regs_from(struct kvm_regs *out_regs, const X86State *state)
{
    const uint64_t *gpr = state->gpr;
    *out_regs = (struct kvm_regs){
        .rax = gpr[X86_RAX], .rbx = gpr[X86_RBX], .rcx = gpr[X86_RCX], .rdx = gpr[X86_RDX],
        .rsi = gpr[X86_RSI], .rdi = gpr[X86_RDI], .rsp = gpr[X86_RSP], .rbp = gpr[X86_RBP],
        .r8 = gpr[X86_R8],   .r9 = gpr[X86_R9],   .r10 = gpr[X86_R10], .r11 = gpr[X86_R11],
        .r12 = gpr[X86_R12], .r13 = gpr[X86_R13], .r14 = gpr[X86_R14], .r15 = gpr[X86_R15],
        .rip = state->rip,   .rflags = state->rflags | X86_FLAG_FIXED,
    };
}

static void regs_to(const struct kvm_regs *regs, X86State *out_state)
{
    const uint64_t gpr[X86_NGPRS] = { regs->rax, regs->rcx, regs->rdx, regs->rbx, regs->rsp, regs->rbp, regs->rsi, regs->rdi,
                                      regs->r8,  regs->r9,  regs->r10, regs->r11, regs->r12, regs->r13, regs->r14, regs->r15 };
    memcpy(out_state->gpr, gpr, sizeof gpr);
    out_state->rip = regs->rip;
    out_state->rflags = regs->rflags;
}

/* The order of X86_ES … X86_TR. */
#define SEGMENT_ROWS(ROW) \
    ROW(X86_ES, es) ROW(X86_CS, cs) ROW(X86_SS, ss) ROW(X86_DS, ds) ROW(X86_FS, fs) ROW(X86_GS, gs) ROW(X86_LDTR, ldt) ROW(X86_TR, tr)

static void sregs_from(struct kvm_sregs2 *out_sregs, const X86State *state)
{
    memset(out_sregs, 0, sizeof *out_sregs);
#define SEGMENT_FROM(index, field) out_sregs->field = segment_from(&state->seg[index]);
    SEGMENT_ROWS(SEGMENT_FROM)
#undef SEGMENT_FROM
    out_sregs->gdt.base = state->gdtr.base;
    out_sregs->gdt.limit = state->gdtr.limit;
    out_sregs->idt.base = state->idtr.base;
    out_sregs->idt.limit = state->idtr.limit;
    out_sregs->cr0 = state->cr0;
    out_sregs->cr2 = state->cr2;
    out_sregs->cr3 = state->cr3;
    out_sregs->cr4 = state->cr4;
    out_sregs->cr8 = state->cr8;
    out_sregs->efer = state->efer;
    out_sregs->apic_base = state->apic_base;
    if (has_pdptrs(state->cr0, state->cr4, state->efer)) {
        out_sregs->flags = KVM_SREGS2_FLAGS_PDPTRS_VALID;
        memcpy(out_sregs->pdptrs, state->pdptr, sizeof state->pdptr);
    }
}

static void sregs_to(const struct kvm_sregs2 *sregs, X86State *out_state)
{
#define SEGMENT_TO(index, field) out_state->seg[index] = segment_to(&sregs->field);
    SEGMENT_ROWS(SEGMENT_TO)
#undef SEGMENT_TO
    out_state->gdtr = (X86Table){ .base = sregs->gdt.base, .limit = sregs->gdt.limit };
    out_state->idtr = (X86Table){ .base = sregs->idt.base, .limit = sregs->idt.limit };
    out_state->cr0 = sregs->cr0;
    out_state->cr2 = sregs->cr2;
    out_state->cr3 = sregs->cr3;
    out_state->cr4 = sregs->cr4;
    out_state->cr8 = sregs->cr8;
    out_state->efer = sregs->efer;
    out_state->apic_base = sregs->apic_base;
    if (sregs->flags & KVM_SREGS2_FLAGS_PDPTRS_VALID)
        memcpy(out_state->pdptr, sregs->pdptrs, sizeof out_state->pdptr);
}

static void events_from(struct kvm_vcpu_events *out_events, const X86State *state)
{
    memset(out_events, 0, sizeof *out_events);
    if (state->exception_pending && state->exception_vector >= EXCEPTIONS) {
        out_events->interrupt.injected = 1;
        out_events->interrupt.nr = state->exception_vector;
    } else if (state->exception_pending) {
        out_events->exception.injected = 1;
        out_events->exception.nr = state->exception_vector;
        out_events->exception.has_error_code = state->exception_has_code;
        out_events->exception.error_code = state->exception_code;
    }
    out_events->nmi.pending = state->nmi_pending;
    out_events->nmi.masked = state->nmi_masked;
    out_events->interrupt.shadow = state->interrupt_shadow ? KVM_X86_SHADOW_INT_STI : 0;
    out_events->flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
}

static void events_to(const struct kvm_vcpu_events *events, X86State *out_state)
{
    if (events->exception.injected || events->exception.pending) {
        out_state->exception_pending = true;
        out_state->exception_vector = events->exception.nr;
        out_state->exception_has_code = events->exception.has_error_code;
        out_state->exception_code = events->exception.error_code;
    } else if (events->interrupt.injected) {
        out_state->exception_pending = true;
        out_state->exception_vector = events->interrupt.nr;
    }
    /* An NMI on its way into the guest masks others already; undelivered, it is one that waits. */
    out_state->nmi_pending = events->nmi.pending || events->nmi.injected;
    out_state->nmi_masked = events->nmi.masked && !events->nmi.injected;
    out_state->interrupt_shadow = events->interrupt.shadow != 0;
}

void kvm_state_from(KvmState *out_kvm, const X86State *state)
{
    memset(out_kvm, 0, sizeof *out_kvm);
    regs_from(&out_kvm->regs, state);
    sregs_from(&out_kvm->sregs, state);
    memcpy(out_kvm->debugregs.db, state->dr, sizeof out_kvm->debugregs.db);
    out_kvm->debugregs.dr6 = state->dr[6];
    out_kvm->debugregs.dr7 = state->dr[7];
    events_from(&out_kvm->events, state);
    out_kvm->xcrs.nr_xcrs = 1;
    out_kvm->xcrs.xcrs[0].value = state->xcr0;
    _Static_assert(sizeof out_kvm->xsave.region == sizeof state->xsave, "XSAVE image");
    memcpy(out_kvm->xsave.region, state->xsave, sizeof state->xsave);
    struct kvm_msr_entry *entry = out_kvm->msr;
#define MSR_FROM(name, number) *entry++ = (struct kvm_msr_entry){ .index = number, .data = state->name };
    X86_MSR_ROWS(MSR_FROM)
#undef MSR_FROM
    out_kvm->tsc = state->tsc;
    out_kvm->halted = state->halted;
}

void kvm_state_to(const KvmState *kvm, X86State *out_state)
{
    memset(out_state, 0, sizeof *out_state);
    regs_to(&kvm->regs, out_state);
    sregs_to(&kvm->sregs, out_state);
    memcpy(out_state->dr, kvm->debugregs.db, sizeof kvm->debugregs.db);
    out_state->dr[6] = kvm->debugregs.dr6;
    out_state->dr[7] = kvm->debugregs.dr7;
    events_to(&kvm->events, out_state);
    out_state->xcr0 = kvm->xcrs.xcrs[0].value;
    memcpy(out_state->xsave, kvm->xsave.region, sizeof out_state->xsave);
    const struct kvm_msr_entry *entry = kvm->msr;
#define MSR_TO(name, number) out_state->name = entry++->data;
    X86_MSR_ROWS(MSR_TO)
#undef MSR_TO
    out_state->tsc = kvm->tsc;
    out_state->halted = kvm->halted;
}

void kvm_state_suit_svm(KvmState *kvm)
{
    struct kvm_segment *tr = &kvm->sregs.tr;
    if (!tr->s && (tr->type & 7) == 3)
        tr->type &= (uint8_t)~2u;
}
