#include "core/guard.h"

#include <errno.h>
#include <sys/mman.h>

static size_t whole(size_t size) { return (size + GUARD_SIZE - 1) & ~(GUARD_SIZE - 1); }

static void *map_between(size_t size, int prot, int flags, int fd, int where)
{
    size_t reserved = whole(size) + 3 * GUARD_SIZE;
    uint8_t *area = mmap(NULL, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | where, -1, 0);
    if (area == MAP_FAILED)
        return area;
    uint8_t *low = (uint8_t *)whole((uintptr_t)area), *window = low + GUARD_SIZE, *end = window + whole(size) + GUARD_SIZE;
    if (mmap(window, size, prot, flags | MAP_FIXED, fd, 0) == MAP_FAILED) {
        int saved = errno;
        munmap(area, reserved);
        errno = saved;
        return MAP_FAILED;
    }
    if (low > area)
        munmap(area, (size_t)(low - area));
    if (area + reserved > end)
        munmap(end, (size_t)(area + reserved - end));
    return window;
}

void *guard_map(size_t size, int prot, int flags, int fd) { return map_between(size, prot, flags, fd, 0); }

void *guard_map_low(size_t size, int prot)
{
    return map_between(size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, MAP_32BIT);
}

void guard_unmap(void *window, size_t size) { munmap((uint8_t *)window - GUARD_SIZE, whole(size) + 2 * GUARD_SIZE); }
