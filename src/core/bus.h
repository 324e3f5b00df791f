/*
 * A bus maps address ranges to devices.  The same type serves I/O ports and MMIO; a device sees an offset into its own range,
 * never an address.  Which access sizes a chip takes is data in its ops; the bus splits and merges the rest.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct Bus Bus;

typedef struct BusOps {
    const char *name; /* for error messages and logs */
    /* @size is one of the accepted sizes; @offset + @size never leaves the range.  Called with the machine lock held. */
    uint64_t (*read)(void *device, uint64_t offset, unsigned size);
    void (*write)(void *device, uint64_t offset, unsigned size, uint64_t value);
    uint8_t min_size, max_size; /* bytes: 1, 2, 4 or 8; 0 means 1 and 8 respectively */
} BusOps;

/* bus_new: @name appears in messages ("port", "mmio"); @limit is the last valid address, inclusive. */
Bus *bus_new(const char *name, uint64_t limit);
void bus_free(Bus *bus);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Bus, bus_free)

/**
 * bus_add: makes [@start, @start + @size) reach @device.
 * Returns: FALSE with VMM_ERROR_HOST when the range is empty, passes the limit, or overlaps another one.
 */
gboolean bus_add(Bus *bus, uint64_t start, uint64_t size, const BusOps *ops, void *device, GError **error);

/* bus_remove: takes back the range added at exactly @start.  FALSE when there is none. */
bool bus_remove(Bus *bus, uint64_t start);

/**
 * bus_read, bus_write: @size is 1, 2, 4 or 8.  An access that a chip does not take at that size is split into the largest
 * pieces it takes, or widened to its smallest (a narrow write to a chip with a larger minimum is a read-modify-write).  Bytes nobody claims
 * read as ones, writes to them vanish.
 */
uint64_t bus_read(Bus *bus, uint64_t addr, unsigned size);
void bus_write(Bus *bus, uint64_t addr, unsigned size, uint64_t value);
