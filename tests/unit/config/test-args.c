/* Every refused command line with its message, and what accepted ones leave in Config. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "core/error.h"
#include "core/cpuid.h"
#include "core/log.h"

/* Words are separated by "|", because values contain spaces and commas. */
static gboolean parse(Config *config, const char *line, GError **error)
{
    g_auto(GStrv) argv = g_strsplit(line, "|", -1);
    return args_parse(config, (int)g_strv_length(argv), (const char *const *)argv, error);
}

static const struct {
    const char *line, *message;
} refused[] = {
    { "-foo", "-foo: unknown option; see segue -help" },
    { "--foo", "--foo: unknown option" },
    { "disk.img", "'disk.img': options begin with a dash" },
    { "-", "'-': options begin with a dash" },
    { "-m", "-m: a value is missing" },
    { "-m|lots", "-m lots: not a size" },
    { "-m|-5", "-m -5: not a size" },
    { "-m|size=1G,colour=red", "-m: unknown property 'colour'" },
    { "-accel|xen", "unknown mode 'xen'" },
    { "-accel|kvm:", "unknown mode ''" },
    { "-machine|vax", "-machine vax: unknown machine" },
    { "-machine|pc,accel=foo", "unknown mode 'foo'" },
    { "-machine|pc,bogus=1", "-machine: unknown property 'bogus'" },
    { "-machine|pc,hpet=maybe", "hpet=maybe must be on or off" },
    { "-smp|0", "at least one CPU" },
    { "-smp|4,maxcpus=2", "cpus is larger than maxcpus" },
    { "-smp|4,sockets=3", "Invalid CPU topology: sockets (3)" },
    { "-smp|4,cores=4,threads=2", "must be 4, the number of CPUs" },
    { "-smp|2,maxcpus=8,cores=3", "must be 8, the maxcpus" },
    { "-smp|x", "-smp: cpus=x must be a number" },
    { "-cpu|,+x", "the first word must be a model" },
    { "-cpu|max,+", "lacks a feature name" },
    { "-cpu|pentium9", "-cpu pentium9: unknown model; known: base, max, host" },
    { "-cpu|-v2", "unknown model" },
    { "-cpu|max,family=x", "is not a number that CPUID holds" },
    { "-cpu|max,stepping=16", "is not a number that CPUID holds" },
    { "-serial|frob", "-serial frob: unknown back end" },
    { "-serial|file:", "a path is missing" },
    { "-serial|unix:/x,wiat=off", "unknown property 'wiat'" },
    { "-serial|tcp:nowhere", "must be tcp:HOST:PORT" },
    { "-serial|null|-serial|null|-serial|null|-serial|null|-serial|null", "at most 4 serial ports" },
    { "-chardev|stdio", "id=NAME is missing" },
    { "-chardev|spicevmc,id=a", "-chardev spicevmc: unknown back end" },
    { "-chardev|socket,id=a", "a path is missing" },
    { "-chardev|socket,id=a,path=/x,port=3", "path and port exclude each other" },
    { "-chardev|null,id=a|-chardev|null,id=a", "this id is used twice" },
    { "-mon|chardev=a,mode=bogus", "must be readline or control" },
    { "-mon|mode=readline", "chardev=ID is missing" },
    { "-qmp|bogus:x", "unknown back end" },
    { "-daemonize", "-daemonize: not in this version" },
    { "-display|gtk", "no display in this version" },
    { "-vga|qxl", "no display in this version" },
    { "-netdev|user", "id=NAME is missing" },
    { "-netdev|tap,id=n", "only user is in this version" },
    { "-nic|user,model=e1000", "only virtio-net-pci" },
    { "-nic|user,mac=52:54:00:12:34", "six hexadecimal bytes" },
    { "-nic|user,mac=53:54:00:12:34:56", "the first one even" },
    { "-nic|user,hostfwd=tcp::99999-:22", "hostfwd=" },
    { "-nic|user,hostfwd=tcp::1-:2,hostfwd=sctp::1-:2", "hostfwd=sctp" },
    { "-nic|user,smb=/tmp", "unknown property 'smb'" },
    { "-nic|user,net=10.0.2.0/28", "with 27 bits at most" },
    { "-nic|user,net=10.0.2", "must be ADDRESS/BITS" },
    { "-nic|user,host=10.0.3.2", "outside of net=" },
    { "-nic|user,host=10.0.2.3", "must be two addresses" },
    { "-nic|user,dns=a", "must be an IPv4 address" },
    { "-nic|user,hostfwd=tcp::1-:0", "hostfwd=" },
    { "-drive|if=virtio", "the path is missing" },
    { "-drive|file=a,if=ide", "only if=virtio and if=none" },
    { "-drive|file=a,if=virtio,format=dmg", "format=dmg is not in this version" },
    { "-drive|file=a,if=virtio,snapshots=on", "unknown property 'snapshots'" },
    { "-hda|a", "-hda: IDE disks" },
    { "-object|secret,id=a", "-object secret: unknown object" },
    { "-gdb|file:x", "-gdb file:x: a debugger cannot come there" },
    { "-dtb|x", "-dtb: this option is known but not in this version" },
    { "-d|bogus", "-d: unknown category 'bogus'" },
    { "-rtc|base=yesterday", "-rtc base=yesterday: must be" },
    { "-device|,x=1", "name is missing" },
    { "-name|a,colour=b", "unknown property 'colour'" },
};

