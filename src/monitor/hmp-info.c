#include "monitor/hmp-info.h"

#include "core/ram.h"

void hmp_info_name(Vm *vm, GString *out)
{
    if (vm_config(vm)->name)
        g_string_append_printf(out, "%s\n", vm_config(vm)->name);
}

void hmp_info_block(Vm *vm, GString *out)
{
    const Config *config = vm_config(vm);
    for (guint i = 0; i < config->drives->len; i++) {
        const DriveConfig *drive = g_ptr_array_index(config->drives, i);
        g_string_append_printf(out, "%s%u: %s (%s%s%s)\n", drive->id ? drive->id : "virtio", i, drive->path,
                               drive->format ? drive->format : "raw",
                               drive->is_read_only ? ", read-only" : "", drive->is_snapshot ? ", snapshot" : "");
    }
}

static void chardev_append(GString *out, const char *label, const CharConfig *chardev)
{
    static const char *const kinds[] = { [CHAR_NONE] = "none", [CHAR_NULL] = "null", [CHAR_STDIO] = "stdio", [CHAR_FILE] = "file",
                                         [CHAR_PIPE] = "pipe", [CHAR_UNIX] = "unix",  [CHAR_TCP] = "tcp",     [CHAR_PTY] = "pty" };
    g_string_append_printf(out, "%s: filename=%s%s", chardev->id ? chardev->id : label, kinds[chardev->kind], chardev->path ? ":" : "");
    if (chardev->path)
        g_string_append(out, chardev->path);
    if (chardev->port)
        g_string_append_printf(out, ":%s:%s", chardev->host ? chardev->host : "", chardev->port);
    g_string_append_printf(out, "%s\n", chardev->server ? ",server=on" : "");
}

void hmp_info_chardev(Vm *vm, GString *out)
{
    const Config *config = vm_config(vm);
    for (unsigned i = 0; i < config->nserials; i++) {
        g_autofree char *label = g_strdup_printf("serial%u", i);
        chardev_append(out, label, config->serial[i]);
    }
    if (config->monitor)
        chardev_append(out, "monitor", config->monitor);
    for (guint i = 0; i < config->monitors->len; i++)
        chardev_append(out, "monitor", g_ptr_array_index(config->monitors, i));
    for (guint i = 0; i < config->controls->len; i++)
        chardev_append(out, "qmp", g_ptr_array_index(config->controls, i));
    if (config->debugcon)
        chardev_append(out, "debugcon", config->debugcon);
}

static void counter_append(void *opaque, const char *name, uint64_t value)
{
    g_string_append_printf(opaque, "%-24s %" G_GUINT64_FORMAT "\n", name, value);
}

void hmp_info_stats(Vm *vm, GString *out) { vm_counters(vm, counter_append, out); }

void hmp_info_profile(Vm *vm, GString *out)
{
    g_autofree char *text = vm_profile(vm);
    g_string_append(out, text ? text : "no profile is made: start with -d prof, in mode bt\n");
}

void hmp_info_mtree(Vm *vm, GString *out)
{
    const Ram *ram = vm_ram(vm);
    for (unsigned i = 0; i < ram->nslots; i++)
        g_string_append_printf(out, "  %016" G_GINT64_MODIFIER "x-%016" G_GINT64_MODIFIER "x (%s)\n", ram->slot[i].start,
                               ram->slot[i].start + ram->slot[i].size - 1, ram->slot[i].is_rom ? "rom" : "ram");
}

void hmp_info_devices(Vm *vm, GString *out)
{
    const Config *config = vm_config(vm);
    g_string_append_printf(out, "machine: %s, %u CPU%s, %" G_GUINT64_FORMAT " MiB\n", config->machine_name ? config->machine_name : "pc",
                           config->ncpus, config->ncpus == 1 ? "" : "s", config->ram_bytes >> 20);
    for (guint i = 0; i < config->devices->len; i++) {
        const ConfigItem *item = g_ptr_array_index(config->devices, i);
        g_string_append_printf(out, "  dev: %s, id \"%s\"\n", item->driver, item->id ? item->id : "");
    }
}
