/* All rules across fields, and the list of devices that can be asked for. */
#include <string.h>

#include "config/config.h"
#include "config/usage.h"

static gboolean check_accel(Config *config, GError **error)
{
    if (!config->accels->len) {
        config->accel = CONFIG_ACCEL_BT;
        return TRUE;
    }
    config->accel_is_list = config->accels->len > 1;
    config->accel = g_array_index(config->accels, ConfigAccel, 0); /* main.c looks at what the host has */
    return TRUE;
}

static gboolean check_machine(Config *config, GError **error)
{
    if (config->ncpus > CONFIG_MAX_CPUS)
        return usage(error,
                     "-smp %u: Number of SMP CPUs requested (%u) exceeds max CPUs supported by machine '%s' in this version (%d); "
                     "use -smp %d",
                     config->ncpus, config->ncpus, config->machine_name, CONFIG_MAX_CPUS, CONFIG_MAX_CPUS);
    if (config->ram_bytes < (UINT64_C(1) << 20) || config->ram_bytes > CONFIG_MAX_RAM_BYTES)
        return usage(error, "-m: guest memory must be from 1M to 1T");
    config->ram_bytes &= ~((UINT64_C(1) << 20) - 1);
    if (!config->kernel) {
        if (config->initrd)
            return usage(error, "-initrd only allowed with -kernel option");
        if (config->append)
            return usage(error, "-append only allowed with -kernel option");
    }
    return TRUE;
}

/* Turns "chardev:ID" into a copy of that -chardev. */
static gboolean chardev_resolve(Config *config, const char *option, const char *id, CharConfig **field, GError **error)
{
    if (!id)
        return TRUE;
    for (guint i = 0; i < config->chardevs->len; i++) {
        const CharConfig *chardev = g_ptr_array_index(config->chardevs, i);
        if (!strcmp(chardev->id, id)) {
            char_config_free(*field);
            *field = char_config_copy(chardev);
            return TRUE;
        }
    }
    return usage(error, "%s chardev:%s: no -chardev has this id", option, id);
}

static gboolean device_debug_exit(Config *config, ConfigItem *item, GError **error)
{
    uint64_t port = 0x501, size = 2;
    if (!opts_take_uint(item->props, "iobase", 0xffff, &port, error) || !opts_take_uint(item->props, "iosize", 4, &size, error))
        return FALSE;
    if (size != 1 && size != 2 && size != 4)
        return usage(error, "-device isa-debug-exit: iosize must be 1, 2 or 4");
    if (config->has_debug_exit)
        return usage(error, "-device isa-debug-exit: only one is possible");
    config->has_debug_exit = true;
    config->debug_exit_port = (uint16_t)port;
    config->debug_exit_size = (uint16_t)size;
    return opts_done(item->props, "iobase iosize", error);
}

static gboolean device_debugcon(Config *config, ConfigItem *item, GError **error)
{
    uint64_t port = 0xe9;
    uint64_t readback = 0xe9;
    if (!opts_take_uint(item->props, "iobase", 0xffff, &port, error) ||
        !opts_take_uint(item->props, "readback", 0xff, &readback, error))
        return FALSE;
    const char *chardev = opts_take(item->props, "chardev");
    if (config->debugcon || config->debugcon_chardev)
        return usage(error, "-device isa-debugcon: only one is possible");
    config->debugcon = char_config_new(CHAR_NULL);
    config->debugcon_chardev = g_strdup(chardev);
    config->debugcon_port = (uint16_t)port;
    return opts_done(item->props, "iobase chardev readback", error);
}

static gboolean device_serial(Config *config, ConfigItem *item, GError **error)
{
    if (config->nserials == CONFIG_MAX_SERIAL)
        return usage(error, "-device isa-serial: at most %d serial ports", CONFIG_MAX_SERIAL);
    const char *chardev = opts_take(item->props, "chardev");
    uint64_t index = config->nserials;
    if (!opts_take_uint(item->props, "index", CONFIG_MAX_SERIAL - 1, &index, error))
        return FALSE;
    if (!chardev)
        return usage(error, "-device isa-serial: chardev=ID is missing");
    if (config->serial[index] || config->serial_chardev[index])
        return usage(error, "-device isa-serial,index=%u: this port is taken", (unsigned)index);
    config->serial_chardev[index] = g_strdup(chardev);
    config->nserials = MAX(config->nserials, (unsigned)index + 1);
    return opts_done(item->props, "chardev index", error);
}

