/*
 * ApicLink: who has the local APICs, the machine's chips or an engine (Cpu.has_apic), and what follows from it: where messages go, and which
 * I/O APIC pins an engine must tell the end of.
 *
 * All with the machine lock held and, but for the route and the sink behind it, while no vCPU runs.
 */
#pragma once

#include "core/cpu.h"
#include "devices/ioapic.h"
#include "devices/lapic.h"

#define APIC_LINK_MAX 64

typedef struct ApicLink {
    LapicBus *bus;
    Ioapic *ioapic;
    Lapic *lapic[APIC_LINK_MAX]; /* the chips, by vCPU number */
    Cpu *cpu[APIC_LINK_MAX];     /* the engine's vCPUs that have the APICs */
    unsigned count;
    bool is_remote;              /* an engine has them */
} ApicLink;

/* apic_link_connect: these vCPUs run from now on; the registers move from whoever had them.  NULL: none runs any more. */
void apic_link_connect(ApicLink *link, Cpu *const *cpus);
/* apic_link_pull, apic_link_push: the chips as the engine's are now, for snapshots and resets; the engine's as the chips,
 * after these were reset or loaded.  Nothing when the chips are in charge. */
void apic_link_pull(ApicLink *link);
void apic_link_push(ApicLink *link);
/* apic_link_route: I/O APIC pin @pin sends something else now; @link is an ApicLink, the shape is IoapicWires.route_changed. */
void apic_link_route(void *link, unsigned pin);
