#include "core/clock.h"

#include <errno.h>
#include <glib-unix.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "core/error.h"

#define NOT_QUEUED G_MAXUINT

struct Timer {
    Clock *clock;
    TimerFunc func;
    void *opaque;
    int64_t deadline_ns; /* as armed */
    int64_t due_ns;      /* heap key: the deadline, but after the pass of callbacks in which it was armed */
    uint64_t sequence;   /* order among equals: first armed fires first */
    unsigned position;   /* in the heap, or NOT_QUEUED */
};

/* Everything but now is guarded by the machine lock, @lock. */
struct Clock {
    GMutex *lock; /* NULL: fake, or the owner has a single thread */
    bool is_fake;

    /* now = running ? host time + offset_ns : stopped_ns.  Read without the lock. */
    bool running;
    int64_t offset_ns, stopped_ns;

    Timer **heap; /* binary heap, earliest first */
    unsigned ntimers, capacity;
    uint64_t next_sequence;
    bool in_pass;    /* callbacks are running */
    int64_t pass_ns; /* what this pass fires: everything due until then */

    int fd; /* timerfd, -1 when fake */
    int64_t fd_deadline_ns; /* guest time it is set to; TIMER_NEVER: not set.  May be earlier than the earliest timer */
    GSource *source;
};

static int64_t host_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t clock_now_ns(const Clock *clock)
{
    if (__atomic_load_n(&clock->running, __ATOMIC_ACQUIRE))
        return host_now_ns() + __atomic_load_n(&clock->offset_ns, __ATOMIC_RELAXED);
    return __atomic_load_n(&clock->stopped_ns, __ATOMIC_RELAXED);
}

/* --- the heap --- */

static bool timer_before(const Timer *a, const Timer *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->sequence < b->sequence;
}

static void heap_place(Clock *clock, Timer *timer, unsigned position)
{
    clock->heap[position] = timer;
    timer->position = position;
}

/* heap_settle: puts @timer, whose key changed, where it belongs, starting from the free place @position. */
static void heap_settle(Clock *clock, Timer *timer, unsigned position)
{
    while (position > 0 && timer_before(timer, clock->heap[(position - 1) / 2])) {
        heap_place(clock, clock->heap[(position - 1) / 2], position);
        position = (position - 1) / 2;
    }
    for (;;) {
        unsigned child = 2 * position + 1;
        if (child >= clock->ntimers)
            break;
        if (child + 1 < clock->ntimers && timer_before(clock->heap[child + 1], clock->heap[child]))
            child++;
        if (!timer_before(clock->heap[child], timer))
            break;
        heap_place(clock, clock->heap[child], position);
        position = child;
    }
    heap_place(clock, timer, position);
}

static void heap_remove(Clock *clock, Timer *timer)
{
    unsigned position = timer->position;
    timer->position = NOT_QUEUED;
    Timer *last = clock->heap[--clock->ntimers];
    if (last != timer)
        heap_settle(clock, last, position);
}

static void heap_insert(Clock *clock, Timer *timer)
{
    if (clock->ntimers == clock->capacity) {
        clock->capacity = clock->capacity ? 2 * clock->capacity : 16;
        clock->heap = g_renew(Timer *, clock->heap, clock->capacity);
    }
    clock->ntimers++;
    heap_settle(clock, timer, clock->ntimers - 1);
}

/* --- the timerfd --- */

/* fd_update: makes the timerfd fire no later than the earliest timer.  It is left alone when it fires earlier: one wake-up for nothing is
 * cheaper than a system call each time a guest pushes its tick back. */
static void fd_update(Clock *clock)
{
    if (clock->fd < 0 || clock->in_pass || !clock->running || clock->ntimers == 0)
        return;
    int64_t due_ns = clock->heap[0]->due_ns;
    if (due_ns >= clock->fd_deadline_ns)
        return;
    clock->fd_deadline_ns = due_ns;
    int64_t host_ns = due_ns > 0 ? due_ns - clock->offset_ns : 1;
    if (host_ns < 1)
        host_ns = 1; /* 0 would disarm */
    struct itimerspec when = { .it_value = { host_ns / 1000000000, host_ns % 1000000000 } };
    timerfd_settime(clock->fd, TFD_TIMER_ABSTIME, &when, NULL);
}

/* timers_run: one pass; what the callbacks arm for a time already past waits for the next one, so that a pass ends. */
static void timers_run(Clock *clock, int64_t until_ns)
{
    clock->in_pass = true;
    clock->pass_ns = until_ns;
    while (clock->ntimers > 0 && clock->heap[0]->due_ns <= until_ns) {
        Timer *timer = clock->heap[0];
        heap_remove(clock, timer);
        timer->deadline_ns = TIMER_NEVER;
        timer->func(timer->opaque);
    }
    clock->in_pass = false;
}

