/* A whole board of chips on a fake clock, and random accesses to it. */
#pragma once

#include "chip-script.h"
#include "devices/acpi-pm.h"
#include "devices/fw-cfg.h"
#include "devices/hpet.h"
#include "devices/i8042.h"
#include "devices/i8254.h"
#include "devices/i8259.h"
#include "devices/ioapic.h"
#include "devices/lapic.h"
#include "devices/mc146818.h"
#include "devices/ns16550.h"
#include "devices/virtio-console.h"
#include "devices/virtio-pci.h"
#include "devices/virtio-rng.h"

#define RANDOM_BOARD_RAM 0x100000

typedef struct RandomBoard {
    ChipScript script;
    uint8_t *memory;
    Ram *ram;
    I8259 *pic;
    Ioapic *ioapic;
    LapicBus *lapic_bus;
    Lapic *lapic;
    I8254 *pit;
    Mc146818 *rtc;
    I8042 *kbc;
    Hpet *hpet;
    AcpiPm *pm;
    PciBus *pci;
    FwCfg *fw;
    Ns16550 *uart;
    VirtioRng *rng;
    VirtioConsole *console;
    VirtioPci *rng_pci, *console_pci;
    unsigned nirqs; /* changes of lines, bounded by time and accesses */
    GString *answers; /* NULL, or what each step gave back, as text */
} RandomBoard;

void random_board_build(RandomBoard *board); /* and maps the chips */
void random_board_clear(RandomBoard *board);
void random_board_step(RandomBoard *board, GRand *rand);
