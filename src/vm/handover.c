#include "vm/handover.h"

#include <time.h>

#include "core/error.h"

struct Handover {
    unsigned count;
    HandoverSlot *slots;
    bool *waits_for_sipi; /* as saved */
    Cpu **cpus; /* the new ones; after the swap the old ones */
    HandoverTimes times;
};

static uint64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

Handover *handover_new(const CpuOps *ops, const HandoverSlot *slots, unsigned count, GError **error)
{
    g_autoptr(Handover) handover = g_new0(Handover, 1);
    handover->count = count;
    handover->slots = g_memdup2(slots, count * sizeof *slots);
    handover->cpus = g_new0(Cpu *, count);
    handover->waits_for_sipi = g_new0(bool, count);
    uint64_t begin = nanoseconds();
    for (unsigned i = 0; i < count; i++) {
        handover->cpus[i] = ops->create(&slots[i].config, error);
        if (!handover->cpus[i])
            return NULL;
    }
    handover->times.create_ns = nanoseconds() - begin;
    return g_steal_pointer(&handover);
}

static gboolean is_fine(Cpu *cpu, unsigned index, const char *verb, GError **error)
{
    const char *failure = cpu->ops->failure ? cpu->ops->failure(cpu) : NULL;
    if (failure)
        g_set_error(error, VMM_ERROR, VMM_ERROR_HOST, "vCPU %u: %s cannot %s its state: %s", index, cpu->ops->name, verb, failure);
    return !failure;
}

gboolean handover_commit(Handover *handover, GError **error)
{
    g_autofree X86State *states = g_new0(X86State, handover->count);
    uint64_t begin = nanoseconds();
    for (unsigned i = 0; i < handover->count; i++) {
        Cpu *old = *handover->slots[i].cpu;
        old->ops->save(old, &states[i]);
        if (!is_fine(old, i, "give", error))
            return FALSE;
        if (handover->slots[i].waits_for_sipi && !old->has_apic)
            states[i].waits_for_sipi = *handover->slots[i].waits_for_sipi;
        handover->waits_for_sipi[i] = states[i].waits_for_sipi;
        states[i].tsc = 0; /* the offset stays: time goes on while the guest stands still, and to the tick */
    }
    uint64_t saved = nanoseconds();
    for (unsigned i = 0; i < handover->count; i++) {
        Cpu *cpu = handover->cpus[i];
        cpu->ops->load(cpu, &states[i]);
        if (!is_fine(cpu, i, "take", error))
            return FALSE;
    }
    handover->times.save_ns = saved - begin;
    handover->times.load_ns = nanoseconds() - saved;
    return TRUE;
}

void handover_swap(Handover *handover)
{
    for (unsigned i = 0; i < handover->count; i++) {
        Cpu *old = *handover->slots[i].cpu;
        *handover->slots[i].cpu = handover->cpus[i];
        handover->cpus[i] = old;
        if (handover->slots[i].waits_for_sipi)
            *handover->slots[i].waits_for_sipi = handover->waits_for_sipi[i];
    }
}

const HandoverTimes *handover_times(const Handover *handover) { return &handover->times; }

void handover_free(Handover *handover)
{
    if (!handover)
        return;
    for (unsigned i = 0; i < handover->count; i++)
        if (handover->cpus[i])
            handover->cpus[i]->ops->free(handover->cpus[i]);
    g_free(handover->waits_for_sipi);
    g_free(handover->cpus);
    g_free(handover->slots);
    g_free(handover);
}
