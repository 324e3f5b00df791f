/* Each row is one system call made by a thread of a role, in a process of its own: it goes through, or ends the process with one sentence. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/sandbox.h"

enum { MAIN = 1 << SANDBOX_MAIN, VCPU = 1 << SANDBOX_VCPU, DISK = 1 << SANDBOX_DISK, ALL = MAIN | VCPU | DISK, NONE = 0 };
enum { OPEN = 1, SPAWN = 2, LIMITS = 4, NET = 8 };

static int fds[2]; /* a pipe */
static pid_t parent;
static uid_t user;
static void *page;

static long try_execve(void) { char *argv[] = { "/bin/true", NULL }; return execve("/bin/true", argv, NULL); }
static long try_fork(void) { long pid = syscall(SYS_fork); if (!pid) _exit(0); return pid; }
static long try_clone_process(void) { long pid = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0); if (!pid) _exit(0); return pid; }
static long try_open(void) { return open("/etc/hostname", O_RDONLY); }
static long try_creat(void) { return open("/tmp", O_TMPFILE | O_RDWR, 0600); }
static long try_stat(void) { struct stat st; return stat("/", &st); }
static long try_fstat(void) { struct stat st; return fstat(fds[0], &st); }
static long try_socket(void) { return socket(AF_UNIX, SOCK_STREAM, 0); }
static long try_socket_ip(void) { return socket(AF_INET, SOCK_STREAM, 0); }
static long try_ptrace(void) { return ptrace(PTRACE_TRACEME, 0, 0, 0); }
static long try_vm_read(void) { return syscall(SYS_process_vm_readv, getpid(), NULL, 0, NULL, 0, 0); }
static long try_kill(void) { return kill(parent, 0); }
static long try_kill_other(void) { return syscall(SYS_tgkill, parent, parent, 0); }
static long try_kill_own(void) { return syscall(SYS_tgkill, getpid(), gettid(), 0); }
static long try_setuid(void) { return setuid(user); }
static long try_mount(void) { return syscall(SYS_mount, NULL, "/", NULL, 0, NULL); }
static long try_bpf(void) { return syscall(SYS_bpf, 0, NULL, 0); }
static long try_io_uring(void) { return syscall(SYS_io_uring_setup, 1, NULL); }
static long try_wx_map(void) { return mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED; }
static long try_x_anonymous(void) { return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED; }
static long try_x_protect(void) { return mprotect(page, 4096, PROT_READ | PROT_EXEC); }
static long try_protect(void) { return mprotect(page, 4096, PROT_READ); }
static long try_map(void) { return mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED; }
static long try_write(void) { return write(fds[1], "x", 1); }
static long try_fallocate(void) { return fallocate(fds[1], 0, 0, 1), 0; }
static long try_kvm(void) { return ioctl(fds[0], KVM_RUN, 0), 0; }
static long try_tiocsti(void) { return ioctl(fds[0], TIOCSTI, "x"), 0; }
static long try_set_fs(void) { return syscall(SYS_arch_prctl, 0x1002, 0), 0; }
static long try_dumpable(void) { return prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); }
static long try_memfd(void) { return memfd_create("x", 0); }
static long try_timer(void) { return timerfd_create(CLOCK_MONOTONIC, 0); }
static long try_nice(void) { return syscall(SYS_setpriority, 0, 0, 19); }
static long try_malloc(void) { for (size_t size = 1; size < 1 << 22; size *= 3) free(malloc(size)); return 0; }

static void *nothing(void *opaque) { return opaque; }
static long try_thread(void) { pthread_t thread; return pthread_create(&thread, NULL, nothing, NULL) || pthread_join(thread, NULL) ? -1 : 0; }

/* The code cache's way: one file, written here and executed there. */
static long try_code_cache(void)
{
    int fd = memfd_create("x", 0);
    if (ftruncate(fd, 4096))
        return -1;
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0) == MAP_FAILED ? -1 : 0;
}

/* A library that is loaded late is refused, and no more. */
static long try_library(void)
{
    int fd = memfd_create("x", 0);
    return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED && errno == EPERM ? 0 : -1;
}