START_TEST(refused_row)
{
    g_autoptr(Config) config = config_new();
    g_autoptr(GError) error = NULL;
    ck_assert_msg(!parse(config, refused[_i].line, &error), "%s: accepted", refused[_i].line);
    ck_assert_msg(g_error_matches(error, VMM_ERROR, VMM_ERROR_USAGE), "%s", refused[_i].line);
    ck_assert_msg(strstr(error->message, refused[_i].message) != NULL, "%s: '%s'", refused[_i].line, error->message);
    ck_assert_msg(!strchr(error->message, '\n'), "%s: one sentence", refused[_i].line);
}
END_TEST

/* What the tools that people drive QEMU with send. */
static const char *const accepted[] = {
    "--no-reboot|-nodefaults|-global|kvm-pit.lost_tick_policy=discard|-device|isa-debug-exit,iobase=0xf4,iosize=0x4|-display|none|-serial|stdio|"
    "-machine|accel=tcg|-kernel|x.flat|-smp|1|-append|a b|-cpu|max",
    "-append|root=LABEL=x rw console=ttyS0|-nographic|-device|virtio-rng-pci,rng=rng0|-cpu|host|-machine|type=q35,accel=kvm:tcg|"
    "-no-user-config|-name|debvm-run IMG|-m|1G|-kernel|K|-initrd|I|"
    "-drive|media=disk,format=raw,discard=unmap,file=IMG,if=virtio,cache=unsafe|-object|rng-random,filename=/dev/urandom,id=rng0",
    "-display|none|-vga|none|-chardev|socket,id=mon,path=/x,server=on,wait=off|-mon|chardev=mon|-machine|pc",
    "-M|microvm,x-option-roms=off,pit=off,pic=off|-enable-kvm|-net|none|-parallel|none|-k|de|-boot|order=c|-rtc|base=2024-02-29",
    "-m|256|-monitor|unix:/tmp/m,server=on,wait=off|-serial|unix:/a,server,nowait|-serial|tcp:127.0.0.1:5000,server=on",
};

START_TEST(accepted_row)
{
    g_autoptr(Config) config = config_new();
    g_autoptr(GError) error = NULL;
    ck_assert_msg(parse(config, accepted[_i], &error), "%s: %s", accepted[_i], error ? error->message : "");
}
END_TEST

/* A model is a level, and a part when it is named after one. */
static const struct {
    const char *line, *vendor;
    uint32_t signature;
    const char *has, *lacks; /* features of those that every x86-64 host here has */
} cpu_models[] = {
    { "max", NULL, 0, "pku", NULL },
    { "base", NULL, 0, "lm", "pku" },
    { "qemu64", NULL, 0, "x2apic", NULL },
    { "kvm32", NULL, 0, "sse2", "lm" },
    { "x86-64-v1", NULL, 0, "lm", "popcnt" },
    { "Nehalem-v2", "GenuineIntel", 0x106a3, "lm", "avx" },
    { "Haswell-noTSX-IBRS", "GenuineIntel", 0x306c4, "smep", "smap" },
    { "sandybridge,+smep", "GenuineIntel", 0x206a1, "smep", "avx2" },
    { "EPYC-Rome,vendor=GenuineIntel,family=6,model=1", "GenuineIntel", 0x00610, "lm", "umip" },
};

