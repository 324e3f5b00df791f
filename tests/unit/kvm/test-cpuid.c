#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "kvm/cpu-int.h"

static struct kvm_cpuid_entry2 cut[64];
static unsigned ncut;
static uint64_t xfeatures;
static bool has_apic;

static const CpuidModel model = {
    .nleaves = 6,
    .leaf = {
        { .leaf = 0, .eax = 0xd, .ebx = 0x68747541 },
        { .leaf = 1, .eax = 0x300f10, .ebx = 0x00010800, .ecx = 0xffffffff, .edx = 0xffffffff },
        { .leaf = 7, .subleaf = 0, .subleaf_significant = true, .eax = 1, .ebx = 0xffffffff },
        { .leaf = 7, .subleaf = 1, .subleaf_significant = true, .eax = 0xffffffff },
        { .leaf = 0xd, .subleaf = 0, .subleaf_significant = true, .eax = 7, .ecx = 832 },
        { .leaf = 0x40000000, .eax = 0x40000001, .ebx = 0x75676553 },
    },
};

static struct {
    struct kvm_cpuid2 head;
    struct kvm_cpuid_entry2 entry[4];
} supported = {
    .head.nent = 4,
    .entry = {
        { .function = 1, .ecx = 0x03200001, .edx = 0x0183fbff },
        { .function = 7, .index = 0, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .ebx = 0x00000180 },
        { .function = 7, .index = 1, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 0x10 },
        { .function = 0xd, .index = 0, .flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX, .eax = 0xffffffe3 },
    },
};

static const struct kvm_cpuid_entry2 *leaf(uint32_t function, uint32_t index)
{
    for (unsigned i = 0; i < ncut; i++)
        if (cut[i].function == function && cut[i].index == index)
            return &cut[i];
    ck_abort_msg("leaf %#x.%u is missing", function, index);
}

static void model_cut(unsigned index)
{
    kvm_cpuid_cut(&model, &supported.head, index, has_apic, cut, &ncut, &xfeatures);
    ck_assert_uint_eq(ncut, model.nleaves);
}

START_TEST(test_features_are_those_of_both)
{
    model_cut(0);
    ck_assert_uint_eq(leaf(1, 0)->edx, 0x0183fbff);
    ck_assert_uint_eq(leaf(7, 0)->ebx, 0x180);
    ck_assert_uint_eq(leaf(7, 1)->eax, 0x10); /* not mixed up with subleaf 0 */
    ck_assert_uint_eq(leaf(7, 0)->eax, 1);    /* a number, no features */
}
END_TEST

/* Without a local APIC in the kernel KVM cannot serve them; "hypervisor" is ours to say. */
START_TEST(test_apic_features)
{
    model_cut(0);
    ck_assert_uint_eq(leaf(1, 0)->ecx, 0x80000001 | (0x03200001 & ~(1u << 21 | 1u << 24)));
    has_apic = true;
    model_cut(0);
    has_apic = false;
    ck_assert_uint_eq(leaf(1, 0)->ecx, 0x80000001 | 0x03200001 | 1u << 24); /* KVM need not say that it has TSC deadline */
}
END_TEST

START_TEST(test_numbers_pass)
{
    model_cut(3);
    ck_assert_uint_eq(leaf(0, 0)->ebx, 0x68747541);
    ck_assert_uint_eq(leaf(0x40000000, 0)->ebx, 0x75676553);
    ck_assert_uint_eq(leaf(1, 0)->ebx, 0x03010800); /* initial APIC ID = vCPU number */
    ck_assert_uint_eq(leaf(1, 0)->eax, 0x300f10);
}
END_TEST

START_TEST(test_xsave_components)
{
    model_cut(0);
    ck_assert_uint_eq(leaf(0xd, 0)->eax, 3);
    ck_assert_uint_eq(xfeatures, 3);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("cpuid");
    tcase_add_test(tcase, test_features_are_those_of_both);
    tcase_add_test(tcase, test_apic_features);
    tcase_add_test(tcase, test_numbers_pass);
    tcase_add_test(tcase, test_xsave_components);
    Suite *suite = suite_create("kvm-cpuid");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
