/*
 * The diagnostic log: what `-d LIST` asks for, on stderr or the file of `-D`.  Off by default; a guest can switch nothing on, and what a
 * guest can repeat is limited by log_once().
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    LOG_OPTS = 1u << 0,         /* options accepted without effect */
    LOG_INT = 1u << 1,          /* interrupts and exceptions */
    LOG_GUEST_ERRORS = 1u << 2, /* the guest used a device in a wrong way */
    LOG_UNIMP = 1u << 3,        /* the guest used what we do not have */
    LOG_BT = 1u << 4,           /* translator */
    LOG_EXEC = 1u << 5,         /* every block entered, none chained: slow */
    LOG_PROF = 1u << 6,         /* profile and statistics at the end */
    LOG_KVM = 1u << 7,
    LOG_CPU_RESET = 1u << 8,    /* registers at reset and triple fault */
    LOG_CPU = 1u << 9,          /* registers with every line of LOG_EXEC */
    LOG_VERIFY = 1u << 11,      /* every translation is decoded again and proven safe */
    LOG_SWITCH = 1u << 10,      /* each switch to another engine, with its times */
};

/* The current mask.  Written at start-up only. */
extern uint32_t log_mask;

static inline bool log_on(uint32_t category) { return G_UNLIKELY(log_mask & category); }

/* log_open: @path NULL means stderr.  FALSE with VMM_ERROR_USAGE when the file cannot be written. */
gboolean log_open(uint32_t mask, const char *path, GError **error);
/* log_text: one line or more, when @category is on.  Any thread; a newline is added when missing. */
void log_text(uint32_t category, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* log_parse: "int,guest_errors" to a mask.  FALSE with VMM_ERROR_USAGE on an unknown word.   log_help: the list, one per line. */
gboolean log_parse(const char *list, uint32_t *out_mask, GError **error);
char *log_help(void);

/* log_once: as log_text(), but only the first time this place is reached: for what a guest can repeat for ever. */
#define log_once(category, ...)                                     \
    do {                                                            \
        static gsize log_once_done;                                 \
        if (log_on(category) && g_once_init_enter(&log_once_done)) { \
            log_text(category, __VA_ARGS__);                        \
            g_once_init_leave(&log_once_done, 1);                   \
        }                                                           \
    } while (0)
