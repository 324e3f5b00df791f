#include "devices/fw-cfg.h"

#include <string.h>

#include "core/error.h"

#define NFILES          (FW_CFG_NKEYS - FW_CFG_FILE_FIRST)
#define NARCH_KEYS      0x20
#define NAME_SIZE       56
#define FILE_ENTRY_SIZE 64 /* big-endian size (4), key (2), reserved (2), name */

#define ID_VALUE      0x3u                         /* classic interface, DMA */
#define DMA_SIGNATURE UINT64_C(0x51454d5520434647) /* "QEMU CFG" */

#define DMA_ERROR  0x01u
#define DMA_READ   0x02u
#define DMA_SKIP   0x04u
#define DMA_SELECT 0x08u
#define DMA_WRITE  0x10u

typedef struct FwCfgItem {
    uint8_t *data; /* NULL: no such item */
    size_t size;
} FwCfgItem;

typedef struct FwCfgState {
    uint16_t key;
    uint32_t offset;   /* in the selected item */
    uint32_t dma_high; /* upper half of the DMA address, until the lower half is written */
} FwCfgState;

struct FwCfg {
    FwCfgWires wires;
    FwCfgState s;
    FwCfgItem items[FW_CFG_NKEYS];
    FwCfgItem arch_items[NARCH_KEYS];
    char names[NFILES][NAME_SIZE];
    unsigned nfiles;
};

static FwCfgItem *item_at(FwCfg *fw, uint16_t key)
{
    unsigned index = key & 0x3fff; /* bit 14: write channel, gone */
    if (key & 0x8000)
        return index < NARCH_KEYS ? &fw->arch_items[index] : NULL;
    return index < FW_CFG_NKEYS ? &fw->items[index] : NULL;
}

static void set_item(FwCfgItem *item, const void *data, size_t size)
{
    g_free(item->data);
    item->data = g_malloc(MAX(size, 1));
    item->size = size;
    if (size)
        memcpy(item->data, data, size);
}

void fw_cfg_add(FwCfg *fw, uint16_t key, const void *data, size_t size)
{
    FwCfgItem *item = item_at(fw, key);
    g_return_if_fail(item && size <= UINT32_MAX);
    set_item(item, data, size);
}

void fw_cfg_add_u16(FwCfg *fw, uint16_t key, uint16_t value)
{
    value = GUINT16_TO_LE(value);
    fw_cfg_add(fw, key, &value, sizeof value);
}

void fw_cfg_add_u32(FwCfg *fw, uint16_t key, uint32_t value)
{
    value = GUINT32_TO_LE(value);
    fw_cfg_add(fw, key, &value, sizeof value);
}

void fw_cfg_add_u64(FwCfg *fw, uint16_t key, uint64_t value)
{
    value = GUINT64_TO_LE(value);
    fw_cfg_add(fw, key, &value, sizeof value);
}

static void put_be32(uint8_t *bytes, uint32_t value)
{
    value = GUINT32_TO_BE(value);
    memcpy(bytes, &value, sizeof value);
}

/* Rebuilds the directory: a big-endian count, then one entry a file. */
static void update_directory(FwCfg *fw)
{
    size_t size = 4 + (size_t)fw->nfiles * FILE_ENTRY_SIZE;
    g_autofree uint8_t *directory = g_malloc0(size);
    put_be32(directory, fw->nfiles);
    for (unsigned i = 0; i < fw->nfiles; i++) {
        uint8_t *entry = directory + 4 + (size_t)i * FILE_ENTRY_SIZE;
        unsigned key = FW_CFG_FILE_FIRST + i;
        put_be32(entry, (uint32_t)fw->items[key].size);
        put_be32(entry + 4, key << 16);
        memcpy(entry + 8, fw->names[i], NAME_SIZE);
    }
    set_item(&fw->items[FW_CFG_FILE_DIR], directory, size);
}

gboolean fw_cfg_add_file(FwCfg *fw, const char *name, const void *data, size_t size, GError **error)
{
    unsigned index;
    for (index = 0; index < fw->nfiles; index++)
        if (strcmp(fw->names[index], name) == 0)
            break;
    if (strlen(name) >= NAME_SIZE || size > UINT32_MAX) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE,
                    "fw_cfg file \"%s\": the name has more than %d characters or the file is too large", name,
                    NAME_SIZE - 1);
        return FALSE;
    }
    if (index == NFILES) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "fw_cfg file \"%s\": there are already %d files", name, NFILES);
        return FALSE;
    }
    if (index == fw->nfiles)
        fw->nfiles++;
    memset(fw->names[index], 0, NAME_SIZE);
    memcpy(fw->names[index], name, strlen(name));
    set_item(&fw->items[FW_CFG_FILE_FIRST + index], data, size);
    update_directory(fw);
    return TRUE;
}

static void select_key(FwCfg *fw, uint16_t key)
{
    fw->s.key = key;
    fw->s.offset = 0;
}

