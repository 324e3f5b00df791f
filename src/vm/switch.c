#include "vm/switch.h"

#include <glib-unix.h>
#include <string.h>

#include "bt/bt.h"
#include "core/error.h"
#include "core/log.h"
#include "kvm/kvm.h"
#include "kvm/slat-helper.h"

#define RETRY_MS 10

struct Switcher {
    SwitcherWires wires;
    SlatHelper *helper; /* NULL: the module stays as it is */
    const CpuOps *engine;
    PlanMode mode;
    SwitchReason reason;
    SwitchStats stats;
    bool is_busy;
    bool is_bt_one; /* "bt" means the engine with one instruction a block */

    /* Under the machine lock. */
    bool has_entered; /* long mode, and it was told */
    char *failure;    /* the engine's, while its successor is on its way */
    guint source;     /* a switch that a vCPU's thread asked for */
};

static const char *const reasons[SWITCH_NREASONS] = {
    [SWITCH_START] = "start",       [SWITCH_MONITOR] = "monitor",         [SWITCH_LONG_MODE] = "long-mode",
    [SWITCH_FALLBACK] = "fallback", [SWITCH_SLAT_RELOAD] = "slat-reload", [SWITCH_ADAPTIVE] = "adaptive",
    [SWITCH_RESTORE] = "restore",
};

const char *switch_reason_name(SwitchReason reason) { return reasons[reason]; }

Switcher *switcher_new(const SwitcherWires *wires)
{
    static const PlanMode modes[] = { [CONFIG_ACCEL_BT] = PLAN_BT, [CONFIG_ACCEL_HV] = PLAN_HV, [CONFIG_ACCEL_HWMMU] = PLAN_HWMMU,
                                      [CONFIG_ACCEL_KVM] = PLAN_HWMMU, [CONFIG_ACCEL_AUTO] = PLAN_BT };
    Switcher *switcher = g_new0(Switcher, 1);
    switcher->wires = *wires;
    switcher->mode = modes[wires->config->accel];
    switcher->reason = wires->config->is_fallback ? SWITCH_FALLBACK : SWITCH_START;
    switcher->is_bt_one = wires->config->one_insn;
    switcher->engine = switcher->mode != PLAN_BT ? &kvm_cpu_ops : switcher->is_bt_one ? &bt_one_cpu_ops : &bt_cpu_ops;
    return switcher;
}

void switcher_free(Switcher *switcher)
{
    if (!switcher)
        return;
    if (switcher->source)
        g_source_remove(switcher->source);
    g_free(switcher->failure);
    g_free(switcher);
}

void switcher_set_helper(Switcher *switcher, SlatHelper *helper) { switcher->helper = helper; }
PlanMode switcher_mode(const Switcher *switcher) { return switcher->mode; }
SwitchReason switcher_reason(const Switcher *switcher) { return switcher->reason; }
const SwitchStats *switcher_stats(const Switcher *switcher) { return &switcher->stats; }

static void event_send(Switcher *switcher, const SwitchEvent *event)
{
    g_mutex_lock(switcher->wires.lock);
    switcher->wires.event(switcher->wires.opaque, event);
    g_mutex_unlock(switcher->wires.lock);
}

/* --- one step: another engine --- */

static void stats_add(SwitchStats *stats, const RunSwitchTimes *times)
{
    stats->count++;
    stats->downtime_ns += times->downtime_ns;
    stats->downtime_max_ns = MAX(stats->downtime_max_ns, times->downtime_ns);
}