START_TEST(cpu_model_row)
{
    g_autoptr(Config) config = config_new();
    g_autoptr(GError) error = NULL;
    g_autofree char *line = g_strconcat("-cpu|Opteron_G1,-lm|-cpu|", cpu_models[_i].line, NULL); /* the last one counts */
    ck_assert_msg(parse(config, line, &error), "%s: %s", line, error ? error->message : "");
    ck_assert_msg(!g_strcmp0(config->cpu_vendor, cpu_models[_i].vendor), "%s: %s", line, config->cpu_vendor);
    ck_assert_msg(config->cpu_signature == cpu_models[_i].signature, "%s: %x", line, config->cpu_signature);
    CpuidModel model;
    cpuid_model_init(&model);
    for (guint i = 0; i < config->cpu_features->len; i++) {
        const ConfigCpuFeature *feature = g_ptr_array_index(config->cpu_features, i);
        ck_assert_msg(cpuid_model_set(&model, feature->name, feature->on, &error), "%s", error ? error->message : "");
    }
    ck_assert_msg(cpuid_model_has(&model, cpu_models[_i].has), "%s: %s", line, cpu_models[_i].has);
    if (cpu_models[_i].lacks)
        ck_assert_msg(!cpuid_model_has(&model, cpu_models[_i].lacks), "%s: %s", line, cpu_models[_i].lacks);
}
END_TEST

START_TEST(fields_are_filled)
{
    g_autoptr(Config) config = config_new();
    g_autoptr(GError) error = NULL;
    ck_assert_msg(parse(config, "-m|2G|-machine|pc,accel=kvm:tcg,hpet=off|-cpu|max,+avx,-sse4.1,x2apic=off,hv-vendor-id=Foo,family=25,model=0x21,stepping=2|-kernel|k|-append|a,b|"
                            "-rtc|base=1970-01-02|-d|int,bt|-D|/x|-no-shutdown|-S|-usb",
                        &error),
                  "%s", error ? error->message : "");
    ck_assert_uint_eq(config->ram_bytes, UINT64_C(2) << 30);
    ck_assert_uint_eq(config->accels->len, 2);
    ck_assert_int_eq(g_array_index(config->accels, ConfigAccel, 0), CONFIG_ACCEL_KVM);
    ck_assert(!config->has_hpet && config->has_pit);
    ck_assert_str_eq(config->cpu_name, "max");
    ck_assert_uint_eq(config->cpu_features->len, 5); /* two are max's own */
    ck_assert_uint_eq(config->cpu_signature, 0x00a20f12);
    const ConfigCpuFeature *feature = g_ptr_array_index(config->cpu_features, 3);
    ck_assert_str_eq(feature->name, "sse4.1");
    ck_assert(!feature->on);
    ck_assert_str_eq(config->append, "a,b");
    ck_assert_int_eq(config->rtc_base, 86400);
    ck_assert_uint_eq(config->log_mask, LOG_INT | LOG_BT);
    ck_assert(config->no_shutdown && config->start_stopped);
    ck_assert_uint_eq(config->ignored->len, 2); /* hv-vendor-id=, -usb */
}
END_TEST

static const struct {
    const char *line, *text;
} texts[] = {
    { "-version", "QEMU emulator version 7.2.0" }, { "--help", "QEMU" },          { "-h", "QEMU emulator version" },
    { "-device|?", "isa-debug-exit" },             { "-device|help", "virtio-blk-pci" }, { "-d|help", "guest_errors" },
    { "-cpu|help", "max" },                        { "-machine|help", "q35" },    { "-accel|help", "bt" },
};

START_TEST(text_row)
{
    g_autoptr(Config) config = config_new();
    ck_assert_msg(parse(config, texts[_i].line, NULL), "%s", texts[_i].line);
    ck_assert_int_eq(config->action, CONFIG_TEXT);
    ck_assert_msg(strstr(config->text, texts[_i].text) != NULL, "%s: %s", texts[_i].line, config->text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("args");
    TCase *tcase = tcase_create("all");
    tcase_add_loop_test(tcase, refused_row, 0, G_N_ELEMENTS(refused));
    tcase_add_loop_test(tcase, accepted_row, 0, G_N_ELEMENTS(accepted));
    tcase_add_loop_test(tcase, cpu_model_row, 0, G_N_ELEMENTS(cpu_models));
    tcase_add_test(tcase, fields_are_filled);
    tcase_add_loop_test(tcase, text_row, 0, G_N_ELEMENTS(texts));
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
