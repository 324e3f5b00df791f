/*
 * Windows: memory that guest-made offsets reach, between two guard regions that nothing may touch, so that a mistake next to it is a fault and
 * not somebody else's data.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define GUARD_SIZE ((size_t)2 << 20) /* on each side; windows are aligned to it */

/* guard_map: as mmap() with @size, @prot, @flags (without MAP_FIXED) and @fd, at a multiple of GUARD_SIZE.  MAP_FAILED with errno set. */
void *guard_map(size_t size, int prot, int flags, int fd);
/* guard_map_low: the same for private anonymous memory below 2 GiB, where addresses fit a signed displacement.  MAP_FAILED when there is no room. */
void *guard_map_low(size_t size, int prot);
/* guard_unmap: the window and its guards; @window from guard_map() with the same @size. */
void guard_unmap(void *window, size_t size);
