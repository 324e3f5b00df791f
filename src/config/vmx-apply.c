/* Which .vmx keys mean what here. */
#include <string.h>

#include "config/vmx.h"
#include "core/error.h"

typedef struct Apply {
    const VmxFile *file;
    Config *config;
    char *folder;
    bool is_seen[VMX_MAX_LINES + 1]; /* by line number: a handler took the key */
    bool has_disk_note;
} Apply;

static gboolean fail(const Apply *apply, const char *key, GError **error, const char *format, ...) G_GNUC_PRINTF(4, 5);
static gboolean fail(const Apply *apply, const char *key, GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "%s:%u: %s: %s", vmx_name(apply->file), vmx_line(apply->file, key), key, text);
    return FALSE;
}

static void notice(const Apply *apply, const char *key, const char *text)
{
    g_ptr_array_add(apply->config->notices,
                    g_strdup_printf("%s:%u: %s: %s", vmx_name(apply->file), vmx_line(apply->file, key), key, text));
}

static const char *take(Apply *apply, const char *key)
{
    unsigned line = vmx_line(apply->file, key);
    if (line)
        apply->is_seen[line] = true;
    return vmx_get(apply->file, key);
}

static const char *take_of(Apply *apply, const char *device, const char *property)
{
    g_autofree char *key = g_strdup_printf("%s.%s", device, property);
    return take(apply, key);
}

static gboolean take_bool(Apply *apply, const char *key, bool *out_value, GError **error)
{
    const char *text = take(apply, key);
    return !text || vmx_bool(text, out_value) ? TRUE : fail(apply, key, error, "\"%s\" must be TRUE or FALSE", text);
}

static gboolean take_uint(Apply *apply, const char *key, uint64_t max, uint64_t *out_value, GError **error)
{
    const char *text = take(apply, key);
    if (text && (!parse_uint(text, max, out_value) || !*out_value))
        return fail(apply, key, error, "\"%s\" must be a number from 1 to %" G_GUINT64_FORMAT, text, (guint64)max);
    return TRUE;
}

static char *path_of(const Apply *apply, const char *text)
{
    return g_path_is_absolute(text) ? g_strdup(text) : g_build_filename(apply->folder, text, NULL);
}

static void take_path(Apply *apply, const char *key, char **field)
{
    const char *text = take(apply, key);
    if (text && *text) {
        g_free(*field);
        *field = path_of(apply, text);
    }
}

static void take_text(Apply *apply, const char *key, char **field)
{
    const char *text = take(apply, key);
    if (text) {
        g_free(*field);
        *field = g_strdup(text);
    }
}

/* --- modes --- */

static gboolean apply_modes(Apply *apply, GError **error)
{
    Config *config = apply->config;
    const char *name = take(apply, "config.dialect"), *key, *value;
    Dialect dialect = DIALECT_CURRENT;
    if (name && !dialect_from_name(name, &dialect, error)) {
        g_prefix_error(error, "%s:%u: ", vmx_name(apply->file), vmx_line(apply->file, "config.dialect"));
        return FALSE;
    }
    config->modes.dialect = dialect;
    unsigned line = 0, last = 0;
    for (guint cursor = 0; vmx_next(apply->file, &cursor, &key, &value, &line);) {
        if (!dialect_is_mode_key(key))
            continue;
        take(apply, key);
        last = line;
        if (!dialect_set(&config->modes, key, value, error)) {
            g_prefix_error(error, "%s:%u: ", vmx_name(apply->file), line);
            return FALSE;
        }
    }
    if (!dialect_check(&config->modes, error)) {
        g_prefix_error(error, "%s:%u: ", vmx_name(apply->file), last);
        return FALSE;
    }
    take_text(apply, "config.host", &config->plan_host);
    take_text(apply, "guestOS", &config->guest_os);
    return take_bool(apply, "vmi.present", &config->is_vmi, error);
}

/* --- the machine --- */

