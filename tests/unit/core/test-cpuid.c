#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "core/cpuid.h"

static const CpuidLeaf *leaf(const CpuidModel *model, uint32_t number, uint32_t subleaf)
{
    for (unsigned i = 0; i < model->nleaves; i++)
        if (model->leaf[i].leaf == number && model->leaf[i].subleaf == subleaf)
            return &model->leaf[i];
    ck_abort_msg("leaf %#x.%u is missing", number, subleaf);
}

static void check_vendor(const CpuidModel *model, const char *vendor)
{
    const CpuidLeaf *row = leaf(model, 0, 0);
    char text[13] = "";
    memcpy(text, &row->ebx, 4);
    memcpy(text + 4, &row->edx, 4);
    memcpy(text + 8, &row->ecx, 4);
    ck_assert_str_eq(text, vendor);
}

START_TEST(test_amd_is_the_default)
{
    CpuidModel model;
    cpuid_model_init(&model);
    check_vendor(&model, "AuthenticAMD");
    ck_assert(!model.is_intel);
    ck_assert_uint_eq(leaf(&model, 1, 0)->eax, 0x300f10);
    ck_assert_uint_eq(leaf(&model, 0x80000001, 0)->eax, 0x300f10);
    /* AMD repeats the old feature bits. */
    ck_assert_uint_eq(leaf(&model, 0x80000001, 0)->edx & 0x0183f3ff, leaf(&model, 1, 0)->edx & 0x0183f3ff);
    ck_assert_uint_ne(model.arch_capabilities & 1, 0); /* RDCL_NO: no page-table isolation */
}
END_TEST

START_TEST(test_intel)
{
    CpuidModel model;
    cpuid_model_init(&model);
    cpuid_model_set_vendor(&model, "GenuineIntel");
    check_vendor(&model, "GenuineIntel");
    ck_assert(model.is_intel);
    ck_assert_uint_eq(leaf(&model, 1, 0)->eax >> 8 & 15, 6);
    /* Reserved on Intel: the vendor in the extended leaf, the signature there, the repeated bits. */
    ck_assert_uint_eq(leaf(&model, 0x80000000, 0)->ebx, 0);
    ck_assert_uint_eq(leaf(&model, 0x80000001, 0)->eax, 0);
    ck_assert_uint_eq(leaf(&model, 0x80000001, 0)->edx & 0x0183f3ff, 0);
    ck_assert(cpuid_model_has(&model, "lm") && cpuid_model_has(&model, "syscall"));
    cpuid_model_set_signature(&model, 0x50654);
    ck_assert_uint_eq(leaf(&model, 1, 0)->eax, 0x50654);
}
END_TEST

START_TEST(test_follows_the_host)
{
    uint32_t a, b, c, d;
    __asm__("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(1), "c"(0));
    CpuidModel model;
    cpuid_model_init(&model);
    cpuid_model_follow_host(&model);
    ck_assert_uint_eq(leaf(&model, 1, 0)->eax, a);
    __asm__("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(0), "c"(0));
    ck_assert_uint_eq(leaf(&model, 0, 0)->ebx, b);
    ck_assert_int_eq(model.is_intel, b == 0x756e6547);
}
END_TEST

START_TEST(test_mask_settles)
{
    CpuidModel model;
    cpuid_model_init(&model);
    cpuid_model_mask(&model, 1, 0, 2, ~(1u << 26)); /* XSAVE */
    cpuid_model_mask(&model, 0x12345678, 0, 0, 0);  /* no such leaf: nothing happens */
    cpuid_model_settle(&model);
    ck_assert(!cpuid_model_has(&model, "xsave"));
    ck_assert_uint_eq(model.xcr0_mask, 1);
    ck_assert_uint_eq(leaf(&model, 0xd, 0)->eax, 0);
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("cpuid");
    tcase_add_test(tcase, test_amd_is_the_default);
    tcase_add_test(tcase, test_intel);
    tcase_add_test(tcase, test_follows_the_host);
    tcase_add_test(tcase, test_mask_settles);
    Suite *suite = suite_create("core-cpuid");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