static gboolean step(Switcher *switcher, const CpuOps *engine, PlanMode to, SwitchReason reason, SwitchDone *out_done, GError **error)
{
    SwitchDone done = { .from = switcher->mode, .to = to, .reason = reason };
    if (!run_switch(switcher->wires.run, engine, &done.times, error)) {
        switcher->stats.failed++;
        return FALSE;
    }
    g_mutex_lock(switcher->wires.lock);
    switcher->engine = engine;
    switcher->mode = to;
    switcher->reason = reason;
    stats_add(&switcher->stats, &done.times);
    g_mutex_unlock(switcher->wires.lock);
#define NS "%" G_GUINT64_FORMAT
    log_text(LOG_SWITCH, "switch: %s to %s (%s): stop " NS ", save " NS ", load " NS ", connect " NS ", down " NS " ns; created in " NS " ns",
             plan_mode_name(done.from), engine->name, reasons[reason], done.times.stop_ns, done.times.handover.save_ns,
             done.times.handover.load_ns, done.times.connect_ns, done.times.downtime_ns, done.times.handover.create_ns);
#undef NS
    event_send(switcher, &(SwitchEvent){ .kind = SWITCH_EVENT_SWITCHED, .mode = to, .done = done });
    *out_done = done;
    return TRUE;
}

/* --- the host's module --- */

static gboolean answer_arrived(gint fd, GIOCondition condition, gpointer data)
{
    *(bool *)data = true;
    return G_SOURCE_REMOVE;
}

/* The guest's devices live on the main context, which is iterated until the module is loaded. */
static gboolean module_reload(Switcher *switcher, PlanMode to, GError **error)
{
    if (!slat_helper_ask(switcher->helper, to == PLAN_HWMMU, error))
        return FALSE;
    bool is_through = false;
    g_unix_fd_add(slat_helper_fd(switcher->helper), G_IO_IN | G_IO_HUP | G_IO_ERR, answer_arrived, &is_through);
    while (!is_through)
        g_main_context_iteration(NULL, TRUE);
    return slat_helper_answer(switcher->helper, error);
}

/* *out_reload: KVM is there, loaded the other way round, and can be loaded again. */
static gboolean host_can(Switcher *switcher, PlanMode to, bool *out_reload, GError **error)
{
    *out_reload = false;
    if (to == PLAN_BT)
        return TRUE;
    g_auto(KvmProbe) probe = { 0 };
    KvmMmu wanted = to == PLAN_HWMMU ? KVM_MMU_NESTED : KVM_MMU_SHADOW;
    if (!kvm_probe(NULL, &probe, error) || !kvm_cpuid_check(switcher->wires.cpuid, switcher->wires.wants_engine_apic, error))
        return FALSE;
    if (!switcher->helper || probe.mmu == wanted || probe.mmu == KVM_MMU_ANY)
        return kvm_check(&probe, wanted, error);
    *out_reload = true;
    return kvm_check(&probe, KVM_MMU_ANY, error);
}

gboolean switcher_can(Switcher *switcher, PlanMode to, GError **error)
{
    bool is_reload;
    return to == switcher->mode || host_can(switcher, to, &is_reload, error);
}

/* --- any mode to any mode --- */

static const CpuOps *engine_of(const Switcher *switcher, PlanMode mode)
{
    return mode != PLAN_BT ? &kvm_cpu_ops : switcher->is_bt_one ? &bt_one_cpu_ops : &bt_cpu_ops;
}

static void done_add(SwitchDone *sum, const SwitchDone *next)
{
    sum->to = next->to;
    sum->times.stop_ns += next->times.stop_ns;
    sum->times.connect_ns += next->times.connect_ns;
    sum->times.handover.create_ns += next->times.handover.create_ns;
    sum->times.handover.save_ns += next->times.handover.save_ns;
    sum->times.handover.load_ns += next->times.handover.load_ns;
    sum->times.downtime_ns += next->times.downtime_ns;
}

