#include "core/bus.h"

#include <string.h>

#include "core/error.h"

typedef struct BusRange {
    uint64_t start, size;
    const BusOps *ops;
    void *device;
    unsigned min_size, max_size;
} BusRange;

struct Bus {
    char *name;
    uint64_t limit;
    unsigned nranges, capacity;
    BusRange *range; /* sorted by start, disjoint */
};

Bus *bus_new(const char *name, uint64_t limit)
{
    Bus *bus = g_new0(Bus, 1);
    bus->name = g_strdup(name);
    bus->limit = limit;
    return bus;
}

void bus_free(Bus *bus)
{
    if (!bus)
        return;
    g_free(bus->range);
    g_free(bus->name);
    g_free(bus);
}

/* first_after: index of the first range that starts above @addr; its predecessor is the only one that can hold @addr. */
static unsigned first_after(const Bus *bus, uint64_t addr)
{
    unsigned low = 0, high = bus->nranges;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (bus->range[middle].start <= addr)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

gboolean bus_add(Bus *bus, uint64_t start, uint64_t size, const BusOps *ops, void *device, GError **error)
{
    unsigned min_size = ops->min_size ? ops->min_size : 1;
    unsigned max_size = ops->max_size ? ops->max_size : 8;
    g_assert(min_size <= max_size && max_size <= 8);
    g_assert((min_size & (min_size - 1)) == 0 && (max_size & (max_size - 1)) == 0);

    if (size == 0 || start > bus->limit || size - 1 > bus->limit - start || size % min_size != 0) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_HOST,
                    "%s bus: %s: cannot map %" G_GUINT64_FORMAT " bytes at 0x%" G_GINT64_MODIFIER "x", bus->name, ops->name,
                    size, start);
        return FALSE;
    }
    unsigned index = first_after(bus, start);
    const BusRange *below = index > 0 ? &bus->range[index - 1] : NULL;
    const BusRange *above = index < bus->nranges ? &bus->range[index] : NULL;
    const BusRange *clash = NULL;
    if (below && start - below->start < below->size)
        clash = below;
    else if (above && above->start - start < size)
        clash = above;
    if (clash) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_HOST,
                    "%s bus: %s at 0x%" G_GINT64_MODIFIER "x overlaps %s at 0x%" G_GINT64_MODIFIER "x", bus->name, ops->name,
                    start, clash->ops->name, clash->start);
        return FALSE;
    }

    if (bus->nranges == bus->capacity) {
        bus->capacity = bus->capacity ? 2 * bus->capacity : 16;
        bus->range = g_renew(BusRange, bus->range, bus->capacity);
    }
    memmove(&bus->range[index + 1], &bus->range[index], (bus->nranges - index) * sizeof(BusRange));
    bus->range[index] = (BusRange){ start, size, ops, device, min_size, max_size };
    bus->nranges++;
    return TRUE;
}

bool bus_remove(Bus *bus, uint64_t start)
{
    unsigned index = first_after(bus, start);
    if (index == 0 || bus->range[index - 1].start != start)
        return false;
    bus->nranges--;
    memmove(&bus->range[index - 1], &bus->range[index], (bus->nranges - (index - 1)) * sizeof(BusRange));
    return true;
}

static const BusRange *range_find(const Bus *bus, uint64_t addr)
{
    unsigned index = first_after(bus, addr);
    if (index == 0)
        return NULL;
    const BusRange *range = &bus->range[index - 1];
    return addr - range->start < range->size ? range : NULL;
}

static uint64_t low_bytes(unsigned size)
{
    return size >= 8 ? UINT64_MAX : ((uint64_t)1 << (8 * size)) - 1;
}

/* One step of a split access: what the chip sees, and which of those bytes belong to the access. */
typedef struct BusPiece {
    uint64_t offset;
    unsigned size; /* as the chip takes it */
    unsigned skip; /* bytes of the piece before the access */
    unsigned take; /* bytes of the access in this piece */
} BusPiece;

static BusPiece range_piece(const BusRange *range, uint64_t addr, unsigned left)
{
    uint64_t offset = addr - range->start;
    unsigned skip = (unsigned)(offset & (range->min_size - 1));
    if (skip || left < range->min_size) {
        unsigned take = range->min_size - skip;
        return (BusPiece){ offset - skip, range->min_size, skip, take < left ? take : left };
    }
    unsigned size = range->max_size;
    while (size > left || size > range->size - offset)
        size /= 2;
    return (BusPiece){ offset, size, 0, size };
}

uint64_t bus_read(Bus *bus, uint64_t addr, unsigned size)
{
    uint64_t value = 0;
    for (unsigned done = 0; done < size;) {
        const BusRange *range = addr + done >= addr ? range_find(bus, addr + done) : NULL;
        if (!range) {
            value |= (uint64_t)0xff << (8 * done);
            done++;
            continue;
        }
        BusPiece piece = range_piece(range, addr + done, size - done);
        uint64_t part = range->ops->read ? range->ops->read(range->device, piece.offset, piece.size) : UINT64_MAX;
        value |= ((part >> (8 * piece.skip)) & low_bytes(piece.take)) << (8 * done);
        done += piece.take;
    }
    return value;
}

void bus_write(Bus *bus, uint64_t addr, unsigned size, uint64_t value)
{
    for (unsigned done = 0; done < size;) {
        const BusRange *range = addr + done >= addr ? range_find(bus, addr + done) : NULL;
        if (!range) {
            done++;
            continue;
        }
        BusPiece piece = range_piece(range, addr + done, size - done);
        uint64_t part = (value >> (8 * done)) & low_bytes(piece.take);
        if (piece.take < piece.size) {
            uint64_t old = range->ops->read ? range->ops->read(range->device, piece.offset, piece.size) : 0;
            uint64_t mask = low_bytes(piece.take) << (8 * piece.skip);
            part = (old & ~mask & low_bytes(piece.size)) | (part << (8 * piece.skip));
        }
        if (range->ops->write)
            range->ops->write(range->device, piece.offset, piece.size, part);
        done += piece.take;
    }
}
