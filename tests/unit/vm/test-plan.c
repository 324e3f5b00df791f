/* The default table cell by cell, and one row for each rule of each dialect. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "vm/plan.h"

/* The published half.  '*': moves to hardware at long-mode entry. */
static const char *const intel[] = { "intel-nehalem", "intel-core2-45nm", "intel-core2-65nm-flexpri", "intel-core2-65nm", "intel-p4-vt",
                                     "intel-em64t-novt" };
/* The derived half. */
static const char *const amd[] = { "amd-32bit", "amd-0fh-pre-d", "amd-0fh-d", "amd-10h", "amd-modern" };
static const struct {
    const char *guest_os;
    bool is_vmi;
    const char *published[G_N_ELEMENTS(intel)], *derived[G_N_ELEMENTS(amd)];
} table[] = {
    { "debian10-64", false, { "hwmmu", "hv", "hv", "hv", "hv", "bt" }, { "-", "bt", "bt", "hwmmu", "hwmmu" } },
    { "otherlinux", true, { "bt", "bt", "bt", "bt", "bt", "bt" }, { "bt", "bt", "bt", "bt", "bt" } },
    { "Ubuntu", false, { "hwmmu", "hv", "bt*", "bt*", "bt*", "bt" }, { "bt", "bt", "bt", "hwmmu", "hwmmu" } },
    { "freeBSD", false, { "hwmmu", "hv", "bt*", "bt*", "bt*", "bt" }, { "bt", "bt", "bt", "hwmmu", "hwmmu" } },
    { "winXPPro", false, { "hwmmu", "hv", "hv", "bt*", "bt*", "bt" }, { "bt", "bt", "bt", "bt", "hwmmu" } },
    { "winNetStandard", false, { "hwmmu", "hv", "hv", "bt*", "bt*", "bt" }, { "bt", "bt", "bt", "bt", "hwmmu" } },
    { "winVista", false, { "hwmmu", "hv", "hv", "bt*", "bt*", "bt" }, { "bt", "bt", "bt", "hwmmu", "hwmmu" } },
    { "longhorn", false, { "hwmmu", "hv", "hv", "bt*", "bt*", "bt" }, { "bt", "bt", "bt", "hwmmu", "hwmmu" } },
    { "win2000Pro", false, { "bt*", "bt*", "bt*", "bt*", "bt*", "bt" }, { "bt", "bt", "bt", "bt", "bt" } },
    { "winNT", false, { "bt*", "bt*", "bt*", "bt*", "bt*", "bt" }, { "bt", "bt", "bt", "bt", "bt" } },
    { "dos", false, { "bt*", "bt*", "bt*", "bt*", "bt*", "bt" }, { "bt", "bt", "bt", "bt", "bt" } },
    { "win98", false, { "bt*", "bt*", "bt*", "bt*", "bt*", "bt" }, { "bt", "bt", "bt", "bt", "bt" } },
    { "netware6", false, { "bt*", "bt*", "bt*", "bt*", "bt*", "bt" }, { "bt", "bt", "bt", "bt", "bt" } },
    { "solaris10", false, { "bt*", "bt*", "bt*", "bt*", "bt*", "bt" }, { "bt", "bt", "bt", "bt", "bt" } },
    { "openserver5", false, { "hwmmu", "hv", "hv", "hv", "hv", "bt" }, { "bt", "bt", "bt", "hwmmu", "hwmmu" } },
    { "unixware7", false, { "hwmmu", "hv", "hv", "hv", "hv", "bt" }, { "bt", "bt", "bt", "hwmmu", "hwmmu" } },
    { "os2", false, { "hwmmu", "hv", "hv", "hv", "hv", "bt" }, { "bt", "bt", "bt", "hwmmu", "hwmmu" } },
    { "other", false, { "hwmmu", "hv", "hv", "hv", "hv", "bt" }, { "bt", "bt", "bt", "hwmmu", "hwmmu" } },
};

static void cell_check(size_t row, const char *profile, const char *expected)
{
    ModeConfig modes;
    mode_config_init(&modes);
    const HostFacts *host = plan_host(profile, NULL);
    ck_assert_ptr_nonnull(host);
    g_autoptr(Plan) plan = plan_new(&(PlanInput){ .modes = &modes, .guest_os = table[row].guest_os, .is_vmi = table[row].is_vmi }, host);
    g_autofree char *seen = !plan->has_start ? g_strdup("-")
                                             : g_strconcat(plan_mode_name(plan->start), plan->long_mode == PLAN_LONG_JUMP ? "*" : "", NULL);
    ck_assert_msg(!strcmp(seen, expected), "%s on %s: %s, expected %s", table[row].guest_os, profile, seen, expected);
    ck_assert_msg(plan->filtered.count + plan->reasons->len == PLAN_NMODES, "%s on %s: a reason each", table[row].guest_os, profile);
    ck_assert_int_eq(plan_cell_is_derived(plan->family, host->column), g_str_has_prefix(profile, "amd-"));
}

START_TEST(default_table)
{
    for (size_t i = 0; i < G_N_ELEMENTS(intel); i++)
        cell_check((size_t)_i, intel[i], table[_i].published[i]);
    for (size_t i = 0; i < G_N_ELEMENTS(amd); i++)
        cell_check((size_t)_i, amd[i], table[_i].derived[i]);
}
END_TEST

