/* -drive: a disk image and how it is used. */
#include <string.h>

#include "config/config.h"
#include "core/error.h"

static gboolean usage(GError **error, const char *path, const char *text)
{
    g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "-drive file=%s: %s", path ? path : "", text);
    return FALSE;
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
        usage(error, drive->path, "the path is missing");
        return NULL;
    }
    if (!bus || (strcmp(bus, "virtio") != 0 && strcmp(bus, "none") != 0)) {
        usage(error, drive->path, "only if=virtio and if=none are in this version");
        return NULL;
    }
    drive->is_virtio = !strcmp(bus, "virtio");
    if (format && strcmp(format, "raw") != 0) {
        usage(error, drive->path, "only format=raw is in this version; convert with qemu-img convert -O raw");
        return NULL;
    }
    if (media && !strcmp(media, "cdrom"))
        drive->is_read_only = true;
    return g_steal_pointer(&drive);
}
