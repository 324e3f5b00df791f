#include "devices/block.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "devices/nbd-disk.h"

#define CLUSTER_SIZE (uint64_t)BLOCK_CLUSTER_SIZE /* of an overlay: all of a cluster is in one of the two files */

struct Block {
    int fd;
    int overlay_fd;   /* -1: none */
    NbdDisk *nbd;     /* or NULL: everything above is unused then */
    uint8_t *present; /* one bit a cluster: it is in the overlay */
    uint64_t size;
    BlockMode mode;
};

typedef ssize_t (*Transfer)(int fd, const struct iovec *iov, int count, off_t offset);

/* Runs @transfer to the end: short transfers and signals go on.  Reads past the end of a file that shrank give zeros.
 */
static int transfer_all(Transfer transfer, int fd, const struct iovec *iov, unsigned count, uint64_t offset)
{
    g_autofree struct iovec *left = g_memdup2(iov, count * sizeof *iov);
    struct iovec *next = left;
    while (count) {
        ssize_t done = transfer(fd, next, (int)MIN(count, 1024u), (off_t)offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return errno;
        if (done == 0) {
            if (transfer != preadv)
                return EIO;
            for (; count; count--, next++)
                memset(next->iov_base, 0, next->iov_len);
            return 0;
        }
        offset += (uint64_t)done;
        while (count && (size_t)done >= next->iov_len) {
            done -= (ssize_t)next->iov_len;
            next++;
            count--;
        }
        if (count) {
            next->iov_base = (uint8_t *)next->iov_base + done;
            next->iov_len -= (size_t)done;
        }
    }
    return 0;
}

static int read_at(int fd, void *bytes, size_t size, uint64_t offset)
{
    return transfer_all(preadv, fd, &(struct iovec){.iov_base = bytes, .iov_len = size}, 1, offset);
}

static int write_at(int fd, const void *bytes, size_t size, uint64_t offset)
{
    return transfer_all(pwritev, fd, &(struct iovec){.iov_base = (void *)(uintptr_t)bytes, .iov_len = size}, 1, offset);
}

static bool is_present(const Block *block, uint64_t cluster)
{
    return block->present[cluster / 8] >> (cluster % 8) & 1;
}

/* Makes sure that @cluster is in the overlay, whole, unless it is about to be written whole. */
static int bring(Block *block, uint64_t cluster, bool is_whole)
{
    if (is_present(block, cluster))
        return 0;
    if (!is_whole) {
        g_autofree uint8_t *bytes = g_malloc(CLUSTER_SIZE);
        uint64_t start = cluster * CLUSTER_SIZE;
        size_t size = MIN(CLUSTER_SIZE, block->size - start);
        int status = read_at(block->fd, bytes, size, start);
        if (status == 0)
            status = write_at(block->overlay_fd, bytes, size, start);
        if (status)
            return status;
    }
    block->present[cluster / 8] |= (uint8_t)(1u << (cluster % 8));
    return 0;
}

static int overlay_read(Block *block, uint8_t *bytes, uint64_t size, uint64_t offset)
{
    while (size) {
        uint64_t cluster = offset / CLUSTER_SIZE, end = (cluster + 1) * CLUSTER_SIZE;
        bool here = is_present(block, cluster);
        while (end < offset + size && is_present(block, end / CLUSTER_SIZE) == here)
            end += CLUSTER_SIZE;
        size_t piece = MIN(size, end - offset);
        int status = read_at(here ? block->overlay_fd : block->fd, bytes, piece, offset);
        if (status)
            return status;
        bytes += piece;
        offset += piece;
        size -= piece;
    }
    return 0;
}

static int overlay_write(Block *block, const uint8_t *bytes, uint64_t size, uint64_t offset)
{
    for (uint64_t at = offset; at < offset + size;) {
        uint64_t cluster = at / CLUSTER_SIZE, end = MIN((cluster + 1) * CLUSTER_SIZE, block->size);
        int status = bring(block, cluster, at == cluster * CLUSTER_SIZE && end <= offset + size);
        if (status)
            return status;
        at = end;
    }
    return write_at(block->overlay_fd, bytes, size, offset);
}

static int nbd_transfer(Block *block, bool is_write, const struct iovec *iov, unsigned count, uint64_t offset)
{
    int status = 0;
    for (unsigned i = 0; i < count && status == 0; i++) {
        status = is_write ? nbd_disk_write(block->nbd, iov[i].iov_base, iov[i].iov_len, offset)
                          : nbd_disk_read(block->nbd, iov[i].iov_base, iov[i].iov_len, offset);
        offset += iov[i].iov_len;
    }
    return status;
}

int block_read(Block *block, const struct iovec *iov, unsigned count, uint64_t offset)
{
    if (block->nbd)
        return nbd_transfer(block, false, iov, count, offset);
    if (block->overlay_fd < 0)
        return transfer_all(preadv, block->fd, iov, count, offset);
    int status = 0;
    for (unsigned i = 0; i < count && status == 0; i++) {
        status = overlay_read(block, iov[i].iov_base, iov[i].iov_len, offset);
        offset += iov[i].iov_len;
    }
    return status;
}

int block_write(Block *block, const struct iovec *iov, unsigned count, uint64_t offset)
{
    if (block->mode == BLOCK_READ_ONLY)
        return EROFS;
    if (block->nbd)
        return nbd_transfer(block, true, iov, count, offset);
    if (block->overlay_fd < 0)
        return transfer_all(pwritev, block->fd, iov, count, offset);
    int status = 0;
    for (unsigned i = 0; i < count && status == 0; i++) {
        status = overlay_write(block, iov[i].iov_base, iov[i].iov_len, offset);
        offset += iov[i].iov_len;
    }
    return status;
}

int block_zero(Block *block, uint64_t offset, uint64_t length)
{
    if (block->mode == BLOCK_READ_ONLY)
        return EROFS;
    int refusal = block->nbd ? nbd_disk_zero(block->nbd, offset, length) : ENOTSUP;
    if (refusal != ENOTSUP)
        return refusal;
    if (!block->nbd && block->overlay_fd < 0 &&
        fallocate(block->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length) == 0)
        return 0;
    g_autofree uint8_t *zeros = g_malloc0(CLUSTER_SIZE);
    while (length) {
        struct iovec iov = {.iov_base = zeros, .iov_len = MIN(length, CLUSTER_SIZE)};
        int status = block_write(block, &iov, 1, offset);
        if (status)
            return status;
        offset += iov.iov_len;
        length -= iov.iov_len;
    }
    return 0;
}

int block_flush(Block *block)
{
    if (block->nbd && block->mode == BLOCK_READ_WRITE)
        return nbd_disk_flush(block->nbd);
    if (block->nbd || block->overlay_fd >= 0 || block->mode == BLOCK_READ_ONLY)
        return 0;
    return fdatasync(block->fd) < 0 ? errno : 0;
}

bool block_has_overlay(const Block *block) { return block->overlay_fd >= 0; }

int block_overlay_next(Block *block, uint64_t from, uint8_t *out_bytes, uint64_t *out_offset, size_t *out_size)
{
    for (uint64_t cluster = from / CLUSTER_SIZE; cluster * CLUSTER_SIZE < block->size; cluster++)
        if (is_present(block, cluster)) {
            *out_offset = cluster * CLUSTER_SIZE;
            *out_size = MIN(CLUSTER_SIZE, block->size - *out_offset);
            return read_at(block->overlay_fd, out_bytes, *out_size, *out_offset);
        }
    return ENODATA;
}

void block_overlay_forget(Block *block)
{
    memset(block->present, 0, block->size / CLUSTER_SIZE / 8 + 1);
    /* Only to save room: what is not marked is not read. */
    fallocate(block->overlay_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)MAX(block->size, 1));
}

