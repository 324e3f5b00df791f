/*
 * Block: a disk image as bytes: a raw file, or a raw file under a temporary overlay that takes the writes
 * (snapshot=on).
 *
 * Calls block the caller and come from one thread at a time, a device's own worker; they take no lock.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

typedef struct Block Block;

typedef enum BlockMode {
    BLOCK_READ_WRITE,
    BLOCK_READ_ONLY,
    BLOCK_SNAPSHOT, /* reads come from the file, writes go to an unlinked temporary file and are forgotten at the end */
} BlockMode;

/* block_open_raw: a regular file or block device.  NULL with VMM_ERROR_USAGE naming @path. */
Block *block_open_raw(const char *path, BlockMode mode, GError **error);
void block_free(Block *block);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Block, block_free)

uint64_t block_size(const Block *block); /* bytes */
bool block_is_read_only(const Block *block);

/* block_read, block_write: @count buffers from byte @offset; the range must lie within the size.  block_flush: to
 * stable storage. block_zero: @length zero bytes at @offset.  Return: 0, or an errno value. */
int block_read(Block *block, const struct iovec *iov, unsigned count, uint64_t offset);
int block_write(Block *block, const struct iovec *iov, unsigned count, uint64_t offset);
int block_zero(Block *block, uint64_t offset, uint64_t length);
int block_flush(Block *block);
