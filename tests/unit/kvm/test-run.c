/*
 * The loop around KVM_RUN against a scripted kernel: ioctl() of this program replaces the C library's, so no /dev/kvm is needed and every
 * failure can be made to happen.
 */
#include <check.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "kvm/cpu-int.h"

#define STEPS_MAX 8

static struct kvm_run *run; /* shared with the engine, and room for data behind it */
static KvmCpu cpu;
static KvmVm vm;
static Ram *ram;
static GString *events; /* what machine and kernel were asked, in order */
static struct {
    void (*step)(void); /* fills *run; NULL: KVM_RUN fails */
    int errnum;
} script[STEPS_MAX];
static unsigned nsteps, at;
static struct kvm_regs regs;
static int next_vector;
static uint64_t apic_cr8;

int ioctl(int fd, unsigned long request, ...)
{
    va_list args;
    va_start(args, request);
    void *argument = va_arg(args, void *);
    va_end(args);
    switch (request) {
    case KVM_RUN:
        if (run->immediate_exit) {
            g_string_append(events, "immediate ");
            errno = EINTR;
            return -1;
        }
        g_string_append_printf(events, "run%s ", run->request_interrupt_window ? "+window" : "");
        ck_assert_msg(at < nsteps, "more runs than expected: %s", events->str);
        if (!script[at].step) {
            errno = script[at++].errnum;
            return -1;
        }
        script[at++].step();
        return 0;
    case KVM_INTERRUPT:
        g_string_append_printf(events, "inject=%u ", ((struct kvm_interrupt *)argument)->irq);
        return 0;
    case KVM_NMI:
        g_string_append(events, "nmi ");
        return 0;
    case KVM_GET_REGS:
        *(struct kvm_regs *)argument = regs;
        return 0;
    case KVM_SET_REGS:
        regs = *(struct kvm_regs *)argument;
        g_string_append(events, "set-regs ");
        return 0;
    default: return 0;
    }
}

static void host_eoi(void *opaque, uint8_t vector);

static uint64_t host_port_read(void *opaque, uint16_t port, unsigned size)
{
    static uint8_t count;
    g_string_append_printf(events, "in%u@%x ", size, port);
    return 0x10u + count++;
}

static void host_port_write(void *opaque, uint16_t port, unsigned size, uint64_t value)
{
    g_string_append_printf(events, "out%u@%x=%x ", size, port, (unsigned)value);
}

static uint64_t host_mmio_read(void *opaque, Gpa gpa, unsigned size)
{
    g_string_append_printf(events, "read%u@%x ", size, (unsigned)gpa);
    return UINT64_C(0x8877665544332211);
}

static void host_mmio_write(void *opaque, Gpa gpa, unsigned size, uint64_t value)
{
    g_string_append_printf(events, "write%u@%x=%" G_GINT64_MODIFIER "x ", size, (unsigned)gpa, value);
}

static int host_irq_acknowledge(void *opaque)
{
    g_string_append(events, "inta ");
    kvm_cpu_ops.set_irq(&cpu.base, false);
    return next_vector;
}

static bool host_msr_write(void *opaque, uint32_t msr, uint64_t value)
{
    g_string_append_printf(events, "msr%x=%x ", msr, (unsigned)value);
    return true;
}

static uint64_t host_cr8_read(void *opaque) { return apic_cr8; }

static void host_cr8_write(void *opaque, uint64_t value)
{
    g_string_append_printf(events, "cr8=%u ", (unsigned)value);
    apic_cr8 = value;
}

static const CpuHost host = { .port_read = host_port_read, .port_write = host_port_write, .mmio_read = host_mmio_read,
                              .mmio_write = host_mmio_write, .irq_acknowledge = host_irq_acknowledge, .apic_msr_write = host_msr_write,
                              .cr8_read = host_cr8_read, .cr8_write = host_cr8_write, .eoi = host_eoi };

static void setup(void)
{
    static uint8_t memory[4 * PAGE_SIZE] __attribute__((aligned(4096)));
    ram = ram_new_array(memory, sizeof memory);
    ram_add_rom(ram, 0xffff0000, PAGE_SIZE);
    run = g_malloc0(2 * PAGE_SIZE);
    memset(&cpu, 0, sizeof cpu);
    cpu.base.ops = &kvm_cpu_ops;
    cpu.config.ram = ram;
    vm = (KvmVm){ .ram = ram };
    cpu.vm = &vm;
    cpu.host = &host;
    cpu.run = run;
    signal(KVM_CPU_KICK_SIGNAL, SIG_IGN);
    events = g_string_new(NULL);
    nsteps = at = 0;
    regs = (struct kvm_regs){ .rip = 0 };
    next_vector = 0x31;
    apic_cr8 = 0;
}

