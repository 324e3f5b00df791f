/*
 * Guest memory as sections of saved state: up to 1 MiB each, pages of zeros left out, the others plain or compressed (zstd).
 * A page that comes twice is what it was the second time.  Thread: any one.
 */
#pragma once

#include "core/dirty.h"
#include "core/sections.h"

#define SNAPSHOT_RAM_SECTION "ram"

/* What has been moved so far, for those who watch from another thread: atomic. */
typedef struct SnapshotProgress {
    uint64_t ram_total, ram_left;   /* bytes of guest memory, pages of zeros included; what is left of this round */
    uint64_t transferred;           /* bytes of the stream */
    uint64_t zero_pages, full_pages;
} SnapshotProgress;

/* For those who pay for every byte: called after each piece with SnapshotProgress.transferred.  FALSE ends it all. */
typedef struct SnapshotPace {
    gboolean (*sent)(void *opaque, uint64_t transferred, GError **error);
    void *opaque;
} SnapshotPace;

/* How pages are written; either is read.  Plain ones are loaded ten times as fast, and take three times the room. */
typedef enum SnapshotForm { SNAPSHOT_PACKED, SNAPSHOT_PLAIN } SnapshotForm;

/**
 * snapshot_ram_write:
 * @pages: what to write, also where it is zeros; NULL: all that is not zeros
 * @pace: may be NULL
 *
 * The guest may write meanwhile, if who calls knows which pages those are and writes them once more.
 */
gboolean snapshot_ram_write(SectionWriter *writer, SnapshotForm form, const Ram *ram, const PageSet *pages, SnapshotProgress *progress,
                            const SnapshotPace *pace, GError **error);

typedef struct SnapshotRamReader SnapshotRamReader;
SnapshotRamReader *snapshot_ram_reader_new(void);
void snapshot_ram_reader_free(SnapshotRamReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapshotRamReader, snapshot_ram_reader_free)

/* snapshot_ram_check: whether @section can be loaded into @ram.  snapshot_ram_load: does it, too.  The pages it says nothing of are the
 * caller's.  FALSE with VMM_ERROR_USAGE: malformed, or outside of memory; nothing has been written then. */
gboolean snapshot_ram_check(SnapshotRamReader *reader, const Ram *ram, const Section *section, GError **error);
gboolean snapshot_ram_load(SnapshotRamReader *reader, const Ram *ram, const Section *section, GError **error);
