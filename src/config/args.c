/* QEMU-style options: one table row and, where the option means something, one handler each. */
#include <string.h>

#include "config/config.h"
#include "config/usage.h"
#include "core/log.h"

typedef gboolean (*ArgHandler)(Config *config, const char *value, GError **error);

typedef struct ArgRow {
    const char *name;   /* without dash */
    const char *metavar; /* NULL: takes no value */
    ArgHandler handler; /* NULL: known to be harmless, accepted and listed by -d opts */
    const char *help;   /* NULL: not listed */
} ArgRow;

static gboolean arg_enable_kvm(Config *config, const char *value, GError **error)
{
    g_array_set_size(config->accels, 0); /* the same as -machine accel=kvm: the last one counts */
    return accel_args_parse(config, "kvm", error);
}

static gboolean arg_memory(Config *config, const char *value, GError **error)
{
    g_autoptr(Opts) opts = opts_parse("-m", value, "size", error);
    if (!opts)
        return FALSE;
    const char *size = opts_take(opts, "size");
    opts_take(opts, "slots");
    opts_take(opts, "maxmem");
    if (size && !parse_size(size, UINT64_C(1) << 20, &config->ram_bytes))
        return usage(error, "-m %s: not a size; write for example 512 (MiB), 2G or size=1536M", size);
    return opts_done(opts, "size slots maxmem", error);
}

static gboolean arg_smp(Config *config, const char *value, GError **error)
{
    g_autoptr(Opts) opts = opts_parse("-smp", value, "cpus", error);
    if (!opts)
        return FALSE;
    bool is_given = opts_take(opts, "cpus") != NULL;
    uint64_t cpus = 0, maxcpus = 0, sockets = 0, dies = 1, cores = 0, threads = 1;
    if (!opts_take_uint(opts, "cpus", 100000, &cpus, error) || !opts_take_uint(opts, "maxcpus", 100000, &maxcpus, error) ||
        !opts_take_uint(opts, "sockets", 1024, &sockets, error) || !opts_take_uint(opts, "dies", 1024, &dies, error) ||
        !opts_take_uint(opts, "cores", 1024, &cores, error) || !opts_take_uint(opts, "threads", 1024, &threads, error) ||
        !opts_done(opts, "cpus maxcpus sockets dies cores threads", error))
        return FALSE;
    uint64_t given = MAX(sockets, 1) * dies * MAX(cores, 1) * threads;
    if (!cpus && !is_given)
        cpus = maxcpus ? maxcpus : given;
    if (!cpus)
        return usage(error, "-smp %s: at least one CPU is needed", value);
    if (maxcpus && cpus > maxcpus)
        return usage(error, "-smp %s: cpus is larger than maxcpus", value);
    /* What is left open is found from the number that the machine has room for. */
    uint64_t room = maxcpus ? maxcpus : cpus;
    if (!cores)
        cores = sockets ? room / MAX(sockets * dies * threads, 1) : room / MAX(dies * threads, 1);
    if (!sockets)
        sockets = room / MAX(dies * cores * threads, 1);
    if (sockets * dies * cores * threads != room)
        return usage(error, "-smp %s: Invalid CPU topology: sockets (%u) * dies (%u) * cores (%u) * threads (%u) must be %u, the %s; "
                     "correct one of them, or leave all but the number out",
                     value, (unsigned)sockets, (unsigned)dies, (unsigned)cores, (unsigned)threads, (unsigned)room,
                     maxcpus ? "maxcpus" : "number of CPUs");
    config->ncpus = (unsigned)cpus;
    config->nsockets = (unsigned)sockets;
    config->ncores = (unsigned)(dies * cores);
    config->nthreads = (unsigned)threads;
    return TRUE;
}

#define ARG_STRING(name, field)                                                     \
    static gboolean name(Config *config, const char *value, GError **error)         \
    {                                                                               \
        text_replace(&config->field, value);                                             \
        return TRUE;                                                                \
    }
ARG_STRING(arg_kernel, kernel)
ARG_STRING(arg_initrd, initrd)
ARG_STRING(arg_append, append)
ARG_STRING(arg_bios, bios)
ARG_STRING(arg_log_path, log_path)
ARG_STRING(arg_pidfile, pidfile)
ARG_STRING(arg_snapshot_dir, snapshot_dir)
ARG_STRING(arg_loadvm, loadvm)
ARG_STRING(arg_incoming, incoming)
ARG_STRING(arg_symbols, symbols_path)