static gboolean device_pc_testdev(Config *config, ConfigItem *item, GError **error)
{
    config->has_pc_testdev = true;
    return opts_done(item->props, NULL, error);
}

static gboolean device_pci_testdev(Config *config, ConfigItem *item, GError **error)
{
    if (config->has_pci_testdev)
        return usage(error, "-device pci-testdev: only one is possible");
    config->has_pci_testdev = true;
    return opts_done(item->props, NULL, error);
}

static gboolean device_once(ConfigItem *item, bool *field, GError **error)
{
    if (*field)
        return usage(error, "-device %s: only one is possible", item->driver);
    *field = true;
    return TRUE;
}

static gboolean device_pvpanic(Config *config, ConfigItem *item, GError **error)
{
    uint64_t port = 0x505, events = 3;
    if (!opts_take_uint(item->props, "ioport", 0xffff, &port, error) || !opts_take_uint(item->props, "events", 3, &events, error))
        return FALSE;
    config->pvpanic_port = (uint16_t)port;
    return device_once(item, &config->has_pvpanic, error) && opts_done(item->props, "ioport events", error);
}

/* Properties of PCI devices that change nothing here. */
static void take_harmless(ConfigItem *item)
{
    static const char *const names[] = { "bus", "addr", "bootindex", "romfile", "rombar", "disable-legacy", "disable-modern",
                                         "iommu_platform", "ats", "packed", "event_idx", "indirect_desc", "num-queues", "queue-size",
                                         "iothread", "write-cache", "discard", "scsi", "config-wce", "max-bytes", "period", "rng",
                                         "max_ports", "multifunction", "name", "nr", "share-rw" };
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
        opts_take(item->props, names[i]);
}

static gboolean device_pvpanic_pci(Config *config, ConfigItem *item, GError **error)
{
    uint64_t events = 3;
    take_harmless(item);
    return opts_take_uint(item->props, "events", 3, &events, error) && device_once(item, &config->has_pvpanic_pci, error) &&
           opts_done(item->props, "events", error);
}

static gboolean device_watchdog(Config *config, ConfigItem *item, GError **error)
{
    take_harmless(item);
    return device_once(item, &config->has_watchdog, error) && opts_done(item->props, NULL, error);
}

static VirtioConfig *virtio_add(Config *config, VirtioKind kind)
{
    VirtioConfig *virtio = g_new0(VirtioConfig, 1);
    virtio->kind = kind;
    g_ptr_array_add(config->virtio, virtio);
    return virtio;
}

static gboolean device_virtio_blk(Config *config, ConfigItem *item, GError **error)
{
    const char *id = opts_take(item->props, "drive"), *serial = opts_take(item->props, "serial");
    take_harmless(item);
    if (!opts_done(item->props, "drive serial", error))
        return FALSE;
    for (guint i = 0; id && i < config->drives->len; i++) {
        DriveConfig *drive = g_ptr_array_index(config->drives, i);
        if (!drive->id || strcmp(drive->id, id) != 0)
            continue;
        if (drive->is_virtio || drive->is_used)
            return usage(error, "-device %s,drive=%s: this drive is in use already; give it if=none", item->driver, id);
        drive->is_used = true;
        if (serial) {
            g_free(drive->serial);
            drive->serial = g_strdup(serial);
        }
        virtio_add(config, VIRTIO_KIND_BLK)->drive = i;
        return TRUE;
    }
    return usage(error, "-device %s: drive=%s names no -drive with this id", item->driver, id ? id : "");
}

static gboolean device_virtio_rng(Config *config, ConfigItem *item, GError **error)
{
    take_harmless(item);
    virtio_add(config, VIRTIO_KIND_RNG);
    return opts_done(item->props, "rng", error);
}

static gboolean device_virtio_net(Config *config, ConfigItem *item, GError **error)
{
    take_harmless(item);
    return net_device_add(config, item->driver, item->id, item->props, error);
}

/* The bus of virtconsole; the function itself comes with the console. */
static gboolean device_virtio_serial(Config *config, ConfigItem *item, GError **error)
{
    take_harmless(item);
    return opts_done(item->props, "max_ports", error);
}

