#include "vm/run.h"

#include <time.h>
#include <x86intrin.h>

#include "core/log.h"
#include "core/sandbox.h"

#define FINISH_TIMEOUT_US (3 * G_TIME_SPAN_SECOND)

struct Run {
    RunWires wires;
    Cpu *cpu;
    Board *board;
    GThread *thread;
    int64_t tsc_offset;
    GCond wake;    /* something changed for the vCPU */
    GCond stopped; /* the vCPU paused or finished */

    /* Under the machine lock. */
    bool finish, is_finished;
    unsigned pauses; /* > 0: stand still */
    bool is_paused;
    bool reset_asked, init_asked;
    bool nmi_waits;
    unsigned nmis; /* so many came */
    X86State state; /* scratch for load and save */
};

/* --- CpuHost: the engine's view of the machine --- */

static uint64_t host_port_read(void *opaque, uint16_t port, unsigned size)
{
    Run *run = opaque;
    g_mutex_lock(run->wires.lock);
    uint64_t value = board_port_read(run->board, port, size);
    g_mutex_unlock(run->wires.lock);
    return value;
}

static void host_port_write(void *opaque, uint16_t port, unsigned size, uint64_t value)
{
    Run *run = opaque;
    g_mutex_lock(run->wires.lock);
    board_port_write(run->board, port, size, value);
    g_mutex_unlock(run->wires.lock);
}

static uint64_t host_mmio_read(void *opaque, Gpa gpa, unsigned size)
{
    Run *run = opaque;
    g_mutex_lock(run->wires.lock);
    uint64_t value = board_mmio_read(run->board, gpa, size);
    g_mutex_unlock(run->wires.lock);
    return value;
}

static void host_mmio_write(void *opaque, Gpa gpa, unsigned size, uint64_t value)
{
    Run *run = opaque;
    g_mutex_lock(run->wires.lock);
    board_mmio_write(run->board, gpa, size, value);
    g_mutex_unlock(run->wires.lock);
}

static int host_irq_acknowledge(void *opaque)
{
    Run *run = opaque;
    g_mutex_lock(run->wires.lock);
    int vector = lapic_acknowledge(board_lapic(run->board));
    g_mutex_unlock(run->wires.lock);
    return vector;
}

static bool host_apic_msr_read(void *opaque, uint32_t msr, uint64_t *out_value)
{
    Run *run = opaque;
    g_mutex_lock(run->wires.lock);
    bool is_ok = lapic_msr_read(board_lapic(run->board), msr, out_value);
    g_mutex_unlock(run->wires.lock);
    return is_ok;
}

static bool host_apic_msr_write(void *opaque, uint32_t msr, uint64_t value)
{
    Run *run = opaque;
    g_mutex_lock(run->wires.lock);
    bool is_ok = lapic_msr_write(board_lapic(run->board), msr, value);
    g_mutex_unlock(run->wires.lock);
    return is_ok;
}

static uint64_t host_cr8_read(void *opaque)
{
    Run *run = opaque;
    g_mutex_lock(run->wires.lock);
    uint64_t value = lapic_cr8_read(board_lapic(run->board));
    g_mutex_unlock(run->wires.lock);
    return value;
}

static void host_cr8_write(void *opaque, uint64_t value)
{
    Run *run = opaque;
    g_mutex_lock(run->wires.lock);
    lapic_cr8_write(board_lapic(run->board), value);
    g_mutex_unlock(run->wires.lock);
}

static void host_eoi(void *opaque, uint8_t vector)
{
    Run *run = opaque;
    g_mutex_lock(run->wires.lock);
    board_eoi(run->board, vector);
    g_mutex_unlock(run->wires.lock);
}

static const CpuHost run_host = {
    .port_read = host_port_read,
    .port_write = host_port_write,
    .mmio_read = host_mmio_read,
    .mmio_write = host_mmio_write,
    .irq_acknowledge = host_irq_acknowledge,
    .apic_msr_read = host_apic_msr_read,
    .apic_msr_write = host_apic_msr_write,
    .cr8_read = host_cr8_read,
    .cr8_write = host_cr8_write,
    .eoi = host_eoi,
};

/* --- requests --- */

static void run_kick(Run *run)
{
    run->cpu->ops->kick(run->cpu);
    g_cond_signal(&run->wake);
}

static void irq_line_set(void *opaque, unsigned number, bool level)
{
    Run *run = opaque;
    run->cpu->ops->set_irq(run->cpu, level);
    if (level)
        g_cond_signal(&run->wake);
}

