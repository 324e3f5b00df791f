#include "core/sandbox.h"

#include <asm/prctl.h>
#include <errno.h>
#include <malloc.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/error.h"
#include "core/log.h"

#define OWN_PID UINT64_MAX /* stands for our process number */
#define KVM_TYPE 0xae /* of every request to /dev/kvm and what comes from it */

enum {
    ALL = 1u << SANDBOX_MAIN | 1u << SANDBOX_VCPU | 1u << SANDBOX_DISK,
    MAIN = 1u << SANDBOX_MAIN,
    VCPU = 1u << SANDBOX_VCPU,
    DISK = 1u << SANDBOX_DISK,
    OPEN = 1u << 8,    /* SANDBOX_MAIN, with may_open */
    LIMITS = 1u << 9,  /* with may_set_limits */
    NET = 1u << 10,    /* with may_network */
};

/* The calls that need no look at their arguments. */
static const struct {
    int number;
    unsigned who;
} rows[] = {
    /* data to and from what is open: consoles, logs, disks, event counters */
    { SCMP_SYS(read), ALL },     { SCMP_SYS(readv), ALL },     { SCMP_SYS(pread64), ALL },  { SCMP_SYS(preadv), ALL },
    { SCMP_SYS(write), ALL },    { SCMP_SYS(writev), ALL },    { SCMP_SYS(pwrite64), ALL }, { SCMP_SYS(pwritev), ALL },
    { SCMP_SYS(preadv2), ALL },  { SCMP_SYS(pwritev2), ALL },  { SCMP_SYS(lseek), ALL },    { SCMP_SYS(fstat), ALL },
    { SCMP_SYS(fsync), ALL },    { SCMP_SYS(fdatasync), ALL }, { SCMP_SYS(fallocate), ALL }, { SCMP_SYS(close), ALL },
    { SCMP_SYS(sendto), ALL },   { SCMP_SYS(sendmsg), ALL },   { SCMP_SYS(recvfrom), ALL }, { SCMP_SYS(recvmsg), ALL },
    { SCMP_SYS(fcntl), ALL },    { SCMP_SYS(sync_file_range), ALL },
    /* waiting, and time */
    { SCMP_SYS(poll), ALL },     { SCMP_SYS(ppoll), ALL },     { SCMP_SYS(futex), ALL },    { SCMP_SYS(nanosleep), ALL },
    { SCMP_SYS(clock_nanosleep), ALL }, { SCMP_SYS(clock_gettime), ALL }, { SCMP_SYS(gettimeofday), ALL },
    { SCMP_SYS(clock_getres), ALL }, { SCMP_SYS(time), ALL }, { SCMP_SYS(timerfd_settime), ALL }, { SCMP_SYS(timerfd_gettime), ALL },
    { SCMP_SYS(sched_yield), ALL }, { SCMP_SYS(restart_syscall), ALL },
    /* memory of the process; mmap and mprotect are below */
    { SCMP_SYS(brk), ALL },      { SCMP_SYS(munmap), ALL },    { SCMP_SYS(mremap), ALL },   { SCMP_SYS(madvise), ALL },
    { SCMP_SYS(mincore), ALL },  { SCMP_SYS(membarrier), ALL }, { SCMP_SYS(msync), MAIN },
    /* signals, and the life of a thread */
    { SCMP_SYS(rt_sigaction), ALL }, { SCMP_SYS(rt_sigprocmask), ALL }, { SCMP_SYS(rt_sigreturn), ALL }, { SCMP_SYS(sigaltstack), ALL },
    { SCMP_SYS(rt_sigtimedwait), ALL }, { SCMP_SYS(exit), ALL }, { SCMP_SYS(exit_group), ALL }, { SCMP_SYS(set_robust_list), ALL },
    { SCMP_SYS(timer_create), MAIN | VCPU }, { SCMP_SYS(timer_settime), MAIN | VCPU }, { SCMP_SYS(timer_delete), MAIN }, /* -d prof */
    { SCMP_SYS(rseq), ALL },     { SCMP_SYS(set_tid_address), ALL },
    /* asking who and where we are */
    { SCMP_SYS(getpid), ALL },   { SCMP_SYS(gettid), ALL },    { SCMP_SYS(getcpu), ALL },   { SCMP_SYS(getrandom), ALL },
    { SCMP_SYS(sched_getaffinity), ALL }, { SCMP_SYS(sched_getparam), ALL }, { SCMP_SYS(sched_getscheduler), ALL },
    { SCMP_SYS(getrusage), ALL }, { SCMP_SYS(times), ALL }, { SCMP_SYS(getuid), MAIN }, { SCMP_SYS(geteuid), MAIN },
    { SCMP_SYS(getgid), MAIN },  { SCMP_SYS(getegid), MAIN },  { SCMP_SYS(getppid), MAIN }, { SCMP_SYS(uname), MAIN },
    { SCMP_SYS(sysinfo), ALL }, /* libc's qsort */ { SCMP_SYS(getpriority), MAIN },
    /* the main loop: event counters and timers, connections that come in at sockets which listen already */
    { SCMP_SYS(eventfd2), MAIN }, { SCMP_SYS(timerfd_create), MAIN }, { SCMP_SYS(pipe2), MAIN }, { SCMP_SYS(dup), MAIN },
    { SCMP_SYS(dup2), MAIN },    { SCMP_SYS(dup3), MAIN },     { SCMP_SYS(epoll_create1), MAIN }, { SCMP_SYS(epoll_ctl), MAIN },
    { SCMP_SYS(epoll_wait), MAIN }, { SCMP_SYS(epoll_pwait), MAIN }, { SCMP_SYS(select), MAIN }, { SCMP_SYS(pselect6), MAIN },
    { SCMP_SYS(accept), MAIN },  { SCMP_SYS(accept4), MAIN },  { SCMP_SYS(shutdown), MAIN }, { SCMP_SYS(getsockopt), MAIN },
    { SCMP_SYS(setsockopt), MAIN }, { SCMP_SYS(getsockname), MAIN }, { SCMP_SYS(getpeername), MAIN }, { SCMP_SYS(listen), MAIN },
    { SCMP_SYS(socketpair), MAIN },
    /* the end: sockets and the pid file go, the child that loads modules is waited for */
    { SCMP_SYS(unlink), MAIN },  { SCMP_SYS(unlinkat), MAIN }, { SCMP_SYS(wait4), MAIN },   { SCMP_SYS(waitid), MAIN },
    /* a new engine while the guest runs: its code cache */
    { SCMP_SYS(memfd_create), MAIN }, { SCMP_SYS(ftruncate), MAIN },
    /* files and connections that monitors, migration and a change of mode need */
    { SCMP_SYS(open), OPEN },    { SCMP_SYS(openat), OPEN },   { SCMP_SYS(creat), OPEN },   { SCMP_SYS(stat), OPEN | NET },
    { SCMP_SYS(lstat), OPEN },   { SCMP_SYS(statx), OPEN | NET },    { SCMP_SYS(statfs), OPEN },  { SCMP_SYS(fstatfs), OPEN },
    { SCMP_SYS(access), OPEN },  { SCMP_SYS(faccessat), OPEN }, { SCMP_SYS(faccessat2), OPEN }, { SCMP_SYS(readlink), OPEN },
    { SCMP_SYS(readlinkat), OPEN }, { SCMP_SYS(getdents64), OPEN }, { SCMP_SYS(getcwd), OPEN }, { SCMP_SYS(rename), OPEN },
    { SCMP_SYS(renameat), OPEN }, { SCMP_SYS(renameat2), OPEN }, { SCMP_SYS(link), OPEN },  { SCMP_SYS(linkat), OPEN },
    { SCMP_SYS(mkdir), OPEN },   { SCMP_SYS(mkdirat), OPEN },  { SCMP_SYS(umask), OPEN },   { SCMP_SYS(chmod), OPEN },
    { SCMP_SYS(fchmod), OPEN },  { SCMP_SYS(fchmodat), OPEN }, { SCMP_SYS(flock), OPEN },   { SCMP_SYS(fadvise64), OPEN },
    { SCMP_SYS(sendfile), OPEN }, { SCMP_SYS(copy_file_range), OPEN }, { SCMP_SYS(splice), OPEN }, { SCMP_SYS(socket), OPEN },
    { SCMP_SYS(connect), OPEN | NET }, { SCMP_SYS(bind), OPEN | NET },     { SCMP_SYS(sendmmsg), OPEN }, { SCMP_SYS(recvmmsg), OPEN },
    /* the host's resources */
    { SCMP_SYS(setpriority), LIMITS }, { SCMP_SYS(sched_setaffinity), LIMITS }, { SCMP_SYS(sched_setscheduler), LIMITS },
    { SCMP_SYS(sched_setparam), LIMITS }, { SCMP_SYS(sched_setattr), LIMITS }, { SCMP_SYS(setrlimit), LIMITS },
    { SCMP_SYS(prlimit64), LIMITS }, { SCMP_SYS(ioprio_set), LIMITS }, { SCMP_SYS(mlock), LIMITS }, { SCMP_SYS(mlock2), LIMITS },
    { SCMP_SYS(mlockall), LIMITS }, { SCMP_SYS(munlock), LIMITS },
};