static gboolean chardev_resolve(Config *config, const char *option, const char *id, CharConfig **field, GError **error);

static gboolean device_virtconsole(Config *config, ConfigItem *item, GError **error)
{
    const char *chardev = opts_take(item->props, "chardev");
    take_harmless(item);
    for (guint i = 0; i < config->virtio->len; i++)
        if (((VirtioConfig *)g_ptr_array_index(config->virtio, i))->kind == VIRTIO_KIND_CONSOLE)
            return usage(error, "-device virtconsole: only one in this version");
    if (!chardev)
        return usage(error, "-device virtconsole: chardev=ID is missing");
    VirtioConfig *virtio = virtio_add(config, VIRTIO_KIND_CONSOLE);
    return opts_done(item->props, "chardev name nr", error) &&
           chardev_resolve(config, "-device virtconsole", chardev, &virtio->chardev, error);
}

static const struct {
    const char *name, *bus, *what;
    gboolean (*handler)(Config *config, ConfigItem *item, GError **error);
} devices[] = {
    { "isa-debug-exit", "ISA", "ends with status (value << 1) | 1; iobase=, iosize=", device_debug_exit },
    { "pvpanic", "ISA", "the guest reports its own panic at a port; ioport=", device_pvpanic },
    { "pvpanic-pci", "PCI", "the same as a PCI function", device_pvpanic_pci },
    { "i6300esb", "PCI", "watchdog; -watchdog-action says what it does", device_watchdog },
    { "isa-debugcon", "ISA", "bytes written to a port go to a back end; iobase=, chardev=", device_debugcon },
    { "pc-testdev", "ISA", "ports, interrupt lines and memory that test suites write to", device_pc_testdev },
    { "pci-testdev", "PCI", "counts writes to its BARs, for test suites", device_pci_testdev },
    { "isa-serial", "ISA", "serial port; chardev=, index=", device_serial },
    { "virtio-blk-pci", "PCI", "disk; drive=, serial=", device_virtio_blk },
    { "virtio-blk", "PCI", "same as virtio-blk-pci", device_virtio_blk },
    { "virtio-blk-device", "PCI", "same as virtio-blk-pci", device_virtio_blk },
    { "virtio-net-pci", "PCI", "network card; netdev=, mac=", device_virtio_net },
    { "virtio-net", "PCI", "same as virtio-net-pci", device_virtio_net },
    { "virtio-net-device", "PCI", "same as virtio-net-pci", device_virtio_net },
    { "virtio-rng-pci", "PCI", "entropy from the host", device_virtio_rng },
    { "virtio-rng", "PCI", "same as virtio-rng-pci", device_virtio_rng },
    { "virtio-rng-device", "PCI", "same as virtio-rng-pci", device_virtio_rng },
    { "virtio-serial-pci", "PCI", "bus for virtconsole", device_virtio_serial },
    { "virtio-serial", "PCI", "same as virtio-serial-pci", device_virtio_serial },
    { "virtio-serial-device", "PCI", "same as virtio-serial-pci", device_virtio_serial },
    { "virtconsole", "virtio-serial", "console hvc0; chardev=", device_virtconsole },
};

char *config_device_help(void)
{
    GString *text = g_string_new("Devices:\n");
    for (size_t i = 0; i < G_N_ELEMENTS(devices); i++)
        g_string_append_printf(text, "name \"%s\", bus %s, desc \"%s\"\n", devices[i].name, devices[i].bus, devices[i].what);
    return g_string_free(text, FALSE);
}

static gboolean check_devices(Config *config, GError **error)
{
    for (guint i = 0; i < config->devices->len; i++) {
        ConfigItem *item = g_ptr_array_index(config->devices, i);
        bool found = false;
        for (size_t j = 0; j < G_N_ELEMENTS(devices) && !found; j++) {
            found = !strcmp(devices[j].name, item->driver);
            if (found && !devices[j].handler(config, item, error))
                return FALSE;
        }
        if (!found)
            return usage(error, "%s %s: this device is not in this version; -device help lists those that are", item->option,
                         item->driver);
    }
    return TRUE;
}