IrqLine run_irq_line(Run *run) { return (IrqLine){ .set = irq_line_set, .opaque = run }; }

uint64_t run_guest_tsc(const Run *run) { return __rdtsc() + (uint64_t)run->tsc_offset; }

void run_ask_reset(Run *run)
{
    run->reset_asked = true;
    run_kick(run);
}

void run_ask_init(Run *run)
{
    run->init_asked = true;
    run_kick(run);
}

void run_nmi(Run *run)
{
    run->nmi_waits = true;
    run->nmis++;
    run->cpu->ops->nmi(run->cpu);
    g_cond_signal(&run->wake);
}

void run_ask_pause(Run *run)
{
    run->pauses++;
    run_kick(run);
}

void run_pause(Run *run)
{
    run_ask_pause(run);
    while (run->thread && !run->is_paused && !run->is_finished)
        g_cond_wait(&run->stopped, run->wires.lock);
}

void run_resume(Run *run)
{
    g_assert(run->pauses > 0);
    run->pauses--;
    g_cond_signal(&run->wake);
}

char *run_describe(Run *run) { return run->cpu->ops->describe ? run->cpu->ops->describe(run->cpu) : g_strdup("no registers\n"); }

/* --- the loop; the lock is held but where it says otherwise --- */

static void log_state(Run *run, const char *what)
{
    if (!log_on(LOG_CPU_RESET))
        return;
    g_mutex_unlock(run->wires.lock);
    g_autofree char *text = run_describe(run);
    g_mutex_lock(run->wires.lock);
    log_text(LOG_CPU_RESET, "CPU %s\n%s", what, text);
}

static void state_load(Run *run)
{
    run->state.tsc = run_guest_tsc(run); /* time goes on over a reset */
    g_mutex_unlock(run->wires.lock); /* the engine calls CpuHost for APIC_BASE and CR8 */
    run->cpu->ops->load(run->cpu, &run->state);
    g_mutex_lock(run->wires.lock);
    apic_link_push(board_apic_link(run->board));
}

/* Power-on and every later reset. */
static void machine_reset(Run *run)
{
    run->reset_asked = run->init_asked = run->nmi_waits = false;
    board_reset(run->board);
    uint64_t rsdp = boot_is_firmware(run->wires.boot) ? 0 : board_publish(run->board);
    g_autoptr(GError) error = NULL;
    if (!boot_load(run->wires.boot, run->wires.ram, rsdp, &run->state, &error)) {
        run->wires.failed(run->wires.opaque, error->message);
        return;
    }
    state_load(run);
    log_state(run, "reset");
}

static bool is_asked(const Run *run) { return run->finish || run->pauses || run->reset_asked || run->init_asked; }

/* The guest executed HLT: sleep until something can end it. */
static void halt_wait(Run *run)
{
    Lapic *lapic = board_lapic(run->board);
    if (lapic_irq_waits(lapic) && !run->nmi_waits && !is_asked(run)) {
        /* Either it has just come, or the guest halted with interrupts off: then only NMI or reset help, and looking again is a spin. */
        g_mutex_unlock(run->wires.lock);
        run->cpu->ops->save(run->cpu, &run->state);
        g_mutex_lock(run->wires.lock);
        if (!(run->state.rflags & X86_FLAG_IF))
            while (!run->nmi_waits && !is_asked(run))
                g_cond_wait(&run->wake, run->wires.lock);
    }
    while (!lapic_irq_waits(lapic) && !run->nmi_waits && !is_asked(run))
        g_cond_wait(&run->wake, run->wires.lock);
    run->nmi_waits = false;
}

static void exit_handle(Run *run, const CpuExit *exit)
{
    switch (exit->kind) {
    case CPU_EXIT_KICKED:
        break;
    case CPU_EXIT_LONG_MODE_ENTRY:
        run->wires.long_mode(run->wires.opaque);
        break;
    case CPU_EXIT_HALT:
        halt_wait(run);
        break;
    case CPU_EXIT_SHUTDOWN:
        log_state(run, "triple fault");
        run->wires.triple_fault(run->wires.opaque, exit->reason ? exit->reason : "triple fault");
        break;
    case CPU_EXIT_ERROR:
        log_state(run, "error");
        run->wires.engine_failed(run->wires.opaque, exit->reason ? exit->reason : "the engine failed");
        break;
    }
}

