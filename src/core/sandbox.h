/*
 * The sandbox: what the process may ask of the host's kernel once the machine is built, by seccomp allow-lists.
 *
 * sandbox_start() binds every thread that exists, and by inheritance those to come, to the list of SANDBOX_MAIN; sandbox_enter() narrows the calling
 * thread to its role.  A call that is not on the list ends the process with status 6 and one sentence that names it.  No new program,
 * no traced process, no new privilege, no memory that is writable and executable.  docs/isolation.md has the lists and the reasons.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

typedef enum SandboxRole {
    SANDBOX_MAIN, /* main loop, and any thread without a role */
    SANDBOX_VCPU, /* runs the engine */
    SANDBOX_DISK, /* input and output of files that are open */
} SandboxRole;
#define SANDBOX_NROLES 3

typedef struct SandboxParams {
    bool is_required;   /* the user asked: a host without seccomp is an error and not a note in the log */
    bool may_open;      /* SANDBOX_MAIN opens files and makes sockets: monitors, migration, a change of mode */
    bool may_network;   /* SANDBOX_MAIN makes IPv4 sockets, and opens files to read: the guest's network */
    bool may_spawn;     /* SANDBOX_MAIN starts other programs, and so has no list at all, but no new privileges */
    bool may_set_limits; /* SANDBOX_MAIN sets priorities, affinity and limits */
    void (*at_end)(void); /* before the process ends by a violation, in a signal handler on any thread; may be NULL */
} SandboxParams;

/* sandbox_start: once, on the main thread, after start-up.  FALSE with VMM_ERROR_HOST when the host refuses and @params->is_required. */
gboolean sandbox_start(const SandboxParams *params, GError **error);
/* sandbox_enter: narrows the calling thread to @role for ever; nothing without sandbox_start() before, or the second time.  Any thread. */
void sandbox_enter(SandboxRole role);
