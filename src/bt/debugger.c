#include "bt/debugger.h"

#include <stdlib.h>

#include "bt/foreign.h"

static int compare(const void *a, const void *b)
{
    Gva first = *(const Gva *)a, second = *(const Gva *)b;
    return first < second ? -1 : first > second;
}

void bt_debugger_free(BtDebugger *debugger)
{
    if (!debugger)
        return;
    g_free(debugger->breaks);
    g_free(debugger->fences);
    g_free(debugger->watches);
    g_free(debugger);
}

/* Blocks that were made before may go across a new fence. */
static void translations_drop(BtCpu *cpu)
{
    BtForeign *foreign = &cpu->foreign;
    g_mutex_lock(&foreign->lock);
    foreign->is_everything = true;
    g_mutex_unlock(&foreign->lock);
    bt_foreign_kick(cpu);
}

void bt_debugger_set(BtCpu *cpu, const CpuDebug *debug)
{
    cpu->mode_dirty = true;
    if (!debug) {
        bt_debugger_free(cpu->debugger);
        cpu->debugger = NULL;
        return;
    }
    if (!cpu->debugger)
        cpu->debugger = g_new0(BtDebugger, 1);
    BtDebugger *debugger = cpu->debugger;
    g_free(debugger->breaks);
    g_free(debugger->watches);
    debugger->breaks = g_memdup2(debug->breaks, debug->nbreaks * sizeof(Gva));
    debugger->nbreaks = debug->nbreaks;
    debugger->watches = g_memdup2(debug->watches, debug->nwatches * sizeof(CpuWatch));
    debugger->nwatches = debug->nwatches;
    debugger->steps = debug->steps;
    debugger->has_stepped = false;
    debugger->stop = CPU_STOP_NONE;
    if (debug->nbreaks)
        qsort(debugger->breaks, debug->nbreaks, sizeof(Gva), compare);
    unsigned nbefore = debugger->nfences;
    debugger->fences = g_renew(Gva, debugger->fences, nbefore + debug->nbreaks);
    for (unsigned i = 0; i < debug->nbreaks; i++)
        if (!nbefore || !bsearch(&debug->breaks[i], debugger->fences, nbefore, sizeof(Gva), compare))
            debugger->fences[debugger->nfences++] = debug->breaks[i];
    if (debugger->nfences == nbefore)
        return;
    qsort(debugger->fences, debugger->nfences, sizeof(Gva), compare);
    translations_drop(cpu);
}