static const struct {
    const char *name; /* of the system call that is refused */
    long (*call)(void);
    unsigned roles;  /* in which it goes through */
    unsigned more;   /* OPEN, SPAWN, LIMITS, NET that make it go through in SANDBOX_MAIN */
} rows[] = {
    { "execve", try_execve, NONE, SPAWN },   { "fork", try_fork, NONE, SPAWN },     { "clone", try_clone_process, NONE, SPAWN },
    { "openat", try_open, NONE, OPEN | NET },      { "openat", try_creat, NONE, OPEN },   { "newfstatat", try_stat, NONE, OPEN | NET },
    { "newfstatat", try_fstat, ALL, 0 },     { "socket", try_socket, NONE, OPEN },  { "ptrace", try_ptrace, NONE, 0 },
    { "process_vm_readv", try_vm_read, NONE, 0 }, { "kill", try_kill, NONE, SPAWN }, { "tgkill", try_kill_other, NONE, 0 },
    { "tgkill", try_kill_own, ALL, 0 },      { "setuid", try_setuid, NONE, 0 },     { "mount", try_mount, NONE, 0 },
    { "bpf", try_bpf, NONE, 0 },             { "io_uring_setup", try_io_uring, NONE, 0 }, { "mmap", try_wx_map, NONE, 0 },
    { "mmap", try_x_anonymous, NONE, 0 },    { "mprotect", try_x_protect, NONE, 0 }, { "mprotect", try_protect, ALL, 0 },
    { "mmap", try_map, ALL, 0 },             { "write", try_write, ALL, 0 },        { "fallocate", try_fallocate, ALL, 0 },
    { "ioctl", try_kvm, ALL, 0 },            { "ioctl", try_tiocsti, NONE, 0 },     { "arch_prctl", try_set_fs, NONE, 0 },
    { "prctl", try_dumpable, NONE, 0 },      { "memfd_create", try_memfd, MAIN, 0 }, { "timerfd_create", try_timer, MAIN, 0 },
    { "setpriority", try_nice, NONE, LIMITS }, { "malloc", try_malloc, ALL, 0 },    { "clone3", try_thread, MAIN, 0 },
    { "memfd_create", try_code_cache, MAIN, 0 }, { "memfd_create", try_library, MAIN, 0 },
    { "socket", try_socket_ip, NONE, OPEN | NET },
};

static void at_end(void)
{
    if (write(STDERR_FILENO, "end. ", 5) < 0)
        _exit(99);
}

/* What the child leaves: its status and what it said. */
static int child_run(unsigned row, SandboxRole role, unsigned more, char *out_text, size_t size)
{
    int out[2];
    ck_assert_int_eq(pipe(out), 0);
    pid_t pid = fork();
    if (!pid) {
        parent = getppid();
        user = getuid();
        dup2(out[1], STDERR_FILENO);
        g_autoptr(GError) error = NULL;
        if (pipe(fds))
            _exit(98);
        page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (!sandbox_start(&(SandboxParams){ .is_required = true, .may_open = more & OPEN, .may_spawn = more & SPAWN,
                                             .may_set_limits = more & LIMITS, .may_network = more & NET, .at_end = at_end }, &error)) {
            fprintf(stderr, "%s\n", error->message);
            _exit(77);
        }
        sandbox_enter(role);
        _exit(rows[row].call() >= 0 ? 0 : 97);
    }
    close(out[1]);
    size_t used = 0;
    for (ssize_t n; used < size - 1 && (n = read(out[0], out_text + used, size - 1 - used)) > 0;)
        used += (size_t)n;
    out_text[used] = 0;
    close(out[0]);
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status), "%s ended by signal %d", rows[row].name, WTERMSIG(status));
    return WEXITSTATUS(status);
}

static void row_check(unsigned row, SandboxRole role, unsigned more, bool is_allowed)
{
    static const char *const names[] = { "the main loop", "a virtual CPU", "a disk's worker" };
    char text[512], wanted[128];
    int status = child_run(row, role, more, text, sizeof text);
    if (is_allowed) {
        ck_assert_msg(status == 0, "row %u, %s of %s: status %d: %s", row, rows[row].name, names[role], status, text);
        return;
    }
    snprintf(wanted, sizeof wanted, "end. segue: sandbox: %s made the system call %s (", names[role], rows[row].name);
    ck_assert_msg(status == 6, "row %u, %s of %s: status %d: %s", row, rows[row].name, names[role], status, text);
    ck_assert_msg(strncmp(text, wanted, strlen(wanted)) == 0, "row %u: %s", row, text);
}

