/*
 * Block: a disk image as bytes: a raw file, a raw file under a temporary overlay that takes the writes (snapshot=on), or an image in another
 * format, which qemu-nbd serves (nbd-disk.h).
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
/* block_open: @format NULL or "raw": as block_open_raw(); else as nbd_disk_open() says. */
Block *block_open(const char *path, const char *format, BlockMode mode, GError **error);
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

/* The overlay of BLOCK_SNAPSHOT, for saved guests, while no request is on its way.
 * block_overlay_next: the first cluster at or behind byte @from that is in it: bytes [*out_offset, *out_offset + *out_size) of the disk.
 * @out_bytes: room for BLOCK_CLUSTER_SIZE.   Returns: 0, ENODATA behind the last one, or another errno value.
 * block_overlay_forget: the disk is what the file is.   block_date_ns: when the file was written last. */
#define BLOCK_CLUSTER_SIZE 65536u
bool block_has_overlay(const Block *block);
int block_overlay_next(Block *block, uint64_t from, uint8_t *out_bytes, uint64_t *out_offset, size_t *out_size);
void block_overlay_forget(Block *block);
int64_t block_date_ns(const Block *block);
