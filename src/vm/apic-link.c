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

void apic_link_pull(ApicLink *link)
{
    for (unsigned i = 0; i < link->count && link->is_remote; i++) {
        CpuApic apic;
        link->cpu[i]->ops->apic_get(link->cpu[i], &apic);
        lapic_take(link->lapic[i], &apic);
    }
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