/* Those whose arguments decide: (argument & mask) == value, for all that are given.  A mask of 0 ends them. */
typedef struct ArgumentRule {
    unsigned argument;
    uint64_t mask, value;
} ArgumentRule;
#define WHOLE 0xffffffffu /* the kernel looks at 32 bits */

static const struct {
    int number;
    unsigned who;
    int refusal; /* 0: allowed; else this error */
    ArgumentRule rule[2];
} argument_rows[] = {
    /* Memory that can be executed is only the second view of a file that is written through the first: the code cache of a new engine. */
    { SCMP_SYS(mmap), ALL, 0, { { 2, PROT_EXEC, 0 } } },
    { SCMP_SYS(mmap), MAIN, 0, { { 2, PROT_EXEC | PROT_WRITE, PROT_EXEC }, { 3, MAP_TYPE | MAP_ANONYMOUS, MAP_SHARED } } },
    /* A library that is loaded late (a resolver's, a converter's): its caller goes on without it. */
    { SCMP_SYS(mmap), MAIN, EPERM, { { 2, PROT_EXEC | PROT_WRITE, PROT_EXEC }, { 3, MAP_TYPE, MAP_PRIVATE } } },
    { SCMP_SYS(mprotect), ALL, 0, { { 2, PROT_EXEC, 0 } } },
    { SCMP_SYS(arch_prctl), MAIN | VCPU, 0, { { 0, WHOLE, ARCH_SET_GS } } },
    { SCMP_SYS(prctl), ALL, 0, { { 0, WHOLE, PR_SET_NAME } } },
    { SCMP_SYS(prctl), ALL, 0, { { 0, WHOLE, PR_GET_NAME } } },
    { SCMP_SYS(prctl), ALL, 0, { { 0, WHOLE, PR_SET_TIMERSLACK } } },
    { SCMP_SYS(prctl), ALL, 0, { { 0, WHOLE, PR_SET_VMA } } }, /* libc names its memory */
    /* Narrowing a thread further. */
    { SCMP_SYS(prctl), MAIN, 0, { { 0, WHOLE, PR_SET_NO_NEW_PRIVS } } },
    { SCMP_SYS(prctl), MAIN, 0, { { 0, WHOLE, PR_SET_SECCOMP } } },
    { SCMP_SYS(seccomp), MAIN, 0, { { 0, 0, 0 } } },
    /* Threads, but no processes; clone3 hides its flags in memory, and libc takes clone when there is none. */
    { SCMP_SYS(clone), MAIN, 0, { { 0, CLONE_THREAD, CLONE_THREAD } } },
    { SCMP_SYS(clone3), MAIN, ENOSYS, { { 0, 0, 0 } } },
    { SCMP_SYS(tgkill), ALL, 0, { { 0, WHOLE, OWN_PID } } },
    { SCMP_SYS(prlimit64), ALL, 0, { { 2, UINT64_MAX, 0 } } }, /* reading a limit */
    { SCMP_SYS(newfstatat), ALL, 0, { { 3, AT_EMPTY_PATH, AT_EMPTY_PATH } } }, /* libc's fstat */
    { SCMP_SYS(newfstatat), OPEN | NET, 0, { { 0, 0, 0 } } },
    /* The guest's network: sockets, and /etc/resolv.conf and tftp= to read. */
    { SCMP_SYS(socket), NET, 0, { { 0, WHOLE, AF_INET } } },
    { SCMP_SYS(openat), NET, 0, { { 2, O_ACCMODE | O_CREAT | O_TRUNC | O_TMPFILE, O_RDONLY } } },
    { SCMP_SYS(ioctl), ALL, 0, { { 1, 0xff00, KVM_TYPE << 8 } } },
    { SCMP_SYS(ioctl), ALL, 0, { { 1, WHOLE, TCGETS } } },
    { SCMP_SYS(ioctl), ALL, 0, { { 1, WHOLE, TCSETS } } },
    { SCMP_SYS(ioctl), ALL, 0, { { 1, WHOLE, TCSETSW } } },
    { SCMP_SYS(ioctl), ALL, 0, { { 1, WHOLE, TCSETSF } } },
    { SCMP_SYS(ioctl), ALL, 0, { { 1, WHOLE, FIONREAD } } },
    { SCMP_SYS(ioctl), ALL, 0, { { 1, WHOLE, FIONBIO } } },
    { SCMP_SYS(ioctl), MAIN, 0, { { 1, WHOLE, TIOCGWINSZ } } },
    { SCMP_SYS(ioctl), MAIN, 0, { { 1, WHOLE, TIOCGPGRP } } },
    { SCMP_SYS(ioctl), MAIN | DISK, 0, { { 1, WHOLE, BLKGETSIZE64 } } },
    { SCMP_SYS(ioctl), MAIN | DISK, 0, { { 1, WHOLE, BLKDISCARD } } },
    { SCMP_SYS(ioctl), MAIN | DISK, 0, { { 1, WHOLE, BLKZEROOUT } } },
};

