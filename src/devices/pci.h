/*
 * PCI: configuration mechanism #1, bus 0 with its devices, BARs and interrupt routing.
 *
 * Source: PCI Local Bus 3.0, chapter 6 (configuration space, MSI, MSI-X); Intel 440FX and 82371SB datasheets for the
 * host bridge's ports, PIRQ route registers (0x60–0x63 of 00:01.0) and reset control (0xcf9).  INTx pin p (0–3) of slot
 * s is PIRQ (s + p - 1) & 3; PIRQs reach ISA IRQs through the route registers, on the 8259 and on the I/O APIC pin with
 * the same number, as in QEMU's "pc". A BAR's range is on its Bus exactly while the command register enables it; one
 * that would overlap another stays off. Thread: machine lock held.
 */
#pragma once

#include "core/bus.h"
#include "core/irq.h"
#include "core/stream.h"
#include "devices/apic-message.h"

#define PCI_CONFIG_SIZE           256
#define PCI_NBARS                 6
#define PCI_DEVFN(slot, function) (((slot) << 3) | (function))

/* Offsets in the header. */
enum {
    PCI_VENDOR_ID = 0x00,
    PCI_DEVICE_ID = 0x02,
    PCI_COMMAND = 0x04,
    PCI_STATUS = 0x06,
    PCI_REVISION = 0x08,
    PCI_CLASS = 0x09,
    PCI_HEADER_TYPE = 0x0e,
    PCI_BAR0 = 0x10,
    PCI_SUBSYSTEM_VENDOR = 0x2c,
    PCI_SUBSYSTEM_ID = 0x2e,
    PCI_ROM = 0x30,
    PCI_CAPABILITIES = 0x34,
    PCI_INTERRUPT_LINE = 0x3c,
    PCI_INTERRUPT_PIN = 0x3d
};
#define PCI_COMMAND_IO           0x001u
#define PCI_COMMAND_MEMORY       0x002u
#define PCI_COMMAND_MASTER       0x004u
#define PCI_COMMAND_INTX_DISABLE 0x400u
#define PCI_CAP_MSI              0x05u
#define PCI_CAP_VENDOR           0x09u
#define PCI_CAP_MSIX             0x11u

typedef struct PciBus PciBus;
typedef struct PciDevice PciDevice;

typedef struct PciBar {
    uint64_t size;     /* bytes, a power of two, at least 4 (I/O) or 16 (memory); 0: no BAR */
    bool is_io, is_64; /* is_64 uses the next register too */
    bool is_prefetchable;
    const BusOps *ops;
    void *device;
    uint64_t mapped; /* where it is on its Bus, if is_mapped */
    bool is_mapped;
} PciBar;

/* A device's side of MSI-X; the vector table lives in one of its memory BARs. */
typedef struct PciMsix {
    unsigned nvectors; /* 0: no MSI-X */
    uint8_t capability;
    struct {
        uint64_t address;
        uint32_t data, control; /* control bit 0: masked */
    } vector[64];
    uint64_t pending; /* one bit a vector */
} PciMsix;

/* Embedded first in a device, or used alone.  Fill vendor, class and so on with pci_config_set(), then BARs and
 * capabilities, then pci_attach(). */
struct PciDevice {
    const char *name;
    uint8_t devfn;
    PciBus *bus; /* set by pci_attach() */
    uint8_t config[PCI_CONFIG_SIZE];
    uint8_t writable[PCI_CONFIG_SIZE];  /* bits the guest may change */
    uint8_t clearable[PCI_CONFIG_SIZE]; /* bits the guest clears by writing one */
    uint8_t reset_config[PCI_CONFIG_SIZE];
    PciBar bar[PCI_NBARS];
    uint8_t next_capability; /* where the next one goes */
    bool intx_level;
    uint8_t msi_capability; /* 0: none */
    PciMsix msix;
    /* After the guest wrote [offset, offset + size) of config space; may be NULL. */
    void (*config_written)(PciDevice *device, unsigned offset, unsigned size);
    /* Before the guest reads it, so that windows can be filled in; may be NULL. */
    void (*config_reading)(PciDevice *device, unsigned offset, unsigned size);
    /* Bus reset; may be NULL. */
    void (*reset)(PciDevice *device);
};

typedef struct PciBusWires {
    Bus *ports, *memory; /* where BARs are mapped */
    IrqLine isa_irq; /* set(opaque, ISA IRQ, level): PIRQ outputs, each IRQ already ORed over devices; number ignored */
    ApicSink msi;
    void (*reset)(void *opaque); /* port 0xcf9 */
    void *opaque;
} PciBusWires;

