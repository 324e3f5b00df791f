#include "vm/migration.h"

#include <string.h>

#include "core/error.h"
#include "vm/migration-channel.h"
#include "vm/snapshot-store.h"

struct Migration {
    MigrationWires wires;
    MigrationStatus status;
    bool is_incoming;
    char *failure;
    int64_t begin_us, active_us, end_us;

    /* The thread's while there is one. */
    GThread *thread;
    SnapshotMachine machine;
    MigrationChannel *channel;
    GCancellable *cancellable;
    SnapshotProgress progress; /* atomic */
    GError *error;             /* set before @finished is posted */
    guint finished;            /* source */
};

static const char *const names[] = {
    [MIGRATION_NONE] = NULL,         [MIGRATION_SETUP] = "setup",           [MIGRATION_ACTIVE] = "active",
    [MIGRATION_COMPLETED] = "completed", [MIGRATION_FAILED] = "failed", [MIGRATION_CANCELLING] = "cancelling",
    [MIGRATION_CANCELLED] = "cancelled",
};

static void status_set(Migration *migration, MigrationStatus status)
{
    migration->status = status;
    if (names[status])
        migration->wires.event(migration->wires.opaque, names[status]);
}

/* Main thread, the other one has ended or is about to. */
static void thread_join(Migration *migration)
{
    if (migration->thread)
        g_thread_join(migration->thread);
    migration->thread = NULL;
    g_clear_pointer(&migration->channel, migration_channel_free);
    g_clear_object(&migration->cancellable);
}

static void finished_out(Migration *migration, const GError *error)
{
    bool was_cancelled = migration->status == MIGRATION_CANCELLING;
    if (!error) { /* it has arrived, even if somebody has just asked to cancel */
        status_set(migration, MIGRATION_COMPLETED);
        migration->wires.left(migration->wires.opaque);
        return;
    }
    if (!was_cancelled)
        migration->failure = g_strdup(error->message);
    status_set(migration, was_cancelled ? MIGRATION_CANCELLED : MIGRATION_FAILED);
    migration->wires.release(migration->wires.opaque);
}

static void finished_in(Migration *migration, const GError *error)
{
    if (!error) {
        status_set(migration, MIGRATION_COMPLETED);
        migration->wires.arrived(migration->wires.opaque);
        return;
    }
    migration->failure = g_strdup(error->message);
    status_set(migration, MIGRATION_FAILED);
    migration->wires.lost(migration->wires.opaque, error->message);
}

static gboolean finished(gpointer data)
{
    Migration *migration = data;
    thread_join(migration); /* first: it may not have noted yet that this is on its way */
    migration->finished = 0;
    migration->end_us = g_get_monotonic_time();
    g_autoptr(GError) error = g_steal_pointer(&migration->error);
    if (migration->is_incoming)
        finished_in(migration, error);
    else
        finished_out(migration, error);
    return G_SOURCE_REMOVE;
}

static gpointer send_thread(gpointer data)
{
    Migration *migration = data;
    if (snapshot_save(&migration->machine, migration_channel_writer(migration->channel), migration->cancellable, &migration->progress,
                      &migration->error))
        migration_channel_finish(migration->channel, migration->cancellable, &migration->error);
    migration->finished = g_idle_add(finished, migration);
    return NULL;
}

static gboolean now_active(gpointer data)
{
    Migration *migration = data;
    if (migration->status == MIGRATION_SETUP)
        status_set(migration, MIGRATION_ACTIVE);
    return G_SOURCE_REMOVE;
}

static gpointer receive_thread(gpointer data)
{
    Migration *migration = data;
    GInputStream *in = migration_channel_reader(migration->channel, migration->cancellable, &migration->error);
    if (in) {
        g_main_context_invoke_full(NULL, G_PRIORITY_DEFAULT, now_active, migration, NULL);
        snapshot_load(&migration->machine, in, migration->cancellable, &migration->progress, &migration->error);
    }
    migration->finished = g_idle_add(finished, migration);
    return NULL;
}

Migration *migration_new(const MigrationWires *wires)
{
    Migration *migration = g_new0(Migration, 1);
    migration->wires = *wires;
    return migration;
}

void migration_free(Migration *migration)
{
    if (!migration)
        return;
    if (migration->cancellable)
        g_cancellable_cancel(migration->cancellable);
    thread_join(migration);
    if (migration->finished)
        g_source_remove(migration->finished);
    g_clear_error(&migration->error);
    g_free(migration->failure);
    g_free(migration);
}

bool migration_is_active(const Migration *migration)
{
    return migration->status == MIGRATION_SETUP || migration->status == MIGRATION_ACTIVE || migration->status == MIGRATION_CANCELLING;
}

/* What both directions begin with; the channel has been opened. */
static void begin(Migration *migration, MigrationChannel *channel, bool is_incoming)
{
    migration->channel = channel;
    migration->cancellable = g_cancellable_new();
    migration->progress = (SnapshotProgress){ 0 };
    migration->is_incoming = is_incoming;
    migration->begin_us = g_get_monotonic_time();
    migration->end_us = 0;
    g_clear_pointer(&migration->failure, g_free);
    status_set(migration, MIGRATION_SETUP);
    migration->wires.hold(migration->wires.opaque);
    migration->wires.machine(migration->wires.opaque, &migration->machine);
    migration->active_us = g_get_monotonic_time();
}