static const char *const role_names[SANDBOX_NROLES] = { "the main loop", "a virtual CPU", "a disk's worker" };

static SandboxParams params;
static bool is_on; /* written before the threads that read it start, or before they get work */
static _Thread_local SandboxRole role; /* SANDBOX_MAIN until the thread says otherwise */

/* --- a violation --- */

static void violation(int signal_number, siginfo_t *info, void *context)
{
    /* Nothing goes on after this, so that what is not safe in a handler can do no harm: no call that is refused is made with libc's locks held. */
    char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, info->si_syscall);
    char text[256];
    int size = snprintf(text, sizeof text, "segue: sandbox: %s made the system call %s (%d), which it may not; the process ends. "
                                           "If the guest is not to blame, -sandbox off helps\n",
                        role_names[role], name ? name : "?", info->si_syscall);
    if (params.at_end)
        params.at_end();
    if (write(STDERR_FILENO, text, (size_t)size) < 0)
        _exit(VMM_ERROR_HOST); /* nobody listens */
    _exit(VMM_ERROR_HOST);
}

/* GLib's own writer of warnings looks for a journal, a terminal and the time zone.  What libraries tell their developers is left out, as there. */
static GLogWriterOutput warning_write(GLogLevelFlags level, const GLogField *fields, gsize nfields, gpointer opaque)
{
    if (level & (G_LOG_LEVEL_DEBUG | G_LOG_LEVEL_INFO))
        return G_LOG_WRITER_HANDLED;
    for (gsize i = 0; i < nfields; i++)
        if (!strcmp(fields[i].key, "MESSAGE"))
            fprintf(stderr, "segue: %s\n", (const char *)fields[i].value);
    return G_LOG_WRITER_HANDLED;
}