static gboolean apply_machine(Apply *apply, GError **error)
{
    Config *config = apply->config;
    uint64_t mib = config->ram_bytes >> 20, ncpus = 1;
    if (!take_uint(apply, "memsize", CONFIG_MAX_RAM_BYTES >> 20, &mib, error) || !take_uint(apply, "numvcpus", 1024, &ncpus, error))
        return FALSE;
    config->ram_bytes = mib << 20;
    if (ncpus > CONFIG_MAX_CPUS)
        return fail(apply, "numvcpus", error, "%u: at most %d in this version", (unsigned)ncpus, CONFIG_MAX_CPUS);
    config->ncpus = config->ncores = (unsigned)ncpus;
    take_text(apply, "displayName", &config->name);
    take_path(apply, "segue.kernel", &config->kernel);
    take_path(apply, "segue.initrd", &config->initrd);
    take_text(apply, "segue.append", &config->append);
    take_path(apply, "segue.snapshotDir", &config->snapshot_dir);
    const char *firmware = take(apply, "firmware");
    if (firmware && g_ascii_strcasecmp(firmware, "bios") != 0)
        return fail(apply, "firmware", error, "\"%s\" is not in this version; use bios", firmware);
    return TRUE;
}

/* --- serial ports --- */

static gboolean serial_network(Apply *apply, const char *key, const char *uri, CharConfig *serial, GError **error)
{
    const char *address = strstr(uri, "://");
    address = address ? address + 3 : uri;
    const char *colon = strrchr(address, ':');
    uint64_t port;
    g_autofree char *digits = colon ? g_strndup(colon + 1, strcspn(colon + 1, "/?")) : NULL;
    if (!digits || !parse_uint(digits, 65535, &port) || g_str_has_prefix(uri, "telnets"))
        return fail(apply, key, error, "\"%s\" must be tcp://HOST:PORT", uri);
    serial->kind = CHAR_TCP;
    serial->host = colon == address ? NULL : g_strndup(address, (gsize)(colon - address));
    serial->port = g_steal_pointer(&digits);
    return TRUE;
}

static gboolean apply_serial(Apply *apply, unsigned index, GError **error)
{
    g_autofree char *device = g_strdup_printf("serial%u", index), *present_key = g_strdup_printf("%s.present", device);
    g_autofree char *name_key = g_strdup_printf("%s.fileName", device), *type_key = g_strdup_printf("%s.fileType", device);
    const char *name = take(apply, name_key), *type = take(apply, type_key);
    bool is_present = name != NULL;
    if (!take_bool(apply, present_key, &is_present, error))
        return FALSE;
    const char *pipe_end = take_of(apply, device, "pipe.endPoint"), *network_end = take_of(apply, device, "network.endPoint");
    if (!is_present)
        return TRUE;
    Config *config = apply->config;
    if (!type)
        type = "device";
    if (!name || !*name)
        return fail(apply, present_key, error, "%s is missing", name_key);
    g_autoptr(CharConfig) serial = char_config_new(CHAR_FILE);
    if (!g_ascii_strcasecmp(type, "file")) {
        serial->path = path_of(apply, name);
    } else if (!g_ascii_strcasecmp(type, "pipe")) {
        serial->kind = CHAR_UNIX; /* on Linux a "named pipe" is a socket */
        serial->path = path_of(apply, name);
        serial->server = !pipe_end || g_ascii_strcasecmp(pipe_end, "client") != 0;
    } else if (!g_ascii_strcasecmp(type, "network")) {
        if (!serial_network(apply, name_key, name, serial, error))
            return FALSE;
        serial->server = !network_end || g_ascii_strcasecmp(network_end, "client") != 0;
    } else {
        return fail(apply, vmx_get(apply->file, type_key) ? type_key : present_key, error,
                    "a serial port of type \"%s\" is not in this version; use file, pipe or network", type);
    }
    config->serial[index] = g_steal_pointer(&serial);
    config->nserials = index + 1;
    return TRUE;
}

