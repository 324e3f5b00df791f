/*
 * For builds with -Db_sanitize=thread, put before every source by -Dc_args=-include…: GLib's locks are futexes that ThreadSanitizer does not
 * see, so that all they guard looks raced for.  These say what they order.
 */
#pragma once

#include <glib.h>
#include <sanitizer/tsan_interface.h>

static inline void tsan_mutex_lock(GMutex *mutex)
{
    g_mutex_lock(mutex);
    __tsan_acquire(mutex);
}

static inline gboolean tsan_mutex_trylock(GMutex *mutex)
{
    gboolean has_it = g_mutex_trylock(mutex);
    if (has_it)
        __tsan_acquire(mutex);
    return has_it;
}

static inline void tsan_mutex_unlock(GMutex *mutex)
{
    __tsan_release(mutex);
    g_mutex_unlock(mutex);
}

static inline void tsan_cond_wait(GCond *cond, GMutex *mutex)
{
    __tsan_release(mutex);
    g_cond_wait(cond, mutex);
    __tsan_acquire(mutex);
}

static inline gboolean tsan_cond_wait_until(GCond *cond, GMutex *mutex, gint64 end)
{
    __tsan_release(mutex);
    gboolean in_time = g_cond_wait_until(cond, mutex, end);
    __tsan_acquire(mutex);
    return in_time;
}

#define g_mutex_lock(mutex) tsan_mutex_lock(mutex)
#define g_mutex_trylock(mutex) tsan_mutex_trylock(mutex)
#define g_mutex_unlock(mutex) tsan_mutex_unlock(mutex)
#define g_cond_wait(cond, mutex) tsan_cond_wait((cond), (mutex))
#define g_cond_wait_until(cond, mutex, end) tsan_cond_wait_until((cond), (mutex), (end))
