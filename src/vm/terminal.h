/*
 * The terminal's settings: raw while a guest owns it, and back as they were however we end.
 * The only file-scope state of vm/, because signal handlers and exit handlers need it.
 */
#pragma once

#include <stdbool.h>

/* terminal_raw: @fd passes keys on at once and unchanged; @with_signals leaves Ctrl-C and Ctrl-\ to us.  Nothing when it is no terminal. */
void terminal_raw(int fd, bool with_signals);
/* terminal_restore: as found.  Any number of times; async-signal-safe. */
void terminal_restore(void);
/* terminal_guard: from now on also after abort() and crashes that nobody else handles.  Call it before an engine installs its handlers. */
void terminal_guard(void);