static gboolean clock_dispatch(gint fd, GIOCondition condition, gpointer opaque)
{
    Clock *clock = opaque;
    if (clock->lock)
        g_mutex_lock(clock->lock);
    uint64_t expirations;
    if (read(fd, &expirations, sizeof(expirations)) == sizeof(expirations))
        clock->fd_deadline_ns = TIMER_NEVER;
    if (clock->running) {
        timers_run(clock, clock_now_ns(clock));
        fd_update(clock);
    }
    if (clock->lock)
        g_mutex_unlock(clock->lock);
    return G_SOURCE_CONTINUE;
}

/* --- clocks --- */

Clock *clock_new(GMainContext *context, GMutex *lock, GError **error)
{
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (fd < 0) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_HOST, "clock: timerfd_create: %s", g_strerror(errno));
        return NULL;
    }
    Clock *clock = g_new0(Clock, 1);
    clock->lock = lock;
    clock->fd = fd;
    clock->fd_deadline_ns = TIMER_NEVER;
    clock->offset_ns = -host_now_ns();
    clock->running = true;
    clock->source = g_unix_fd_source_new(fd, G_IO_IN);
    /* Default priority: above it, a timer that is always due would starve consoles and signals. */
    g_source_set_callback(clock->source, G_SOURCE_FUNC(clock_dispatch), clock, NULL);
    g_source_attach(clock->source, context);
    return clock;
}

Clock *clock_new_fake(void)
{
    Clock *clock = g_new0(Clock, 1);
    clock->is_fake = true;
    clock->fd = -1;
    clock->fd_deadline_ns = TIMER_NEVER;
    return clock;
}

void clock_fake_advance(Clock *clock, int64_t delta_ns)
{
    g_assert(clock->is_fake && delta_ns >= 0);
    int64_t end_ns = clock->stopped_ns + delta_ns;
    while (clock->ntimers > 0 && clock->heap[0]->due_ns <= end_ns) {
        if (clock->heap[0]->due_ns > clock->stopped_ns)
            clock->stopped_ns = clock->heap[0]->due_ns;
        timers_run(clock, clock->stopped_ns);
    }
    clock->stopped_ns = end_ns;
}

void clock_free(Clock *clock)
{
    if (!clock)
        return;
    if (clock->source) {
        g_source_destroy(clock->source);
        g_source_unref(clock->source);
    }
    if (clock->fd >= 0)
        close(clock->fd);
    for (unsigned i = 0; i < clock->ntimers; i++)
        clock->heap[i]->position = NOT_QUEUED;
    g_free(clock->heap);
    g_free(clock);
}

void clock_stop(Clock *clock)
{
    if (!clock->running)
        return;
    __atomic_store_n(&clock->stopped_ns, clock_now_ns(clock), __ATOMIC_RELAXED);
    __atomic_store_n(&clock->running, false, __ATOMIC_RELEASE);
}

void clock_start(Clock *clock)
{
    if (clock->running || clock->is_fake)
        return;
    __atomic_store_n(&clock->offset_ns, clock->stopped_ns - host_now_ns(), __ATOMIC_RELAXED);
    __atomic_store_n(&clock->running, true, __ATOMIC_RELEASE);
    clock->fd_deadline_ns = TIMER_NEVER; /* it was set with the old offset */
    fd_update(clock);
}

void clock_set(Clock *clock, int64_t now_ns)
{
    g_assert(!clock->running);
    __atomic_store_n(&clock->stopped_ns, now_ns, __ATOMIC_RELAXED);
}

/* --- timers --- */

Timer *timer_new(Clock *clock, TimerFunc func, void *opaque)
{
    Timer *timer = g_new0(Timer, 1);
    timer->clock = clock;
    timer->func = func;
    timer->opaque = opaque;
    timer->deadline_ns = TIMER_NEVER;
    timer->position = NOT_QUEUED;
    return timer;
}

void timer_free(Timer *timer)
{
    if (!timer)
        return;
    if (timer->position != NOT_QUEUED)
        heap_remove(timer->clock, timer);
    g_free(timer);
}

void timer_arm(Timer *timer, int64_t deadline_ns)
{
    Clock *clock = timer->clock;
    bool was_queued = timer->position != NOT_QUEUED;
    if (was_queued && timer->deadline_ns == deadline_ns)
        return;
    timer->deadline_ns = deadline_ns;
    if (deadline_ns == TIMER_NEVER) {
        if (was_queued)
            heap_remove(clock, timer);
        return;
    }
    timer->due_ns = clock->in_pass && deadline_ns <= clock->pass_ns ? clock->pass_ns + 1 : deadline_ns;
    timer->sequence = clock->next_sequence++;
    if (was_queued)
        heap_settle(clock, timer, timer->position);
    else
        heap_insert(clock, timer);
    fd_update(clock);
}

int64_t timer_deadline_ns(const Timer *timer)
{
    return timer->deadline_ns;
}
