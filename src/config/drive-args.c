/* -drive: a disk image and how it is used. */
#include <string.h>

#include "config/config.h"
#include "core/error.h"

static gboolean refuse(GError **error, const char *path, const char *text)
{
    g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "-drive file=%s: %s", path ? path : "", text);
    return FALSE;
}

static const struct {
    const char *name, *suffix;
} formats[] = { { "qcow2", ".qcow2" }, { "vmdk", ".vmdk" }, { "vdi", ".vdi" }, { "vpc", ".vhd" }, { "vpc", ".vpc" }, { "vhdx", ".vhdx" },
                { "qed", ".qed" },     { "qcow", ".qcow" } };

const char *drive_format_of(const char *path)
{
    g_autofree char *lower = g_ascii_strdown(path, -1);
    for (size_t i = 0; i < G_N_ELEMENTS(formats); i++)
        if (g_str_has_suffix(lower, formats[i].suffix))
            return formats[i].name;
    return NULL;
}

DriveConfig *drive_config_parse(const char *text, GError **error)
{
    g_autoptr(Opts) opts = opts_parse("-drive", text, NULL, error);
    g_autoptr(DriveConfig) drive = g_new0(DriveConfig, 1);
    if (!opts)
        return NULL;
    drive->path = g_strdup(opts_take(opts, "file"));
    drive->id = g_strdup(opts_take(opts, "id"));
    drive->serial = g_strdup(opts_take(opts, "serial"));
    const char *bus = opts_take(opts, "if"), *format = opts_take(opts, "format"), *media = opts_take(opts, "media");
    static const char *const harmless[] = { "index", "cache", "discard", "detect-zeroes", "aio", "werror", "rerror", "unit", "bus",
                                            "copy-on-read", "cache.direct", "cache.no-flush", "file.locking" };
    for (size_t i = 0; i < G_N_ELEMENTS(harmless); i++)
        opts_take(opts, harmless[i]);
    if (!opts_take_bool(opts, "snapshot", &drive->is_snapshot, error) || !opts_take_bool(opts, "readonly", &drive->is_read_only, error) ||
        !opts_take_bool(opts, "read-only", &drive->is_read_only, error) ||
        !opts_done(opts, "file if format id serial snapshot readonly media index cache discard", error))
        return NULL;
    if (!drive->path || !drive->path[0]) {
        refuse(error, drive->path, "the path is missing");
        return NULL;
    }
    if (!bus || (strcmp(bus, "virtio") != 0 && strcmp(bus, "none") != 0)) {
        refuse(error, drive->path, "only if=virtio and if=none are in this version");
        return NULL;
    }
    drive->is_virtio = !strcmp(bus, "virtio");
    bool is_known = !format || !strcmp(format, "raw");
    for (size_t i = 0; i < G_N_ELEMENTS(formats) && !is_known; i++)
        is_known = !strcmp(format, formats[i].name);
    if (!is_known) {
        g_autofree char *message = g_strdup_printf("format=%s is not in this version; known: raw qcow2 vmdk vdi vpc vhdx qed qcow", format);
        refuse(error, drive->path, message);
        return NULL;
    }
    drive->format = g_strdup(!format ? drive_format_of(drive->path) : strcmp(format, "raw") != 0 ? format : NULL);
    if (media && !strcmp(media, "cdrom"))
        drive->is_read_only = true;
    return g_steal_pointer(&drive);
}
