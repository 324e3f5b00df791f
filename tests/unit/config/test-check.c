/* Rules across fields. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "core/error.h"

static gboolean parse_and_check(Config *config, const char *line, GError **error)
{
    g_auto(GStrv) argv = g_strsplit(line, "|", -1);
    return args_parse(config, (int)g_strv_length(argv), (const char *const *)argv, error) && config_check(config, error);
}

static const struct {
    const char *line;
    int code;
    const char *message;
} refused[] = {
    { "-smp|17", VMM_ERROR_USAGE, "Number of SMP CPUs requested (17) exceeds" },
    { "-m|512K", VMM_ERROR_USAGE, "-m: guest memory must be from 1M" },
    { "-m|2T", VMM_ERROR_USAGE, "-m: guest memory must be" },
    { "-initrd|x", VMM_ERROR_USAGE, "-initrd only allowed with -kernel" },
    { "-append|x", VMM_ERROR_USAGE, "-append only allowed with -kernel" },
    { "-device|e1000", VMM_ERROR_USAGE, "-device e1000: this device is not in this version" },
    { "-device|isa-debug-exit,iosize=3", VMM_ERROR_USAGE, "iosize must be 1, 2 or 4" },
    { "-device|isa-debug-exit,iobase=0x10000", VMM_ERROR_USAGE, "iobase=0x10000 must be a number up to" },
    { "-device|isa-debug-exit,foo=3", VMM_ERROR_USAGE, "unknown property 'foo'" },
    { "-device|isa-debug-exit|-device|isa-debug-exit", VMM_ERROR_USAGE, "only one is possible" },
    { "-device|isa-serial", VMM_ERROR_USAGE, "chardev=ID is missing" },
    { "-serial|chardev:no", VMM_ERROR_USAGE, "-serial chardev:no: no -chardev has this id" },
    { "-monitor|chardev:no", VMM_ERROR_USAGE, "-monitor chardev:no" },
    { "-serial|stdio|-monitor|stdio", VMM_ERROR_USAGE, "stdio is used by more than one" },
    { "-serial|stdio|-serial|stdio", VMM_ERROR_USAGE, "stdio is used by more than one" },
    { "-serial|mon:unix:/x,server=on|-monitor|stdio", VMM_ERROR_USAGE, "only one of them" },
    { "-monitor|stdio|-monitor|stdio", VMM_ERROR_USAGE, "given twice" },
    { "-monitor|file:/x", VMM_ERROR_USAGE, "a file cannot carry it" },
    { "-chardev|socket,id=a,path=/x,server=on|-serial|chardev:a|-mon|a", VMM_ERROR_USAGE, "mux=on lets them share it" },
    { "-serial|pty", VMM_ERROR_USAGE, "-serial pty: not in this version" },
    { "-display|none|-S", VMM_ERROR_USAGE, "-S: the guest could never be started" },
    { "-drive|if=none,file=a,id=d", VMM_ERROR_USAGE, "no -device uses it" },
    { "-device|virtio-blk-pci,drive=d", VMM_ERROR_USAGE, "names no -drive" },
    { "-drive|if=virtio,file=a,id=d|-device|virtio-blk-pci,drive=d", VMM_ERROR_USAGE, "in use already" },
    { "-net|user", VMM_ERROR_USAGE, "no card is on this network" },
    { "-netdev|user,id=n", VMM_ERROR_USAGE, "no card is on this network" },
    { "-device|virtio-net-pci,netdev=x", VMM_ERROR_USAGE, "no -netdev has this id" },
    { "-netdev|user,id=n|-device|virtio-net-pci,netdev=n|-device|virtio-net-pci,netdev=n", VMM_ERROR_USAGE, "two cards on one network" },
    { "-nic|user,id=n|-nic|user,id=n", VMM_ERROR_USAGE, "two networks of this name" },
    { "-device|virtconsole", VMM_ERROR_USAGE, "chardev=ID is missing" },
};

START_TEST(refused_row)
{
    g_autoptr(Config) config = config_new();
    g_autoptr(GError) error = NULL;
    ck_assert_msg(!parse_and_check(config, refused[_i].line, &error), "%s: accepted", refused[_i].line);
    ck_assert_msg(g_error_matches(error, VMM_ERROR, refused[_i].code), "%s: code %d", refused[_i].line, error->code);
    ck_assert_msg(strstr(error->message, refused[_i].message) != NULL, "%s: '%s'", refused[_i].line, error->message);
}
END_TEST

START_TEST(networks)
{
    g_autoptr(Config) config = config_new();
    g_autoptr(GError) error = NULL;
    ck_assert_msg(parse_and_check(config, "-nic|none|-net|nic,model=virtio,macaddr=02:00:00:00:00:07|-net|user,hostfwd=tcp:127.0.0.1:2222-:22|"
                                          "-netdev|user,id=n,net=192.168.7.0/25,dns=192.168.7.9|-device|virtio-net-pci,netdev=n,id=card", &error),
                  "%s", error ? error->message : "");
    ck_assert_uint_eq(config->nics->len, 2);
    const NicConfig *first = g_ptr_array_index(config->nics, 0), *second = g_ptr_array_index(config->nics, 1);
    const NetdevConfig *hub = g_ptr_array_index(config->netdevs, first->netdev), *own = g_ptr_array_index(config->netdevs, second->netdev);
    ck_assert_uint_eq(first->mac[5], 7);
    ck_assert_uint_eq(second->mac[5], 0x57);
    ck_assert_str_eq(second->id, "card");
    ck_assert_uint_eq(hub->host, 0x0a000202);
    ck_assert_uint_eq(own->mask, 0xffffff80);
    ck_assert_uint_eq(own->host, 0xc0a80702);
    ck_assert_uint_eq(own->dns, 0xc0a80709);
    const NetdevForward *forward = g_ptr_array_index(hub->forwards, 0);
    ck_assert_uint_eq(forward->host, 0x7f000001);
    ck_assert_uint_eq(forward->host_port, 2222);
    ck_assert_uint_eq(forward->guest, 0);
    ck_assert_uint_eq(forward->guest_port, 22);
}
END_TEST

/* Where the first serial port and the monitor end up. */
static const struct {
    const char *line;
    unsigned nserials;
    int serial0;  /* CharKind, or -1 */
    bool mon;
    int monitor;  /* CharKind, or -1 */
} places[] = {
    { "-nographic", 1, CHAR_STDIO, true, -1 },
    { "-m|64", 1, CHAR_STDIO, true, -1 },
    { "-display|none", 1, CHAR_NULL, false, -1 },
    { "-nodefaults", 0, -1, false, -1 },
    { "-nodefaults|-serial|stdio", 1, CHAR_STDIO, false, -1 },
    { "-nographic|-serial|file:/x", 1, CHAR_FILE, false, CHAR_STDIO },
    { "-nographic|-serial|mon:stdio", 1, CHAR_STDIO, true, -1 },
    { "-nographic|-monitor|none", 1, CHAR_STDIO, false, -1 },
    { "-nographic|-monitor|unix:/m,server=on,wait=off|-serial|unix:/s,server=on,wait=off", 1, CHAR_UNIX, false, CHAR_UNIX },
    { "-serial|mon:stdio|-monitor|unix:/x|-monitor|tcp:127.0.0.1:1,server=on|-monitor|null", 1, CHAR_STDIO, true, CHAR_TCP },
    { "-chardev|socket,id=a,path=/x,server=on,mux=on|-serial|chardev:a|-mon|a", 1, CHAR_UNIX, true, -1 },
    { "-display|none|-chardev|stdio,id=a,mux=on|-serial|chardev:a|-mon|chardev=a", 1, CHAR_STDIO, true, -1 },
    { "-serial|none", 1, CHAR_NONE, false, -1 },
    { "-nographic|-serial|null|-serial|null", 2, CHAR_NULL, false, CHAR_STDIO },
};

