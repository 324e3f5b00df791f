/* The adaptive policy on made-up windows: which mode it wants, and what keeps it from switching. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "vm/adaptive.h"

/* What one window of a second shows. */
typedef struct Shown {
    double load, system, exits, tables, misses;
} Shown;

static const bool every[PLAN_NMODES] = { true, true, true };

static AdaptiveState state;
static AdaptiveCounts before;

static AdaptiveDecision window(PlanMode mode, const bool *allowed, Shown shown)
{
    AdaptiveCounts now = before;
    now.wall_s += 1;
    now.vcpu_s += shown.load;
    now.system_s += shown.system;
    now.exits += shown.exits;
    now.tables += shown.tables;
    now.misses += shown.misses;
    AdaptiveDecision decision = adaptive_decide(&state, mode, allowed, &before, &now);
    before = now;
    return decision;
}

static void setup(void)
{
    adaptive_init(&state);
    before = (AdaptiveCounts){ .wall_s = 1000 };
}

#define BT_ONLY  { true, false, false }
#define NO_HV    { true, false, true }
#define NO_HWMMU { true, true, false }
#define ALL      { true, true, true }

static const struct {
    const char *name;
    PlanMode mode;
    Shown shown;
    bool allowed[PLAN_NMODES];
    AdaptiveAction action; /* of the second window that shows the same */
    PlanMode to;
} rows[] = {
    { "computing in bt goes to hardware", PLAN_BT, { 1, 0, 100, 10, 100 }, ALL, ADAPTIVE_SWITCH, PLAN_HWMMU },
    { "or hv, where that is what there is", PLAN_BT, { 1, 0, 100, 10, 100 }, NO_HWMMU, ADAPTIVE_SWITCH, PLAN_HV },
    { "and stays where there is none", PLAN_BT, { 1, 0, 100, 10, 100 }, BT_ONLY, ADAPTIVE_STAY, PLAN_BT },
    { "many flushes and faults go to hwmmu", PLAN_BT, { 1, 0, 500, 300e3, 2e6 }, ALL, ADAPTIVE_SWITCH, PLAN_HWMMU },
    { "but not to hv", PLAN_BT, { 1, 0, 500, 400e3, 1e6 }, NO_HWMMU, ADAPTIVE_STAY, PLAN_BT },
    { "many TPR accesses stay in bt", PLAN_BT, { 1, 0, 1e6, 10, 100 }, ALL, ADAPTIVE_STAY, PLAN_BT },
    { "an idle guest stays", PLAN_BT, { 0.01, 0, 1, 1, 1 }, ALL, ADAPTIVE_STAY, PLAN_BT },
    { "computing in hwmmu stays", PLAN_HWMMU, { 1, 0.01, 1000, 0, 0 }, ALL, ADAPTIVE_STAY, PLAN_HWMMU },
    { "many exits in hwmmu go to bt", PLAN_HWMMU, { 1, 0.8, 300e3, 0, 0 }, ALL, ADAPTIVE_SWITCH, PLAN_BT },
    { "but not when the user wants hardware", PLAN_HWMMU, { 1, 0.8, 300e3, 0, 0 }, { false, true, true }, ADAPTIVE_STAY, PLAN_HWMMU },
    { "shadow faults in hv go to hwmmu", PLAN_HV, { 1, 0.7, 200e3, 190e3, 0 }, ALL, ADAPTIVE_SWITCH, PLAN_HWMMU },
    { "or to bt, where the module cannot be loaded again", PLAN_HV, { 1, 0.7, 200e3, 190e3, 0 }, NO_HWMMU, ADAPTIVE_SWITCH, PLAN_BT },
    { "exits that are not about paging go to bt from hv, too", PLAN_HV, { 1, 0.8, 300e3, 100, 0 }, ALL, ADAPTIVE_SWITCH, PLAN_BT },
    { "computing in hv stays", PLAN_HV, { 1, 0.02, 1000, 100, 0 }, ALL, ADAPTIVE_STAY, PLAN_HV },
    { "two busy processors decide as one does", PLAN_BT, { 2, 0, 200, 20, 200 }, NO_HV, ADAPTIVE_SWITCH, PLAN_HWMMU },
};

START_TEST(test_row)
{
    AdaptiveDecision first = window(rows[_i].mode, rows[_i].allowed, rows[_i].shown);
    ck_assert_msg(first.action != ADAPTIVE_SWITCH, "%s: at once", rows[_i].name);
    AdaptiveDecision second = window(rows[_i].mode, rows[_i].allowed, rows[_i].shown);
    ck_assert_msg(second.action == rows[_i].action, "%s: action %d: %s", rows[_i].name, second.action, second.reason);
    ck_assert_msg(second.action == ADAPTIVE_STAY || second.to == rows[_i].to, "%s: to %s", rows[_i].name, plan_mode_name(second.to));
}
END_TEST

static const Shown computing = { 1, 0, 100, 10, 100 }, exits = { 1, 0.8, 300e3, 0, 0 };

START_TEST(test_least_stay_grows)
{
    unsigned stays[4] = { 0 };
    PlanMode mode = PLAN_BT;
    for (unsigned n = 0; n < G_N_ELEMENTS(stays); n++) {
        AdaptiveDecision decision;
        do {
            decision = window(mode, every, mode == PLAN_BT ? computing : exits);
            stays[n]++;
            ck_assert_msg(stays[n] < 100, "switch %u never", n);
        } while (decision.action != ADAPTIVE_SWITCH);
        adaptive_switched(&state, mode, 0.001);
        mode = decision.to;
    }
    ck_assert_uint_eq(stays[0], 2);
    ck_assert_uint_gt(stays[3], stays[1]);
}
END_TEST