static void teardown(void)
{
    g_string_free(events, TRUE);
    g_free(run);
    ram_free(ram);
}

static void expect_step(void (*step)(void)) { script[nsteps++].step = step; }

static void expect_errno(int errnum)
{
    script[nsteps].step = NULL;
    script[nsteps++].errnum = errnum;
}

static void guest_halts(void) { run->exit_reason = KVM_EXIT_HLT; }

static void guest_halts_open(void)
{
    run->exit_reason = KVM_EXIT_HLT;
    run->if_flag = run->ready_for_interrupt_injection = 1;
}

static void io(uint8_t direction, uint8_t size, uint32_t count, const char *data)
{
    run->exit_reason = KVM_EXIT_IO;
    run->io.direction = direction;
    run->io.size = size;
    run->io.port = 0x3f8;
    run->io.count = count;
    run->io.data_offset = PAGE_SIZE;
    memcpy((uint8_t *)run + PAGE_SIZE, data, size * count);
}

static void guest_outs(void) { io(KVM_EXIT_IO_OUT, 2, 3, "abcdef"); }
static void guest_ins(void) { io(KVM_EXIT_IO_IN, 1, 2, "xx"); }

static void mmio(Gpa gpa, uint32_t len, bool is_write)
{
    run->exit_reason = KVM_EXIT_MMIO;
    run->mmio.phys_addr = gpa;
    run->mmio.len = len;
    run->mmio.is_write = is_write;
    memcpy(run->mmio.data, "\1\2\3\4\5\6\7", 8);
}

static void guest_writes_7(void) { mmio(0xfed00000, 7, true); }
static void guest_reads_4(void) { mmio(0xfed00000, 4, false); }
static void guest_writes_rom(void) { mmio(0xffff0010, 4, true); }

static void guest_window(void)
{
    run->exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN;
    run->if_flag = run->ready_for_interrupt_injection = 1;
}

static void check_events(CpuExitKind kind, const char *wanted)
{
    CpuExit exit = kvm_cpu_run(&cpu.base);
    ck_assert_msg(exit.kind == kind, "exit %d %s: %s", exit.kind, exit.reason ? exit.reason : "", events->str);
    ck_assert_str_eq(events->str, wanted);
}

START_TEST(test_string_io_steps_the_data)
{
    expect_step(guest_outs);
    expect_step(guest_ins);
    expect_step(guest_halts);
    check_events(CPU_EXIT_HALT, "run out2@3f8=6261 out2@3f8=6463 out2@3f8=6665 run in1@3f8 in1@3f8 run ");
    ck_assert_uint_eq(((uint8_t *)run)[PAGE_SIZE + 1], ((uint8_t *)run)[PAGE_SIZE] + 1);
}
END_TEST

START_TEST(test_mmio_lengths)
{
    expect_step(guest_writes_7);
    expect_step(guest_reads_4);
    expect_step(guest_writes_rom);
    expect_step(guest_halts);
    check_events(CPU_EXIT_HALT, "run write4@fed00000=4030201 write2@fed00004=605 write1@fed00006=7 run read4@fed00000 run run ");
}
END_TEST

/* A kick after an access is served: the instruction ends first. */
static void guest_reads_and_kick(void)
{
    guest_reads_4();
    kvm_cpu_ops.kick(&cpu.base);
}

START_TEST(test_kick_completes_the_instruction)
{
    expect_step(guest_reads_and_kick);
    check_events(CPU_EXIT_KICKED, "run read4@fed00000 immediate ");
    ck_assert(!cpu.is_completion_due && !cpu.kicked);
    expect_step(guest_halts);
    g_string_truncate(events, 0);
    check_events(CPU_EXIT_HALT, "run ");
}
END_TEST

START_TEST(test_interrupt_waits_for_the_window)
{
    kvm_cpu_ops.set_irq(&cpu.base, true);
    expect_step(guest_window);
    expect_step(guest_halts);
    check_events(CPU_EXIT_HALT, "run+window inta inject=49 run ");
}
END_TEST