/* Through bt, where nothing holds the module. */
static gboolean switch_with_reload(Switcher *switcher, PlanMode to, SwitchReason reason, SwitchDone *out_done, GError **error)
{
    PlanMode from = switcher->mode;
    SwitchDone done = { .from = from, .to = from, .reason = reason }, next;
    if (from != PLAN_BT) {
        if (!step(switcher, engine_of(switcher, PLAN_BT), PLAN_BT, SWITCH_SLAT_RELOAD, &next, error))
            return FALSE;
        done_add(&done, &next);
    }
    if (module_reload(switcher, to, error) && step(switcher, &kvm_cpu_ops, to, reason, &next, error)) {
        done_add(&done, &next);
        *out_done = done;
        return TRUE;
    }
    bool is_reload;
    if (from != PLAN_BT && host_can(switcher, from, &is_reload, NULL) && !is_reload)
        step(switcher, &kvm_cpu_ops, from, SWITCH_FALLBACK, &next, NULL);
    return FALSE;
}

static gboolean switch_begin(Switcher *switcher, GError **error)
{
    g_mutex_lock(switcher->wires.lock);
    bool has_ended = switcher->wires.has_ended(switcher->wires.opaque);
    g_mutex_unlock(switcher->wires.lock);
    if (switcher->is_busy)
        g_set_error_literal(error, VMM_ERROR, VMM_ERROR_HOST, "another switch is under way; wait for its MODE_SWITCHED");
    else if (has_ended)
        g_set_error_literal(error, VMM_ERROR, VMM_ERROR_HOST, "the guest has ended");
    else
        switcher->is_busy = true;
    return switcher->is_busy && !(error && *error);
}

gboolean switcher_switch(Switcher *switcher, PlanMode to, SwitchReason reason, SwitchDone *out_done, GError **error)
{
    SwitchDone done = { .from = switcher->mode, .to = to, .reason = reason };
    g_autoptr(GError) cause = NULL;
    gboolean is_ok = TRUE;
    if (to != switcher->mode) {
        if (!switch_begin(switcher, error))
            return FALSE;
        bool is_reload;
        is_ok = host_can(switcher, to, &is_reload, &cause) &&
                (is_reload ? switch_with_reload(switcher, to, reason, &done, &cause)
                           : step(switcher, engine_of(switcher, to), to, reason, &done, &cause));
        switcher->is_busy = false;
    }
    if (is_ok && out_done)
        *out_done = done;
    if (!is_ok)
        g_set_error(error, VMM_ERROR, cause->domain == VMM_ERROR ? cause->code : VMM_ERROR_HOST, "cannot switch to %s: %s",
                    plan_mode_name(to), cause->message);
    return is_ok;
}

gboolean switcher_renew(Switcher *switcher, const char *engine, SwitchDone *out_done, GError **error)
{
    static const CpuOps *const engines[] = { &bt_cpu_ops, &bt_one_cpu_ops, &kvm_cpu_ops };
    for (size_t i = 0; i < G_N_ELEMENTS(engines); i++) {
        if (strcmp(engine, engines[i]->name) != 0)
            continue;
        PlanMode to = PLAN_BT;
        if (engines[i] == &kvm_cpu_ops) {
            bool is_reload;
            to = host_can(switcher, PLAN_HV, &is_reload, NULL) && !is_reload ? PLAN_HV : PLAN_HWMMU;
            if (!host_can(switcher, to, &is_reload, error))
                return FALSE;
        }
        if (!switch_begin(switcher, error))
            return FALSE;
        gboolean is_ok = step(switcher, engines[i], to, SWITCH_MONITOR, out_done, error);
        switcher->is_busy = false;
        return is_ok;
    }
    g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "'%s' is not an engine; known: bt, bt-one-insn, kvm", engine);
    return FALSE;
}

/* --- what vCPUs come out with --- */

/* Where a guest that enters long mode goes to: as the plan says, and where that leaves it open, as the module is loaded. */
static PlanMode long_mode_target(const Switcher *switcher)
{
    ConfigAccel target = switcher->wires.config->long_mode_target;
    if (target != CONFIG_ACCEL_KVM)
        return target == CONFIG_ACCEL_HV ? PLAN_HV : PLAN_HWMMU;
    return kvm_require(KVM_MMU_SHADOW, NULL) ? PLAN_HV : PLAN_HWMMU;
}