START_TEST(test_dear_switch)
{
    state.model.switch_s = 100;
    window(PLAN_BT, every, computing);
    AdaptiveDecision decision = window(PLAN_BT, every, computing);
    ck_assert_int_eq(decision.action, ADAPTIVE_CLOSE);
    ck_assert_str_eq(decision.reason, "a switch costs more than it would save");
}
END_TEST

START_TEST(test_votes_are_in_a_row)
{
    static const Shown idle = { 0 };
    for (unsigned i = 0; i < 10; i++)
        ck_assert_int_ne(window(PLAN_BT, every, i % 2 ? idle : computing).action, ADAPTIVE_SWITCH);
}
END_TEST

/* On a host whose exits are dear, a visit to hardware teaches that; the next time bt is not left for it. */
START_TEST(test_learns_exits)
{
    static const Shown some = { 1, 0, 30e3, 10, 100 }, dear = { 1, 0.9, 18e3, 0, 0 };
    window(PLAN_BT, every, some);
    ck_assert_int_eq(window(PLAN_BT, every, some).action, ADAPTIVE_SWITCH);
    adaptive_switched(&state, PLAN_BT, 0.001);
    for (unsigned i = 0; i < 4; i++)
        window(PLAN_HWMMU, every, dear);
    ck_assert(state.model.exit_ns > 40000 && state.model.exit_ns < 51000);
    adaptive_switched(&state, PLAN_HWMMU, 0.001);
    for (unsigned i = 0; i < 30; i++)
        ck_assert_int_eq(window(PLAN_BT, every, some).action, ADAPTIVE_STAY);
}
END_TEST

/* What the host's kernel calls system time may be wrong; what exits cost has been measured. */
START_TEST(test_calibrated)
{
    static const Shown little = { 1, 0.05, 18e3, 0, 0 }, much = { 1, 0.9, 1e3, 0, 0 };
    adaptive_calibrate(&state, 48000, 90000, 120000);
    window(PLAN_HWMMU, every, little);
    AdaptiveDecision decision = window(PLAN_HWMMU, every, little);
    ck_assert_int_eq(decision.action, ADAPTIVE_SWITCH);
    ck_assert_int_eq(decision.to, PLAN_BT);
    ck_assert(decision.cost[PLAN_HWMMU] > 1 / (1 - 18e3 * 48e-6) - 0.1 && decision.cost[PLAN_HWMMU] < 1 / (1 - 18e3 * 48e-6) + 0.1);
    before.wall_s += 100;
    window(PLAN_HWMMU, every, much);
    ck_assert_int_eq(window(PLAN_HWMMU, every, much).action, ADAPTIVE_STAY);
    ck_assert(state.model.exit_ns > 47999 && state.model.exit_ns < 48001);
    /* An emulated instruction costs more than an exit, one that the monitor carries out as much as an exit to it. */
    AdaptiveCounts now = before;
    now.wall_s += 1;
    now.vcpu_s += 1;
    now.exits += 2000;
    now.emulations += 1000;
    now.users += 1000;
    decision = adaptive_decide(&state, PLAN_HWMMU, every, &before, &now);
    double outside = 2000 * 48e-6 + 1000 * (90e-6 - 48e-6) + 1000 * (120e-6 - 48e-6);
    ck_assert(decision.cost[PLAN_HWMMU] > 1 / (1 - outside) - 0.001 && decision.cost[PLAN_HWMMU] < 1 / (1 - outside) + 0.001);
}
END_TEST

static const struct {
    PlanMode mode;
    const char *name;
    double exits, tables, misses, vcpu_s;
} counters[] = {
    { PLAN_BT, "bt-ports", 7, 0, 0, 0 },        { PLAN_BT, "tlb-misses", 0, 0, 7, 0 },          { PLAN_BT, "page-faults", 0, 7, 0, 0 },
    { PLAN_BT, "kvm-hardware-exits", 0, 0, 0, 0 }, { PLAN_HV, "kvm-hardware-exits", 7, 0, 0, 0 }, { PLAN_HV, "shadow-faults", 0, 7, 0, 0 },
    { PLAN_HWMMU, "tlb-misses", 0, 0, 0, 0 },   { PLAN_HWMMU, "vcpu-time-ns", 0, 0, 0, 7e-9 }, { PLAN_BT, "other", 0, 0, 0, 0 },
};

START_TEST(test_counter)
{
    AdaptiveCounts counts = { 0 };
    adaptive_count(&counts, counters[_i].mode, counters[_i].name, 7);
    ck_assert_msg(counts.exits == counters[_i].exits && counts.tables == counters[_i].tables && counts.misses == counters[_i].misses &&
                      counts.vcpu_s > counters[_i].vcpu_s - 1e-12 && counts.vcpu_s < counters[_i].vcpu_s + 1e-12, "%s", counters[_i].name);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("adaptive");
    TCase *tcase = tcase_create("adaptive");
    tcase_add_checked_fixture(tcase, setup, NULL);
    tcase_add_loop_test(tcase, test_row, 0, G_N_ELEMENTS(rows));
    tcase_add_loop_test(tcase, test_counter, 0, G_N_ELEMENTS(counters));
    tcase_add_test(tcase, test_least_stay_grows);
    tcase_add_test(tcase, test_dear_switch);
    tcase_add_test(tcase, test_votes_are_in_a_row);
    tcase_add_test(tcase, test_learns_exits);
    tcase_add_test(tcase, test_calibrated);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
