/*
 * Guest time.  One Clock per machine; devices ask it for "now" and hang timers on it, so every chip runs in a test with a fake
 * clock.  Times are absolute nanoseconds of guest time since power-on; the clock stands still while the machine is stopped.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct Clock Clock;
typedef struct Timer Timer;
typedef void (*TimerFunc)(void *opaque);

#define TIMER_NEVER INT64_MAX

/* clock_new: real time (CLOCK_MONOTONIC).  Timers fire on @context's thread (NULL: the default main context), from a timerfd,
 * with @lock held around each callback.  Arming is allowed from any thread that holds @lock. */
Clock *clock_new(GMainContext *context, GMutex *lock, GError **error);

/* clock_new_fake: stands at 0 until clock_fake_advance() moves it, which fires due timers in order. */
Clock *clock_new_fake(void);
void clock_fake_advance(Clock *clock, int64_t delta_ns);

void clock_free(Clock *clock);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Clock, clock_free)

int64_t clock_now_ns(const Clock *clock);

/* clock_stop, clock_start: freeze and continue guest time (monitor "stop"/"cont"). */
void clock_stop(Clock *clock);
void clock_start(Clock *clock);

/* clock_set: the time of a stopped or fake clock becomes @now_ns, forwards or back.  Timers keep their deadlines: whoever has some arms them anew. */
void clock_set(Clock *clock, int64_t now_ns);

Timer *timer_new(Clock *clock, TimerFunc func, void *opaque);
void timer_free(Timer *timer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Timer, timer_free)

/* timer_arm: fires once when now >= @deadline_ns (already past: soon); TIMER_NEVER disarms. */
void timer_arm(Timer *timer, int64_t deadline_ns);
int64_t timer_deadline_ns(const Timer *timer); /* TIMER_NEVER when not armed */
