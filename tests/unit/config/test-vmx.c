/* .vmx files: what is accepted, what is refused with which line, and that writing keeps the rest of the file. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "config/vmx.h"

static const struct {
    const char *text, *message; /* NULL: accepted */
} rows[] = {
    { "# note\n\nMemSize = \"64\"\r\nnumvcpus = 1\n", NULL },
    { "memsize = \"64\"\nMEMSIZE = \"65\"\n", "t.vmx:2: MEMSIZE is given twice" },
    { "memsize\n", "t.vmx:1: '=' is missing" },
    { "memsize = \"64\n", "t.vmx:1: the closing quote" },
    { "\n= 4\n", "t.vmx:2: a key is expected" },
    { "memsize = \"x\"\n", "t.vmx:1: memsize" },
    { "numvcpus = \"900\"\n", "t.vmx:1: numvcpus" },
    { "scsi0:0.present = \"maybe\"\n", "must be TRUE or FALSE" },
    { "firmware = \"efi\"\n", "t.vmx:1: firmware" },
    { "segue.kernl = \"x\"\n", "t.vmx:1: segue.kernl: unknown key" },
    { "config.dialect = \"ws9\"\n", "t.vmx:1: config.dialect" },
    { "config.dialect = \"ws5.5\"\nmonitor.virtual_mmu = \"automatic\"\n", "t.vmx:2: monitor.virtual_mmu: dialect ws5.5 does not have" },
    { "monitor_control.vt32 = \"TRUE\"\n", "belongs to ws5.5 (also esx3.0), ws6.0 (also fusion1)" },
    { "config.dialect = \"esx3.5\"\nmonitor.virtual_exec = \"hardware\"\n", "does not have this key" },
    { "config.dialect = \"esx4\"\nmonitor.long_mode = \"bt\"\n", "belongs to current" },
    { "config.dialect = \"WS6.0\"\nmonitor_control.enable_svm = \"true\"\n", NULL },
    { "monitor.virtual_mmu = \"fast\"\n", "must be one of automatic, software, hardware" },
    { "monitor.magic = \"1\"\n", "t.vmx:1: monitor.magic: unknown key" },
    { "monitor.virtual_exec = \"software\"\nmonitor.virtual_mmu = \"hardware\"\n", "contradict" },
    { "ethernet0.present = \"TRUE\"\nethernet0.address = \"00:50:56:zz:00:01\"\n", "t.vmx:2: ethernet0.address" },
    { "scsi0:0.fileName = \"a.vmdk\"\n", NULL },
    { "serial0.present = \"TRUE\"\nserial0.fileType = \"device\"\nserial0.fileName = \"/dev/ttyS0\"\n", "t.vmx:2: serial0.fileType" },
    { "tools.syncTime = \"FALSE\"\nsomething = \"1\"\n", NULL },
    { "a = \"\xff\"\n", "t.vmx:1: this is not UTF-8" },
};

START_TEST(reading)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Config) config = config_new();
    g_autoptr(VmxFile) file = vmx_parse("t.vmx", rows[_i].text, strlen(rows[_i].text), &error);
    if (file)
        vmx_apply(file, config, &error);
    if (!rows[_i].message)
        ck_assert_msg(!error, "row %d: %s", _i, error ? error->message : "");
    else
        ck_assert_msg(error && strstr(error->message, rows[_i].message), "row %d: %s", _i, error ? error->message : "accepted");
}
END_TEST

START_TEST(hardware)
{
    static const char text[] = "memsize = \"96\"\ndisplayName = \"a|22b\"\nide0:0.fileName = \"d.img\"\nide0:0.mode = \"independent-nonpersistent\"\n"
                               "serial0.fileType = \"pipe\"\nserial0.fileName = \"/tmp/p\"\nserial1.fileType = \"network\"\n"
                               "serial1.fileName = \"tcp://localhost:99\"\nserial1.network.endPoint = \"client\"\nsegue.kernel = \"k\"\n"
                               "sata0:1.deviceType = \"cdrom-image\"\nsata0:1.fileName = \"cd.iso\"\nscsi0:0.fileName = \"e.VMDK\"\n"
                               "ethernet0.present = \"TRUE\"\nethernet0.connectionType = \"bridged\"\nethernet0.virtualDev = \"e1000\"\n"
                               "ethernet0.addressType = \"generated\"\nethernet0.generatedAddress = \"00:0c:29:01:02:03\"\n";
    g_autoptr(Config) config = config_new();
    g_autoptr(VmxFile) file = vmx_parse("/d/t.vmx", text, sizeof text - 1, NULL);
    ck_assert(vmx_apply(file, config, NULL));
    ck_assert_uint_eq(config->ram_bytes, UINT64_C(96) << 20);
    ck_assert_str_eq(config->name, "a\"b");
    ck_assert_str_eq(config->kernel, "/d/k");
    const DriveConfig *drive = g_ptr_array_index(config->drives, 0);
    ck_assert_str_eq(drive->path, "/d/d.img");
    ck_assert(drive->is_snapshot && !drive->format);
    ck_assert_str_eq(((DriveConfig *)g_ptr_array_index(config->drives, 1))->format, "vmdk");
    ck_assert(((DriveConfig *)g_ptr_array_index(config->drives, 2))->is_read_only);
    ck_assert_uint_eq(((NicConfig *)g_ptr_array_index(config->nics, 0))->mac[5], 3);
    ck_assert_uint_eq(config->notices->len, 2); /* virtio disks; a card that is not bridged */
    ck_assert(config->serial[0]->kind == CHAR_UNIX && config->serial[0]->server);
    ck_assert(config->serial[1]->kind == CHAR_TCP && !config->serial[1]->server);
    ck_assert_str_eq(config->serial[1]->port, "99");
}
END_TEST

START_TEST(writing)
{
    static const char text[] = "# top\nmemsize = \"64\"\nlast = \"x\"\n";
    g_autoptr(VmxFile) file = vmx_parse("t.vmx", text, sizeof text - 1, NULL);
    ck_assert(vmx_set(file, "MEMSIZE", "128", NULL) && vmx_set(file, "displayName", "q\"|", NULL));
    ck_assert(!vmx_set(file, "bad key", "1", NULL));
    g_autofree char *written = vmx_text(file);
    ck_assert_str_eq(written, "# top\nmemsize = \"128\"\nlast = \"x\"\ndisplayName = \"q|22|7C\"\n");
    ck_assert_str_eq(vmx_get(file, "displayname"), "q\"|");
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("vmx");
    tcase_add_loop_test(tcase, reading, 0, G_N_ELEMENTS(rows));
    tcase_add_test(tcase, hardware);
    tcase_add_test(tcase, writing);
    Suite *suite = suite_create("vmx");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
