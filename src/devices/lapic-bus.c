#include "devices/lapic-int.h"

struct LapicBus {
    GPtrArray *lapics; /* of Lapic, not owned */
    void (*eoi)(void *opaque, uint8_t vector);
    void *eoi_opaque;
    ApicSink remote; /* deliver NULL: the chips are in charge */
};

LapicBus *lapic_bus_new(void)
{
    LapicBus *bus = g_new0(LapicBus, 1);
    bus->lapics = g_ptr_array_new();
    return bus;
}

void lapic_bus_free(LapicBus *bus)
{
    if (!bus)
        return;
    g_ptr_array_unref(bus->lapics);
    g_free(bus);
}

void lapic_bus_set_eoi(LapicBus *bus, void (*eoi)(void *opaque, uint8_t vector), void *opaque)
{
    bus->eoi = eoi;
    bus->eoi_opaque = opaque;
}

bool lapic_bus_is_remote(const LapicBus *bus) { return bus->remote.deliver != NULL; }

void lapic_bus_set_remote(LapicBus *bus, ApicSink remote)
{
    bus->remote = remote;
    for (unsigned i = 0; i < bus->lapics->len; i++) {
        lapic_timer_rearm(g_ptr_array_index(bus->lapics, i));
        lapic_update(g_ptr_array_index(bus->lapics, i));
    }
}

void lapic_bus_eoi(LapicBus *bus, uint8_t vector)
{
    if (bus->eoi)
        bus->eoi(bus->eoi_opaque, vector);
}

void lapic_bus_add(LapicBus *bus, Lapic *lapic) { g_ptr_array_add(bus->lapics, lapic); }
void lapic_bus_remove(LapicBus *bus, Lapic *lapic) { g_ptr_array_remove(bus->lapics, lapic); }

/* SDM 3A 11.6.2.2 (xAPIC logical), 11.12.10 (x2APIC logical). */
static bool matches_logical(const Lapic *lapic, const ApicMessage *message)
{
    uint32_t destination = message->destination;
    if (lapic_is_x2(lapic)) {
        uint32_t id = lapic->s.ldr;
        return id >> 16 == destination >> 16 && id & destination & 0xffff;
    }
    if (message->is_x2 && destination > 0xff)
        return false;
    uint32_t id = lapic->s.ldr >> 24;
    if (lapic->s.dfr >> 28 == 0xf)
        return id & destination;
    return lapic->s.dfr >> 28 == 0 && id >> 4 == destination >> 4 && id & destination & 0xf;
}

static bool matches(const Lapic *lapic, const ApicMessage *message)
{
    if (!lapic_is_enabled(lapic))
        return false;
    if (message->destination == (message->is_x2 ? UINT32_MAX : 0xffu))
        return true;
    if (message->is_logical)
        return matches_logical(lapic, message);
    return message->destination == lapic->wires.index;
}

/* Lowest priority (SDM 3A 11.6.2.4): the lowest PPR; among equals, whoever was chosen least. */
static bool deliver_lowest(LapicBus *bus, const ApicMessage *message)
{
    Lapic *best = NULL;
    for (unsigned i = 0; i < bus->lapics->len; i++) {
        Lapic *lapic = g_ptr_array_index(bus->lapics, i);
        if (!lapic_is_software_enabled(lapic) || !matches(lapic, message))
            continue;
        int difference = best ? (lapic_ppr(lapic) >> 4) - (lapic_ppr(best) >> 4) : -1;
        if (difference < 0 || (difference == 0 && lapic->s.narbitrations < best->s.narbitrations))
            best = lapic;
    }
    if (!best)
        return false;
    best->s.narbitrations++;
    return lapic_deliver(best, message);
}

bool lapic_bus_deliver(LapicBus *bus, const ApicMessage *message)
{
    if (lapic_bus_is_remote(bus))
        return apic_send(bus->remote, message);
    if (message->delivery == APIC_LOWEST_PRIORITY)
        return deliver_lowest(bus, message);
    bool accepted = false;
    for (unsigned i = 0; i < bus->lapics->len; i++) {
        Lapic *lapic = g_ptr_array_index(bus->lapics, i);
        if (matches(lapic, message))
            accepted |= lapic_deliver(lapic, message);
    }
    return accepted;
}

bool lapic_bus_deliver_group(LapicBus *bus, Lapic *sender, LapicGroup group, const ApicMessage *message)
{
    bool accepted = false;
    for (unsigned i = 0; i < bus->lapics->len; i++) {
        Lapic *lapic = g_ptr_array_index(bus->lapics, i);
        if ((group == LAPIC_GROUP_ALL || lapic != sender) && lapic_is_enabled(lapic))
            accepted |= lapic_deliver(lapic, message);
    }
    return accepted;
}

static bool sink_deliver(void *opaque, const ApicMessage *message) { return lapic_bus_deliver(opaque, message); }

ApicSink lapic_bus_sink(LapicBus *bus) { return (ApicSink){.deliver = sink_deliver, .opaque = bus}; }