#define ARG_FLAG(name, field)                                                       \
    static gboolean name(Config *config, const char *value, GError **error)         \
    {                                                                               \
        config->field = true;                                                       \
        return TRUE;                                                                \
    }
ARG_FLAG(arg_nographic, no_graphic)
ARG_FLAG(arg_nodefaults, no_defaults)
ARG_FLAG(arg_no_reboot, no_reboot)
ARG_FLAG(arg_no_shutdown, no_shutdown)
ARG_FLAG(arg_start_stopped, start_stopped)
ARG_FLAG(arg_snapshot, all_snapshot)

static gboolean arg_no_acpi(Config *config, const char *value, GError **error)
{
    config->has_acpi = false;
    return TRUE;
}

static gboolean arg_no_hpet(Config *config, const char *value, GError **error)
{
    config->has_hpet = false;
    return TRUE;
}

static gboolean arg_name(Config *config, const char *value, GError **error)
{
    g_autoptr(Opts) opts = opts_parse("-name", value, "guest", error);
    if (!opts)
        return FALSE;
    text_replace(&config->name, opts_take(opts, "guest"));
    opts_take(opts, "process");
    opts_take(opts, "debug-threads");
    return opts_done(opts, "guest process debug-threads", error);
}

static gboolean arg_serial(Config *config, const char *value, GError **error)
{
    if (config->nserials == CONFIG_MAX_SERIAL)
        return usage(error, "-serial %s: at most %d serial ports", value, CONFIG_MAX_SERIAL);
    unsigned index = config->nserials;
    if (g_str_has_prefix(value, "mon:")) {
        config->serial_mon[index] = true;
        value += 4;
    }
    if (g_str_has_prefix(value, "chardev:")) {
        config->serial_chardev[index] = g_strdup(value + 8);
    } else {
        config->serial[index] = char_config_parse("-serial", value, error);
        if (!config->serial[index])
            return FALSE;
    }
    config->nserials++;
    return TRUE;
}

static gboolean arg_chardev(Config *config, const char *value, GError **error)
{
    CharConfig *chardev = char_config_from_chardev(value, error);
    if (!chardev)
        return FALSE;
    for (guint i = 0; i < config->chardevs->len; i++) {
        const CharConfig *other = g_ptr_array_index(config->chardevs, i);
        if (!strcmp(other->id, chardev->id)) {
            usage(error, "-chardev id=%s: this id is used twice", chardev->id);
            char_config_free(chardev);
            return FALSE;
        }
    }
    g_ptr_array_add(config->chardevs, chardev);
    return TRUE;
}

static gboolean arg_monitor(Config *config, const char *value, GError **error)
{
    config->has_monitor_option = true;
    if (g_str_has_prefix(value, "chardev:")) {
        g_ptr_array_add(config->monitor_chardevs, g_strdup(value + 8));
        return TRUE;
    }
    CharConfig *monitor = char_config_parse("-monitor", g_str_has_prefix(value, "mon:") ? value + 4 : value, error);
    if (!monitor)
        return FALSE;
    g_ptr_array_add(config->monitors, monitor);
    return TRUE;
}

static gboolean arg_mon(Config *config, const char *value, GError **error)
{
    g_autoptr(Opts) opts = opts_parse("-mon", value, "chardev", error);
    if (!opts)
        return FALSE;
    const char *chardev = opts_take(opts, "chardev"), *mode = opts_take(opts, "mode");
    opts_take(opts, "pretty");
    if (!opts_done(opts, "chardev mode", error))
        return FALSE;
    bool is_control = mode && !strcmp(mode, "control");
    if (mode && !is_control && strcmp(mode, "readline") != 0)
        return usage(error, "-mon mode=%s: must be readline or control", mode);
    if (!chardev)
        return usage(error, "-mon %s: chardev=ID is missing", value);
    if (is_control) {
        g_ptr_array_add(config->control_chardevs, g_strdup(chardev));
        return TRUE;
    }
    g_autofree char *name = g_strconcat("chardev:", chardev, NULL);
    return arg_monitor(config, name, error);
}

static gboolean arg_qmp(Config *config, const char *value, GError **error)
{
    if (g_str_has_prefix(value, "chardev:")) {
        g_ptr_array_add(config->control_chardevs, g_strdup(value + 8));
        return TRUE;
    }
    CharConfig *control = char_config_parse("-qmp", value, error);
    if (!control)
        return FALSE;
    g_ptr_array_add(config->controls, control);
    return TRUE;
}