/* --- disks --- */

static gboolean apply_disk(Apply *apply, const char *device, GError **error)
{
    g_autofree char *present_key = g_strdup_printf("%s.present", device), *name_key = g_strdup_printf("%s.fileName", device);
    const char *name = take(apply, name_key), *type = take_of(apply, device, "deviceType"), *mode = take_of(apply, device, "mode");
    bool is_present = name != NULL;
    if (!take_bool(apply, present_key, &is_present, error))
        return FALSE;
    static const char *const harmless[] = { "redo", "startConnected", "autodetect", "writeThrough", "clientDevice", "virtualSSD" };
    for (size_t i = 0; i < G_N_ELEMENTS(harmless); i++)
        take_of(apply, device, harmless[i]);
    if (!is_present)
        return TRUE;
    bool is_cdrom = type && strstr(type, "cdrom");
    if (is_cdrom && g_ascii_strcasecmp(type, "cdrom-image") != 0) {
        notice(apply, present_key, "the host's CD drive is not in this version: left out");
        return TRUE;
    }
    if (!name || !*name)
        return fail(apply, present_key, error, "%s is missing", name_key);
    DriveConfig *drive = g_new0(DriveConfig, 1);
    drive->id = g_strdup(device);
    drive->path = path_of(apply, name);
    drive->format = g_strdup(is_cdrom ? NULL : drive_format_of(name));
    if (!apply->has_disk_note)
        notice(apply, name_key, "disks and CD images are virtio disks here, whatever their controller");
    apply->has_disk_note = true;
    drive->is_virtio = true; /* whatever the controller's name: virtio is the disk that the board has */
    drive->is_read_only = is_cdrom;
    drive->is_snapshot = mode && strstr(mode, "nonpersistent");
    g_ptr_array_add(apply->config->drives, drive);
    return TRUE;
}

static gboolean apply_disks(Apply *apply, GError **error)
{
    static const struct {
        const char *bus;
        unsigned controllers, units;
    } buses[] = { { "ide", 2, 2 }, { "scsi", 4, 16 }, { "sata", 4, 30 }, { "nvme", 4, 15 } };
    for (size_t i = 0; i < G_N_ELEMENTS(buses); i++)
        for (unsigned controller = 0; controller < buses[i].controllers; controller++)
            for (unsigned unit = 0; unit < buses[i].units; unit++) {
                g_autofree char *device = g_strdup_printf("%s%u:%u", buses[i].bus, controller, unit);
                if (!apply_disk(apply, device, error))
                    return FALSE;
            }
    return TRUE;
}

/* --- network cards --- */

static gboolean apply_card(Apply *apply, const char *device, GError **error)
{
    g_autofree char *present_key = g_strdup_printf("%s.present", device), *address_key = g_strdup_printf("%s.address", device);
    bool is_present = false;
    const char *connection = take_of(apply, device, "connectionType"), *chip = take_of(apply, device, "virtualDev");
    const char *address = take(apply, address_key), *generated = take_of(apply, device, "generatedAddress");
    take_of(apply, device, "addressType");
    if (!address)
        address = generated;
    if (!take_bool(apply, present_key, &is_present, error))
        return FALSE;
    if (!is_present)
        return TRUE;
    NicConfig nic = { .netdev = (int)apply->config->netdevs->len };
    if (address && !net_mac_parse(address, nic.mac, NULL))
        return fail(apply, vmx_line(apply->file, address_key) ? address_key : present_key, error, "\"%s\" must be six hexadecimal bytes, the first one even", address);
    nic.has_mac = address != NULL;
    if (!connection || g_ascii_strcasecmp(connection, "nat") != 0)
        notice(apply, present_key, "the card is on a private network (connectionType = \"nat\"), the only kind in this version");
    if (chip)
        g_ptr_array_add(apply->config->ignored, g_strdup_printf("%s.virtualDev = %s: the card is virtio-net", device, chip));
    g_ptr_array_add(apply->config->netdevs, netdev_config_new());
    g_ptr_array_add(apply->config->nics, g_memdup2(&nic, sizeof nic));
    return TRUE;
}

