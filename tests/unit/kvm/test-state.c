#include <check.h>
#include <glib.h>
#include <stdlib.h>
#include <string.h>

#include "kvm/state.h"

#define SEG_ATTR_BITS (0xffu | X86_SEG_AVL | X86_SEG_L | X86_SEG_DB | X86_SEG_G | X86_SEG_UNUSABLE)

/* Every field with bits of its own, as far as both sides can hold them. */
static void state_randomize(X86State *state, GRand *rand)
{
    uint8_t *bytes = (uint8_t *)state;
    for (size_t i = 0; i < sizeof *state; i++)
        bytes[i] = (uint8_t)g_rand_int(rand);
    for (unsigned i = 0; i < X86_NSEGS; i++)
        state->seg[i] = (X86Segment){ .selector = (uint16_t)g_rand_int(rand), .attr = g_rand_int(rand) & SEG_ATTR_BITS,
                                      .limit = g_rand_int(rand), .base = (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand) };
    state->gdtr = (X86Table){ .base = 0xfedcba9876543210, .limit = 0x1234 };
    state->idtr = (X86Table){ .base = 0x0123456789abcdef, .limit = 0xfedc };
    state->rflags |= X86_FLAG_FIXED;
    state->dr[4] = state->dr[5] = 0;
    /* Paging with the four entries. */
    state->cr0 |= X86_CR0_PG;
    state->cr4 |= X86_CR4_PAE;
    state->efer &= ~(uint64_t)X86_EFER_LMA;
    bool *flags[] = { &state->exception_pending, &state->exception_has_code, &state->nmi_pending, &state->nmi_masked,
                      &state->interrupt_shadow, &state->halted };
    for (size_t i = 0; i < G_N_ELEMENTS(flags); i++)
        *flags[i] = g_rand_boolean(rand);
    state->exception_vector &= 31;
    if (!state->exception_pending) {
        state->exception_vector = 0;
        state->exception_has_code = false;
    }
    if (!state->exception_has_code)
        state->exception_code = 0;
}

static void there_and_back(const X86State *before, X86State *out_after)
{
    KvmState *kvm = g_new(KvmState, 1);
    memset(kvm, 0xee, sizeof *kvm);
    kvm_state_from(kvm, before);
    kvm_state_to(kvm, out_after);
    g_free(kvm);
}

static void state_check(const X86State *a, const X86State *b)
{
#define SAME(field) ck_assert_msg(!memcmp(&a->field, &b->field, sizeof a->field), #field " differs")
    SAME(gpr); SAME(rip); SAME(rflags); SAME(cr0); SAME(cr2); SAME(cr3); SAME(cr4); SAME(cr8); SAME(efer); SAME(pdptr); SAME(dr);
    SAME(apic_base); SAME(tsc); SAME(xcr0); SAME(xsave); SAME(exception_pending); SAME(exception_vector); SAME(exception_has_code);
    SAME(exception_code); SAME(nmi_pending); SAME(nmi_masked); SAME(interrupt_shadow); SAME(halted);
    SAME(gdtr.base); SAME(gdtr.limit); SAME(idtr.base); SAME(idtr.limit);
    for (unsigned i = 0; i < X86_NSEGS; i++) {
        ck_assert_uint_eq(a->seg[i].selector, b->seg[i].selector);
        ck_assert_uint_eq(a->seg[i].attr, b->seg[i].attr);
        ck_assert_uint_eq(a->seg[i].limit, b->seg[i].limit);
        ck_assert_uint_eq(a->seg[i].base, b->seg[i].base);
    }
#define SAME_MSR(name, number) SAME(name);
    X86_MSR_ROWS(SAME_MSR)
#undef SAME_MSR
#undef SAME
}

START_TEST(test_identity)
{
    GRand *rand = g_rand_new_with_seed((guint32)_i);
    X86State *before = g_new0(X86State, 1), *after = g_new(X86State, 1);
    for (unsigned i = 0; i < 50; i++) {
        state_randomize(before, rand);
        memset(after, 0x55, sizeof *after);
        there_and_back(before, after);
        state_check(before, after);
    }
    g_free(before);
    g_free(after);
    g_rand_free(rand);
}
END_TEST

START_TEST(test_reserved_fields_are_zero)
{
    X86State *state = g_new0(X86State, 1);
    memset(state, 0xff, sizeof *state);
    KvmState *kvm = g_new(KvmState, 1);
    memset(kvm, 0xee, sizeof *kvm);
    kvm_state_from(kvm, state);
    ck_assert_uint_eq(kvm->sregs.cs.padding, 0);
    ck_assert_uint_eq(kvm->sregs.gdt.padding[0], 0);
    ck_assert_uint_eq(kvm->debugregs.flags, 0);
    ck_assert_uint_eq(kvm->xcrs.nr_xcrs, 1);
    ck_assert_uint_eq(kvm->xcrs.flags, 0);
    ck_assert_uint_eq(kvm->xcrs.xcrs[0].xcr, 0);
    for (unsigned i = 0; i < KVM_STATE_NMSRS; i++)
        ck_assert_uint_eq(kvm->msr[i].reserved, 0);
    for (unsigned i = 0; i < sizeof kvm->events.reserved; i++)
        ck_assert_uint_eq(kvm->events.reserved[i], 0);
    g_free(kvm);
    g_free(state);
}
END_TEST