static gboolean check_drives(Config *config, GError **error)
{
    for (guint i = 0; i < config->drives->len; i++) {
        DriveConfig *drive = g_ptr_array_index(config->drives, i);
        if (config->all_snapshot && !drive->is_read_only)
            drive->is_snapshot = true;
        if (drive->is_virtio)
            virtio_add(config, VIRTIO_KIND_BLK)->drive = i;
        else if (!drive->is_used)
            return usage(error, "-drive id=%s,if=none: no -device uses it; add -device virtio-blk-pci,drive=%s", drive->id ? drive->id : "",
                         drive->id ? drive->id : "ID");
    }
    return TRUE;
}

static gboolean check_nics(Config *config, GError **error)
{
    for (guint i = 0; i < config->nics->len; i++)
        virtio_add(config, VIRTIO_KIND_NET)->nic = i;
    return config_check_net(config, error);
}

/* Where QMP is spoken. */
static gboolean check_controls(Config *config, GError **error)
{
    for (guint i = 0; i < config->control_chardevs->len; i++) {
        CharConfig *control = NULL;
        if (!chardev_resolve(config, "-mon", g_ptr_array_index(config->control_chardevs, i), &control, error))
            return FALSE;
        g_ptr_array_add(config->controls, control);
    }
    if (config->gdb_chardev && !config->gdb && !chardev_resolve(config, "-gdb", config->gdb_chardev, &config->gdb, error))
        return FALSE;
    for (guint i = 0; i < config->controls->len; i++) {
        CharKind kind = ((CharConfig *)g_ptr_array_index(config->controls, i))->kind;
        if (kind == CHAR_FILE)
            return usage(error, "-qmp, -mon mode=control: a file cannot carry it; use unix:PATH, tcp:HOST:PORT, pipe:PATH, pty or stdio");
    }
    return TRUE;
}

/* Where the human monitor is; the terminal's is kept apart because serial ports share it. */
static gboolean check_monitors(Config *config, GError **error)
{
    for (guint i = 0; i < config->monitor_chardevs->len; i++) {
        CharConfig *monitor = NULL;
        if (!chardev_resolve(config, "-monitor", g_ptr_array_index(config->monitor_chardevs, i), &monitor, error))
            return FALSE;
        g_ptr_array_add(config->monitors, monitor);
    }
    for (guint i = config->monitors->len; i-- > 0;) {
        CharKind kind = ((CharConfig *)g_ptr_array_index(config->monitors, i))->kind;
        if (kind == CHAR_FILE)
            return usage(error, "-monitor, -mon: a file cannot carry it; use unix:PATH, tcp:HOST:PORT, pipe:PATH, pty or stdio");
        if (kind == CHAR_STDIO && config->monitor)
            return usage(error, "-monitor stdio: given twice; there is one terminal");
        if (kind == CHAR_STDIO)
            config->monitor = g_ptr_array_steal_index(config->monitors, i);
        else if (kind == CHAR_NONE || kind == CHAR_NULL)
            g_ptr_array_remove_index(config->monitors, i);
    }
    return TRUE;
}

static bool is_stdio(const CharConfig *config) { return config && config->kind == CHAR_STDIO; }

/* A socket -chardev with mux=on that both a serial port and the human monitor name is one line for both. */
static gboolean check_shared(Config *config, GError **error)
{
    for (guint i = config->monitors->len; i-- > 0;) {
        const CharConfig *monitor = g_ptr_array_index(config->monitors, i);
        for (unsigned j = 0; j < config->nserials; j++) {
            if (!monitor->id || g_strcmp0(config->serial[j]->id, monitor->id) != 0)
                continue;
            if (!monitor->mux)
                return usage(error, "-chardev id=%s: used by a serial port and a monitor; mux=on lets them share it", monitor->id);
            config->serial_mon[j] = true;
            g_ptr_array_remove_index(config->monitors, i);
            break;
        }
    }
    return TRUE;
}

