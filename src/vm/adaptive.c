#include "vm/adaptive.h"

#include <glib.h>
#include <stddef.h>
#include <string.h>

#define LEAST_WORK    0.02 /* of a second: a guest that gets on at all */
#define LEARN_EXITS   500.0 /* in a second, and */
#define LEARN_SYSTEM  0.01 /* that part of it in the kernel: enough to learn from */
#define LEARN_WEIGHT  0.5
#define MUCH_THE_SAME 1.05 /* of two modes to go to: hwmmu, in which page tables cost nothing */
#define LONGEST_STAY  16.0 /* times least_stay_s */

const AdaptiveModel adaptive_model = {
    .bt_factor = 1.6, .bt_exit_ns = 500, .bt_table_ns = 500, .bt_miss_ns = 60, .exit_ns = 2000, .shadow_exits = 1.5, .nested_miss_ns = 20,
    .least_gain = 0.15, .least_load = 0.05, .least_stay_s = 2, .horizon_s = 5, .switch_s = 0.01, .confirmations = 2,
};

static const struct {
    const char *name;
    size_t field;
    bool in_bt, in_kvm;
} rows[] = {
#define FIELD(name) offsetof(AdaptiveCounts, name)
    { "bt-ports", FIELD(exits), true, false },         { "bt-mmio", FIELD(exits), true, false },
    { "bt-ports", FIELD(users), true, false },         { "bt-mmio", FIELD(emulations), true, false },
    { "kvm-exits", FIELD(users), false, true },        { "kvm-emulations", FIELD(emulations), false, true },
    { "bt-interrupts", FIELD(exits), true, false },    { "tlb-flushes", FIELD(tables), true, true },
    { "tlb-page-flushes", FIELD(tables), true, true }, { "page-faults", FIELD(tables), true, false },
    { "shadow-faults", FIELD(tables), false, true },   { "page-table-writes", FIELD(tables), false, true },
    { "tlb-misses", FIELD(misses), true, false },      { "kvm-hardware-exits", FIELD(exits), false, true },
    { "tpr-accesses", FIELD(tpr), true, true },
#undef FIELD
};

void adaptive_count(AdaptiveCounts *counts, PlanMode mode, const char *name, uint64_t value)
{
    if (!strcmp(name, "vcpu-time-ns"))
        counts->vcpu_s += (double)value / 1e9;
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
        if ((mode == PLAN_BT ? rows[i].in_bt : rows[i].in_kvm) && !strcmp(rows[i].name, name))
            *(double *)((char *)counts + rows[i].field) += (double)value;
}

void adaptive_init(AdaptiveState *state)
{
    *state = (AdaptiveState){ .model = adaptive_model, .stay_s = adaptive_model.least_stay_s, .before = PLAN_NMODES };
}

void adaptive_calibrate(AdaptiveState *state, double exit_ns, double emulation_ns, double user_ns)
{
    AdaptiveModel *model = &state->model;
    model->exit_ns = exit_ns;
    model->emulation_ns = MAX(emulation_ns - exit_ns, 0);
    model->user_ns = MAX(user_ns - exit_ns, 0);
    model->is_calibrated = true;
}

/* --- the model --- */

/* CPU seconds that what was seen in a CPU second costs by leaving the guest, @exits of them. */
static double outside(const AdaptiveModel *model, const AdaptiveDecision *seen, double exits)
{
    return (exits * model->exit_ns + seen->emulations * model->emulation_ns + seen->users * model->user_ns) / 1e9;
}

static double rate(double before, double now, double seconds) { return now > before ? (now - before) / seconds : 0; }

/* Of a second of CPU time in bt, what is left for the work itself. */
static double bt_work(const AdaptiveModel *model, const AdaptiveDecision *seen)
{
    double events = (seen->exits * model->bt_exit_ns + seen->tables * model->bt_table_ns + seen->misses * model->bt_miss_ns) / 1e9;
    return MAX(1 - events, LEAST_WORK) / model->bt_factor;
}

static void exit_cost_learn(AdaptiveModel *model, const AdaptiveDecision *seen, double system)
{
    if (seen->exits < LEARN_EXITS || system < LEARN_SYSTEM)
        return;
    double seen_ns = system / seen->exits * 1e9;
    model->exit_ns += (seen_ns - model->exit_ns) * LEARN_WEIGHT;
}

static void costs_in_bt(const AdaptiveModel *model, AdaptiveDecision *seen)
{
    double work = bt_work(model, seen);
    seen->cost[PLAN_BT] = 1 / work;
    seen->cost[PLAN_HV] = 1 + outside(model, seen, seen->exits + seen->tables * model->shadow_exits) / work;
    seen->cost[PLAN_HWMMU] = 1 + (outside(model, seen, seen->exits) + seen->misses * model->nested_miss_ns / 1e9) / work;
}