START_TEST(place_row)
{
    g_autoptr(Config) config = config_new();
    g_autoptr(GError) error = NULL;
    ck_assert_msg(parse_and_check(config, places[_i].line, &error), "%s: %s", places[_i].line, error ? error->message : "");
    ck_assert_msg(config->nserials == places[_i].nserials, "%s: %u", places[_i].line, config->nserials);
    ck_assert_msg((config->serial[0] ? (int)config->serial[0]->kind : -1) == places[_i].serial0, "%s", places[_i].line);
    ck_assert_msg(config->serial_mon[0] == places[_i].mon, "%s", places[_i].line);
    const CharConfig *monitor = config->monitors->len ? g_ptr_array_index(config->monitors, config->monitors->len - 1) : config->monitor;
    ck_assert_msg((monitor ? (int)monitor->kind : -1) == places[_i].monitor, "%s", places[_i].line);
}
END_TEST

/* Which of them the host has is found out later; the order is the user's. */
START_TEST(modes_keep_their_order)
{
    g_autoptr(Config) config = config_new();
    ck_assert(parse_and_check(config, "-machine|q35,accel=kvm:tcg", NULL));
    ck_assert_uint_eq(config->accels->len, 2);
    ck_assert_int_eq(config->accel, CONFIG_ACCEL_KVM);
    ck_assert(config->accel_is_list);
}
END_TEST

START_TEST(default_mode_is_bt)
{
    g_autoptr(Config) config = config_new();
    ck_assert(parse_and_check(config, "-m|64", NULL));
    ck_assert_int_eq(config->accel, CONFIG_ACCEL_BT);
}
END_TEST

START_TEST(devices_are_filled)
{
    g_autoptr(Config) config = config_new();
    ck_assert(parse_and_check(config, "-snapshot|-device|isa-debug-exit,iobase=0xf4,iosize=4|-drive|if=virtio,file=a|"
                                      "-drive|if=none,file=b,id=d,readonly=on|-device|virtio-blk-pci,drive=d,serial=s,bootindex=1|"
                                      "-device|virtio-rng-pci",
                              NULL));
    ck_assert(config->has_debug_exit);
    ck_assert_uint_eq(config->debug_exit_port, 0xf4);
    ck_assert_uint_eq(config->virtio->len, 3);
    const DriveConfig *first = g_ptr_array_index(config->drives, 0), *second = g_ptr_array_index(config->drives, 1);
    ck_assert(first->is_snapshot);
    ck_assert(second->is_read_only && !second->is_snapshot);
    ck_assert_str_eq(second->serial, "s");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("check");
    TCase *tcase = tcase_create("all");
    tcase_add_test(tcase, networks);
    tcase_add_loop_test(tcase, refused_row, 0, G_N_ELEMENTS(refused));
    tcase_add_loop_test(tcase, place_row, 0, G_N_ELEMENTS(places));
    tcase_add_test(tcase, modes_keep_their_order);
    tcase_add_test(tcase, default_mode_is_bt);
    tcase_add_test(tcase, devices_are_filled);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