/* Connects serial ports and monitor as QEMU does, and lets only sharers that agreed share the terminal. */
static gboolean check_chars(Config *config, GError **error)
{
    for (unsigned i = 0; i < config->nserials; i++) {
        if (!chardev_resolve(config, "-serial", config->serial_chardev[i], &config->serial[i], error))
            return FALSE;
        if (!config->serial[i])
            config->serial[i] = char_config_new(CHAR_NONE);
    }
    if (!chardev_resolve(config, "-device isa-debugcon", config->debugcon_chardev, &config->debugcon, error))
        return FALSE;

    if (!check_shared(config, error))
        return FALSE;

    /* Without a display the terminal is the default place for the first serial port and the monitor. */
    bool terminal_free = !is_stdio(config->monitor) && !is_stdio(config->debugcon);
    for (guint i = 0; i < config->virtio->len; i++)
        terminal_free = terminal_free && !is_stdio(((VirtioConfig *)g_ptr_array_index(config->virtio, i))->chardev);
    for (unsigned i = 0; i < config->nserials; i++)
        terminal_free = terminal_free && !is_stdio(config->serial[i]);
    unsigned ncontrol_stdio = 0;
    for (guint i = 0; i < config->controls->len; i++)
        ncontrol_stdio += is_stdio(g_ptr_array_index(config->controls, i));
    terminal_free = terminal_free && !ncontrol_stdio;
    bool use_terminal = config->no_graphic || !config->no_display;
    if (!config->no_defaults && use_terminal && terminal_free) {
        if (!config->nserials) {
            config->serial[0] = char_config_new(CHAR_STDIO);
            config->serial_mon[0] = !config->has_monitor_option;
            config->nserials = 1;
        } else if (config->no_graphic && !config->has_monitor_option) {
            config->monitor = char_config_new(CHAR_STDIO);
        }
    }
    if (!config->no_defaults && !config->nserials) {
        config->serial[0] = char_config_new(CHAR_NULL);
        config->nserials = 1;
    }
    unsigned nvirtconsole = 0;
    for (guint i = 0; i < config->virtio->len; i++)
        nvirtconsole += is_stdio(((VirtioConfig *)g_ptr_array_index(config->virtio, i))->chardev);
    unsigned nterminal = ncontrol_stdio + nvirtconsole + is_stdio(config->debugcon) + is_stdio(config->monitor);
    unsigned nmonitor = (config->monitor != NULL) + config->monitors->len;
    for (unsigned i = 0; i < config->nserials; i++) {
        CharConfig *serial = config->serial[i];
        if (config->serial_mon[i]) {
            serial->mux = true;
            serial->signal = false; /* Ctrl-C belongs to the guest; Ctrl-A x ends */
        }
        nterminal += is_stdio(serial);
        nmonitor += config->serial_mon[i];
        if (serial->kind == CHAR_PTY)
            return usage(error, "-serial pty: not in this version; use unix:PATH,server=on,wait=off");
    }
    /* A -chardev stdio,mux=on that both the monitor and a serial port name is "mon:stdio" in long form. */
    if (is_stdio(config->monitor) && config->monitor->mux)
        for (unsigned i = 0; i < config->nserials; i++)
            if (is_stdio(config->serial[i]) && config->serial[i]->mux) {
                char_config_free(config->monitor);
                config->monitor = NULL;
                config->serial_mon[i] = true;
                nterminal--;
                break;
            }
    if (nterminal > 1)
        return usage(error, "stdio is used by more than one of -serial, -monitor, -qmp and -device isa-debugcon; share it with -serial mon:stdio "
                            "or give the others a back end of their own");
    for (unsigned i = 0; i < config->nserials; i++)
        if (config->monitor && config->serial_mon[i])
            return usage(error, "-monitor stdio together with -serial mon:…: only one of them; drop one, or give the monitor a socket");
    if (config->start_stopped && !nmonitor && !config->controls->len && !config->gdb)
        return usage(error, "-S: the guest could never be started, there is no monitor; add -monitor or -serial mon:stdio");
    return TRUE;
}

static gboolean check_incoming(const Config *config, GError **error)
{
    if (config->loadvm && config->incoming)
        return usage(error, "-loadvm and -incoming: a guest comes from one place; give only one of them");
    if (config->loadvm && !config->snapshot_dir)
        return usage(error, "-loadvm %s: there is no place for snapshots; add -snapshot-dir DIR", config->loadvm);
    return TRUE;
}

gboolean config_check(Config *config, GError **error)
{
    return check_incoming(config, error) && check_accel(config, error) && check_machine(config, error) && check_devices(config, error) &&
           check_drives(config, error) && check_nics(config, error) &&
           check_controls(config, error) && check_monitors(config, error) && check_chars(config, error);
}
