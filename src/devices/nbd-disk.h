/*
 * NbdDisk: a disk image in a format that qemu-nbd knows (qcow2, vmdk, vdi, vpc, …, with backing files), served by a qemu-nbd of our own.
 *
 * It listens on a socket that it gets from us and that has no name when nbd_disk_open() returns; it serves one connection and ends with it, or with
 * this process.  Calls block the caller and come from one thread at a time; they take no lock.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct NbdDisk NbdDisk;

/* nbd_disk_open: starts qemu-nbd, so before the sandbox.  @is_snapshot: what is written is forgotten at the end.  NULL with VMM_ERROR_USAGE when the
 * image cannot be opened as @format, VMM_ERROR_HOST when there is no qemu-nbd. */
NbdDisk *nbd_disk_open(const char *path, const char *format, bool is_read_only, bool is_snapshot, GError **error);
void nbd_disk_free(NbdDisk *disk); /* waits until qemu-nbd has written everything */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NbdDisk, nbd_disk_free)

uint64_t nbd_disk_size(const NbdDisk *disk); /* bytes */

/* Return: 0, or an errno value.  nbd_disk_zero: ENOTSUP when zeros have to be written. */
int nbd_disk_read(NbdDisk *disk, void *out_bytes, uint64_t size, uint64_t offset);
int nbd_disk_write(NbdDisk *disk, const void *bytes, uint64_t size, uint64_t offset);
int nbd_disk_zero(NbdDisk *disk, uint64_t offset, uint64_t size);
int nbd_disk_flush(NbdDisk *disk);