/* --- building a filter --- */

static bool is_for(unsigned who, SandboxRole wanted)
{
    return who & 1u << wanted || (wanted == SANDBOX_MAIN && ((who & OPEN && params.may_open) ||
                                                             (who & LIMITS && params.may_set_limits) ||
                                                             (who & NET && params.may_network)));
}

static int rule_add(scmp_filter_ctx filter, int refusal, int number, const ArgumentRule *rule)
{
    struct scmp_arg_cmp compare[2];
    unsigned count = 0;
    while (count < 2 && rule && rule[count].mask) {
        uint64_t value = rule[count].value == OWN_PID ? (uint64_t)getpid() : rule[count].value;
        compare[count] = SCMP_CMP(rule[count].argument, SCMP_CMP_MASKED_EQ, rule[count].mask, value);
        count++;
    }
    int result = seccomp_rule_add_array(filter, refusal ? SCMP_ACT_ERRNO((unsigned)refusal) : SCMP_ACT_ALLOW, number, count, compare);
    return result == -EEXIST ? 0 : result; /* a wider rule is there already */
}

static int filter_load(SandboxRole wanted, bool with_all_threads)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_TRAP);
    if (!filter)
        return -ENOMEM;
    int result = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (!result && with_all_threads)
        result = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    for (size_t i = 0; !result && i < G_N_ELEMENTS(rows); i++)
        if (is_for(rows[i].who, wanted))
            result = rule_add(filter, 0, rows[i].number, NULL);
    for (size_t i = 0; !result && i < G_N_ELEMENTS(argument_rows); i++)
        if (is_for(argument_rows[i].who, wanted))
            result = rule_add(filter, argument_rows[i].refusal, argument_rows[i].number, argument_rows[i].rule);
    if (!result)
        result = seccomp_load(filter);
    seccomp_release(filter);
    return result;
}