static void costs_in_kvm(const AdaptiveModel *model, PlanMode mode, double system, AdaptiveDecision *seen)
{
    double work = MAX(1 - system, LEAST_WORK);
    seen->cost[mode] = 1 / work;
    /* Each exit counts as what costs most in bt. */
    seen->cost[PLAN_BT] = model->bt_factor + seen->exits / work * MAX(model->bt_exit_ns, model->bt_table_ns) / 1e9;
    if (mode == PLAN_HV) /* the other way round nothing tells what shadow paging would have to do */
        seen->cost[PLAN_HWMMU] = 1 + outside(model, seen, MAX(seen->exits - seen->tables, 0)) / work;
}

/* --- the decision --- */

static const char *doubt_of(const AdaptiveState *state, const AdaptiveDecision *seen)
{
    const AdaptiveModel *model = &state->model;
    if (seen->gain < model->least_gain)
        return "it would save too little";
    if (state->votes < model->confirmations)
        return "the next window has to confirm it";
    if (state->before != PLAN_NMODES && state->now_s - state->switched_s < state->stay_s)
        return "the last switch is too recent";
    if (seen->gain * model->horizon_s < model->switch_s)
        return "a switch costs more than it would save";
    return NULL;
}

AdaptiveDecision adaptive_decide(AdaptiveState *state, PlanMode mode, const bool allowed[PLAN_NMODES], const AdaptiveCounts *before,
                                 const AdaptiveCounts *now)
{
    AdaptiveModel *model = &state->model;
    AdaptiveDecision seen = { .from = mode, .to = mode, .reason = "the guest does little" };
    double wall = now->wall_s - before->wall_s, used = now->vcpu_s - before->vcpu_s;
    state->now_s = now->wall_s;
    seen.switch_s = model->switch_s;
    seen.exit_ns = model->exit_ns;
    seen.load = wall > 0 ? MAX(used, 0) / wall : 0;
    if (seen.load < model->least_load || used <= 0) {
        state->votes = 0;
        return seen;
    }
    double system = MIN(rate(before->system_s, now->system_s, used), 1);
    seen.exits = rate(before->exits, now->exits, used);
    seen.emulations = rate(before->emulations, now->emulations, used);
    seen.users = rate(before->users, now->users, used);
    seen.tables = rate(before->tables, now->tables, used);
    seen.misses = rate(before->misses, now->misses, used);
    seen.tpr = rate(before->tpr, now->tpr, used);
    if (mode == PLAN_BT) {
        costs_in_bt(model, &seen);
    } else {
        if (model->is_calibrated)
            system = MIN(outside(model, &seen, seen.exits + (mode == PLAN_HV ? seen.tables * MAX(model->shadow_exits - 1, 0) : 0)), 1);
        else
            exit_cost_learn(model, &seen, system);
        seen.exit_ns = model->exit_ns;
        costs_in_kvm(model, mode, system, &seen);
    }
    for (PlanMode other = 0; other < PLAN_NMODES; other++) {
        if (other != mode && !allowed[other])
            seen.cost[other] = 0;
        else if (seen.cost[other] > 0 && seen.cost[other] < seen.cost[seen.to] * (other == PLAN_HWMMU && seen.to != mode ? MUCH_THE_SAME : 1))
            seen.to = other;
    }
    seen.gain = 1 - seen.cost[seen.to] / seen.cost[mode];
    seen.reason = "no other mode would be faster";
    if (seen.to == mode || seen.gain < model->least_gain) {
        state->votes = 0;
    } else {
        state->votes = state->vote == seen.to ? state->votes + 1 : 1;
        state->vote = seen.to;
    }
    if (seen.to == mode || seen.gain < model->least_gain / 2)
        return seen;
    const char *doubt = doubt_of(state, &seen);
    seen.action = doubt ? ADAPTIVE_CLOSE : ADAPTIVE_SWITCH;
    seen.reason = doubt ? doubt : "it saves CPU time";
    return seen;
}

void adaptive_switched(AdaptiveState *state, PlanMode from, double cost_s)
{
    AdaptiveModel *model = &state->model;
    double stayed = state->now_s - state->switched_s;
    bool is_back = state->before != PLAN_NMODES && state->vote == state->before;
    if (is_back && stayed < 2 * state->stay_s)
        state->stay_s = MIN(state->stay_s * 2, LONGEST_STAY * model->least_stay_s);
    else if (stayed > 4 * state->stay_s)
        state->stay_s = MAX(state->stay_s / 2, model->least_stay_s);
    state->before = from;
    state->switched_s = state->now_s;
    state->votes = 0;
    model->switch_s += (cost_s - model->switch_s) * LEARN_WEIGHT;
}
