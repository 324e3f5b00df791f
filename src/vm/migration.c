#include "vm/migration.h"

#include <string.h>

#include "core/error.h"
#include "vm/migration-channel.h"
#include "vm/snapshot-store.h"

#define DOWNTIME_MS 300
#define DOWNTIME_MAX_MS (2000 * 1000)

struct Migration {
    MigrationWires wires;
    MigrationParameters parameters; /* atomic */
    MigrationStatus status;
    bool is_incoming;
    bool is_logging; /* what the guest writes is noted */
    bool is_held;
    char *failure;
    int64_t begin_us, active_us, held_us, end_us;

    /* The thread's while there is one. */
    GThread *thread;
    SnapshotMachine machine;
    MigrationChannel *channel;
    GCancellable *cancellable;
    SnapshotProgress progress; /* atomic */
    GError *error;             /* set before @finished is posted */
    guint finished;            /* source */
    uint64_t paced_bytes;      /* sent before paced_us, for the bandwidth */
    int64_t paced_us;
    int64_t round_us;          /* the round's beginning, */
    uint64_t round_sent;       /* and full_pages then */

    /* A round's end: the thread waits until the main thread has taken the pages. */
    GMutex round_lock;
    GCond round_done;
    bool is_round_asked, is_closing;
    PageSet *pages;
    bool is_last;
    GError *round_error;
    uint64_t rounds, dirty_pages_per_s, pages_per_s, pages_left; /* atomic */
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

static void held_set(Migration *migration, bool is_held)
{
    if (migration->is_held == is_held)
        return;
    migration->is_held = is_held;
    if (is_held) {
        migration->held_us = g_get_monotonic_time();
        migration->wires.hold(migration->wires.opaque);
    } else {
        migration->wires.release(migration->wires.opaque);
    }
}

static void log_end(Migration *migration)
{
    if (migration->is_logging)
        run_log_writes(migration->machine.run, false, NULL);
    migration->is_logging = false;
}

static void finished_out(Migration *migration, const GError *error)
{
    bool was_cancelled = migration->status == MIGRATION_CANCELLING;
    if (!error) { /* it has arrived, even if somebody has just asked to cancel */
        status_set(migration, MIGRATION_COMPLETED);
        migration->is_held = false;
        migration->wires.left(migration->wires.opaque);
        return;
    }
    if (!was_cancelled)
        migration->failure = g_strdup(error->message);
    status_set(migration, was_cancelled ? MIGRATION_CANCELLED : MIGRATION_FAILED);
    held_set(migration, false);
}

static void finished_in(Migration *migration, const GError *error)
{
    if (!error) {
        status_set(migration, MIGRATION_COMPLETED);
        migration->is_held = false;
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
    log_end(migration);
    if (migration->is_incoming)
        finished_in(migration, error);
    else
        finished_out(migration, error);
    return G_SOURCE_REMOVE;
}

/* --- rounds --- */

/* The main thread's part of a round's end: takes the pages; stops the guest if they are few enough, or it has been tried often enough. */
static gboolean round_take(Migration *migration, GError **error)
{
    Run *run = migration->machine.run;
    uint64_t npages;
    int64_t now = g_get_monotonic_time(), took = MAX(now - migration->round_us, 1);
    if (!run_log_take(run, migration->pages, &npages, error))
        return FALSE;
    uint64_t rounds = __atomic_add_fetch(&migration->rounds, 1, __ATOMIC_RELAXED);
    uint64_t sent = __atomic_load_n(&migration->progress.full_pages, __ATOMIC_RELAXED), nsent = sent - migration->round_sent;
    __atomic_store_n(&migration->dirty_pages_per_s, npages * G_USEC_PER_SEC / (uint64_t)took, __ATOMIC_RELAXED);
    if (nsent > 256 || rounds == 2) /* a small round says little about the channel */
        __atomic_store_n(&migration->pages_per_s, MAX(nsent * G_USEC_PER_SEC / (uint64_t)took, 1), __ATOMIC_RELAXED);
    __atomic_store_n(&migration->pages_left, npages, __ATOMIC_RELAXED);
    migration->round_us = now;
    migration->round_sent = sent;
    bool is_small = npages * 1000 / migration->pages_per_s <= (uint64_t)__atomic_load_n(&migration->parameters.downtime_limit_ms, __ATOMIC_RELAXED);
    migration->is_last = is_small || rounds > MIGRATION_MAX_ROUNDS || !migration->wires.runs(migration->wires.opaque);
    if (!migration->is_last)
        return TRUE;
    held_set(migration, true); /* its disks have written what they had to by then */
    return run_log_take(run, migration->pages, &npages, error);
}

static gboolean round_source(gpointer data)
{
    Migration *migration = data;
    round_take(migration, &migration->round_error);
    g_mutex_lock(&migration->round_lock);
    migration->is_round_asked = false;
    g_cond_signal(&migration->round_done);
    g_mutex_unlock(&migration->round_lock);
    return G_SOURCE_REMOVE;
}

/* SnapshotLive.round, on the thread: switches of the engine and all else that is done to vCPUs happen on the main thread, so this does too. */
static gboolean round_ask(void *opaque, PageSet *pages, bool *out_is_last, GError **error)
{
    Migration *migration = opaque;
    g_autoptr(GSource) source = g_idle_source_new();
    g_source_set_priority(source, G_PRIORITY_DEFAULT);
    g_source_set_callback(source, round_source, migration, NULL);
    if (g_cancellable_set_error_if_cancelled(migration->cancellable, error))
        return FALSE;
    migration->pages = pages;
    migration->is_round_asked = true;
    g_mutex_lock(&migration->round_lock);
    g_source_attach(source, NULL);
    while (migration->is_round_asked && !migration->is_closing)
        g_cond_wait(&migration->round_done, &migration->round_lock);
    bool is_closing = migration->is_closing;
    g_mutex_unlock(&migration->round_lock);
    g_source_destroy(source);
    if (is_closing) {
        g_set_error_literal(error, G_IO_ERROR, G_IO_ERROR_CANCELLED, "the machine has ended");
        return FALSE;
    }
    *out_is_last = migration->is_last;
    if (!migration->round_error)
        return TRUE;
    g_propagate_error(error, g_steal_pointer(&migration->round_error));
    return FALSE;
}

/* SnapshotPace.sent: sleeps until the bytes fit the bandwidth. */
static gboolean pace(void *opaque, uint64_t transferred, GError **error)
{
    Migration *migration = opaque;
    uint64_t limit = __atomic_load_n(&migration->parameters.max_bandwidth, __ATOMIC_RELAXED);
    int64_t now = g_get_monotonic_time();
    int64_t due = limit ? migration->paced_us + (int64_t)((double)(transferred - migration->paced_bytes) * G_USEC_PER_SEC / (double)limit) : now;
    GPollFD poll;
    if (due > now && g_cancellable_make_pollfd(migration->cancellable, &poll)) {
        g_poll(&poll, 1, (int)MIN((due - now) / 1000, 1000));
        g_cancellable_release_fd(migration->cancellable);
    }
    if (now - migration->paced_us > G_USEC_PER_SEC) { /* so that a change of the limit counts soon */
        migration->paced_us = MAX(due, now);
        migration->paced_bytes = transferred;
    }
    return !g_cancellable_set_error_if_cancelled(migration->cancellable, error);
}

static gpointer send_thread(gpointer data)
{
    Migration *migration = data;
    const SnapshotLive live = { .round = round_ask, .pace = { .sent = pace, .opaque = migration }, .opaque = migration };
    if (snapshot_save(&migration->machine, SNAPSHOT_PACKED, migration_channel_writer(migration->channel), migration->is_logging ? &live : NULL,
                      migration->cancellable, &migration->progress, &migration->error))
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
    migration->parameters.downtime_limit_ms = DOWNTIME_MS;
    g_mutex_init(&migration->round_lock);
    g_cond_init(&migration->round_done);
    return migration;
}

void migration_free(Migration *migration)
{
    if (!migration)
        return;
    if (migration->cancellable)
        g_cancellable_cancel(migration->cancellable);
    g_mutex_lock(&migration->round_lock);
    migration->is_closing = true;
    g_cond_signal(&migration->round_done);
    g_mutex_unlock(&migration->round_lock);
    thread_join(migration);
    if (migration->finished)
        g_source_remove(migration->finished);
    if (migration->is_logging)
        dirty_log_free(migration->machine.ram->dirty);
    g_clear_error(&migration->error);
    g_clear_error(&migration->round_error);
    g_mutex_clear(&migration->round_lock);
    g_cond_clear(&migration->round_done);
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
    migration->progress = (SnapshotProgress){ .ram_total = 0 };
    migration->rounds = 1;
    migration->dirty_pages_per_s = migration->pages_per_s = migration->pages_left = 0;
    migration->held_us = 0;
    migration->is_incoming = is_incoming;
    migration->begin_us = g_get_monotonic_time();
    migration->end_us = 0;
    g_clear_pointer(&migration->failure, g_free);
    status_set(migration, MIGRATION_SETUP);
    migration->wires.machine(migration->wires.opaque, &migration->machine);
    migration->is_logging = !is_incoming && migration->wires.runs(migration->wires.opaque) && run_log_writes(migration->machine.run, true, NULL);
    if (!migration->is_logging) /* it stands still, or its engine cannot tell what it writes */
        held_set(migration, true);
    migration->active_us = migration->round_us = migration->paced_us = g_get_monotonic_time();
    migration->paced_bytes = 0;
    migration->round_sent = 0;
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

/* A snapshot holds the overlay of a disk with snapshot=on, not what is in a disk image: a guest that goes back must find its disks as they were. */
static gboolean disks_stay(const Config *config, GError **error)
{
    for (guint i = 0; i < config->virtio->len; i++) {
        const VirtioConfig *virtio = g_ptr_array_index(config->virtio, i);
        if (virtio->kind != VIRTIO_KIND_BLK)
            continue;
        const DriveConfig *drive = g_ptr_array_index(config->drives, virtio->drive);
        if (!drive->is_read_only && !drive->is_snapshot) {
            g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "Device 'virtio%u' is writable but does not support snapshots; give the drive snapshot=on or readonly=on",
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

gboolean migration_load_snapshot(Migration *migration, const char *tag, bool has_guest, GError **error)
{
    SnapshotMachine machine;
    bool is_lost;
    g_autoptr(GError) cause = NULL;
    migration->wires.machine(migration->wires.opaque, &machine);
    if (!is_free(migration, error) || !disks_stay(machine.config, error))
        return FALSE;
    migration->wires.hold(migration->wires.opaque);
    gboolean is_ok = snapshot_store_load(machine.config->snapshot_dir, tag, &machine, has_guest, &is_lost, &cause);
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
    uint64_t pages_per_s = migration->pages_per_s;
    int64_t downtime_ms = migration->held_us ? (end - migration->held_us) / 1000 : pages_per_s ? (int64_t)(migration->pages_left * 1000 / pages_per_s) : 0;
    *out_numbers = (MigrationNumbers){
        .progress = { .ram_total = __atomic_load_n(&from->ram_total, __ATOMIC_RELAXED),
                      .ram_left = __atomic_load_n(&from->ram_left, __ATOMIC_RELAXED),
                      .transferred = __atomic_load_n(&from->transferred, __ATOMIC_RELAXED),
                      .zero_pages = __atomic_load_n(&from->zero_pages, __ATOMIC_RELAXED),
                      .full_pages = __atomic_load_n(&from->full_pages, __ATOMIC_RELAXED) },
        .total_ms = (end - migration->begin_us) / 1000,
        .setup_ms = (migration->active_us - migration->begin_us) / 1000,
        .downtime_ms = downtime_ms,
        .rounds = __atomic_load_n(&migration->rounds, __ATOMIC_RELAXED),
        .dirty_pages_per_s = __atomic_load_n(&migration->dirty_pages_per_s, __ATOMIC_RELAXED),
    };
}

MigrationParameters migration_parameters(const Migration *migration) { return migration->parameters; }

gboolean migration_set_parameters(Migration *migration, const MigrationParameters *parameters, GError **error)
{
    if (parameters->downtime_limit_ms < 0 || parameters->downtime_limit_ms > DOWNTIME_MAX_MS) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "Parameter 'downtime_limit' expects an integer in the range of 0 to %d milliseconds",
                    DOWNTIME_MAX_MS);
        return FALSE;
    }
    __atomic_store_n(&migration->parameters.max_bandwidth, parameters->max_bandwidth, __ATOMIC_RELAXED);
    __atomic_store_n(&migration->parameters.downtime_limit_ms, parameters->downtime_limit_ms, __ATOMIC_RELAXED);
    return TRUE;
}
