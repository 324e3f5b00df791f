#include "vm/snapshot-disk.h"

#include <errno.h>

#include "core/error.h"
#include "devices/block.h"

static const StateOps cluster_state = { .name = SNAPSHOT_DISK_SECTION, .version = 1 };

static gboolean fail(int errnum, GError **error)
{
    g_set_error(error, VMM_ERROR, VMM_ERROR_HOST, "a disk's overlay: %s", g_strerror(errnum));
    return FALSE;
}

/* The fields before the bytes. */
static void head_visit(Stream *stream, uint16_t *disk, uint64_t *offset)
{
    stream_u16(stream, disk);
    stream_u64(stream, offset);
}

static gboolean cluster_write(SectionWriter *writer, uint16_t disk, uint64_t offset, uint8_t *bytes, size_t size, GError **error)
{
    g_autoptr(Stream) stream = stream_new_save();
    head_visit(stream, &disk, &offset);
    stream_bytes(stream, bytes, size);
    size_t total;
    const uint8_t *saved = stream_saved(stream, &total);
    return section_write(writer, cluster_state.name, cluster_state.version, saved, total, error);
}

gboolean snapshot_disks_write(SectionWriter *writer, const PciDevices *devices, GError **error)
{
    g_autofree uint8_t *bytes = g_malloc(BLOCK_CLUSTER_SIZE);
    Block *block;
    for (unsigned disk = 0; (block = pci_devices_overlay(devices, disk)); disk++) {
        uint64_t offset;
        size_t size;
        int status = block_overlay_next(block, 0, bytes, &offset, &size);
        for (; status == 0; status = block_overlay_next(block, offset + size, bytes, &offset, &size))
            if (!cluster_write(writer, (uint16_t)disk, offset, bytes, size, error))
                return FALSE;
        if (status != ENODATA)
            return fail(status, error);
    }
    return TRUE;
}

void snapshot_disks_forget(const PciDevices *devices)
{
    Block *block;
    for (unsigned disk = 0; (block = pci_devices_overlay(devices, disk)); disk++)
        block_overlay_forget(block);
}

/* Returns: the disk, or NULL; *out_bytes are the section's. */
static Block *cluster_read(const PciDevices *devices, const Section *section, uint64_t *out_offset, const uint8_t **out_bytes, size_t *out_size,
                           GError **error)
{
    uint16_t disk = 0;
    *out_offset = 0;
    g_autoptr(Stream) stream = stream_new_load(section->name, section->version, section->bytes, section->size);
    stream_check(stream, section->version == cluster_state.version, "version, which this Segue does not read");
    head_visit(stream, &disk, out_offset);
    *out_bytes = stream_left(stream, out_size);
    Block *block = pci_devices_overlay(devices, disk);
    bool is_well = stream_check(stream, block != NULL, "number of a disk") && stream_check(stream, *out_offset % BLOCK_CLUSTER_SIZE == 0, "place") &&
                   stream_check(stream, *out_offset < block_size(block) &&
                                *out_size == MIN(BLOCK_CLUSTER_SIZE, block_size(block) - *out_offset), "size");
    if (!is_well)
        stream_finish(stream, error);
    return is_well ? block : NULL;
}

gboolean snapshot_disk_check(const PciDevices *devices, const Section *section, GError **error)
{
    uint64_t offset;
    const uint8_t *bytes;
    size_t size;
    return cluster_read(devices, section, &offset, &bytes, &size, error) != NULL;
}

gboolean snapshot_disk_load(const PciDevices *devices, const Section *section, GError **error)
{
    uint64_t offset;
    const uint8_t *bytes;
    size_t size;
    Block *block = cluster_read(devices, section, &offset, &bytes, &size, error);
    if (!block)
        return FALSE;
    int status = block_write(block, &(struct iovec){ .iov_base = (void *)(uintptr_t)bytes, .iov_len = size }, 1, offset);
    return status == 0 || fail(status, error);
}
