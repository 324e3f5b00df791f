#include <check.h>
#include <stdlib.h>

#include "core/clock.h"

typedef struct Note {
    GString *log;
    const char *name;
    Clock *clock;
    Timer *timer;
    int64_t period_ns; /* 0: once */
    unsigned nfired;
} Note;

static void note_fire(void *opaque)
{
    Note *note = opaque;
    note->nfired++;
    if (note->log)
        g_string_append_printf(note->log, "%s@%d ", note->name, (int)clock_now_ns(note->clock));
    if (note->period_ns)
        timer_arm(note->timer, clock_now_ns(note->clock) + note->period_ns);
}

START_TEST(fake_fires_in_order)
{
    g_autoptr(Clock) clock = clock_new_fake();
    GString *log = g_string_new(NULL);
    Note a = { log, "a", clock }, b = { log, "b", clock }, c = { log, "c", clock, .period_ns = 40 };
    a.timer = timer_new(clock, note_fire, &a);
    b.timer = timer_new(clock, note_fire, &b);
    c.timer = timer_new(clock, note_fire, &c);
    timer_arm(a.timer, 100);
    timer_arm(b.timer, 50);
    timer_arm(c.timer, 50); /* same time: first armed first */
    ck_assert_int_eq(timer_deadline_ns(b.timer), 50);
    clock_fake_advance(clock, 49);
    ck_assert_str_eq(log->str, "");
    clock_fake_advance(clock, 61);
    ck_assert_str_eq(log->str, "b@50 c@50 c@90 a@100 ");
    ck_assert_int_eq(clock_now_ns(clock), 110);
    ck_assert_int_eq(timer_deadline_ns(a.timer), TIMER_NEVER);
    ck_assert_int_eq(timer_deadline_ns(c.timer), 130);

    g_string_truncate(log, 0);
    timer_arm(c.timer, TIMER_NEVER);
    timer_arm(a.timer, 5); /* past: soon */
    timer_arm(b.timer, 120);
    timer_arm(b.timer, 115);
    clock_fake_advance(clock, 0);
    ck_assert_str_eq(log->str, "a@110 ");
    timer_arm(a.timer, 112);
    timer_free(a.timer);
    clock_fake_advance(clock, 1000);
    ck_assert_str_eq(log->str, "a@110 b@115 ");
    timer_free(b.timer);
    timer_free(c.timer);
    g_string_free(log, TRUE);
}
END_TEST

START_TEST(heap_keeps_order)
{
    enum { N = 200 };
    g_autoptr(Clock) clock = clock_new_fake();
    Note note[N] = { 0 };
    GRand *random = g_rand_new_with_seed(7);
    for (unsigned i = 0; i < N; i++) {
        note[i].clock = clock;
        note[i].timer = timer_new(clock, note_fire, &note[i]);
    }
    for (unsigned i = 0; i < 5000; i++)
        timer_arm(note[g_rand_int_range(random, 0, N)].timer,
                  g_rand_boolean(random) ? g_rand_int_range(random, 1, 1000) : TIMER_NEVER);
    for (int now = 1; now <= 1000; now++) {
        clock_fake_advance(clock, 1);
        for (unsigned i = 0; i < N; i++)
            ck_assert(timer_deadline_ns(note[i].timer) > now);
    }
    for (unsigned i = 0; i < N; i++)
        timer_free(note[i].timer);
    g_rand_free(random);
}
END_TEST

static gboolean on_timeout(gpointer opaque)
{
    *(bool *)opaque = true;
    return G_SOURCE_REMOVE;
}

static void run_for_ms(GMainContext *context, unsigned ms)
{
    bool done = false;
    GSource *source = g_timeout_source_new(ms);
    g_source_set_callback(source, on_timeout, &done, NULL);
    g_source_attach(source, context);
    while (!done)
        g_main_context_iteration(context, TRUE);
    g_source_unref(source);
}

START_TEST(real_time)
{
    GMainContext *context = g_main_context_new();
    GMutex lock;
    g_mutex_init(&lock);
    Clock *clock = clock_new(context, &lock, NULL);
    ck_assert_ptr_nonnull(clock);
    int64_t start = clock_now_ns(clock);
    ck_assert(start >= 0 && start < 1000000000);

    Note early = { .clock = clock }, late = { .clock = clock }, never = { .clock = clock };
    early.timer = timer_new(clock, note_fire, &early);
    late.timer = timer_new(clock, note_fire, &late);
    never.timer = timer_new(clock, note_fire, &never);
    g_mutex_lock(&lock);
    timer_arm(never.timer, start + 5000000);
    timer_arm(early.timer, start + 3000000);
    timer_arm(late.timer, start + 40000000);
    timer_arm(never.timer, TIMER_NEVER);
    g_mutex_unlock(&lock);
    run_for_ms(context, 20);
    ck_assert_uint_eq(early.nfired, 1);
    ck_assert_uint_eq(late.nfired, 0);

    clock_stop(clock);
    int64_t stopped = clock_now_ns(clock);
    run_for_ms(context, 50);
    ck_assert_int_eq(clock_now_ns(clock), stopped);
    ck_assert_uint_eq(late.nfired, 0);
    clock_start(clock);
    ck_assert(clock_now_ns(clock) >= stopped);
    ck_assert(clock_now_ns(clock) < stopped + 40000000);
    run_for_ms(context, 60);
    ck_assert_uint_eq(late.nfired, 1);
    ck_assert_uint_eq(never.nfired, 0);

    /* A timer that is always late neither blocks the loop nor keeps others from firing. */
    early.period_ns = -1000;
    g_mutex_lock(&lock);
    timer_arm(early.timer, 0);
    timer_arm(late.timer, clock_now_ns(clock) + 1000000);
    g_mutex_unlock(&lock);
    run_for_ms(context, 20);
    ck_assert_uint_gt(early.nfired, 2);
    ck_assert_uint_eq(late.nfired, 2);

    timer_free(early.timer);
    timer_free(late.timer);
    timer_free(never.timer);
    clock_free(clock);
    g_mutex_clear(&lock);
    g_main_context_unref(context);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("clock");
    TCase *tcase = tcase_create("clock");
    tcase_add_test(tcase, fake_fires_in_order);
    tcase_add_test(tcase, heap_keeps_order);
    tcase_add_test(tcase, real_time);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