static gboolean arg_gdb(Config *config, const char *value, GError **error)
{
    g_clear_pointer(&config->gdb, char_config_free);
    g_clear_pointer(&config->gdb_chardev, g_free);
    if (g_str_has_prefix(value, "chardev:")) {
        config->gdb_chardev = g_strdup(value + strlen("chardev:"));
        return TRUE;
    }
    if (!strcmp(value, "none"))
        return TRUE;
    config->gdb = config_gdb_parse("-gdb", value, error);
    return config->gdb != NULL;
}

static gboolean arg_gdb_default(Config *config, const char *value, GError **error) { return arg_gdb(config, "tcp::1234", error); }

static gboolean arg_daemonize(Config *config, const char *value, GError **error)
{
    return usage(error, "-daemonize: not in this version; start segue in the background instead");
}

static gboolean item_add(Config *config, const char *option, const char *value, GError **error)
{
    ConfigItem *item = g_new0(ConfigItem, 1);
    g_ptr_array_add(config->devices, item);
    item->option = g_strdup(option);
    item->props = opts_parse(option, value, "driver", error);
    if (!item->props)
        return FALSE;
    item->driver = g_strdup(opts_take(item->props, "driver"));
    item->id = g_strdup(opts_take(item->props, "id"));
    return item->driver && item->driver[0] ? TRUE : usage(error, "%s %s: the driver's name is missing", option, value);
}

static gboolean arg_device(Config *config, const char *value, GError **error)
{
    if (!strcmp(value, "help") || !strcmp(value, "?")) {
        config->action = CONFIG_TEXT;
        g_free(config->text);
        config->text = config_device_help();
        return TRUE;
    }
    return item_add(config, "-device", value, error);
}

static gboolean arg_log(Config *config, const char *value, GError **error)
{
    if (!strcmp(value, "help") || !strcmp(value, "?")) {
        config->action = CONFIG_TEXT;
        g_free(config->text);
        config->text = log_help();
        return TRUE;
    }
    return log_parse(value, &config->log_mask, error);
}

static gboolean arg_display(Config *config, const char *value, GError **error)
{
    if (strcmp(value, "none") != 0)
        return usage(error, "-display %s: there is no display in this version; use -display none or -nographic", value);
    config->no_display = true;
    return TRUE;
}

static gboolean arg_vga(Config *config, const char *value, GError **error)
{
    if (strcmp(value, "none") != 0 && strcmp(value, "std") != 0)
        return usage(error, "-vga %s: there is no display in this version; use -vga none", value);
    return TRUE;
}

static gboolean arg_rtc(Config *config, const char *value, GError **error)
{
    g_autoptr(Opts) opts = opts_parse("-rtc", value, "base", error);
    if (!opts)
        return FALSE;
    const char *base = opts_take(opts, "base");
    opts_take(opts, "clock");
    opts_take(opts, "driftfix");
    if (base && !strcmp(base, "localtime")) {
        config->rtc_local = true;
    } else if (base && strcmp(base, "utc") != 0) {
        g_autoptr(GTimeZone) utc = g_time_zone_new_utc();
        g_autoptr(GDateTime) date = g_date_time_new_from_iso8601(base, utc);
        g_autofree char *midnight = g_strconcat(base, "T00:00:00", NULL);
        if (!date)
            date = g_date_time_new_from_iso8601(midnight, utc);
        if (!date)
            return usage(error, "-rtc base=%s: must be utc, localtime or a date such as 2024-02-29T12:00:00", base);
        config->rtc_base = g_date_time_to_unix(date);
    }
    return opts_done(opts, "base clock driftfix", error);
}

static gboolean arg_help(Config *config, const char *value, GError **error)
{
    config->action = CONFIG_TEXT;
    g_free(config->text);
    config->text = args_help();
    return TRUE;
}

static gboolean arg_version(Config *config, const char *value, GError **error)
{
    config->action = CONFIG_TEXT;
    g_free(config->text);
    config->text = args_version();
    return TRUE;
}

static gboolean arg_drive(Config *config, const char *value, GError **error)
{
    DriveConfig *drive = drive_config_parse(value, error);
    if (!drive)
        return FALSE;
    g_ptr_array_add(config->drives, drive);
    return TRUE;
}

