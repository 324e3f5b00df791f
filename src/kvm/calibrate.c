/*
 * What leaving the guest costs on this host, found out by a guest of 40 bytes that does nothing else: three loops, each ended by an access to a port
 * that nobody has.  The CPU clock of the calling thread counts what belongs to it, whatever else the machine does, and unlike the host's split
 * into user and system time not by ticks.
 */
#include "kvm/calibrate.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "core/addr.h"
#include "core/error.h"
#include "kvm/cpu-int.h"

#define ROUNDS 64u
#define REPEATS 5u /* the least counts: what else happened to the thread only makes it more */
#define PORT_END 0x10
#define PORT_USER 0x11
#define TSS_GPA 0xfeffd000u
#define IDENTITY_MAP_GPA UINT64_C(0xfeffc000)

/* Protected mode without paging, flat. */
static const uint8_t code[] = {
    0xbe, ROUNDS & 255, ROUNDS >> 8, 0, 0,              /* mov esi, ROUNDS */
    0x4e, 0x75, 0xfd, 0xe6, PORT_END,                   /* 1: dec esi; jnz 1b; out PORT_END, al: nothing but the loop and its end */
    0xbe, ROUNDS & 255, ROUNDS >> 8, 0, 0,
    0x0f, 0xa2, 0x4e, 0x75, 0xfb, 0xe6, PORT_END,       /* 2: cpuid; …: an exit that the host's kernel handles */
    0xbe, ROUNDS & 255, ROUNDS >> 8, 0, 0,
    0xa1, 0x80, 0x00, 0xe0, 0xfe, 0x4e, 0x75, 0xf8, 0xe6, PORT_END, /* 3: mov eax, [0xfee00080]; …: an access to the APIC's TPR */
    0xbe, ROUNDS & 255, ROUNDS >> 8, 0, 0,
    0xe6, PORT_USER, 0x4e, 0x75, 0xfb, 0xe6, PORT_END,  /* 4: out PORT_USER, al; …: an exit to the monitor */
};
static const uint8_t loop_at[] = { 0, 10, 22, 37 };
#define NLOOPS G_N_ELEMENTS(loop_at)

typedef struct Tiny {
    int device, vm, vcpu;
    uint8_t *page;
    struct kvm_run *run;
    size_t run_size;
} Tiny;

static void tiny_clear(Tiny *tiny)
{
    if (tiny->run)
        munmap(tiny->run, tiny->run_size);
    if (tiny->page)
        munmap(tiny->page, PAGE_SIZE);
    int files[] = { tiny->vcpu, tiny->vm, tiny->device };
    for (unsigned i = 0; i < G_N_ELEMENTS(files); i++)
        if (files[i] >= 0)
            close(files[i]);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Tiny, tiny_clear)

static gboolean fail(GError **error, const char *what)
{
    g_set_error(error, VMM_ERROR, VMM_ERROR_HOST, "what exits cost could not be measured: %s: %s", what, kvm_strerror(errno));
    return FALSE;
}

static gboolean tiny_machine(Tiny *tiny, GError **error)
{
    uint64_t identity_map = IDENTITY_MAP_GPA;
    if ((tiny->device = open("/dev/kvm", O_RDWR | O_CLOEXEC)) < 0)
        return fail(error, "/dev/kvm");
    if ((tiny->vm = ioctl(tiny->device, KVM_CREATE_VM, 0)) < 0)
        return fail(error, "KVM_CREATE_VM");
    struct kvm_enable_cap split = { .cap = KVM_CAP_SPLIT_IRQCHIP, .args = { 24 } };
    if (ioctl(tiny->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0 || ioctl(tiny->vm, KVM_SET_TSS_ADDR, (unsigned long)TSS_GPA) < 0 ||
        ioctl(tiny->vm, KVM_ENABLE_CAP, &split) < 0)
        return fail(error, "KVM_ENABLE_CAP");
    void *page = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return fail(error, "memory");
    tiny->page = page;
    memcpy(page, code, sizeof code);
    struct kvm_userspace_memory_region region = { .memory_size = PAGE_SIZE, .userspace_addr = (uintptr_t)page };
    if (ioctl(tiny->vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
        return fail(error, "KVM_SET_USER_MEMORY_REGION");
    return TRUE;
}

static gboolean tiny_vcpu(Tiny *tiny, GError **error)
{
    struct kvm_sregs sregs;
    int run_size = ioctl(tiny->device, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (run_size < 0 || (tiny->vcpu = ioctl(tiny->vm, KVM_CREATE_VCPU, 0)) < 0)
        return fail(error, "KVM_CREATE_VCPU");
    void *run = mmap(NULL, (size_t)run_size, PROT_READ | PROT_WRITE, MAP_SHARED, tiny->vcpu, 0);
    if (run == MAP_FAILED)
        return fail(error, "memory");
    tiny->run = run;
    tiny->run_size = (size_t)run_size;
    if (ioctl(tiny->vcpu, KVM_GET_SREGS, &sregs) < 0)
        return fail(error, "KVM_GET_SREGS");
    struct kvm_segment flat = { .limit = 0xffffffff, .selector = 8, .type = 11, .present = 1, .db = 1, .s = 1, .g = 1 };
    sregs.cs = flat;
    flat.selector = 16;
    flat.type = 3;
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat;
    sregs.cr0 |= 1;
    if (ioctl(tiny->vcpu, KVM_SET_SREGS, &sregs) < 0)
        return fail(error, "KVM_SET_SREGS");
    return TRUE;
}

static double thread_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* Runs one loop.  The nanoseconds of CPU time of a round, or less than 0. */
static double loop_ns(Tiny *tiny, unsigned loop)
{
    struct kvm_regs regs = { .rflags = 2, .rip = loop_at[loop] };
    if (ioctl(tiny->vcpu, KVM_SET_REGS, &regs) < 0)
        return -1;
    double start = thread_ns();
    for (;;) {
        if (ioctl(tiny->vcpu, KVM_RUN, 0) < 0) {
            if (errno == EINTR || errno == EAGAIN)
                continue;
            return -1;
        }
        if (tiny->run->exit_reason != KVM_EXIT_IO)
            return -1;
        if (tiny->run->io.port == PORT_END)
            return (thread_ns() - start) / ROUNDS;
    }
}

gboolean kvm_calibrate(KvmCosts *out_costs, GError **error)
{
    g_auto(Tiny) tiny = { .device = -1, .vm = -1, .vcpu = -1 };
    double loops[NLOOPS];
    if (!tiny_machine(&tiny, error) || !tiny_vcpu(&tiny, error))
        return FALSE;
    for (unsigned i = 0; i < NLOOPS * REPEATS; i++) {
        double ns = loop_ns(&tiny, i / REPEATS);
        loops[i / REPEATS] = i % REPEATS == 0 ? ns : MIN(loops[i / REPEATS], ns);
        if (ns < 0) {
            g_set_error(error, VMM_ERROR, VMM_ERROR_HOST, "what exits cost could not be measured: the guest that measures ended with KVM's exit %u",
                        tiny.run->exit_reason);
            return FALSE;
        }
    }
    if (loops[1] > loops[0])
        loops[1] -= loops[0];
    *out_costs = (KvmCosts){ .exit_ns = loops[1], .emulation_ns = MAX(loops[2], loops[1]), .user_ns = MAX(loops[3], loops[1]) };
    return TRUE;
}