static gboolean is_free(const Migration *migration, GError **error)
{
    if (migration_is_active(migration))
        g_set_error_literal(error, VMM_ERROR, VMM_ERROR_USAGE, "There's a migration process in progress");
    return !migration_is_active(migration);
}

/* The sandbox lets nothing start a program unless it was told to, and a call that it does not know ends the process. */
static gboolean may_start(Migration *migration, const char *uri, GError **error)
{
    SnapshotMachine machine;
    migration->wires.machine(migration->wires.opaque, &machine);
    const SandboxConfig *sandbox = &machine.config->sandbox;
    bool may_spawn = sandbox->is_off || sandbox->spawn || (machine.config->incoming && g_str_has_prefix(machine.config->incoming, "exec:"));
    if (!may_spawn && g_str_has_prefix(uri, "exec:"))
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "migration: %s: the sandbox keeps Segue from starting programs; start it with "
                    "-sandbox on,spawn=allow", uri);
    return may_spawn || !g_str_has_prefix(uri, "exec:");
}

gboolean migration_start(Migration *migration, const char *uri, GError **error)
{
    MigrationChannel *channel = is_free(migration, error) && may_start(migration, uri, error) ? migration_channel_out(uri, error) : NULL;
    if (!channel)
        return FALSE;
    begin(migration, channel, false);
    status_set(migration, MIGRATION_ACTIVE);
    migration->thread = g_thread_new("migration", send_thread, migration);
    return TRUE;
}

gboolean migration_receive(Migration *migration, const char *uri, GError **error)
{
    MigrationChannel *channel = is_free(migration, error) && may_start(migration, uri, error) ? migration_channel_in(uri, error) : NULL;
    if (!channel)
        return FALSE;
    begin(migration, channel, true);
    migration->thread = g_thread_new("migration", receive_thread, migration);
    return TRUE;
}

void migration_cancel(Migration *migration)
{
    if (migration->is_incoming || (migration->status != MIGRATION_SETUP && migration->status != MIGRATION_ACTIVE))
        return;
    status_set(migration, MIGRATION_CANCELLING);
    g_cancellable_cancel(migration->cancellable);
}

/* --- snapshots --- */

/* A snapshot does not hold what is in a disk image: a guest that goes back must find its disks as they were. */
static gboolean disks_stay(const Config *config, GError **error)
{
    for (guint i = 0; i < config->virtio->len; i++) {
        const VirtioConfig *virtio = g_ptr_array_index(config->virtio, i);
        if (virtio->kind != VIRTIO_KIND_BLK)
            continue;
        const DriveConfig *drive = g_ptr_array_index(config->drives, virtio->drive);
        if (!drive->is_read_only) {
            g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "Device 'virtio%u' is writable but does not support snapshots; give the drive readonly=on",
                        virtio->drive);
            return FALSE;
        }
    }
    return TRUE;
}

gboolean migration_save_snapshot(Migration *migration, const char *tag, GError **error)
{
    SnapshotMachine machine;
    migration->wires.machine(migration->wires.opaque, &machine);
    if (!is_free(migration, error) || !disks_stay(machine.config, error))
        return FALSE;
    migration->wires.hold(migration->wires.opaque);
    gboolean is_ok = snapshot_store_save(machine.config->snapshot_dir, tag, &machine, error);
    migration->wires.release(migration->wires.opaque);
    return is_ok;
}

gboolean migration_load_snapshot(Migration *migration, const char *tag, GError **error)
{
    SnapshotMachine machine;
    bool is_lost;
    g_autoptr(GError) cause = NULL;
    migration->wires.machine(migration->wires.opaque, &machine);
    if (!is_free(migration, error) || !disks_stay(machine.config, error))
        return FALSE;
    migration->wires.hold(migration->wires.opaque);
    gboolean is_ok = snapshot_store_load(machine.config->snapshot_dir, tag, &machine, &is_lost, &cause);
    if (is_lost)
        migration->wires.lost(migration->wires.opaque, cause->message);
    migration->wires.release(migration->wires.opaque);
    if (!is_ok)
        g_propagate_error(error, g_steal_pointer(&cause));
    return is_ok;
}

MigrationStatus migration_status(const Migration *migration) { return migration->status; }
const char *migration_status_name(const Migration *migration) { return names[migration->status]; }
const char *migration_failure(const Migration *migration) { return migration->failure; }
bool migration_is_incoming(const Migration *migration) { return migration->is_incoming; }

void migration_numbers(const Migration *migration, MigrationNumbers *out_numbers)
{
    const SnapshotProgress *from = &migration->progress;
    int64_t end = migration->end_us ? migration->end_us : g_get_monotonic_time();
    *out_numbers = (MigrationNumbers){
        .progress = { .ram_total = __atomic_load_n(&from->ram_total, __ATOMIC_RELAXED),
                      .ram_done = __atomic_load_n(&from->ram_done, __ATOMIC_RELAXED),
                      .transferred = __atomic_load_n(&from->transferred, __ATOMIC_RELAXED),
                      .zero_pages = __atomic_load_n(&from->zero_pages, __ATOMIC_RELAXED),
                      .full_pages = __atomic_load_n(&from->full_pages, __ATOMIC_RELAXED) },
        .total_ms = (end - migration->begin_us) / 1000,
        .setup_ms = (migration->active_us - migration->begin_us) / 1000,
        .downtime_ms = (end - migration->active_us) / 1000,
    };
}