static gboolean arg_object(Config *config, const char *value, GError **error)
{
    g_autoptr(Opts) opts = opts_parse("-object", value, "qom-type", error);
    if (!opts)
        return FALSE;
    const char *type = opts_take(opts, "qom-type");
    static const char *const harmless[] = { "rng-random", "rng-builtin", "memory-backend-ram", "memory-backend-memfd",
                                            "memory-backend-file", "iothread" };
    for (size_t i = 0; type && i < G_N_ELEMENTS(harmless); i++)
        if (!strcmp(type, harmless[i])) {
            g_ptr_array_add(config->ignored, g_strdup_printf("-object %s", value));
            return TRUE;
        }
    return usage(error, "-object %s: unknown object; known: rng-random, rng-builtin, memory-backend-ram, memory-backend-memfd, "
                        "memory-backend-file, iothread", type ? type : value);
}

/* *out_value: true for "allow".  @other: one more word that stands for "allow", or NULL. */
static gboolean sandbox_word(Opts *opts, const char *key, const char *other, bool *out_value, bool *out_given, GError **error)
{
    const char *word = opts_take(opts, key);
    *out_given = word != NULL;
    if (!word)
        return TRUE;
    *out_value = !strcmp(word, "allow") || !g_strcmp0(word, other);
    if (*out_value || !strcmp(word, "deny"))
        return TRUE;
    return usage(error, "-sandbox %s=%s: must be allow or deny%s%s", key, word, other ? " or " : "", other ? other : "");
}

static gboolean arg_sandbox(Config *config, const char *value, GError **error)
{
    g_autoptr(Opts) opts = opts_parse("-sandbox", value, "enable", error);
    if (!opts)
        return FALSE;
    SandboxConfig sandbox = { 0 };
    const char *enable = opts_take(opts, "enable");
    bool is_on = true, ignored, given;
    if (enable && !parse_bool(enable, &is_on))
        return usage(error, "-sandbox %s: must be on or off", enable);
    sandbox.is_off = !is_on;
    sandbox.is_required = is_on;
    bool files = false;
    if (!sandbox_word(opts, "files", NULL, &files, &given, error))
        return FALSE;
    sandbox.files = !given ? SANDBOX_FILES_AUTO : files ? SANDBOX_FILES_ALLOW : SANDBOX_FILES_DENY;
    /* Old calls and more privileges are never allowed; QEMU's words for them are understood. */
    if (!sandbox_word(opts, "spawn", NULL, &sandbox.spawn, &given, error) ||
        !sandbox_word(opts, "resourcecontrol", NULL, &sandbox.resources, &given, error) ||
        !sandbox_word(opts, "obsolete", NULL, &ignored, &given, error) ||
        !sandbox_word(opts, "elevateprivileges", "children", &ignored, &given, error) ||
        !opts_done(opts, "on, off, files, spawn, resourcecontrol, obsolete, elevateprivileges", error))
        return FALSE;
    config->sandbox = sandbox;
    return TRUE;
}

static gboolean arg_no_drive(Config *config, const char *value, GError **error)
{
    return usage(error, "%s: IDE disks and -blockdev are not in this version; use -drive if=virtio,format=raw,file=PATH", value);
}

static gboolean arg_no_option(Config *config, const char *value, GError **error)
{
    return usage(error, "%s: this option is known but not in this version", value);
}

