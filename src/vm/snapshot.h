/*
 * Snapshot: the whole machine as one stream (core/sections.h), whatever engine runs it: what it is made of, the time, the vCPUs, every
 * chip, guest memory.  savevm, loadvm, migrate and -incoming all go through here; who stands still when is their business.
 *
 * A machine that is loaded must be the one that was saved: memory, vCPUs, devices and CPUID are compared, and a difference is one
 * sentence.  Raw disk images are not in the stream.
 */
#pragma once

#include "config/config.h"
#include "core/clock.h"
#include "vm/board.h"
#include "vm/pci-devices.h"
#include "vm/run.h"
#include "vm/snapshot-ram.h"

/* The machine; all outlive the call. */
typedef struct SnapshotMachine {
    const Config *config;
    Ram *ram;
    Clock *clock;
    Board *board;
    PciDevices *devices;
    Run *run;
    const CpuidModel *cpuid;
    uint64_t tsc_hz;
    GMutex *lock;     /* the machine lock: not held by the caller of what follows, taken inside */
    const char *mode; /* the engine's name, for those who read files; not compared */
} SnapshotMachine;

/* What saving a guest that runs needs: its memory is sent in rounds, each with the pages written during the one before. */
typedef struct SnapshotLive {
    /* round: @pages, empty, receives what has been written since the last call, or since before snapshot_save().  Sets *out_is_last when the
     * guest stands still now, and had when the pages were taken. */
    gboolean (*round)(void *opaque, PageSet *pages, bool *out_is_last, GError **error);
    SnapshotPace pace; /* not used in the last round */
    void *opaque;
} SnapshotLive;

/**
 * snapshot_save: The guest and its clock stand still (or do so from the last round of @live on), no disk request is on its way, and nothing puts
 * input into devices.
 * @form: of memory
 * @live: NULL: the guest stands still
 *
 * Returns: FALSE with VMM_ERROR_HOST, or G_IO_ERROR_CANCELLED.   Thread: any.
 */
gboolean snapshot_save(const SnapshotMachine *machine, SnapshotForm form, GOutputStream *out, const SnapshotLive *live, GCancellable *cancellable,
                       SnapshotProgress *progress, GError **error);

/**
 * snapshot_load: same conditions.  On failure the machine is between two states and must not go on, unless it comes from snapshot_load_safe().
 */
gboolean snapshot_load(const SnapshotMachine *machine, GInputStream *in, GCancellable *cancellable, SnapshotProgress *progress, GError **error);

/**
 * snapshot_load_safe: reads @in twice: first to the end, changing nothing; @in can seek.
 * Returns: FALSE with VMM_ERROR_USAGE; the machine is as it was (unless the file changed between the two times; then it must not go on,
 * and *out_is_lost is true).
 */
gboolean snapshot_load_safe(const SnapshotMachine *machine, GInputStream *in, bool *out_is_lost, GError **error);