static uint64_t fw_cfg_read(void *device, uint64_t offset, unsigned size)
{
    FwCfg *fw = device;
    const FwCfgItem *item = item_at(fw, fw->s.key);
    /* Data is bytes at the second port; beyond the end, and without an item, zero. */
    if (offset == 0 || size != 1 || !item || fw->s.offset >= item->size)
        return 0;
    return item->data[fw->s.offset++];
}

static void fw_cfg_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    if (offset == 0 && size == 2)
        select_key(device, (uint16_t)value);
}

const BusOps fw_cfg_ops = {.name = "fw-cfg", .read = fw_cfg_read, .write = fw_cfg_write, .max_size = 2};

/* dma_copy: copies the item, then zeros, to @length bytes at @address.  False when they are not all RAM. */
static bool dma_copy(FwCfg *fw, const FwCfgItem *item, Gpa address, uint32_t length)
{
    const RamSlot *slot = ram_find(fw->wires.ram, address);
    uint8_t *to = ram_slice(fw->wires.ram, address, length);
    if (!to || !slot || slot->is_rom)
        return false;
    size_t left = item && fw->s.offset < item->size ? item->size - fw->s.offset : 0;
    size_t copied = MIN(left, length);
    if (copied)
        memcpy(to, item->data + fw->s.offset, copied);
    memset(to + copied, 0, length - copied);
    ram_wrote(fw->wires.ram, address, length);
    return true;
}

static void dma_run(FwCfg *fw, Gpa at)
{
    /* FWCfgDmaAccess, big-endian: control (4), length (4), address (8). */
    uint8_t *access = ram_slice(fw->wires.ram, at, 16);
    if (!access)
        return;
    uint32_t control, length;
    uint64_t address;
    memcpy(&control, access, 4);
    memcpy(&length, access + 4, 4);
    memcpy(&address, access + 8, 8);
    control = GUINT32_FROM_BE(control);
    length = GUINT32_FROM_BE(length);
    address = GUINT64_FROM_BE(address);
    bool done = true;
    if (control & DMA_SELECT)
        select_key(fw, (uint16_t)(control >> 16));
    const FwCfgItem *item = item_at(fw, fw->s.key);
    if (control & DMA_READ)
        done = length == 0 || dma_copy(fw, item, address, length);
    else if (control & DMA_WRITE)
        done = false;
    if (done && control & (DMA_READ | DMA_SKIP))
        fw->s.offset = length > UINT32_MAX - fw->s.offset ? UINT32_MAX : fw->s.offset + length;
    put_be32(access, done ? 0 : DMA_ERROR);
    ram_wrote(fw->wires.ram, at, 4);
}

static uint64_t dma_read(void *device, uint64_t offset, unsigned size)
{
    uint64_t signature = GUINT64_TO_BE(DMA_SIGNATURE) >> (8 * offset);
    return size == 8 ? signature : signature & ((UINT64_C(1) << (8 * size)) - 1);
}

static void dma_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    FwCfg *fw = device;
    if (size == 4 && offset == 0) {
        fw->s.dma_high = GUINT32_FROM_BE((uint32_t)value);
    } else if (size == 4 && offset == 4) {
        Gpa at = (uint64_t)fw->s.dma_high << 32 | GUINT32_FROM_BE((uint32_t)value);
        fw->s.dma_high = 0;
        dma_run(fw, at);
    } else if (size == 8) {
        fw->s.dma_high = 0;
        dma_run(fw, GUINT64_FROM_BE(value));
    }
}

const BusOps fw_cfg_dma_ops = {.name = "fw-cfg-dma", .read = dma_read, .write = dma_write, .max_size = 8};

void fw_cfg_reset(FwCfg *fw) { fw->s = (FwCfgState){0}; }

FwCfg *fw_cfg_new(const FwCfgWires *wires)
{
    FwCfg *fw = g_new0(FwCfg, 1);
    fw->wires = *wires;
    fw_cfg_add(fw, FW_CFG_SIGNATURE, "QEMU", 4);
    fw_cfg_add_u32(fw, FW_CFG_ID, ID_VALUE);
    update_directory(fw);
    return fw;
}

void fw_cfg_free(FwCfg *fw)
{
    if (!fw)
        return;
    for (unsigned i = 0; i < FW_CFG_NKEYS; i++)
        g_free(fw->items[i].data);
    for (unsigned i = 0; i < NARCH_KEYS; i++)
        g_free(fw->arch_items[i].data);
    g_free(fw);
}

/* --- saved state: what the items say follows from the configuration --- */

static void state_visit(void *device, Stream *stream)
{
    FwCfg *fw = device;
    stream_u16(stream, &fw->s.key);
    stream_u32(stream, &fw->s.offset);
    stream_u32(stream, &fw->s.dma_high);
}

const StateOps fw_cfg_state = {.name = "fw-cfg", .version = 1, .visit = state_visit};