static const ArgRow arg_rows[] = {
    { "h", NULL, arg_help, NULL },
    { "help", NULL, arg_help, "this text" },
    { "version", NULL, arg_version, "name and version" },
    { "accel", "MODE[:MODE…]", accel_args_parse, "bt (or tcg), kvm, hv, hwmmu, auto; a list falls back to its next entry" },
    { "enable-kvm", NULL, arg_enable_kvm, "same as -accel kvm" },
    { "M", "TYPE[,prop=value…]", machine_args_parse, NULL },
    { "machine", "TYPE[,accel=…][,adaptive=on][,kernel-irqchip=split|off][,acpi=|hpet=|pit=|i8042=on|off]", machine_args_parse, "pc, q35 or microvm" },
    { "m", "SIZE", arg_memory, "guest memory in MiB, or with suffix K M G T (default 128)" },
    { "smp", "N[,sockets=N][,cores=N][,threads=N][,maxcpus=N]", arg_smp, "virtual CPUs, 1 to 16, and how they are arranged" },
    { "cpu", "MODEL[,+feature][,-feature]", cpu_args_parse, "CPU model; -cpu help lists them" },
    { "kernel", "FILE", arg_kernel, "bzImage, multiboot or PVH ELF kernel" },
    { "initrd", "FILE", arg_initrd, "initial RAM disk, or multiboot modules FILE[ args][,FILE…]" },
    { "append", "TEXT", arg_append, "kernel command line" },
    { "bios", "FILE", arg_bios, "firmware image (default: /usr/share/seabios/bios.bin when there is no kernel)" },
    { "serial", "BACKEND", arg_serial, "stdio, mon:stdio, file:PATH, null, none, unix:PATH, tcp:HOST:PORT, chardev:ID" },
    { "chardev", "KIND,id=ID[,…]", arg_chardev, "stdio, file, null, socket, pipe" },
    { "monitor", "BACKEND", arg_monitor, "human monitor on a back end" },
    { "mon", "chardev=ID[,mode=readline|control]", arg_mon, "human monitor, or the one for programs, on a -chardev" },
    { "qmp", "BACKEND", arg_qmp, "monitor for programs on unix:PATH,server=on,wait=off, tcp:HOST:PORT,server=on or stdio" },
    { "qmp-pretty", "BACKEND", arg_qmp, NULL },
    { "nographic", NULL, arg_nographic, "serial port and monitor on the terminal; Ctrl-A h for help" },
    { "display", "none", arg_display, "there is none" },
    { "vga", "none", arg_vga, NULL },
    { "nodefaults", NULL, arg_nodefaults, "only the devices that are asked for" },
    { "device", "DRIVER[,prop=value…]", arg_device, "add a device; -device help lists them" },
    { "no-reboot", NULL, arg_no_reboot, "end instead of resetting" },
    { "no-shutdown", NULL, arg_no_shutdown, "stop instead of ending at power-off" },
    { "action", "panic=|watchdog=|reboot=|shutdown=ACTION", action_args_parse, "what is done when the guest dies, resets or powers off" },
    { "watchdog-action", "ACTION", watchdog_args_parse, "reset, shutdown, poweroff, pause, inject-nmi, debug or none, for -device i6300esb" },
    { "S", NULL, arg_start_stopped, "do not start the guest before the monitor says cont" },
    { "name", "TEXT", arg_name, "name of the guest" },
    { "no-acpi", NULL, arg_no_acpi, NULL },
    { "no-hpet", NULL, arg_no_hpet, NULL },
    { "rtc", "base=utc|localtime|DATE", arg_rtc, "start value of the real-time clock" },
    { "snapshot-dir", "DIR", arg_snapshot_dir, "where savevm and loadvm keep snapshots, as DIR/TAG.segue" },
    { "loadvm", "TAG", arg_loadvm, "go on from a snapshot" },
    { "incoming", "URI", arg_incoming, "wait for a guest: file:PATH, unix:PATH, tcp:HOST:PORT, fd:N, exec:COMMAND, or defer" },
    { "pidfile", "FILE", arg_pidfile, "write our process number" },
    { "sandbox", "on|off[,files=|spawn=|resourcecontrol=allow|deny]", arg_sandbox, "system calls that we may still make when the guest runs" },
    { "d", "LIST", arg_log, "log categories; -d help lists them" },
    { "D", "FILE", arg_log_path, "log to a file instead of stderr" },
    { "symbols", "FILE", arg_symbols, "names for -d prof: the guest kernel's ELF file, System.map or a copy of /proc/kallsyms" },
    { "daemonize", NULL, arg_daemonize, NULL },
    { "nic", "user[,hostfwd=tcp::PORT-:PORT][,mac=…]|none", nic_args_parse, "network card on a private network; the host is 10.0.2.2 there" },
    { "netdev", "user,id=ID[,hostfwd=…][,restrict=on]", netdev_args_parse, "the network alone, for -device virtio-net-pci,netdev=ID" },
    { "net", "nic|user|none", net_args_parse, NULL },
    { "drive", "file=PATH,if=virtio[,format=raw][,snapshot=on][,readonly=on]", arg_drive, "disk image" },
    { "hda", "FILE", arg_no_drive, NULL },
    { "hdb", "FILE", arg_no_drive, NULL },
    { "cdrom", "FILE", arg_no_drive, NULL },
    { "blockdev", "…", arg_no_drive, NULL },
    { "virtfs", "…", arg_no_option, NULL },
    { "fsdev", "…", arg_no_option, NULL },
    { "gdb", "BACKEND", arg_gdb, "where gdb's \"target remote\" comes to: tcp::PORT, unix:PATH, chardev:ID, stdio" },
    { "s", NULL, arg_gdb_default, "short for -gdb tcp::1234" },
    { "dtb", "FILE", arg_no_option, NULL },
    /* Harmless here: accepted without effect. */
    { "no-user-config", NULL, NULL, NULL },
    { "nodefconfig", NULL, NULL, NULL },
    { "no-fd-bootchk", NULL, NULL, NULL },
    { "parallel", "BACKEND", NULL, NULL },
    { "global", "DRIVER.PROP=VALUE", NULL, NULL },
    { "boot", "…", NULL, NULL },
    { "k", "LAYOUT", NULL, NULL },
    { "usb", NULL, NULL, NULL },
    { "msg", "…", NULL, NULL },
    { "object", "TYPE,id=ID[,…]", arg_object, NULL },
    { "uuid", "UUID", NULL, NULL },
    { "smbios", "…", NULL, NULL },
    { "overcommit", "…", NULL, NULL },
    { "snapshot", NULL, arg_snapshot, "writes to disks are forgotten at the end" },
    { "audio", "…", NULL, NULL },
    { "audiodev", "…", NULL, NULL },
    { "action", "…", NULL, NULL },
    { "mem-prealloc", NULL, NULL, NULL },
    { "L", "DIR", NULL, NULL },
    { "icount", "…", NULL, NULL },
    { "fw_cfg", "…", NULL, NULL },
};

