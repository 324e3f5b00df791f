#include "devices/pci-int.h"

#include <string.h>

/* The subsystem that SeaBIOS and guests know this kind of machine by. */
#define SUBSYSTEM_VENDOR 0x1af4
#define SUBSYSTEM        0x1100

static void open_range(PciDevice *device, unsigned first, unsigned last)
{
    memset(device->writable + first, 0xff, last - first + 1);
}

static void attach(PciBus *bus, PciDevice *device, uint8_t devfn)
{
    gboolean done = pci_attach(bus, device, devfn, NULL);
    g_assert(done);
}

/* 82441FX: DRAM and shadow (PAM) registers are stored; shadow RAM is always readable and writable here. */
static void host_bridge_init(PciDevice *device)
{
    static const PciIdentity identity = {
        .vendor = 0x8086,
        .device = 0x1237,
        .subsystem_vendor = SUBSYSTEM_VENDOR,
        .subsystem = SUBSYSTEM,
        .revision = 2,
        .class_code = 0x060000,
    };
    pci_device_init(device, "i440fx", &identity);
    open_range(device, 0x50, 0x72);
}

/* 82371SB (PIIX3) function 0: PIRQ routes; the rest is stored. */
static void isa_bridge_init(PciDevice *device)
{
    static const PciIdentity identity = {
        .vendor = 0x8086,
        .device = 0x7000,
        .subsystem_vendor = SUBSYSTEM_VENDOR,
        .subsystem = SUBSYSTEM,
        .class_code = 0x060100,
    };
    pci_device_init(device, "piix3", &identity);
    device->config[PCI_HEADER_TYPE] = 0x80; /* more functions */
    device->config[PCI_COMMAND] = 0x07;
    device->writable[PCI_COMMAND] = 0;
    open_range(device, 0x4c, 0x82);
    for (unsigned i = 0; i < PCI_NPIRQS; i++)
        device->config[PIIX_PIRQ_ROUTES + i] = PIIX_PIRQ_OFF;
}

/* 82371AB (PIIX4) function 3: where the PM ports are, which does not change. */
static void power_init(PciDevice *device)
{
    static const PciIdentity identity = {
        .vendor = 0x8086,
        .device = 0x7113,
        .subsystem_vendor = SUBSYSTEM_VENDOR,
        .subsystem = SUBSYSTEM,
        .revision = 3,
        .class_code = 0x068000,
        .interrupt_pin = 1,
    };
    pci_device_init(device, "piix4-pm", &identity);
    pci_config_set(device, 0x40, 4, 0x601); /* PMBA */
    device->config[0x80] = 0x01;            /* PMREGMISC: PM ports on */
    device->config[0x5b] = 0x02;            /* DEVACTB.APMC_EN: tells firmware that there is no SMM left to set up */
    device->config[PCI_INTERRUPT_LINE] = 9;
    device->writable[PCI_INTERRUPT_LINE] = 0; /* SCI is wired to IRQ 9, not to a PIRQ */
    device->config[PCI_COMMAND] = PCI_COMMAND_IO;
}

void pci_board_init(PciBus *bus)
{
    host_bridge_init(&bus->host_bridge);
    isa_bridge_init(&bus->isa_bridge);
    power_init(&bus->power);
    attach(bus, &bus->host_bridge, PCI_DEVFN(0, 0));
    attach(bus, &bus->isa_bridge, PCI_DEVFN(1, 0));
    attach(bus, &bus->power, PCI_DEVFN(1, 3));
}