/* KVM takes the four entries with 32-bit PAE paging only; elsewhere they mean nothing. */
static const struct {
    uint32_t attr; /* as X86State has them */
    unsigned type; /* as SVM has it */
} task_rows[] = { { 0x8b, 9 }, { 0x83, 1 }, { 0x89, 9 }, { 0x81, 1 }, { 0x82, 2 }, { 0x9b, 0xb } };

START_TEST(test_task_register_of_svm)
{
    X86State *state = g_new0(X86State, 1);
    KvmState *kvm = g_new0(KvmState, 1);
    state->seg[X86_TR].attr = task_rows[_i].attr;
    kvm_state_from(kvm, state);
    kvm_state_suit_svm(kvm);
    ck_assert_uint_eq(kvm->sregs.tr.type, task_rows[_i].type);
    ck_assert_uint_eq(kvm->sregs.tr.present, 1);
    g_free(kvm);
    g_free(state);
}
END_TEST

START_TEST(test_pdptrs)
{
    static const struct {
        uint64_t cr0, cr4, efer;
        bool held;
    } rows[] = { { X86_CR0_PG, X86_CR4_PAE, 0, true },
                 { X86_CR0_PG, X86_CR4_PAE, X86_EFER_LME | X86_EFER_LMA, false },
                 { X86_CR0_PG, 0, 0, false },
                 { 0, X86_CR4_PAE, 0, false } };
    X86State *state = g_new0(X86State, 1), *after = g_new(X86State, 1);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        state->cr0 = rows[i].cr0;
        state->cr4 = rows[i].cr4;
        state->efer = rows[i].efer;
        state->pdptr[2] = 0x1234001;
        there_and_back(state, after);
        ck_assert_uint_eq(after->pdptr[2], rows[i].held ? 0x1234001 : 0);
    }
    g_free(state);
    g_free(after);
}
END_TEST

static void events_to_state(const struct kvm_vcpu_events *events, X86State *out_state)
{
    KvmState *kvm = g_new0(KvmState, 1);
    kvm->events = *events;
    kvm_state_to(kvm, out_state);
    g_free(kvm);
}

/* What KVM had begun to deliver is not lost on the way to another engine, and comes back as it was. */
START_TEST(test_events_under_way)
{
    X86State *state = g_new0(X86State, 1);
    KvmState *kvm = g_new0(KvmState, 1);

    events_to_state(&(struct kvm_vcpu_events){ .interrupt = { .injected = 1, .nr = 0x31 } }, state);
    ck_assert(state->exception_pending && !state->exception_has_code);
    ck_assert_uint_eq(state->exception_vector, 0x31);
    kvm_state_from(kvm, state);
    ck_assert(kvm->events.interrupt.injected && !kvm->events.exception.injected);
    ck_assert_uint_eq(kvm->events.interrupt.nr, 0x31);

    events_to_state(&(struct kvm_vcpu_events){ .exception = { .pending = 1, .nr = 13, .has_error_code = 1, .error_code = 0x18 } }, state);
    ck_assert(state->exception_pending && state->exception_has_code);
    kvm_state_from(kvm, state);
    ck_assert_uint_eq(kvm->events.exception.injected, 1);
    ck_assert_uint_eq(kvm->events.exception.error_code, 0x18);

    /* An injected NMI has set the mask already, but the guest has not seen it. */
    events_to_state(&(struct kvm_vcpu_events){ .nmi = { .injected = 1, .masked = 1 } }, state);
    ck_assert(state->nmi_pending && !state->nmi_masked);
    events_to_state(&(struct kvm_vcpu_events){ .nmi = { .masked = 1 } }, state);
    ck_assert(!state->nmi_pending && state->nmi_masked);

    events_to_state(&(struct kvm_vcpu_events){ .interrupt = { .shadow = KVM_X86_SHADOW_INT_MOV_SS } }, state);
    ck_assert(state->interrupt_shadow);
    g_free(state);
    g_free(kvm);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("state");
    tcase_add_loop_test(tcase, test_identity, 0, 8);
    tcase_add_test(tcase, test_reserved_fields_are_zero);
    tcase_add_loop_test(tcase, test_task_register_of_svm, 0, G_N_ELEMENTS(task_rows));
    tcase_add_test(tcase, test_pdptrs);
    tcase_add_test(tcase, test_events_under_way);
    Suite *suite = suite_create("kvm-state");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