static gboolean apply_cards(Apply *apply, GError **error)
{
    for (unsigned i = 0; i < 4; i++) {
        g_autofree char *device = g_strdup_printf("ethernet%u", i);
        if (!apply_card(apply, device, error))
            return FALSE;
    }
    return TRUE;
}

/* Hardware that can be asked for in a file, and is not in this version. */
static gboolean apply_missing(Apply *apply, GError **error)
{
    static const char *const devices[] = { "floppy0", "floppy1", "parallel0" };
    for (size_t i = 0; i < G_N_ELEMENTS(devices); i++) {
        g_autofree char *present_key = g_strdup_printf("%s.present", devices[i]);
        bool is_present = false;
        if (!take_bool(apply, present_key, &is_present, error))
            return FALSE;
        if (is_present)
            notice(apply, present_key, "this device is not in this version: left out");
    }
    return TRUE;
}

/* Keys of files in the wild that change nothing here. */
static bool is_harmless(const char *key)
{
    static const char *const prefixes[] = {
        ".encoding", "annotation", "bios.", "chipset.", "checkpoint.", "cleanshutdown", "config.version", "cpuid.", "debugstub.", "disk.",
        "ehci", "ethernet", "evcompatible", "extendedconfigfile", "floppy", "gui.", "guestinfo.", "guestosaltname", "hgfs", "hpet", "ide",
        "isolation.", "keyboard", "log", "mem.", "memallowautoscaledown", "migrate", "mks.", "mouse", "msg.", "nvme", "nvram", "parallel",
        "pcibridge", "policy", "powertype.", "prefvmx", "priority", "replay", "rtc", "sata", "sched.", "scsi", "serial", "sharedfolder",
        "snapshot", "softpoweroff", "sound", "svga", "time.", "tools", "unity", "usb", "uuid", "vc.", "vcpu.", "virtualhw",
        "vmci", "vmotion", "vmx.", "vmxstats", "workingdir", "numa", "cpuid", "sata", "roamingvm", "inventory", "mainmem", "featmask",
        "acpi.", "vhv.", "toolscripts", "vm.", "vmi.", "monitorsuspend", "undopoint", "fileSearchPath",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(prefixes); i++)
        if (!g_ascii_strncasecmp(key, prefixes[i], strlen(prefixes[i])))
            return true;
    return false;
}

static gboolean apply_rest(Apply *apply, GError **error)
{
    const char *key, *value;
    unsigned line;
    for (guint cursor = 0; vmx_next(apply->file, &cursor, &key, &value, &line);) {
        if (apply->is_seen[line])
            continue;
        if (!g_ascii_strncasecmp(key, "segue.", 6))
            return fail(apply, key, error, "unknown key; known: segue.kernel, segue.initrd, segue.append, segue.snapshotDir");
        if (is_harmless(key))
            g_ptr_array_add(apply->config->ignored, g_strdup_printf("%s:%u: %s", vmx_name(apply->file), line, key));
        else
            notice(apply, key, "unknown key, ignored");
    }
    return TRUE;
}

gboolean vmx_apply(const VmxFile *file, Config *config, GError **error)
{
    g_autofree Apply *apply = g_new0(Apply, 1);
    apply->file = file;
    apply->config = config;
    apply->folder = g_path_get_dirname(vmx_name(file));
    gboolean is_ok = apply_modes(apply, error) && apply_machine(apply, error);
    for (unsigned i = 0; i < CONFIG_MAX_SERIAL && is_ok; i++)
        is_ok = apply_serial(apply, i, error);
    is_ok = is_ok && apply_disks(apply, error) && apply_cards(apply, error) && apply_missing(apply, error) && apply_rest(apply, error);
    g_free(apply->folder);
    return is_ok;
}
