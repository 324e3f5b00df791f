#include "monitor/hmp-migration.h"

#include <string.h>

#include "vm/snapshot-store.h"

/* @error: where the call that gave @is_ok left its reason. */
static void report(GString *out, gboolean is_ok, GError *const *error)
{
    if (!is_ok)
        g_string_append_printf(out, "Error: %s\n", (*error)->message);
}

static bool is_missing(GString *out, const char *args, const char *what)
{
    if (!*args)
        g_string_append_printf(out, "Error: %s is missing\n", what);
    return !*args;
}

void hmp_savevm(Vm *vm, const char *args, GString *out)
{
    g_autoptr(GError) error = NULL;
    if (!is_missing(out, args, "the snapshot's name"))
        report(out, migration_save_snapshot(vm_migration(vm), args, &error), &error);
}

void hmp_loadvm(Vm *vm, const char *args, GString *out)
{
    g_autoptr(GError) error = NULL;
    if (!is_missing(out, args, "the snapshot's name"))
        report(out, migration_load_snapshot(vm_migration(vm), args, true, &error), &error);
}

void hmp_delvm(Vm *vm, const char *args, GString *out)
{
    g_autoptr(GError) error = NULL;
    if (!is_missing(out, args, "the snapshot's name"))
        report(out, snapshot_store_delete(vm_snapshot_dir(vm), args, &error), &error);
}

void hmp_migrate(Vm *vm, const char *args, GString *out)
{
    g_autoptr(GError) error = NULL;
    while (g_str_has_prefix(args, "-d ")) /* "detach": it always is */
        args += 3 + strspn(args + 3, " ");
    if (is_missing(out, args, "the URI"))
        return;
    if (!strcmp(vm_state_name(vm), "inmigrate"))
        g_string_append(out, "Error: Guest is waiting for an incoming migration\n");
    else
        report(out, migration_start(vm_migration(vm), args, &error), &error);
}

void hmp_migrate_cancel(Vm *vm, const char *args, GString *out) { migration_cancel(vm_migration(vm)); }

void hmp_migrate_set_parameter(Vm *vm, const char *args, GString *out)
{
    MigrationParameters parameters = migration_parameters(vm_migration(vm));
    g_autoptr(GError) error = NULL;
    size_t length = strcspn(args, " ");
    const char *text = args + length + strspn(args + length, " ");
    char *end;
    guint64 number = g_ascii_strtoull(text, &end, 10);
    bool is_number = end != text && *text != '-';
    if (is_number && length == strlen("max-bandwidth") && !strncmp(args, "max-bandwidth", length) && number < (uint64_t)1 << 40) {
        /* As QEMU's: MiB without a suffix. */
        unsigned shift = !*end || !g_ascii_strcasecmp(end, "M") ? 20 : !g_ascii_strcasecmp(end, "K") ? 10 : !g_ascii_strcasecmp(end, "G") ? 30 : 0;
        is_number = shift || !g_ascii_strcasecmp(end, "B");
        parameters.max_bandwidth = number << shift;
    } else if (is_number && !*end && length == strlen("downtime-limit") && !strncmp(args, "downtime-limit", length) && number < INT64_MAX) {
        parameters.downtime_limit_ms = (int64_t)number;
    } else {
        is_number = false;
    }
    if (is_number)
        report(out, migration_set_parameters(vm_migration(vm), &parameters, &error), &error);
    else
        g_string_append(out, "Error: write max-bandwidth N[B|K|M|G] (a second; 0: as fast as it goes) or downtime-limit N (milliseconds)\n");
}

void hmp_info_migrate_parameters(Vm *vm, GString *out)
{
    MigrationParameters parameters = migration_parameters(vm_migration(vm));
    g_string_append_printf(out, "max-bandwidth: %" G_GUINT64_FORMAT " bytes/second\ndowntime-limit: %" G_GINT64_FORMAT " ms\n",
                           parameters.max_bandwidth, parameters.downtime_limit_ms);
}

void hmp_migrate_incoming(Vm *vm, const char *args, GString *out)
{
    g_autoptr(GError) error = NULL;
    if (is_missing(out, args, "the URI"))
        return;
    if (strcmp(vm_state_name(vm), "inmigrate") != 0)
        g_string_append(out, "Error: '-incoming' was not specified on the command line\n");
    else
        report(out, migration_receive(vm_migration(vm), args, &error), &error);
}

void hmp_info_snapshots(Vm *vm, GString *out)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) list = snapshot_store_list(vm_snapshot_dir(vm), &error);
    if (!list) {
        report(out, FALSE, &error);
        return;
    }
    if (!list->len) {
        g_string_append(out, "There is no snapshot available.\n");
        return;
    }
    g_string_append_printf(out, "%-8s%-24s%10s %19s %15s  %s\n", "ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "MODE");
    for (guint i = 0; i < list->len; i++) {
        const SnapshotInfo *info = g_ptr_array_index(list, i);
        g_autoptr(GDateTime) date = g_date_time_new_from_unix_local(info->date_s);
        g_autofree char *day = date ? g_date_time_format(date, "%Y-%m-%d %H:%M:%S") : g_strdup("");
        int64_t seconds = info->guest_ns / 1000000000;
        g_autofree char *clock = g_strdup_printf("%02d:%02d:%02d.%03d", (int)(seconds / 3600), (int)(seconds / 60 % 60), (int)(seconds % 60),
                                                 (int)(info->guest_ns / 1000000 % 1000));
        g_string_append_printf(out, "%-8s%-24s%6.4g MiB %19s %15s  %s\n", "--", info->tag, (double)info->size_bytes / 1048576, day,
                               info->wrong ? "" : clock, info->wrong ? info->wrong : info->mode);
    }
}

void hmp_info_migrate(Vm *vm, GString *out)
{
    const Migration *migration = vm_migration(vm);
    if (!migration_status_name(migration))
        return;
    MigrationNumbers numbers;
    migration_numbers(migration, &numbers);
    g_string_append_printf(out, "Migration status: %s%s%s\n", migration_status_name(migration), migration_failure(migration) ? ": " : "",
                           migration_failure(migration) ? migration_failure(migration) : "");
    g_string_append_printf(out, "total time: %" G_GINT64_FORMAT " ms\ndowntime: %" G_GINT64_FORMAT " ms\ntransferred ram: %" G_GUINT64_FORMAT
                           " kbytes\nduplicate: %" G_GUINT64_FORMAT " pages\nnormal: %" G_GUINT64_FORMAT " pages\n"
                           "dirty sync count: %" G_GUINT64_FORMAT "\ndirty pages rate: %" G_GUINT64_FORMAT " pages/s\n",
                           numbers.total_ms, numbers.downtime_ms, numbers.progress.transferred / 1024, numbers.progress.zero_pages,
                           numbers.progress.full_pages, numbers.rounds, numbers.dirty_pages_per_s);
}