START_TEST(role_may)
{
    for (SandboxRole role = 0; role < SANDBOX_NROLES; role++)
        if (!(_i == 32 && role != SANDBOX_MAIN)) /* the name of what a refused thread calls is libc's choice */
            row_check((unsigned)_i, role, 0, rows[_i].roles & 1u << role);
}
END_TEST

/* Each option gives its own calls to the main loop, and nothing to the others. */
START_TEST(option_allows)
{
    for (unsigned more = OPEN; more <= NET; more <<= 1) {
        if (more != SPAWN)
            row_check((unsigned)_i, SANDBOX_MAIN, more, rows[_i].roles & MAIN || rows[_i].more & more);
        else if (rows[_i].more & more)
            row_check((unsigned)_i, SANDBOX_MAIN, more, true);
        if (rows[_i].more & more)
            row_check((unsigned)_i, SANDBOX_VCPU, more, false);
    }
}
END_TEST

/* Threads that exist are bound too, and keep their own narrower list. */
static pthread_barrier_t barrier;
static void *disk_thread(void *opaque)
{
    pthread_barrier_wait(&barrier);
    sandbox_enter(SANDBOX_DISK);
    (void)try_timer();
    return NULL;
}

START_TEST(threads_before)
{
    int status;
    pid_t pid = fork();
    if (!pid) {
        pthread_t thread;
        pthread_barrier_init(&barrier, NULL, 2);
        pthread_create(&thread, NULL, disk_thread, NULL);
        sandbox_start(&(SandboxParams){ .is_required = true }, NULL);
        if (try_timer() < 0)
            _exit(97);
        pthread_barrier_wait(&barrier);
        pthread_join(thread, NULL);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 6 << 8);
}
END_TEST

/* Left alone, the C library reads a file of the kernel's before it gives memory of a thread's arena back. */
static void *freeing_thread(void *opaque)
{
    enum { COUNT = 4096 };
    static void *piece[COUNT];
    sandbox_enter(SANDBOX_VCPU);
    for (unsigned i = 0; i < COUNT; i++)
        if (!(piece[i] = malloc(1000)))
            return NULL;
    for (unsigned i = COUNT; i-- > 0;)
        free(piece[i]);
    return opaque;
}

START_TEST(thread_frees_much)
{
    int status;
    pid_t pid = fork();
    if (!pid) {
        pthread_t thread;
        void *result = NULL;
        sandbox_start(&(SandboxParams){ .is_required = true }, NULL);
        pthread_create(&thread, NULL, freeing_thread, &status);
        pthread_join(thread, &result);
        _exit(result == &status ? 0 : 98);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

/* What libraries say to their developers is not for the user; warnings are. */
START_TEST(warnings_are_printed)
{
    int status, out[2];
    char text[200] = "";
    ck_assert_int_eq(pipe(out), 0);
    pid_t pid = fork();
    if (!pid) {
        dup2(out[1], STDERR_FILENO);
        sandbox_start(&(SandboxParams){ .is_required = true }, NULL);
        g_log_structured("GLib-GIO", G_LOG_LEVEL_DEBUG, "MESSAGE", "found an implementation");
        g_log_structured("GLib-GIO", G_LOG_LEVEL_INFO, "MESSAGE", "so it goes");
        g_log_structured("GLib-GIO", G_LOG_LEVEL_WARNING, "MESSAGE", "something is wrong");
        _exit(0);
    }
    close(out[1]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    ck_assert_int_gt(read(out[0], text, sizeof text - 1), 0);
    ck_assert_str_eq(text, "segue: something is wrong\n");
    close(out[0]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sandbox");
    TCase *tcase = tcase_create("sandbox");
    tcase_set_timeout(tcase, 30);
    tcase_add_loop_test(tcase, role_may, 0, sizeof rows / sizeof rows[0]);
    tcase_add_loop_test(tcase, option_allows, 0, sizeof rows / sizeof rows[0]);
    tcase_add_test(tcase, threads_before);
    tcase_add_test(tcase, thread_frees_much);
    tcase_add_test(tcase, warnings_are_printed);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