START_TEST(test_spurious_acknowledge)
{
    next_vector = -1;
    kvm_cpu_ops.set_irq(&cpu.base, true);
    expect_step(guest_window);
    expect_step(guest_halts);
    check_events(CPU_EXIT_HALT, "run+window inta run ");
}
END_TEST

START_TEST(test_halt)
{
    expect_step(guest_halts_open);
    check_events(CPU_EXIT_HALT, "run ");
    g_string_truncate(events, 0);
    check_events(CPU_EXIT_HALT, ""); /* still: a wake-up that was not for it does not let the guest run on */
    kvm_cpu_ops.set_irq(&cpu.base, true);
    expect_step(guest_halts);
    check_events(CPU_EXIT_HALT, "inta inject=49 run ");
    run->if_flag = 0;
    g_string_truncate(events, 0);
    kvm_cpu_ops.set_irq(&cpu.base, true);
    check_events(CPU_EXIT_HALT, ""); /* interrupts are off */
    kvm_cpu_ops.nmi(&cpu.base);
    expect_step(guest_halts);
    check_events(CPU_EXIT_HALT, "nmi run+window ");
}
END_TEST

static void guest_lowers_cr8(void)
{
    run->exit_reason = KVM_EXIT_SET_TPR;
    run->cr8 = 5;
}

static void guest_moves_apic(void)
{
    run->exit_reason = KVM_EXIT_INTR;
    ck_assert_uint_eq(run->cr8, 5);
    run->apic_base = 0xfee00800;
}

static void guest_writes_tpr(void)
{
    mmio(0xfee00080, 4, true);
    apic_cr8 = 9; /* as the APIC would */
}

static void guest_sees_cr8(void)
{
    ck_assert_uint_eq(run->cr8, 9);
    guest_halts();
}

START_TEST(test_apic_registers_in_the_cpu)
{
    expect_step(guest_lowers_cr8);
    expect_step(guest_moves_apic);
    expect_step(guest_writes_tpr);
    expect_step(guest_sees_cr8);
    check_events(CPU_EXIT_HALT, "run cr8=5 run msr1b=fee00800 run write4@fee00080=4030201 run ");
}
END_TEST

static void host_eoi(void *opaque, uint8_t vector) { g_string_append_printf(events, "eoi=%02x ", vector); }

static void guest_ends_level(void)
{
    run->exit_reason = KVM_EXIT_IOAPIC_EOI;
    run->eoi.vector = 0x41;
}

static void guest_writes_tpr_inside(void)
{
    ck_assert_uint_eq(run->cr8, 7); /* not ours to set */
    run->cr8 = 5;
    run->apic_base = 0xfee00c00;
    guest_halts();
}

/* With the APIC in the kernel its registers are no business of the loop; the 8259's interrupts still are. */
START_TEST(test_apic_in_the_kernel)
{
    cpu.base.has_apic = true;
    run->cr8 = 7;
    kvm_cpu_ops.set_irq(&cpu.base, true);
    expect_step(guest_ends_level);
    expect_step(guest_window);
    expect_step(guest_writes_tpr_inside);
    check_events(CPU_EXIT_HALT, "run+window eoi=41 run+window inta inject=49 run ");
}
END_TEST

static void guest_asks_port(void)
{
    io(KVM_EXIT_IO_IN, 4, 1, "xxxx");
    run->io.port = 0x5658;
}

static void guest_has_answer(void)
{
    ck_assert_uint_eq(*(uint32_t *)((uint8_t *)run + PAGE_SIZE), 2000000000u);
    guest_halts();
}

/* RBX and RCX are set after the instruction has ended, RAX by KVM. */
START_TEST(test_hypervisor_port)
{
    static const CpuidModel model = { .nleaves = 1, .leaf = { { .leaf = 0x40000010, .eax = 2000000, .ebx = 1000000 } } };
    cpu.config.cpuid = &model;
    regs = (struct kvm_regs){ .rax = 0x564d5868, .rbx = 7, .rcx = 45, .rdx = 0x5658 };
    expect_step(guest_asks_port);
    expect_step(guest_has_answer);
    check_events(CPU_EXIT_HALT, "run immediate set-regs run ");
    ck_assert_uint_eq(regs.rbx, 0);
    ck_assert_uint_eq(regs.rcx, 1000000000);

    cpu.halted = false;
    regs.rax = 1; /* not the magic number: a port like others */
    expect_step(guest_asks_port);
    expect_step(guest_halts);
    g_string_truncate(events, 0);
    check_events(CPU_EXIT_HALT, "run in4@5658 run ");
}
END_TEST

