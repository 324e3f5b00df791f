/*
 * AdaptiveWatch: looks at a running machine twice a second and switches it as adaptive.h decides.
 *
 * A mode that refuses is left out for a minute.  Decisions that are close, and all that are acted on, are told.
 * Thread: the default main context's.
 */
#pragma once

#include <glib.h>

#include "vm/adaptive.h"
#include "vm/switch.h"

typedef struct AdaptiveWatch AdaptiveWatch;

typedef struct AdaptiveWires {
    Switcher *switcher;
    const ModeConfig *modes; /* what the user has asked for: a mode that it excludes is never chosen */
    bool (*calibrate)(double out_ns[3]); /* what an exit, an emulated instruction, an exit to the monitor cost on this host; NULL: not to be known */
    bool (*runs)(void *opaque); /* the guest does */
    void (*counters)(void *opaque, CpuCounterFunc *row, void *row_opaque);
    void (*decided)(void *opaque, const AdaptiveDecision *decision);
    void *opaque;
} AdaptiveWires;

AdaptiveWatch *adaptive_watch_new(const AdaptiveWires *wires);
void adaptive_watch_free(AdaptiveWatch *watch);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(AdaptiveWatch, adaptive_watch_free)
const char *adaptive_action_name(AdaptiveAction action); /* "stay", "close", "switch", "failed" */
