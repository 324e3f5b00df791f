#include "vm/apic-link.h"

static bool engine_deliver(void *opaque, const ApicMessage *message)
{
    ApicLink *link = opaque;
    uint32_t data;
    uint64_t address = apic_message_to_msi(message, &data);
    return link->cpu[0]->ops->msi(link->cpu[0], address, data);
}

void apic_link_route(void *opaque, unsigned pin)
{
    ApicLink *link = opaque;
    ApicMessage message;
    if (!link->is_remote)
        return;
    uint32_t data = 0;
    uint64_t address = 0;
    if (ioapic_level_message(link->ioapic, pin, &message))
        address = apic_message_to_msi(&message, &data);
    link->cpu[0]->ops->route(link->cpu[0], pin, address, data);
}

static void take_all(ApicLink *link)
{
    for (unsigned i = 0; i < link->count; i++) {
        CpuApic apic;
        link->cpu[i]->ops->apic_get(link->cpu[i], &apic);
        lapic_take(link->lapic[i], &apic);
    }
}

/* An engine tells the end of a level-triggered interrupt by an exit, and may be stopped after the guest has written EOI and before that exit.
 * So what no local APIC has any more has ended.  Returns: whether there was such a one; its pin may have sent another message. */
static bool ends_settle(ApicLink *link)
{
    bool has_ended = false;
    for (unsigned vector = 16; vector < 256; vector++) {
        bool is_held = !ioapic_waits(link->ioapic, (uint8_t)vector);
        for (unsigned i = 0; i < link->count && !is_held; i++)
            is_held = lapic_holds(link->lapic[i], (uint8_t)vector);
        if (is_held)
            continue;
        ioapic_eoi(link->ioapic, (uint8_t)vector);
        has_ended = true;
    }
    return has_ended;
}

void apic_link_pull(ApicLink *link)
{
    if (!link->is_remote)
        return;
    take_all(link);
    if (ends_settle(link))
        take_all(link);
}

void apic_link_push(ApicLink *link)
{
    for (unsigned i = 0; i < link->count && link->is_remote; i++) {
        CpuApic apic;
        lapic_give(link->lapic[i], &apic);
        link->cpu[i]->ops->apic_set(link->cpu[i], &apic);
    }
    for (unsigned pin = 0; pin < IOAPIC_NPINS; pin++)
        apic_link_route(link, pin);
}

void apic_link_connect(ApicLink *link, Cpu *const *cpus)
{
    apic_link_pull(link);
    link->is_remote = cpus && cpus[0]->has_apic;
    for (unsigned i = 0; i < link->count; i++)
        link->cpu[i] = link->is_remote ? cpus[i] : NULL;
    apic_link_push(link);
    lapic_bus_set_remote(link->bus, (ApicSink){ .deliver = link->is_remote ? engine_deliver : NULL, .opaque = link });
}