static void rdmsr(uint32_t index)
{
    run->exit_reason = KVM_EXIT_X86_RDMSR;
    run->msr.index = index;
    run->msr.data = 0x5555;
    run->msr.error = 7;
}

static void guest_reads_quiet_msr(void) { rdmsr(0xc0010015); }
static void guest_reads_no_msr(void)
{
    ck_assert(run->msr.error == 0 && run->msr.data == 1u << 24);
    rdmsr(0x12345678);
}

static void guest_writes_quiet_msr(void)
{
    ck_assert_uint_ne(run->msr.error, 0);
    rdmsr(0xc0010007);
    run->exit_reason = KVM_EXIT_X86_WRMSR;
}

START_TEST(test_msrs_as_in_bt)
{
    expect_step(guest_reads_quiet_msr);
    expect_step(guest_reads_no_msr);
    expect_step(guest_writes_quiet_msr);
    expect_step(guest_halts);
    check_events(CPU_EXIT_HALT, "run run run run ");
    ck_assert_uint_eq(run->msr.error, 0);
}
END_TEST

static void fail_entry(void)
{
    run->exit_reason = KVM_EXIT_FAIL_ENTRY;
    run->fail_entry.hardware_entry_failure_reason = 0x80000021;
}

static void internal_error(void)
{
    run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
    run->emulation_failure.suberror = KVM_INTERNAL_ERROR_EMULATION;
    run->emulation_failure.ndata = 3;
    run->emulation_failure.flags = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES;
    run->emulation_failure.insn_size = 2;
    run->emulation_failure.insn_bytes[0] = 0x0f;
    run->emulation_failure.insn_bytes[1] = 0x0b;
}

static void internal_error_odd(void)
{
    run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
    run->internal.suberror = 77;
}

static void strange(void) { run->exit_reason = 0x1234; }

START_TEST(test_failures_are_sentences)
{
    static const struct {
        void (*step)(void);
        int errnum;
        const char *what;
    } rows[] = {
        { fail_entry, 0, "KVM_EXIT_FAIL_ENTRY: the CPU refuses to enter the guest, hardware reason 0x80000021" },
        { internal_error, 0, "KVM_EXIT_INTERNAL_ERROR: KVM cannot emulate an instruction (1) at RIP 0, bytes 0f 0b" },
        { internal_error_odd, 0, "KVM_EXIT_INTERNAL_ERROR: unknown suberror (77)" },
        { strange, 0, "exit reason 4660 (other)" },
        { NULL, EFAULT, "KVM_RUN: Bad address" },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
        nsteps = at = 0;
        cpu.failure[0] = 0;
        script[0].step = rows[i].step;
        script[0].errnum = rows[i].errnum;
        nsteps = 1;
        CpuExit exit = kvm_cpu_run(&cpu.base);
        ck_assert_int_eq(exit.kind, CPU_EXIT_ERROR);
        ck_assert_msg(g_str_has_prefix(exit.reason, rows[i].what) || strstr(exit.reason, rows[i].what), "%s", exit.reason);
        /* It stays an error until a state is loaded. */
        ck_assert_int_eq(kvm_cpu_run(&cpu.base).kind, CPU_EXIT_ERROR);
    }
}
END_TEST

static void shutdown_exit(void) { run->exit_reason = KVM_EXIT_SHUTDOWN; }

START_TEST(test_shutdown_and_signals)
{
    expect_errno(EINTR);
    expect_errno(EAGAIN);
    expect_step(shutdown_exit);
    check_events(CPU_EXIT_SHUTDOWN, "run run run ");
}
END_TEST

int main(void)
{
    TCase *tcase = tcase_create("run");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, test_string_io_steps_the_data);
    tcase_add_test(tcase, test_mmio_lengths);
    tcase_add_test(tcase, test_kick_completes_the_instruction);
    tcase_add_test(tcase, test_interrupt_waits_for_the_window);
    tcase_add_test(tcase, test_spurious_acknowledge);
    tcase_add_test(tcase, test_halt);
    tcase_add_test(tcase, test_apic_registers_in_the_cpu);
    tcase_add_test(tcase, test_apic_in_the_kernel);
    tcase_add_test(tcase, test_hypervisor_port);
    tcase_add_test(tcase, test_msrs_as_in_bt);
    tcase_add_test(tcase, test_failures_are_sentences);
    tcase_add_test(tcase, test_shutdown_and_signals);
    Suite *suite = suite_create("kvm-run");
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
