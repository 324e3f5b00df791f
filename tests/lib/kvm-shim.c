/*
 * A /dev/kvm that is not there, for LD_PRELOAD: the whole monitor meets a KVM that refuses or fails, on any machine.  Requests about the state
 * are accepted and forgotten; the guest never runs.
 *
 *   KVM_SHIM_OPEN=ERRNO      opening the device fails
 *   KVM_SHIM_VERSION=N       KVM_GET_API_VERSION answers N instead of 12
 *   KVM_SHIM_MISSING=NUMBER  this extension is not there
 *   KVM_SHIM_REFUSE=HEX      the request of this number (the low byte: its place in KVM's list) fails with EINVAL
 *   KVM_SHIM_RUN=…           what KVM_RUN does: errno:N (the default: 14, EFAULT), fail-entry, internal:N (suberror), exit:N
 */
#undef _FILE_OFFSET_BITS /* open and open64 are two names here */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define RUN_SIZE 12288

static int device = -1, machine = -1, vcpu = -1;
static struct kvm_run *run;

static long number(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text ? strtol(text, NULL, 0) : otherwise;
}

static int fail(int errnum)
{
    errno = errnum;
    return -1;
}

static int fake_open(void)
{
    if (number("KVM_SHIM_OPEN", 0))
        return fail((int)number("KVM_SHIM_OPEN", 0));
    return device = memfd_create("kvm-shim", MFD_CLOEXEC);
}

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = va_arg(args, mode_t);
    va_end(args);
    if (!strcmp(path, "/dev/kvm"))
        return fake_open();
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = va_arg(args, mode_t);
    va_end(args);
    return open(path, flags, mode);
}

/* What open() becomes with _FORTIFY_SOURCE. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __open_2(const char *path, int flags) { return open(path, flags, 0); }
int __open64_2(const char *path, int flags) { return open(path, flags, 0); }

static int vcpu_create(void)
{
    vcpu = memfd_create("kvm-shim-vcpu", MFD_CLOEXEC);
    if (ftruncate(vcpu, RUN_SIZE) < 0)
        return -1;
    run = mmap(NULL, RUN_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    return vcpu;
}

static int run_once(void)
{
    const char *what = getenv("KVM_SHIM_RUN");
    if (run->immediate_exit)
        return fail(EINTR);
    if (!what)
        return fail(EFAULT);
    const char *colon = strchr(what, ':');
    int value = colon ? atoi(colon + 1) : 0;
    if (!strncmp(what, "errno:", 6))
        return fail(value);
    if (!strcmp(what, "fail-entry")) {
        run->exit_reason = KVM_EXIT_FAIL_ENTRY;
        run->fail_entry.hardware_entry_failure_reason = 0x80000021;
    } else if (!strncmp(what, "internal:", 9)) {
        run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
        run->internal.suberror = (unsigned)value;
    } else {
        run->exit_reason = (unsigned)value;
    }
    return 0;
}

static int answer(int fd, unsigned long request, unsigned long argument)
{
    switch (request) {
    case KVM_GET_API_VERSION: return (int)number("KVM_SHIM_VERSION", KVM_API_VERSION);
    case KVM_CHECK_EXTENSION: return (long)argument != number("KVM_SHIM_MISSING", -1);
    case KVM_CREATE_VM: return machine = memfd_create("kvm-shim-vm", MFD_CLOEXEC);
    case KVM_CREATE_VCPU: return vcpu_create();
    case KVM_GET_VCPU_MMAP_SIZE: return RUN_SIZE;
    case KVM_RUN: return run_once();
    case KVM_SET_MSRS:
    case KVM_GET_MSRS: return (int)((struct kvm_msrs *)argument)->nmsrs;
    case KVM_GET_SUPPORTED_CPUID: ((struct kvm_cpuid2 *)argument)->nent = 0; return 0;
    default: return 0;
    }
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list args;
    va_start(args, request);
    unsigned long argument = va_arg(args, unsigned long);
    va_end(args);
    if ((request >> 8 & 0xff) != KVMIO)
        return (int)syscall(SYS_ioctl, fd, request, argument);
    if ((long)(request & 0xff) == number("KVM_SHIM_REFUSE", -1))
        return fail(EINVAL);
    return answer(fd, request, argument);
}
