#include "devices/i6300esb.h"

#define TICK_NS       INT64_C(983040) /* 2^15 cycles of 30 ns */
#define FAST_TICK_NS  INT64_C(960)    /* 2^5 */
#define SHORTEST_NS   INT64_C(1000000) /* a timer of the guest's that would do nothing but end */
#define TIMER_MASK    0xfffffu
#define DEFAULT_TICKS TIMER_MASK

enum { CONFIG = 0x60, LOCK = 0x68 };                              /* in configuration space */
enum { CONFIG_INT = 3, CONFIG_INT_IRQ = 0, CONFIG_FAST = 4, CONFIG_NO_REBOOT = 0x20, CONFIG_BITS = 0x27 };
enum { LOCK_LOCKED = 1, LOCK_ENABLED = 2, LOCK_FREE_RUN = 4, LOCK_BITS = 7 };
enum { TIMER1 = 0, TIMER2 = 4, STATUS = 8, RELOAD = 12, SIZE = 16 }; /* in BAR 0 */
enum { RELOAD_UNLOCK1 = 0x80, RELOAD_UNLOCK2 = 0x86, RELOAD_RELOAD = 0x100, RELOAD_EXPIRED = 0x200 };

struct I6300esb {
    PciDevice pci;
    I6300esbWires wires;
    Timer *timer;
    uint32_t ticks[2]; /* of each stage */
    uint8_t stage, nunlocks;
    uint8_t lock;
    bool has_expired; /* once; stays over a reset, so that the guest can ask why it starts */
    bool irq_waits;
};

static void stage_begin(I6300esb *device, unsigned stage)
{
    bool is_on = device->lock & LOCK_ENABLED;
    device->stage = (uint8_t)stage;
    int64_t tick = device->pci.config[CONFIG] & CONFIG_FAST ? FAST_TICK_NS : TICK_NS;
    int64_t wait = MAX(tick * device->ticks[stage], SHORTEST_NS);
    timer_arm(device->timer, is_on ? clock_now_ns(device->wires.clock) + wait : TIMER_NEVER);
}

static void irq_set_waiting(I6300esb *device, bool waits)
{
    device->irq_waits = waits;
    pci_set_intx(&device->pci, waits);
}

static void timer_fired(void *opaque)
{
    I6300esb *device = opaque;
    uint8_t config = device->pci.config[CONFIG];
    if (device->stage == 0) {
        if ((config & CONFIG_INT) == CONFIG_INT_IRQ)
            irq_set_waiting(device, true);
        stage_begin(device, 1);
        return;
    }
    device->has_expired = true;
    if (!(config & CONFIG_NO_REBOOT)) {
        device->lock &= (uint8_t)~LOCK_ENABLED;
        device->pci.config[LOCK] = device->lock;
        device->wires.expired(device->wires.opaque);
    } else if (device->lock & LOCK_FREE_RUN) {
        stage_begin(device, 0);
    }
}

static void config_written(PciDevice *pci, unsigned offset, unsigned size)
{
    I6300esb *device = (I6300esb *)pci;
    if (offset > LOCK || offset + size <= LOCK)
        return;
    uint8_t before = device->lock, now = pci->config[LOCK] & LOCK_BITS;
    if (before & LOCK_LOCKED) {
        pci->config[LOCK] = before;
        return;
    }
    device->lock = now;
    if ((before ^ now) & LOCK_ENABLED)
        stage_begin(device, 0);
}

static uint64_t register_read(void *opaque, uint64_t offset, unsigned size)
{
    const I6300esb *device = opaque;
    switch (offset & ~UINT64_C(3)) {
    case STATUS: return device->irq_waits >> (8 * (offset & 3));
    case RELOAD: return (device->has_expired ? RELOAD_EXPIRED : 0u) >> (8 * (offset & 3));
    default:     return 0; /* the preload values cannot be read */
    }
}

static void register_write(void *opaque, uint64_t offset, unsigned size, uint64_t value)
{
    I6300esb *device = opaque;
    if (offset == RELOAD && (value == RELOAD_UNLOCK1 || (value == RELOAD_UNLOCK2 && device->nunlocks == 1))) {
        device->nunlocks = value == RELOAD_UNLOCK1 ? 1 : 2;
        return;
    }
    bool is_open = device->nunlocks == 2;
    device->nunlocks = 0;
    if (offset == STATUS && value & 1)
        irq_set_waiting(device, false);
    if (!is_open)
        return;
    if (offset == TIMER1 || offset == TIMER2)
        device->ticks[offset / 4] = value & TIMER_MASK;
    if (offset == RELOAD && value & RELOAD_EXPIRED)
        device->has_expired = false;
    if (offset == RELOAD && value & RELOAD_RELOAD)
        stage_begin(device, 0);
}

static const BusOps register_ops = { .name = "i6300esb", .read = register_read, .write = register_write, .max_size = 4 };

static void i6300esb_reset(PciDevice *pci)
{
    I6300esb *device = (I6300esb *)pci;
    device->ticks[0] = device->ticks[1] = DEFAULT_TICKS;
    device->stage = device->nunlocks = device->lock = 0;
    device->irq_waits = false;
    timer_arm(device->timer, TIMER_NEVER);
}

I6300esb *i6300esb_new(const I6300esbWires *wires, GError **error)
{
    I6300esb *device = g_new0(I6300esb, 1);
    device->wires = *wires;
    pci_device_init(&device->pci, "i6300esb", &(PciIdentity){ .vendor = 0x8086, .device = 0x25ab, .class_code = 0x088000, .interrupt_pin = 1 });
    device->pci.writable[CONFIG] = CONFIG_BITS;
    device->pci.writable[LOCK] = LOCK_BITS;
    device->pci.config_written = config_written;
    device->pci.reset = i6300esb_reset;
    pci_add_bar(&device->pci, 0, &(PciBar){ .size = SIZE, .ops = &register_ops, .device = device });
    device->timer = timer_new(wires->clock, timer_fired, device);
    i6300esb_reset(&device->pci);
    if (pci_attach(wires->bus, &device->pci, wires->devfn, error))
        return device;
    timer_free(device->timer);
    g_free(device);
    return NULL;
}

void i6300esb_free(I6300esb *device)
{
    if (!device)
        return;
    pci_detach(&device->pci);
    timer_free(device->timer);
    g_free(device);
}

static void state_visit(void *opaque, Stream *stream)
{
    I6300esb *device = opaque;
    int64_t deadline = timer_deadline_ns(device->timer);
    stream_u32(stream, &device->ticks[0]);
    stream_u32(stream, &device->ticks[1]);
    stream_u8(stream, &device->stage);
    stream_u8(stream, &device->nunlocks);
    stream_u8(stream, &device->lock);
    stream_bool(stream, &device->has_expired);
    stream_bool(stream, &device->irq_waits);
    stream_i64(stream, &deadline);
    if (stream_check(stream, device->stage < 2 && !(device->lock & ~LOCK_BITS) && device->nunlocks <= 2, "watchdog's stage") &&
        stream_is_loading(stream))
        timer_arm(device->timer, deadline);
}

const StateOps i6300esb_state = { .name = "i6300esb", .version = 1, .visit = state_visit };
