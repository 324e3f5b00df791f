/*
 * Board: the PC's chips, their ports, addresses and interrupt wires.  One table of each in board.c.
 *
 * Everything here runs with the machine lock held, except board_new() and board_free().
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

#include "config/config.h"
#include "core/bus.h"
#include "core/clock.h"
#include "core/ram.h"
#include "devices/lapic.h"
#include "devices/pci.h"
#include "vm/apic-link.h"
#include "vm/chardev.h"

typedef struct Board Board;

typedef struct BoardWires {
    Ram *ram;
    Clock *clock;
    GMutex *lock;    /* the machine lock */
    unsigned ncpus;  /* 1 to CONFIG_MAX_CPUS; numbered from 0, the boot processor */
    uint8_t apic_id[CONFIG_MAX_CPUS]; /* initial ones; 0 for the first */
    IrqLine cpu_irq[CONFIG_MAX_CPUS]; /* INTR of each */
    uint64_t tsc_hz; /* of the guest's TSC; 0: unknown */
    uint64_t (*guest_tsc)(void *opaque);
    void (*nmi)(void *opaque, unsigned cpu);
    /* What the guest asks of the machine.  All only note it: the lock is held. */
    void (*power_off)(void *opaque);
    void (*reset)(void *opaque);
    void (*debug_exit)(void *opaque, unsigned status);
    void (*panicked)(void *opaque, uint8_t event); /* as PvpanicWires */
    void (*watchdog)(void *opaque);                /* it has expired */
    void (*cpu_init)(void *opaque, unsigned cpu);
    void (*cpu_startup)(void *opaque, unsigned cpu, uint8_t vector); /* SIPI */
    void *opaque;
    Chardev *serial[CONFIG_MAX_SERIAL]; /* NULL: no UART there; owned by the caller, outlive the board */
    Chardev *debugcon;                  /* NULL: output vanishes */
    bool is_firmware_boot;              /* the firmware sets PCI up itself */
} BoardWires;

Board *board_new(const Config *config, const BoardWires *wires, GError **error);
void board_free(Board *board);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Board, board_free)
void board_reset(Board *board);

/* board_publish: ACPI tables into guest RAM, where no firmware does it.  Returns: address of the RSDP, 0 without ACPI. */
uint64_t board_publish(Board *board);

uint64_t board_port_read(Board *board, uint16_t port, unsigned size);
void board_port_write(Board *board, uint16_t port, unsigned size, uint64_t value);
uint64_t board_mmio_read(Board *board, unsigned cpu, Gpa gpa, unsigned size); /* as processor @cpu sees it */
void board_mmio_write(Board *board, unsigned cpu, Gpa gpa, unsigned size, uint64_t value);
Lapic *board_lapic(Board *board, unsigned cpu);
/* board_hold: while held, serial ports take no input. */
void board_hold(Board *board, bool is_held);
/* board_each_state: names every chip's saved state, always in the same order.  board_each_pci_state: likewise PCI functions and bus, which
 * come after the devices behind them. */
typedef void (*BoardStateFunc)(void *opaque, const StateOps *ops, int instance, void *device);
void board_each_state(Board *board, BoardStateFunc func, void *opaque);
void board_each_pci_state(Board *board, BoardStateFunc func, void *opaque);
void board_eoi(Board *board, uint8_t vector); /* an engine's local APIC ended a level-triggered interrupt */
/* board_apic_link: to be told which vCPUs run, and asked for the registers where those have the local APICs. */
ApicLink *board_apic_link(Board *board);
void board_power_button(Board *board);
/* board_pci: where more devices are attached. */
PciBus *board_pci(Board *board);
