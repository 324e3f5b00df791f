/*
 * The overlays of disks with snapshot=on as sections of saved state, a cluster each.  What is in the images themselves is not saved: the facts
 * of the machine have their sizes and dates.   Thread: any one, while the guest and its disks stand still.
 */
#pragma once

#include "core/sections.h"
#include "vm/pci-devices.h"

#define SNAPSHOT_DISK_SECTION "disk"

/* snapshot_disks_write: FALSE with VMM_ERROR_HOST. */
gboolean snapshot_disks_write(SectionWriter *writer, const PciDevices *devices, GError **error);
void snapshot_disks_forget(const PciDevices *devices);
/* snapshot_disk_check: whether @section can be loaded.  snapshot_disk_load: does it, too.  FALSE with VMM_ERROR_USAGE; VMM_ERROR_HOST. */
gboolean snapshot_disk_check(const PciDevices *devices, const Section *section, GError **error);
gboolean snapshot_disk_load(const PciDevices *devices, const Section *section, GError **error);