int64_t block_date_ns(const Block *block)
{
    struct stat st;
    return fstat(block->fd, &st) < 0 ? 0 : (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
}

uint64_t block_size(const Block *block) { return block->size; }
bool block_is_read_only(const Block *block) { return block->mode == BLOCK_READ_ONLY; }

static gboolean open_overlay(Block *block, GError **error)
{
    const char *folder = g_get_tmp_dir();
    g_autofree char *name = g_strdup_printf("%s/segue-overlay-XXXXXX", folder);
    block->overlay_fd = mkostemp(name, O_CLOEXEC);
    if (block->overlay_fd < 0) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_HOST, "cannot make a temporary file in %s for snapshot=on: %s", folder,
                    g_strerror(errno));
        return FALSE;
    }
    unlink(name);
    block->present = g_malloc0(block->size / CLUSTER_SIZE / 8 + 1);
    return TRUE;
}

/* The size, for files and block devices; false with errno for other things. */
static bool find_size(int fd, uint64_t *out_size)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return false;
    if (S_ISREG(st.st_mode)) {
        *out_size = (uint64_t)st.st_size;
        return true;
    }
    if (S_ISBLK(st.st_mode))
        return ioctl(fd, BLKGETSIZE64, out_size) == 0;
    errno = S_ISDIR(st.st_mode) ? EISDIR : ENOTBLK;
    return false;
}

Block *block_open_raw(const char *path, BlockMode mode, GError **error)
{
    g_autoptr(Block) block = g_new0(Block, 1);
    block->overlay_fd = -1;
    block->mode = mode;
    block->fd = open(path, (mode == BLOCK_READ_WRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (block->fd < 0 || !find_size(block->fd, &block->size)) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "cannot open disk image %s: %s", path, g_strerror(errno));
        return NULL;
    }
    /* Two writers would ruin the image. */
    if (mode == BLOCK_READ_WRITE && flock(block->fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "disk image %s is in use by another process", path);
        return NULL;
    }
    if (mode == BLOCK_SNAPSHOT && !open_overlay(block, error))
        return NULL;
    return g_steal_pointer(&block);
}

Block *block_open(const char *path, const char *format, BlockMode mode, GError **error)
{
    if (!format || !strcmp(format, "raw"))
        return block_open_raw(path, mode, error);
    g_autoptr(Block) block = g_new0(Block, 1);
    block->fd = block->overlay_fd = -1;
    block->mode = mode;
    block->nbd = nbd_disk_open(path, format, mode == BLOCK_READ_ONLY, mode == BLOCK_SNAPSHOT, error);
    if (!block->nbd)
        return NULL;
    block->size = nbd_disk_size(block->nbd);
    return g_steal_pointer(&block);
}

void block_free(Block *block)
{
    if (!block)
        return;
    if (block->fd >= 0)
        close(block->fd);
    if (block->overlay_fd >= 0)
        close(block->overlay_fd);
    nbd_disk_free(block->nbd);
    g_free(block->present);
    g_free(block);
}
