#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/error.h"
#include "kvm/cpu-int.h"
#include "kvm/slat.h"

/* Each way to have no KVM has its own sentence with its own remedy. */
START_TEST(test_open_messages)
{
    static const struct {
        int errnum;
        bool can_virtualize;
        const char *what, *remedy;
    } rows[] = {
        { ENOENT, true, "is missing", "modprobe kvm_amd" },
        { ENOENT, false, "is missing", "firmware" },
        { ENODEV, true, "is missing", "modprobe kvm_amd" },
        { EACCES, true, "no permission", "group" },
        { EPERM, true, "no permission", "group" },
        { EMFILE, true, "does not work", "-accel bt" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        GError *error = NULL;
        ck_assert(!kvm_open_failed("/dev/kvm", rows[i].errnum, rows[i].can_virtualize, "kvm_amd", &error));
        ck_assert(g_error_matches(error, VMM_ERROR, VMM_ERROR_NO_MODE));
        ck_assert_msg(strstr(error->message, rows[i].what) != NULL, "%s", error->message);
        ck_assert_msg(strstr(error->message, rows[i].remedy) != NULL, "%s", error->message);
        ck_assert_ptr_null(strchr(error->message, '\n'));
        g_error_free(error);
    }
}
END_TEST

START_TEST(test_not_kvm)
{
    static const struct {
        const char *path, *what;
    } rows[] = { { "/nonexistent/kvm", "is missing" }, { "/dev/null", "does not work" } };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        GError *error = NULL;
        KvmProbe probe;
        ck_assert(!kvm_probe(rows[i].path, &probe, &error));
        ck_assert_msg(strstr(error->message, rows[i].what) != NULL, "%s", error->message);
        ck_assert_int_eq(error->code, VMM_ERROR_NO_MODE);
        g_error_free(error);
        kvm_probe_clear(&probe);
    }
}
END_TEST

START_TEST(test_wanted_mode)
{
    static const struct {
        KvmMmu has, wants;
        const char *missing, *what; /* NULL: fine */
    } rows[] = {
        { KVM_MMU_NESTED, KVM_MMU_ANY, NULL, NULL },
        { KVM_MMU_ANY, KVM_MMU_ANY, NULL, NULL },
        { KVM_MMU_NESTED, KVM_MMU_NESTED, NULL, NULL },
        { KVM_MMU_SHADOW, KVM_MMU_SHADOW, NULL, NULL },
        { KVM_MMU_NESTED, KVM_MMU_SHADOW, NULL, "loaded with npt=1; reload it (rmmod kvm_amd && modprobe kvm_amd npt=0)" },
        { KVM_MMU_SHADOW, KVM_MMU_NESTED, NULL, "modprobe kvm_amd npt=1" },
        { KVM_MMU_ANY, KVM_MMU_NESTED, NULL, "does not say" },
        { KVM_MMU_NESTED, KVM_MMU_ANY, "KVM_CAP_SREGS2", "lacks KVM_CAP_SREGS2" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        GError *error = NULL;
        KvmProbe probe = { .mmu = rows[i].has, .missing = (char *)rows[i].missing };
        gboolean is_ok = kvm_check(&probe, rows[i].wants, &error);
        ck_assert_int_eq(is_ok, rows[i].what == NULL);
        if (error)
            ck_assert_msg(strstr(error->message, rows[i].what) != NULL, "%s", error->message);
        g_clear_error(&error);
    }
}
END_TEST

/* A /proc of our own with three processes: one has the device open, one a machine, one neither. */
START_TEST(test_holders)
{
    static const struct {
        const char *pid, *comm, *target;
    } rows[] = { { "17", "qemu", "/dev/kvm" }, { "23", "segue", "anon_inode:kvm-vm" }, { "42", "cat", "/dev/null" } };
    g_autofree char *proc = g_dir_make_tmp("holders-XXXXXX", NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        g_autofree char *fd = g_build_filename(proc, rows[i].pid, "fd", NULL), *link = g_build_filename(fd, "5", NULL);
        g_autofree char *comm = g_build_filename(proc, rows[i].pid, "comm", NULL), *text = g_strconcat(rows[i].comm, "\n", NULL);
        g_mkdir_with_parents(fd, 0700);
        ck_assert_int_eq(symlink(rows[i].target, link), 0);
        ck_assert(g_file_set_contents(comm, text, -1, NULL));
    }
    g_autofree char *text = kvm_holders(proc, "/dev/kvm");
    ck_assert_ptr_nonnull(text);
    ck_assert(strstr(text, "17 (qemu)") && strstr(text, "23 (segue)") && !strstr(text, "42"));
    g_autofree char *none = kvm_holders("/nonexistent", "/dev/kvm");
    ck_assert_ptr_null(none);
    g_autofree char *command = g_strdup_printf("rm -r %s", proc);
    ck_assert(g_spawn_command_line_sync(command, NULL, NULL, NULL, NULL));
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("probe");
    tcase_add_test(tcase, test_open_messages);
    tcase_add_test(tcase, test_not_kvm);
    tcase_add_test(tcase, test_wanted_mode);
    tcase_add_test(tcase, test_holders);
    Suite *suite = suite_create("kvm-probe");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
