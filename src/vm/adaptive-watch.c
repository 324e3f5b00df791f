#include "vm/adaptive-watch.h"

#include <string.h>
#include <sys/resource.h>

#include "core/log.h"

#define WINDOW_MS  500
#define LOOK_S     5.0  /* so often the host is asked which modes it has */
#define REFUSED_S  60.0 /* so long a mode that refused is left out */
#define REMIND_S   10.0 /* so often a close decision is told again */

struct AdaptiveWatch {
    AdaptiveWires wires;
    AdaptiveState state;
    guint source;
    bool has_before;
    PlanMode mode; /* at @before */
    AdaptiveCounts before;
    bool allowed[PLAN_NMODES];
    bool has_tried; /* to calibrate */
    double looked_s, refused_s[PLAN_NMODES]; /* when; 0: never */
    const char *told;                        /* the last close decision's reason; NULL: there was something else since */
    double told_s;
};

const char *adaptive_action_name(AdaptiveAction action)
{
    static const char *const names[] = { [ADAPTIVE_STAY] = "stay", [ADAPTIVE_CLOSE] = "close", [ADAPTIVE_SWITCH] = "switch",
                                         [ADAPTIVE_FAILED] = "failed" };
    return names[action];
}

static bool user_allows(const ModeConfig *modes, PlanMode mode)
{
    switch (mode) {
    case PLAN_BT:
        return modes->virtual_exec != MODE_HARDWARE && modes->virtual_mmu != MODE_HARDWARE && modes->long_mode != LONG_MODE_HARDWARE;
    case PLAN_HV:
        return modes->virtual_exec != MODE_SOFTWARE && modes->virtual_mmu != MODE_HARDWARE;
    case PLAN_HWMMU:
        return modes->virtual_exec != MODE_SOFTWARE && modes->virtual_mmu != MODE_SOFTWARE;
    case PLAN_NMODES:
        break;
    }
    return false;
}

static void allowed_look(AdaptiveWatch *watch, double now_s)
{
    if (watch->looked_s > 0 && now_s - watch->looked_s < LOOK_S)
        return;
    watch->looked_s = now_s;
    for (PlanMode mode = 0; mode < PLAN_NMODES; mode++) {
        bool is_refused = watch->refused_s[mode] > 0 && now_s - watch->refused_s[mode] < REFUSED_S;
        watch->allowed[mode] = !is_refused && user_allows(watch->wires.modes, mode) && switcher_can(watch->wires.switcher, mode, NULL);
    }
}

/* Once, when there is something to choose: it needs KVM, and takes a moment. */
static void host_calibrate(AdaptiveWatch *watch)
{
    double ns[3];
    bool has_hardware = watch->mode != PLAN_BT || watch->allowed[PLAN_HV] || watch->allowed[PLAN_HWMMU];
    if (watch->has_tried || !has_hardware || !watch->wires.calibrate)
        return;
    watch->has_tried = true;
    if (!watch->wires.calibrate(ns))
        return;
    adaptive_calibrate(&watch->state, ns[0], ns[1], ns[2]);
    log_text(LOG_SWITCH, "adaptive: on this host an exit takes %.0f ns, an emulated instruction %.0f, an exit to the monitor %.0f", ns[0], ns[1], ns[2]);
}

typedef struct Collect {
    AdaptiveCounts *counts;
    PlanMode mode;
} Collect;

static void counter_collect(void *opaque, const char *name, uint64_t value)
{
    const Collect *collect = opaque;
    adaptive_count(collect->counts, collect->mode, name, value);
}

static AdaptiveCounts counts_now(AdaptiveWatch *watch, PlanMode mode)
{
    AdaptiveCounts counts = { .wall_s = (double)g_get_monotonic_time() / 1e6 };
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    counts.system_s = (double)usage.ru_stime.tv_sec + (double)usage.ru_stime.tv_usec / 1e6;
    watch->wires.counters(watch->wires.opaque, counter_collect, &(Collect){ &counts, mode });
    return counts;
}

static void decision_tell(AdaptiveWatch *watch, const AdaptiveDecision *decision)
{
    log_text(LOG_SWITCH, "adaptive: %s, %s to %s: %s; load %.2f, costs bt %.2f hv %.2f hwmmu %.2f, gain %.2f; a CPU second: exits %.0f, tables %.0f, "
             "misses %.0f, TPR %.0f; exit %.0f ns, switch %.4f s", adaptive_action_name(decision->action), plan_mode_name(decision->from),
             plan_mode_name(decision->to), decision->reason, decision->load, decision->cost[PLAN_BT], decision->cost[PLAN_HV],
             decision->cost[PLAN_HWMMU], decision->gain, decision->exits, decision->tables, decision->misses, decision->tpr, decision->exit_ns,
             decision->switch_s);
    watch->wires.decided(watch->wires.opaque, decision);
}

static void decision_do(AdaptiveWatch *watch, AdaptiveDecision *decision)
{
    g_autoptr(GError) error = NULL;
    SwitchDone done;
    decision_tell(watch, decision);
    if (switcher_switch(watch->wires.switcher, decision->to, SWITCH_ADAPTIVE, &done, &error)) {
        adaptive_switched(&watch->state, decision->from, (double)(done.times.downtime_ns + done.times.handover.create_ns) / 1e9);
        return;
    }
    watch->refused_s[decision->to] = watch->state.now_s;
    watch->looked_s = 0;
    decision->action = ADAPTIVE_FAILED;
    decision->reason = error->message;
    decision_tell(watch, decision);
}

static void decision_take(AdaptiveWatch *watch, AdaptiveDecision *decision)
{
    bool is_close = decision->action == ADAPTIVE_CLOSE;
    if (decision->action == ADAPTIVE_SWITCH)
        decision_do(watch, decision);
    else if (is_close && (watch->told != decision->reason || watch->state.now_s - watch->told_s >= REMIND_S))
        decision_tell(watch, decision);
    else if (is_close)
        return;
    watch->told = is_close ? decision->reason : NULL;
    watch->told_s = watch->state.now_s;
}

static gboolean window_ended(gpointer data)
{
    AdaptiveWatch *watch = data;
    PlanMode mode = switcher_mode(watch->wires.switcher);
    if (!watch->wires.runs(watch->wires.opaque)) {
        watch->has_before = false;
        return G_SOURCE_CONTINUE;
    }
    AdaptiveCounts now = counts_now(watch, mode);
    bool is_whole = watch->has_before && watch->mode == mode && now.exits >= watch->before.exits;
    if (is_whole) {
        allowed_look(watch, now.wall_s);
        host_calibrate(watch);
        AdaptiveDecision decision = adaptive_decide(&watch->state, mode, watch->allowed, &watch->before, &now);
        decision_take(watch, &decision);
    }
    watch->before = now;
    watch->mode = mode; /* after a switch the next window begins a new one */
    watch->has_before = true;
    return G_SOURCE_CONTINUE;
}

AdaptiveWatch *adaptive_watch_new(const AdaptiveWires *wires)
{
    AdaptiveWatch *watch = g_new0(AdaptiveWatch, 1);
    watch->wires = *wires;
    adaptive_init(&watch->state);
    watch->source = g_timeout_add(WINDOW_MS, window_ended, watch);
    return watch;
}

void adaptive_watch_free(AdaptiveWatch *watch)
{
    if (watch)
        g_source_remove(watch->source);
    g_free(watch);
}