/* One row a rule: keys, host, guest → start and what happens at long-mode entry. */
static const struct {
    const char *dialect, *key, *value, *host, *guest_os, *start, *long_mode;
} rules[] = {
    { "ws5.5", NULL, NULL, "intel-nehalem", "debian10-64", "hv", "stay" },           /* VT-x for 64-bit, no EPT */
    { "ws5.5", NULL, NULL, "intel-em64t-novt", "debian10-64", "-", "stop" },         /* needs VT-x */
    { "ws5.5", NULL, NULL, "intel-nehalem", "debian10", "bt", "jump" },              /* 32-bit in bt */
    { "esx3.0", "monitor_control.vt32", "TRUE", "intel-nehalem", "debian10", "hv", "stay" },
    { "ws5.5", NULL, NULL, "amd-modern", "debian10-64", "bt", "stay" },              /* no AMD-V */
    { "ws5.5", NULL, NULL, "amd-0fh-pre-d", "debian10-64", "-", "stop" },            /* no segment limits */
    { "ws6.0", NULL, NULL, "intel-nehalem", "debian10", "bt", "jump" },
    { "ws6.0", NULL, NULL, "amd-modern", "debian10-64", "bt", "stay" },
    { "ws6.0", "monitor_control.enable_svm", "TRUE", "amd-0fh-d", "debian10", "hv", "stay" },
    { "fusion1", "monitor_control.enable_svm", "TRUE", "amd-10h", "debian10", "hwmmu", "stay" },
    { "ws6.0", NULL, NULL, "intel-modern", "debian10-64", "hv", "stay" },            /* no EPT */
    { "esx3.5", NULL, NULL, "intel-nehalem", "debian10-64", "hv", "stay" },
    { "esx3.5", NULL, NULL, "intel-nehalem", "debian10", "bt", "jump" },             /* VT-x for 64-bit only */
    { "esx3.5", NULL, NULL, "amd-0fh-d", "debian10-64", "bt", "stay" },              /* AMD-V needs RVI */
    { "esx3.5", "monitor.virtual_mmu", "hardware", "amd-10h", "debian10", "hwmmu", "stay" },
    { "esx3.5", "monitor.virtual_mmu", "software", "amd-10h", "debian10", "hv", "stay" },
    { "ws6.5", NULL, NULL, "intel-nehalem", "debian10", "hwmmu", "stay" },
    { "server2", "monitor.virtual_exec", "software", "intel-nehalem", "debian10", "bt", "jump" },
    { "esx4", "monitor.virtual_mmu", "software", "intel-nehalem", "debian10", "hv", "stay" },
    { "fusion2", NULL, NULL, "intel-em64t-novt", "debian10-64", "-", "stop" },
    { "ws6.5", "monitor.virtual_exec", "hardware", "intel-32bit", "debian10", "bt", "stop" }, /* needs a 64-bit CPU: fallback */
    { "ws6.5", "monitor.virtual_exec", "hardware", "amd-0fh-d", "debian10", "bt", "stay" },   /* no AMD-V on 0Fh: fallback */
    { "current", NULL, NULL, "none", "debian10-64", "bt", "stay" },
    { "current", "monitor.virtual_mmu", "hardware", "intel-core2-45nm", "debian10-64", "hv", "stay" }, /* fallback */
    { "current", "monitor.virtual_exec", "hardware", "none", "debian10", "bt", "stay" },
    { "current", "monitor.long_mode", "bt", "intel-core2-65nm", "debian10", "bt", "stay" },
    { "current", "monitor.long_mode", "hardware", "none", "debian10-64", "-", "stop" },
    { "current", "monitor.long_mode", "hardware", "none", "debian10", "bt", "stop" },
    { "current", "monitor.long_mode", "hardware", "amd-modern", "win98", "bt", "jump" },
};

START_TEST(dialect_rules)
{
    ModeConfig modes;
    mode_config_init(&modes);
    Dialect dialect;
    ck_assert(dialect_from_name(rules[_i].dialect, &dialect, NULL));
    modes.dialect = dialect;
    if (rules[_i].key)
        ck_assert(dialect_set(&modes, rules[_i].key, rules[_i].value, NULL));
    g_autoptr(Plan) plan = plan_new(&(PlanInput){ .modes = &modes, .guest_os = rules[_i].guest_os }, plan_host(rules[_i].host, NULL));
    const char *start = plan->has_start ? plan_mode_name(plan->start) : "-";
    ck_assert_msg(!strcmp(start, rules[_i].start), "row %d: start %s, expected %s", _i, start, rules[_i].start);
    const char *what = plan_long_mode_name(plan->long_mode);
    ck_assert_msg(!strcmp(what, rules[_i].long_mode), "row %d: %s, expected %s", _i, what, rules[_i].long_mode);
}
END_TEST

START_TEST(unusable_kvm)
{
    static const struct {
        HostKvm kvm;
        const char *rule;
    } rows[] = { { HOST_KVM_MISSING, "kvm-missing" }, { HOST_KVM_DENIED, "kvm-denied" }, { HOST_KVM_BROKEN, "kvm-broken" } };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        HostFacts host = *plan_host("intel-modern", NULL);
        host.kvm = rows[i].kvm;
        ModeConfig modes;
        mode_config_init(&modes);
        modes.virtual_exec = MODE_HARDWARE;
        modes.fallback = FALLBACK_NEVER;
        g_autoptr(Plan) plan = plan_new(&(PlanInput){ .modes = &modes }, &host);
        ck_assert(!plan->has_start);
        ck_assert_str_eq(((PlanReason *)g_ptr_array_index(plan->reasons, 2))->rule, rows[i].rule);
    }
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("plan");
    tcase_add_loop_test(tcase, default_table, 0, G_N_ELEMENTS(table));
    tcase_add_loop_test(tcase, dialect_rules, 0, G_N_ELEMENTS(rules));
    tcase_add_test(tcase, unusable_kvm);
    Suite *suite = suite_create("plan");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