static gpointer vcpu_thread(gpointer data)
{
    Run *run = data;
    sandbox_enter(SANDBOX_VCPU);
    g_mutex_lock(run->wires.lock);
    machine_reset(run);
    while (!run->finish) {
        if (run->pauses) {
            run->is_paused = true;
            g_cond_broadcast(&run->stopped);
            g_cond_wait(&run->wake, run->wires.lock);
            continue;
        }
        run->is_paused = false;
        if (run->reset_asked) {
            machine_reset(run);
            continue;
        }
        if (run->init_asked) {
            run->init_asked = false;
            apic_link_pull(board_apic_link(run->board));
            lapic_init(board_lapic(run->board));
            boot_state_reset(&run->state);
            run->state.apic_base = lapic_base(board_lapic(run->board));
            state_load(run);
            continue;
        }
        g_mutex_unlock(run->wires.lock);
        CpuExit exit = run->cpu->ops->run(run->cpu);
        g_mutex_lock(run->wires.lock);
        exit_handle(run, &exit);
    }
    run->is_finished = run->is_paused = true;
    g_cond_broadcast(&run->stopped);
    g_mutex_unlock(run->wires.lock);
    return NULL;
}

static CpuConfig cpu_config(Run *run)
{
    return (CpuConfig){ .ram = run->wires.ram, .index = 0, .host = &run_host, .host_opaque = run, .cpuid = run->wires.cpuid,
                        .wants_apic = run->wires.wants_engine_apic, .tsc_offset = run->tsc_offset, .stops_at_long_mode = true };
}

static uint64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

gboolean run_switch(Run *run, const CpuOps *ops, RunSwitchTimes *out_times, GError **error)
{
    HandoverSlot slot = { .cpu = &run->cpu, .config = cpu_config(run) };
    g_autoptr(Handover) handover = handover_new(ops, &slot, 1, error);
    if (!handover)
        return FALSE;
    uint64_t begin = nanoseconds();
    g_mutex_lock(run->wires.lock);
    run_pause(run);
    unsigned nmis = run->nmis;
    out_times->stop_ns = nanoseconds() - begin;
    g_mutex_unlock(run->wires.lock);
    gboolean is_ok = handover_commit(handover, error);
    g_mutex_lock(run->wires.lock);
    if (is_ok) {
        handover_swap(handover);
        if (run->board)
            apic_link_connect(board_apic_link(run->board), &run->cpu);
        /* What came for the old one meanwhile. */
        run->cpu->ops->set_irq(run->cpu, run->board && lapic_irq_waits(board_lapic(run->board)));
        if (nmis != run->nmis)
            run->cpu->ops->nmi(run->cpu);
    }
    run_resume(run);
    g_mutex_unlock(run->wires.lock);
    out_times->downtime_ns = nanoseconds() - begin;
    out_times->handover = *handover_times(handover);
    return is_ok;
}

Run *run_new(const RunWires *wires, GError **error)
{
    g_autoptr(Run) run = g_new0(Run, 1);
    run->wires = *wires;
    g_cond_init(&run->wake);
    g_cond_init(&run->stopped);
    run->pauses = wires->start_paused ? 1 : 0;
    run->tsc_offset = (int64_t)(0 - __rdtsc());
    CpuConfig config = cpu_config(run);
    run->cpu = wires->ops->create(&config, error);
    return run->cpu ? g_steal_pointer(&run) : NULL;
}

void run_start(Run *run, Board *board)
{
    run->board = board;
    apic_link_connect(board_apic_link(board), &run->cpu);
    run->thread = g_thread_new("vcpu0", vcpu_thread, run);
}

bool run_finish(Run *run)
{
    if (!run->thread)
        return true;
    g_mutex_lock(run->wires.lock);
    run->finish = true;
    run_kick(run);
    int64_t deadline = g_get_monotonic_time() + FINISH_TIMEOUT_US;
    while (!run->is_finished && g_cond_wait_until(&run->stopped, run->wires.lock, deadline))
        ;
    bool is_finished = run->is_finished;
    g_mutex_unlock(run->wires.lock);
    if (!is_finished)
        return false;
    g_thread_join(run->thread);
    run->thread = NULL;
    return true;
}

void run_free(Run *run)
{
    if (!run)
        return;
    if (run->cpu)
        run->cpu->ops->free(run->cpu);
    g_cond_clear(&run->wake);
    g_cond_clear(&run->stopped);
    g_free(run);
}

void run_counters(Run *run, CpuCounterFunc *row, void *opaque)
{
    if (run->cpu->ops->counters)
        run->cpu->ops->counters(run->cpu, row, opaque);
}

void run_save(Run *run, X86State *out_state) { run->cpu->ops->save(run->cpu, out_state); }