static void long_mode_refused(Switcher *switcher, const char *why)
{
    g_mutex_lock(switcher->wires.lock);
    if (switcher->wires.config->modes.long_mode == LONG_MODE_HARDWARE) {
        g_autofree char *text = g_strdup_printf("monitor.long_mode = \"hardware\": %s", why);
        switcher->wires.no_mode(switcher->wires.opaque, text);
    } else {
        log_text(LOG_SWITCH, "switch: long mode: %s", why);
        switcher->wires.event(switcher->wires.opaque, &(SwitchEvent){ .kind = SWITCH_EVENT_FALLBACK, .mode = switcher->mode, .text = why });
    }
    g_mutex_unlock(switcher->wires.lock);
}

/* The pause that the vCPU's thread asked for ends here. */
static gboolean asked_switch(gpointer data)
{
    Switcher *switcher = data;
    g_autoptr(GError) error = NULL;
    g_mutex_lock(switcher->wires.lock);
    if (switcher->is_busy) {
        switcher->source = g_timeout_add(RETRY_MS, asked_switch, switcher);
        g_mutex_unlock(switcher->wires.lock);
        return G_SOURCE_REMOVE;
    }
    g_autofree char *failure = g_steal_pointer(&switcher->failure);
    switcher->source = 0;
    g_mutex_unlock(switcher->wires.lock);
    bool is_ok;
    if (failure) {
        is_ok = switcher_switch(switcher, PLAN_BT, SWITCH_FALLBACK, NULL, &error);
        if (is_ok)
            event_send(switcher, &(SwitchEvent){ .kind = SWITCH_EVENT_FALLBACK, .mode = switcher->mode, .text = failure });
    } else {
        is_ok = switcher->mode != PLAN_BT || switcher_switch(switcher, long_mode_target(switcher), SWITCH_LONG_MODE, NULL, &error);
        if (!is_ok)
            long_mode_refused(switcher, error->message);
    }
    g_mutex_lock(switcher->wires.lock);
    if (failure && !is_ok)
        switcher->wires.failed(switcher->wires.opaque, failure);
    run_resume(switcher->wires.run);
    g_mutex_unlock(switcher->wires.lock);
    return G_SOURCE_REMOVE;
}

static void ask_switch(Switcher *switcher)
{
    run_ask_pause(switcher->wires.run);
    switcher->source = g_idle_add_full(G_PRIORITY_HIGH, asked_switch, switcher, NULL);
}

void switcher_long_mode(Switcher *switcher)
{
    const Config *config = switcher->wires.config;
    if (switcher->mode != PLAN_BT)
        return;
    PlanLongMode action = config->long_mode_action == CONFIG_LONG_JUMP   ? PLAN_LONG_JUMP
                          : config->long_mode_action == CONFIG_LONG_STOP ? PLAN_LONG_STOP
                                                                         : PLAN_LONG_STAY;
    if (!switcher->has_entered)
        switcher->wires.event(switcher->wires.opaque, &(SwitchEvent){ .kind = SWITCH_EVENT_LONG_MODE, .mode = switcher->mode,
                                                                      .action = action, .text = config->long_mode_text });
    switcher->has_entered = true;
    if (action == PLAN_LONG_STOP)
        switcher->wires.no_mode(switcher->wires.opaque, config->long_mode_text);
    else if (action == PLAN_LONG_JUMP && !switcher->source)
        ask_switch(switcher);
}

gboolean switcher_engine_failed(Switcher *switcher, const char *reason)
{
    if (switcher->mode == PLAN_BT || !switcher->wires.config->may_fall_back)
        return FALSE;
    if (!switcher->failure)
        switcher->failure = g_strdup(reason);
    if (!switcher->source)
        ask_switch(switcher);
    return TRUE;
}