extern const BusOps pci_bus_ops; /* 8 ports, 0xcf8: address, data, and reset control at 0xcf9 */

/* pci_bus_new: with the three chips every PC guest expects: 00:00.0 8086:1237 host bridge, 00:01.0 8086:7000 ISA
 * bridge, 00:01.3 8086:7113 power management (PMBA fixed at 0x600, enabled). */
PciBus *pci_bus_new(const PciBusWires *wires);
void pci_bus_free(PciBus *bus); /* attached devices stay their owners' */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PciBus, pci_bus_free)
void pci_bus_reset(PciBus *bus);

/* pci_device_init: zeroes @device and sets the header.  @class_code is 24 bits: base, sub, interface.  @interrupt_pin
 * 0: none, 1: INTA. */
typedef struct PciIdentity {
    uint16_t vendor, device, subsystem_vendor, subsystem;
    uint8_t revision;
    uint32_t class_code;
    uint8_t interrupt_pin;
} PciIdentity;
void pci_device_init(PciDevice *device, const char *name, const PciIdentity *identity);

void pci_config_set(PciDevice *device, unsigned offset, unsigned size,
                    uint32_t value); /* size 1, 2, 4; little-endian */
uint32_t pci_config_get(const PciDevice *device, unsigned offset, unsigned size);

/* pci_add_bar: @index 0–5; the registers' writable bits follow from @bar. */
void pci_add_bar(PciDevice *device, unsigned index, const PciBar *bar);
/* pci_add_capability: appends @size bytes (header included).  Returns: their offset; asserts that they fit. */
uint8_t pci_add_capability(PciDevice *device, uint8_t id, uint8_t size);
void pci_add_msi(PciDevice *device); /* one vector, 64-bit address, maskable */
/* pci_add_msix: @nvectors 1–64; table at @table_offset and pending bits at @pba_offset of BAR @bar.  The BAR's ops call
 * pci_msix_read/write. */
void pci_add_msix(PciDevice *device, unsigned nvectors, unsigned bar, uint32_t table_offset, uint32_t pba_offset);
uint32_t pci_msix_read(PciDevice *device, uint32_t table_offset); /* 4-byte registers of the table */
void pci_msix_write(PciDevice *device, uint32_t table_offset, uint32_t value);
uint32_t pci_msix_pba_read(PciDevice *device, uint32_t pba_offset);
bool pci_msix_enabled(const PciDevice *device);
bool pci_msi_enabled(const PciDevice *device);
/* pci_msix_notify, pci_msi_notify: send the message, or keep it pending while masked.  Dropped when the capability is
 * off. */
void pci_msix_notify(PciDevice *device, unsigned vector);
void pci_msi_notify(PciDevice *device);

/* pci_attach: @devfn free; also sets PCI_INTERRUPT_LINE to the routed IRQ, so that guests without firmware find it. */
gboolean pci_attach(PciBus *bus, PciDevice *device, uint8_t devfn, GError **error);
void pci_detach(PciDevice *device); /* takes the BARs off their buses and lowers INTx */
/* pci_set_intx: the device's INTx level (before INTX_DISABLE). */
void pci_set_intx(PciDevice *device, bool level);
/* pci_bus_irq: the ISA IRQ that @devfn's INTx pin (1–4) reaches now; 0 when its PIRQ is not routed.  For MP and ACPI
 * tables. */
unsigned pci_bus_irq(const PciBus *bus, uint8_t devfn, unsigned pin);
/* pci_bus_set_default_routes: PIRQA–D to 10, 10, 11, 11, as firmware would; for boots without any.  pci_bus_new()
 * leaves 0x80 (off). */
void pci_bus_set_default_routes(PciBus *bus);
/* pci_bus_assign: gives every unassigned BAR an address and enables decoding, as firmware would; for boots without any.
 * Ports in 0xc000–0xfeff, memory in 0xe0000000–0xfebfffff.  FALSE with VMM_ERROR_HOST when space runs out. */
gboolean pci_bus_assign(PciBus *bus, GError **error);

/* Saved state: first each function's (device is the PciDevice), last the bus (device is the PciBus), which puts the BARs in place. */
extern const StateOps pci_device_state, pci_bus_state;
PciDevice *pci_bus_device(const PciBus *bus, uint8_t devfn); /* NULL: none there */
