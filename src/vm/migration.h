/*
 * Migration: the guest's state leaves to somewhere, or comes from there: a file, a Unix or TCP socket, a descriptor, another program.
 *
 * A guest that runs goes on running while a thread sends its memory, round by round: each sends what was written during the one before.  It
 * is stopped when the rest can be sent within the downtime that is allowed, or when MIGRATION_MAX_ROUNDS have not come that far.  A guest
 * that stands still is sent at once, and one that arrives waits until it is there.
 * When it has arrived, the guest here stays stopped ("postmigrate"); when it has not, it goes on.
 * Thread: the default main context's.
 */
#pragma once

#include <gio/gio.h>

#include "vm/snapshot.h"

typedef struct Migration Migration;

typedef enum MigrationStatus {
    MIGRATION_NONE,
    MIGRATION_SETUP, /* incoming: waiting for it */
    MIGRATION_ACTIVE,
    MIGRATION_COMPLETED,
    MIGRATION_FAILED,
    MIGRATION_CANCELLING,
    MIGRATION_CANCELLED,
} MigrationStatus;

#define MIGRATION_MAX_ROUNDS 30u

/* What may be changed at any time, also while a migration is on its way. */
typedef struct MigrationParameters {
    uint64_t max_bandwidth; /* bytes a second while the guest runs; 0: as fast as it goes */
    int64_t downtime_limit_ms;
} MigrationParameters;

typedef struct MigrationWires {
    void (*machine)(void *opaque, SnapshotMachine *out_machine);
    bool (*runs)(void *opaque);    /* whether the guest does */
    void (*hold)(void *opaque);    /* the guest stands still from now on */
    void (*release)(void *opaque); /* undoes it */
    void (*left)(void *opaque);    /* the guest is elsewhere now; held */
    void (*arrived)(void *opaque); /* the guest is here; held */
    void (*lost)(void *opaque, const char *message); /* it did not arrive */
    void (*event)(void *opaque, const char *status); /* in QEMU's words */
    void *opaque;
} MigrationWires;

Migration *migration_new(const MigrationWires *wires);
void migration_free(Migration *migration); /* cancels what is on its way, waits for the thread */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Migration, migration_free)

/**
 * migration_start, migration_receive:
 * @uri: "file:PATH", "unix:PATH", "tcp:HOST:PORT", "fd:NUMBER" or "exec:COMMAND".  When receiving, sockets listen and take one peer.
 *
 * Returns: FALSE with VMM_ERROR_USAGE: the other end cannot be reached, or a migration is on its way.  Later failures are a status.
 */
gboolean migration_start(Migration *migration, const char *uri, GError **error);
gboolean migration_receive(Migration *migration, const char *uri, GError **error);
void migration_cancel(Migration *migration);

/**
 * migration_save_snapshot, migration_load_snapshot: savevm and loadvm in the configuration's -snapshot-dir, at once.
 * @has_guest: a guest is here that must go on when loading fails; else the machine is of no use then
 * Return: FALSE with VMM_ERROR_USAGE or VMM_ERROR_HOST; the guest goes on as it was.  (If a file changes while it is being loaded the guest
 * is lost: wires.lost().)
 */
gboolean migration_save_snapshot(Migration *migration, const char *tag, GError **error);
gboolean migration_load_snapshot(Migration *migration, const char *tag, bool has_guest, GError **error);

bool migration_is_active(const Migration *migration);
MigrationStatus migration_status(const Migration *migration);
const char *migration_status_name(const Migration *migration); /* QEMU's words; NULL: there was none */
const char *migration_failure(const Migration *migration);     /* NULL: nothing failed */
bool migration_is_incoming(const Migration *migration);

typedef struct MigrationNumbers {
    SnapshotProgress progress;
    int64_t total_ms, setup_ms;
    int64_t downtime_ms;        /* before the guest has been stopped: what it would be now */
    uint64_t rounds;            /* of memory; 1: the guest stood still */
    uint64_t dirty_pages_per_s; /* written by the guest in the last round */
} MigrationNumbers;

MigrationParameters migration_parameters(const Migration *migration);
/* migration_set_parameters: FALSE with VMM_ERROR_USAGE: a downtime below 0 or above 2000 s. */
gboolean migration_set_parameters(Migration *migration, const MigrationParameters *parameters, GError **error);

void migration_numbers(const Migration *migration, MigrationNumbers *out_numbers);
