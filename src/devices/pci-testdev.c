#include "devices/pci-testdev.h"

#include <string.h>

#define BAR_SIZE 256u
#define DATA_AT 128u /* where a test writes */
#define DATA 0xfau
enum { TEST = 0, WIDTH = 1, OFFSET = 4, VALUE = 8, COUNT = 12, NAME = 16 };

typedef struct Window {
    const char *const *names; /* one a test; NULL ends */
    unsigned ntests;
    uint8_t header[DATA_AT];
} Window;

struct PciTestdev {
    PciDevice pci;
    Window memory, ports;
};

static const char *const memory_names[] = { "mmio-no-eventfd", "mmio-wildcard-eventfd", "mmio-datamatch-eventfd" };
static const char *const port_names[] = { "portio-no-eventfd", "portio-wildcard-eventfd", "portio-datamatch-eventfd" };

static uint64_t window_read(void *opaque, uint64_t offset, unsigned size)
{
    const Window *window = opaque;
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++)
        if (offset + i < sizeof window->header)
            value |= (uint64_t)window->header[offset + i] << (8 * i);
    return value;
}

static void test_select(Window *window, unsigned test)
{
    memset(window->header, 0, sizeof window->header);
    window->header[TEST] = (uint8_t)test;
    if (test >= window->ntests)
        return; /* width 0: no such test */
    window->header[WIDTH] = 1;
    window->header[OFFSET] = DATA_AT;
    window->header[VALUE] = DATA;
    g_strlcpy((char *)window->header + NAME, window->names[test], sizeof window->header - NAME);
}

static void window_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    Window *window = opaque;
    if (offset == TEST) {
        test_select(window, value & 0xff);
    } else if (offset == DATA_AT && window->header[WIDTH] == size && (value & 0xff) == DATA) {
        uint32_t count;
        memcpy(&count, window->header + COUNT, sizeof count);
        count++;
        memcpy(window->header + COUNT, &count, sizeof count);
    }
}

static const BusOps window_ops = { .name = "pci-testdev", .read = window_read, .write = window_write, .max_size = 4 };

static void testdev_reset(PciDevice *pci)
{
    PciTestdev *device = (PciTestdev *)pci;
    memset(device->memory.header, 0, sizeof device->memory.header);
    memset(device->ports.header, 0, sizeof device->ports.header);
}

PciTestdev *pci_testdev_new(PciBus *bus, uint8_t devfn, GError **error)
{
    g_autofree PciTestdev *device = g_new0(PciTestdev, 1);
    pci_device_init(&device->pci, "pci-testdev", &(PciIdentity){ .vendor = 0x1b36, .device = 0x0005, .subsystem_vendor = 0x1af4,
                                                                 .subsystem = 0x1100, .class_code = 0x00ff00 });
    device->memory = (Window){ .names = memory_names, .ntests = G_N_ELEMENTS(memory_names) };
    device->ports = (Window){ .names = port_names, .ntests = G_N_ELEMENTS(port_names) };
    pci_add_bar(&device->pci, 0, &(PciBar){ .size = 4096, .ops = &window_ops, .device = &device->memory });
    pci_add_bar(&device->pci, 1, &(PciBar){ .size = BAR_SIZE, .is_io = true, .ops = &window_ops, .device = &device->ports });
    device->pci.reset = testdev_reset;
    if (!pci_attach(bus, &device->pci, devfn, error))
        return NULL;
    return g_steal_pointer(&device);
}

void pci_testdev_free(PciTestdev *device)
{
    if (!device)
        return;
    pci_detach(&device->pci);
    g_free(device);
}

static void state_visit(void *opaque, Stream *stream)
{
    PciTestdev *device = opaque;
    stream_bytes(stream, device->memory.header, sizeof device->memory.header);
    stream_bytes(stream, device->ports.header, sizeof device->ports.header);
}

const StateOps pci_testdev_state = {.name = "pci-testdev", .version = 1, .visit = state_visit};
