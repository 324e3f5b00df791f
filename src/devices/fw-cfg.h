/*
 * QEMU's firmware configuration interface: numbered items and named files that SeaBIOS, OVMF and Linux read.
 *
 * Source: QEMU docs/specs/fw_cfg.  Selector at port 0x510 (16-bit write), data at 0x511 (bytes), DMA address at 0x514
 * (big-endian 64-bit).  Items are read-only for the guest; DMA supports select, read and skip, and a DMA write reports
 * an error.  A guest buffer outside RAM ends the transfer with the error bit.  Thread: machine lock held.
 */
#pragma once

#include <stddef.h>

#include "core/bus.h"
#include "core/ram.h"
#include "core/stream.h"

/* Well-known keys. */
enum {
    FW_CFG_SIGNATURE = 0x00,
    FW_CFG_ID = 0x01,
    FW_CFG_UUID = 0x02,
    FW_CFG_RAM_SIZE = 0x03,
    FW_CFG_NOGRAPHIC = 0x04,
    FW_CFG_NCPUS = 0x05,
    FW_CFG_KERNEL_ADDR = 0x07,
    FW_CFG_KERNEL_SIZE = 0x08,
    FW_CFG_INITRD_ADDR = 0x0a,
    FW_CFG_INITRD_SIZE = 0x0b,
    FW_CFG_BOOT_DEVICE = 0x0c,
    FW_CFG_NUMA = 0x0d,
    FW_CFG_BOOT_MENU = 0x0e,
    FW_CFG_MAX_CPUS = 0x0f,
    FW_CFG_KERNEL_ENTRY = 0x10,
    FW_CFG_KERNEL_DATA = 0x11,
    FW_CFG_INITRD_DATA = 0x12,
    FW_CFG_CMDLINE_ADDR = 0x13,
    FW_CFG_CMDLINE_SIZE = 0x14,
    FW_CFG_CMDLINE_DATA = 0x15,
    FW_CFG_SETUP_ADDR = 0x16,
    FW_CFG_SETUP_SIZE = 0x17,
    FW_CFG_SETUP_DATA = 0x18,
    FW_CFG_FILE_DIR = 0x19,
    FW_CFG_FILE_FIRST = 0x20,
    FW_CFG_NKEYS = 0x100,
    FW_CFG_X86_ACPI_TABLES = 0x8000,
    FW_CFG_X86_SMBIOS = 0x8001,
    FW_CFG_X86_IRQ0 = 0x8002,
    FW_CFG_X86_E820 = 0x8003,
    FW_CFG_X86_HPET = 0x8004
};

typedef struct FwCfg FwCfg;

typedef struct FwCfgWires {
    const Ram *ram; /* for DMA */
} FwCfgWires;

extern const BusOps fw_cfg_ops;     /* 2 ports, 0x510 */
extern const BusOps fw_cfg_dma_ops; /* 8 ports, 0x514 */

FwCfg *fw_cfg_new(const FwCfgWires *wires); /* with signature "QEMU", the interface's ID and an empty file directory */
void fw_cfg_free(FwCfg *fw);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(FwCfg, fw_cfg_free)
void fw_cfg_reset(FwCfg *fw); /* selector and DMA state; items stay */

/* fw_cfg_add: item @key (below 0x20, or 0x8000 up to 0x801f) is a copy of @data; replaces an earlier one. */
void fw_cfg_add(FwCfg *fw, uint16_t key, const void *data, size_t size);
void fw_cfg_add_u16(FwCfg *fw, uint16_t key, uint16_t value);
void fw_cfg_add_u32(FwCfg *fw, uint16_t key, uint32_t value);
void fw_cfg_add_u64(FwCfg *fw, uint16_t key, uint64_t value);
/* fw_cfg_add_file: file @name (at most 55 characters) is a copy of @data; replaces an earlier one of that name.  FALSE
 * when the table is full or the name is too long (VMM_ERROR_USAGE). */
gboolean fw_cfg_add_file(FwCfg *fw, const char *name, const void *data, size_t size, GError **error);
extern const StateOps fw_cfg_state; /* device is the FwCfg */
