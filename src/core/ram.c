#include "core/ram.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/error.h"
#include "core/guard.h"

#define MIB ((uint64_t)1 << 20)
#define LOW_END 0xa0000ull      /* VGA window and option ROMs begin */
#define HIGH_START 0xc0000ull   /* RAM goes on here; firmware copies itself into it */
#define BELOW_4G_END (3072 * MIB) /* the PCI hole begins */
#define ABOVE_4G_START (4096 * MIB)

/* host_available_bytes: MemAvailable, or UINT64_MAX where /proc does not say. */
static uint64_t host_available_bytes(void)
{
    g_autofree char *text = NULL;
    if (!g_file_get_contents("/proc/meminfo", &text, NULL, NULL))
        return UINT64_MAX;
    const char *line = strstr(text, "MemAvailable:");
    return line ? g_ascii_strtoull(line + strlen("MemAvailable:"), NULL, 10) * 1024 : UINT64_MAX;
}

static void slot_add(Ram *ram, Gpa start, uint64_t size, uint8_t *host, bool is_rom)
{
    g_assert(ram->nslots < RAM_MAX_SLOTS);
    for (unsigned i = 0; i < ram->nslots; i++)
        g_assert(start + size <= ram->slot[i].start || ram->slot[i].start + ram->slot[i].size <= start);
    ram->slot[ram->nslots++] = (RamSlot){ .start = start, .size = size, .host = host, .is_rom = is_rom };
}

static Ram *ram_alloc(void)
{
    Ram *ram = g_new0(Ram, 1);
    ram->listeners_lock = g_new(GMutex, 1);
    g_mutex_init(ram->listeners_lock);
    return ram;
}

/* shmem_has_huge_pages: would the host back a memfd with huge pages when advised?  Most do so for anonymous memory only, and on those a
 * memfd costs twice the time of a random walk over guest memory. */
static bool shmem_has_huge_pages(void)
{
    g_autofree char *text = NULL;
    if (!g_file_get_contents("/sys/kernel/mm/transparent_hugepage/shmem_enabled", &text, NULL, NULL))
        return false;
    return !strstr(text, "[never]") && !strstr(text, "[deny]");
}

Ram *ram_new(uint64_t size_bytes, GError **error)
{
    if (size_bytes < MIB || size_bytes % MIB != 0) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE,
                    "-m: guest memory must be a whole number of MiB, at least 1, not %" G_GUINT64_FORMAT " bytes",
                    size_bytes);
        return NULL;
    }
    uint64_t available = host_available_bytes();
    if (size_bytes > available || size_bytes > ((uint64_t)1 << 46)) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE,
                    "-m: the guest asks for %" G_GUINT64_FORMAT " MiB but this host has %" G_GUINT64_FORMAT
                    " MiB available; give a smaller -m, or free memory on the host",
                    size_bytes / MIB, available / MIB);
        return NULL;
    }

    bool is_shared = shmem_has_huge_pages();
    int fd = is_shared ? memfd_create("guest-ram", MFD_CLOEXEC) : -1;
    if (is_shared && fd < 0) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_HOST, "guest memory: memfd_create: %s", g_strerror(errno));
        return NULL;
    }
    uint8_t *host = MAP_FAILED;
    if (!is_shared || ftruncate(fd, (off_t)size_bytes) == 0)
        host = guard_map(size_bytes, PROT_READ | PROT_WRITE, fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, fd);
    if (host == MAP_FAILED) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE,
                    "-m: the host refuses %" G_GUINT64_FORMAT " MiB of guest memory: %s; give a smaller -m",
                    size_bytes / MIB, g_strerror(errno));
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    madvise(host, size_bytes, MADV_HUGEPAGE); /* advice only: a kernel without shmem THP goes on with small pages */

    Ram *ram = ram_alloc();
    ram->fd = fd;
    ram->is_owned = true;
    ram->size_bytes = size_bytes;
    /* The memfd offset of a page is its gpa below 3 GiB, and gpa - 1 GiB from 4 GiB up. */
    slot_add(ram, 0, LOW_END, host, false);
    slot_add(ram, HIGH_START, MIN(size_bytes, BELOW_4G_END) - HIGH_START, host + HIGH_START, false);
    if (size_bytes > BELOW_4G_END)
        slot_add(ram, ABOVE_4G_START, size_bytes - BELOW_4G_END, host + BELOW_4G_END, false);
    return ram;
}

Ram *ram_new_array(uint8_t *host, uint64_t size_bytes)
{
    g_assert(((uintptr_t)host & PAGE_OFFSET_MASK) == 0);
    g_assert(size_bytes > 0 && page_offset(size_bytes) == 0);
    Ram *ram = ram_alloc();
    ram->fd = -1;
    ram->size_bytes = size_bytes;
    slot_add(ram, 0, size_bytes, host, false);
    return ram;
}

void ram_free(Ram *ram)
{
    if (!ram)
        return;
    for (unsigned i = 0; i < ram->nslots; i++)
        if (ram->slot[i].is_rom)
            guard_unmap(ram->slot[i].host, ram->slot[i].size);
    if (ram->is_owned)
        guard_unmap(ram->slot[0].host, ram->size_bytes);
    if (ram->fd >= 0)
        close(ram->fd);
    g_mutex_clear(ram->listeners_lock);
    g_free(ram->listeners_lock);
    g_free(ram);
}

uint8_t *ram_add_rom(Ram *ram, Gpa start, uint64_t size)
{
    g_assert(size > 0 && page_offset(size) == 0);
    g_assert(page_offset(start) == 0 && start + size - 1 >= start);
    uint8_t *host = guard_map(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    if (host == MAP_FAILED)
        g_error("guest ROM: cannot allocate %" G_GUINT64_FORMAT " bytes: %s", size, g_strerror(errno));
    slot_add(ram, start, size, host, true);
    return host;
}

void ram_clear(Ram *ram)
{
    for (unsigned i = 0; i < ram->nslots; i++) {
        RamSlot *slot = &ram->slot[i];
        off_t offset = slot->host - ram->slot[0].host;
        bool is_done = false;
        if (!slot->is_rom && ram->is_owned)
            is_done = ram->fd >= 0 ? fallocate(ram->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, (off_t)slot->size) == 0
                                   : madvise(slot->host, slot->size, MADV_DONTNEED) == 0;
        if (!is_done)
            memset(slot->host, 0, slot->size);
    }
}

void *ram_slice(const Ram *ram, Gpa gpa, uint64_t len)
{
    const RamSlot *slot = ram_find(ram, gpa);
    if (!slot)
        return NULL;
    uint64_t offset = gpa - slot->start;
    return len <= slot->size - offset ? slot->host + offset : NULL;
}

void ram_wrote(const Ram *ram, Gpa start, uint64_t size)
{
    g_mutex_lock(ram->listeners_lock);
    for (RamListener *listener = ram->listeners; listener; listener = listener->next)
        listener->written(listener->opaque, start, size);
    g_mutex_unlock(ram->listeners_lock);
}

void ram_listen(Ram *ram, RamListener *listener)
{
    g_mutex_lock(ram->listeners_lock);
    listener->next = ram->listeners;
    ram->listeners = listener;
    g_mutex_unlock(ram->listeners_lock);
}

void ram_unlisten(Ram *ram, RamListener *listener)
{
    g_mutex_lock(ram->listeners_lock);
    for (RamListener **link = &ram->listeners; *link; link = &(*link)->next)
        if (*link == listener) {
            *link = listener->next;
            break;
        }
    g_mutex_unlock(ram->listeners_lock);
}