static const ArgRow *arg_find(const char *name)
{
    for (size_t i = 0; i < G_N_ELEMENTS(arg_rows); i++)
        if (!strcmp(arg_rows[i].name, name))
            return &arg_rows[i];
    return NULL;
}

gboolean args_parse(Config *config, int argc, const char *const *argv, GError **error)
{
    for (int i = 0; i < argc; i++) {
        const char *arg = argv[i];
        if (arg[0] != '-' || !arg[1])
            return usage(error, "'%s': options begin with a dash; disk images are not in this version; see segue -help", arg);
        const char *name = arg + (arg[1] == '-' ? 2 : 1);
        const ArgRow *row = arg_find(name);
        if (!row)
            return usage(error, "%s: unknown option; see segue -help", arg);
        const char *value = NULL;
        if (row->metavar) {
            if (i + 1 == argc)
                return usage(error, "%s: a value is missing: -%s %s", arg, row->name, row->metavar);
            value = argv[++i];
        }
        if (!row->handler)
            g_ptr_array_add(config->ignored, value ? g_strdup_printf("-%s %s", row->name, value) : g_strdup_printf("-%s", row->name));
        else if (!row->handler(config, row->handler == arg_no_option || row->handler == arg_no_drive ? arg : value, error))
            return FALSE;
        if (config->action == CONFIG_TEXT)
            return TRUE;
    }
    return TRUE;
}

char *args_version(void)
{
    return g_strdup("QEMU emulator version 7.2.0 (Segue 0.1.0)\n"
                    "Segue 0.1.0: a userspace x86 virtual machine monitor; compatible with QEMU's options, not QEMU\n");
}

char *args_help(void)
{
    GString *text = g_string_new("QEMU emulator version 7.2.0 (Segue 0.1.0)\n"
                                 "usage: segue [options]          QEMU-style options, one or two dashes\n"
                                 "       segue run|plan|set|edit guest.vmx …   .vmx files; each with --help\n"
                                 "       segue monitor SOCKET [COMMAND…]  talk to a running machine\n"
                                 "       segue version|help\n\n");
    for (size_t i = 0; i < G_N_ELEMENTS(arg_rows); i++) {
        const ArgRow *row = &arg_rows[i];
        if (!row->help)
            continue;
        g_autofree char *left = row->metavar ? g_strdup_printf("-%s %s", row->name, row->metavar) : g_strdup_printf("-%s", row->name);
        g_string_append_printf(text, strlen(left) < 26 ? "%-26s %s\n" : "%s\n                           %s\n", left, row->help);
    }
    g_string_append(text, "\nExit status: 0 powered off, 1 test failed, 2 usage, 3 mode not available, 4 time limit, 5 guest crashed, "
                          "6 internal error.\nDuring emulation on a terminal: Ctrl-A h for help, Ctrl-A x to quit, Ctrl-A c for the monitor.\n");
    return g_string_free(text, FALSE);
}
