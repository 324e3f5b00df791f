/*
 * The ports and memory that published x86 exams test with, as QEMU's pc-testdev has them.
 *
 * Source: QEMU hw/misc/pc-testdev (interface only).  Port 0xe0–0xe3: four bytes that can be read back; 0xe4–0xe7: "flush a page", no effect
 * here; 0xe8–0xeb: the four bytes again, a byte at a time; 0x2000 + n: level of interrupt line n; 64 KiB of plain memory behind
 * MMIO at 0xff000000.  Thread: machine lock held.
 */
#pragma once

#include "core/bus.h"
#include "core/irq.h"
#include "core/stream.h"

#define PC_TESTDEV_PORTS      0xe0u
#define PC_TESTDEV_NPORTS     12u
#define PC_TESTDEV_LINES      0x2000u
#define PC_TESTDEV_NLINES     24u
#define PC_TESTDEV_MMIO       UINT64_C(0xff000000)
#define PC_TESTDEV_MMIO_SIZE  0x10000u

typedef struct PcTestdev PcTestdev;

extern const BusOps pc_testdev_port_ops, pc_testdev_line_ops, pc_testdev_mmio_ops;

/* pc_testdev_new: @line's number is replaced by 0–23, ISA interrupts and I/O APIC pins. */
PcTestdev *pc_testdev_new(IrqLine line);
void pc_testdev_free(PcTestdev *device);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PcTestdev, pc_testdev_free)
extern const StateOps pc_testdev_state; /* device is the PcTestdev */
