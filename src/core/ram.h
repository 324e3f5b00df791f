/*
 * Guest physical memory: a few slots of host memory, all carved from one mapping that every engine uses: a memfd where the host backs those
 * with huge pages, else anonymous memory.
 *
 * ram_slice() is the only place where a guest physical address becomes a host pointer for C code; the software MMU uses
 * ram_find() for the same purpose, page by page.  What is in no slot is MMIO or a hole.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"

#define RAM_MAX_SLOTS 8

typedef struct RamSlot {
    Gpa start;
    uint64_t size; /* bytes, multiple of PAGE_SIZE */
    uint8_t *host; /* page aligned */
    bool is_rom;   /* guest writes are dropped */
} RamSlot;

typedef struct Ram {
    unsigned nslots;
    RamSlot slot[RAM_MAX_SLOTS];
    uint64_t size_bytes; /* RAM only, without ROM */
    int fd;              /* the memfd; -1: private memory, which no other process can share */
    bool is_owned;       /* mapped by ram_new() */
    struct RamListener *listeners; /* may be NULL; guarded by listeners_lock, which is taken last */
    GMutex *listeners_lock;
    struct DirtyLog *dirty; /* NULL: nobody asks which pages are written (core/dirty.h) */
} Ram;

/* Who wants to know that the monitor itself (a device, the boot loader) wrote guest memory: engines, to drop translations of those bytes. */
typedef struct RamListener {
    void (*written)(void *opaque, Gpa start, uint64_t size); /* on the writer's thread */
    void *opaque;
    struct RamListener *next;
} RamListener;

/**
 * ram_new:
 * @size_bytes: multiple of 1 MiB, at least 1 MiB
 *
 * Lays RAM out as a PC does: [0, 0xa0000), [0xc0000, min(size, 3 GiB)) and the rest from 4 GiB up.  2 MiB aligned,
 * huge pages advised, zero filled, not touched.
 * Returns: NULL with VMM_ERROR_USAGE when the host cannot hold it.
 */
Ram *ram_new(uint64_t size_bytes, GError **error);

/* ram_new_array: one slot at 0 over the caller's memory, for tests. @host is page aligned and outlives the Ram. */
Ram *ram_new_array(uint8_t *host, uint64_t size_bytes);

void ram_free(Ram *ram);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Ram, ram_free)

/* ram_add_rom: adds a read-only slot of @size bytes (page multiple) at @start; returns its host memory for the caller to
 * fill.  The range must not overlap another slot, and there must be room for a slot (both are our own bugs). */
uint8_t *ram_add_rom(Ram *ram, Gpa start, uint64_t size);

/* ram_clear: every slot, ROM too, is zeros again; the host gets its memory back where it can.  Says nothing to the engine: see ram_wrote(). */
void ram_clear(Ram *ram);

/**
 * ram_slice:
 * Returns: host pointer to @len bytes at @gpa, or NULL when any of them is outside one slot (overflow included).
 * The caller may write unless the slot is ROM; writers call ram_wrote() afterwards.
 */
void *ram_slice(const Ram *ram, Gpa gpa, uint64_t len);

/* ram_wrote: tells all that listen that [@start, @start + @size) changed under them.
 * ram_listen, ram_unlisten: @listener stays where it is between them.  Any thread. */
void ram_wrote(const Ram *ram, Gpa start, uint64_t size);
void ram_listen(Ram *ram, RamListener *listener);
void ram_unlisten(Ram *ram, RamListener *listener);

/* ram_find: the slot that holds @gpa, or NULL. */
static inline const RamSlot *ram_find(const Ram *ram, Gpa gpa)
{
    for (unsigned i = 0; i < ram->nslots; i++)
        if (gpa - ram->slot[i].start < ram->slot[i].size)
            return &ram->slot[i];
    return NULL;
}