/* Left alone, the C library opens a file for the number of processors when a thread needs the first arena beyond eight, and another before it
 * gives memory of an arena back. */
#define MALLOC_ARENAS 8

gboolean sandbox_start(const SandboxParams *wanted, GError **error)
{
    mallopt(M_ARENA_MAX, MALLOC_ARENAS);
    mallopt(M_TRIM_THRESHOLD, INT_MAX);
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = violation;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSYS, &action, NULL);
    g_log_set_writer_func(warning_write, NULL, NULL);
    params = *wanted;
    role = SANDBOX_MAIN;
    /* A list binds what is started as well, and nobody knows what that needs. */
    int result = params.may_spawn ? -prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) : filter_load(SANDBOX_MAIN, true);
    is_on = result == 0;
    if (result == 0 || !wanted->is_required) {
        if (result)
            log_text(LOG_OPTS, "sandbox: this host has none: %s", g_strerror(-result));
        return TRUE;
    }
    g_set_error(error, VMM_ERROR, VMM_ERROR_HOST, "-sandbox on: the host's kernel refuses: %s", g_strerror(-result));
    return FALSE;
}

void sandbox_enter(SandboxRole wanted)
{
    if (!is_on || role == wanted)
        return;
    role = wanted;
    int result = filter_load(wanted, false);
    if (result)
        g_error("sandbox: %s: %s", role_names[wanted], g_strerror(-result)); /* the host took the first one */
}
