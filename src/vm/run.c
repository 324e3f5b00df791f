#include "vm/run.h"

#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

#include "core/cpuid.h"
#include "core/error.h"
#include "core/sandbox.h"
#include "vm/vcpu.h"

#define FINISH_TIMEOUT_US (3 * G_TIME_SPAN_SECOND)

struct Run {
    RunWires wires;
    Board *board;
    int64_t tsc_offset; /* the same for all vCPUs */
    bool is_time_stopped;
    uint64_t host_tsc;  /* when time was stopped */
    GCond stopped;      /* a vCPU parked or finished */

    /* Under the machine lock. */
    bool finish;
    unsigned pauses; /* > 0: stand still */
    bool reset_asked;
    bool is_new; /* not in its first state yet, which a machine that starts paused shows, too */

    Vcpu vcpu[CONFIG_MAX_CPUS]; /* wires.ncpus of them */
};

static void debug_free(CpuDebug *debug)
{
    if (!debug)
        return;
    g_free((void *)(uintptr_t)debug->breaks);
    g_free((void *)(uintptr_t)debug->watches);
    g_free(debug);
}

/* --- requests --- */

static void kick_all(Run *run)
{
    for (unsigned i = 0; i < run->wires.ncpus; i++)
        vcpu_kick(&run->vcpu[i]);
}

/* Every vCPU that has a thread stands still; @but is not asked. */
static bool are_parked(const Run *run, const Vcpu *but)
{
    for (unsigned i = 0; i < run->wires.ncpus; i++) {
        const Vcpu *vcpu = &run->vcpu[i];
        if (vcpu != but && vcpu->thread && !vcpu->is_parked && !vcpu->is_finished)
            return false;
    }
    return true;
}

IrqLine run_irq_line(Run *run, unsigned index) { return vcpu_irq_line(&run->vcpu[index]); }

uint64_t run_guest_tsc(const Run *run)
{
    return (run->is_time_stopped ? run->host_tsc : __rdtsc()) + (uint64_t)run->tsc_offset;
}

void run_ask_reset(Run *run)
{
    run->reset_asked = true;
    kick_all(run);
}

void run_ask_init(Run *run, unsigned index) { vcpu_ask_init(&run->vcpu[index]); }

void run_ask_startup(Run *run, unsigned index, uint8_t vector) { vcpu_ask_startup(&run->vcpu[index], vector); }

void run_nmi(Run *run, unsigned index) { vcpu_nmi(&run->vcpu[index]); }

void run_ask_pause(Run *run)
{
    run->pauses++;
    kick_all(run);
}

void run_pause(Run *run)
{
    run_ask_pause(run);
    while (!are_parked(run, NULL))
        g_cond_wait(&run->stopped, run->wires.lock);
}

void run_resume(Run *run)
{
    g_assert(run->pauses > 0);
    run->pauses--;
    for (unsigned i = 0; i < run->wires.ncpus; i++)
        g_cond_signal(&run->vcpu[i].wake);
}

char *run_describe(Run *run, unsigned index) { return vcpu_describe(&run->vcpu[index]); }

int run_thread_id(Run *run, unsigned index) { return run->vcpu[index].thread_id; }

/* --- the loop; the lock is held but where it says otherwise --- */

/* Power-on and every later reset, on the boot processor's thread while all others are parked. */
static void machine_reset(Run *run)
{
    Vcpu *boot = &run->vcpu[0];
    run->is_new = false;
    for (unsigned i = 0; i < run->wires.ncpus; i++) {
        Vcpu *vcpu = &run->vcpu[i];
        vcpu->init_asked = vcpu->nmi_waits = false;
        vcpu->waits_for_sipi = i != 0;
        vcpu->startup_page = -1;
    }
    board_reset(run->board);
    uint64_t rsdp = boot_is_firmware(run->wires.boot) ? 0 : board_publish(run->board);
    g_autoptr(GError) error = NULL;
    if (!boot_load(run->wires.boot, run->wires.ram, rsdp, &boot->state, &error)) {
        run->reset_asked = false;
        run->wires.failed(run->wires.opaque, error->message);
        return;
    }
    boot->state.tsc = 0; /* time goes on over a reset */
    boot->state.tsc_offset = run->tsc_offset;
    vcpu_load(boot);
    vcpu_log_state(boot, "reset");
    if (boot->state.efer & X86_EFER_LMA) /* our loader has entered it for the guest */
        run->wires.long_mode(run->wires.opaque);
    for (unsigned i = 1; i < run->wires.ncpus; i++) {
        Vcpu *vcpu = &run->vcpu[i];
        boot_state_reset(&vcpu->state);
        vcpu->state.waits_for_sipi = true;
        vcpu->state.tsc_offset = run->tsc_offset;
        vcpu->state.apic_base = lapic_base(board_lapic(run->board, i));
        vcpu_load(vcpu);
        vcpu_log_state(vcpu, "reset");
    }
    apic_link_push(board_apic_link(run->board));
    run->reset_asked = false;
    for (unsigned i = 1; i < run->wires.ncpus; i++)
        g_cond_signal(&run->vcpu[i].wake);
}

static bool is_asked(const Vcpu *vcpu)
{
    const Run *run = vcpu->run;
    return run->finish || run->pauses || run->reset_asked || vcpu->init_asked;
}

/* The guest executed HLT: sleep until something can end it. */
static void halt_wait(Vcpu *vcpu)
{
    Lapic *lapic = board_lapic(vcpu->board, vcpu->index);
    if (lapic_irq_waits(lapic) && !vcpu->nmi_waits && !is_asked(vcpu)) {
        /* Either it has just come, or the guest halted with interrupts off: then only NMI or reset help, and looking again is a spin. */
        vcpu_save(vcpu);
        if (!(vcpu->state.rflags & X86_FLAG_IF))
            while (!vcpu->nmi_waits && !is_asked(vcpu))
                g_cond_wait(&vcpu->wake, vcpu->lock);
    }
    while (!lapic_irq_waits(lapic) && !vcpu->nmi_waits && !is_asked(vcpu))
        g_cond_wait(&vcpu->wake, vcpu->lock);
    vcpu->nmi_waits = false;
}

static void exit_handle(Vcpu *vcpu, const CpuExit *exit)
{
    const RunWires *wires = &vcpu->run->wires;
    switch (exit->kind) {
    case CPU_EXIT_KICKED:
        break;
    case CPU_EXIT_LONG_MODE_ENTRY:
        wires->long_mode(wires->opaque);
        break;
    case CPU_EXIT_HALT:
        halt_wait(vcpu);
        break;
    case CPU_EXIT_SHUTDOWN:
        vcpu_log_state(vcpu, "triple fault");
        wires->triple_fault(wires->opaque, exit->reason ? exit->reason : "triple fault");
        break;
    case CPU_EXIT_DEBUG:
        wires->debug_stop(wires->opaque, vcpu->index, exit);
        break;
    case CPU_EXIT_ERROR:
        vcpu_log_state(vcpu, "error");
        wires->engine_failed(wires->opaque, exit->reason ? exit->reason : "the engine failed");
        break;
    }
}

static void park(Vcpu *vcpu, GCond *until)
{
    vcpu->is_parked = true;
    g_cond_broadcast(&vcpu->run->stopped);
    g_cond_wait(until, vcpu->lock);
}

static gpointer vcpu_thread(gpointer data)
{
    Vcpu *vcpu = data;
    Run *run = vcpu->run;
    int thread_id = gettid();
    clockid_t clock;
    if (pthread_getcpuclockid(pthread_self(), &clock) != 0)
        clock = CLOCK_MONOTONIC; /* never idle */
    sandbox_enter(SANDBOX_VCPU);
    g_mutex_lock(vcpu->lock);
    vcpu->thread_id = thread_id;
    vcpu->clock = clock;
    while (!run->finish) {
        if ((run->pauses && !(run->is_new && vcpu->index == 0)) || (vcpu->is_frozen && !run->reset_asked)) {
            park(vcpu, &vcpu->wake);
        } else if (run->reset_asked && vcpu->index == 0) {
            vcpu->is_parked = false;
            if (are_parked(run, vcpu))
                machine_reset(run);
            else
                g_cond_wait(&run->stopped, vcpu->lock);
        } else if (run->reset_asked) {
            park(vcpu, &vcpu->wake);
        } else if (vcpu->init_asked) {
            vcpu->is_parked = false;
            vcpu_take_init(vcpu);
        } else if (vcpu->waits_for_sipi && !vcpu->cpu->has_apic && vcpu->startup_page < 0) {
            park(vcpu, &vcpu->wake);
        } else if (vcpu->waits_for_sipi && !vcpu->cpu->has_apic) {
            vcpu->is_parked = false;
            vcpu_take_startup(vcpu);
        } else {
            vcpu->is_parked = false;
            g_mutex_unlock(vcpu->lock);
            CpuExit exit = vcpu->cpu->ops->run(vcpu->cpu);
            g_mutex_lock(vcpu->lock);
            exit_handle(vcpu, &exit);
        }
    }
    vcpu->is_finished = vcpu->is_parked = true;
    g_cond_broadcast(&run->stopped);
    g_mutex_unlock(vcpu->lock);
    return NULL;
}

static CpuConfig cpu_config(Vcpu *vcpu)
{
    const Run *run = vcpu->run;
    return (CpuConfig){ .ram = run->wires.ram, .index = cpuid_apic_id(&run->wires.topology, vcpu->index), .host = &vcpu_host, .host_opaque = vcpu, .cpuid = &vcpu->cpuid,
                        .wants_apic = run->wires.wants_engine_apic, .symbols = run->wires.symbols,
                        .tsc_offset = run->tsc_offset, .stops_at_long_mode = true };
}

static uint64_t nanoseconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The vCPUs have changed: whoever has the local APICs now gets their registers. */
static void apic_connect(Run *run)
{
    Cpu *cpus[CONFIG_MAX_CPUS];
    for (unsigned i = 0; i < run->wires.ncpus; i++)
        cpus[i] = run->vcpu[i].cpu;
    if (run->board)
        apic_link_connect(board_apic_link(run->board), cpus);
}

static gboolean logs_set(Run *run, bool is_on, GError **error)
{
    for (unsigned i = 0; i < run->wires.ncpus; i++) {
        Cpu *cpu = run->vcpu[i].cpu;
        if (!cpu->ops->log_writes(cpu, is_on, error))
            return FALSE;
    }
    return TRUE;
}

/* Into Ram.dirty. */
static gboolean logs_take(Run *run, GError **error)
{
    for (unsigned i = 0; i < run->wires.ncpus; i++) {
        Cpu *cpu = run->vcpu[i].cpu;
        if (!cpu->ops->log_take(cpu, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean debug_fits(const Run *run, const CpuOps *ops, GError **error)
{
    const CpuDebug *debug = run->vcpu[0].debug;
    unsigned npoints = debug ? debug->nbreaks + debug->nwatches : 0;
    if (!ops->max_debug_points || npoints <= ops->max_debug_points)
        return TRUE;
    g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "the debugger has %u break- and watchpoints, and %s has room for %u; delete some", npoints,
                ops->name, ops->max_debug_points);
    return FALSE;
}

gboolean run_switch(Run *run, const CpuOps *ops, RunSwitchTimes *out_times, GError **error)
{
    unsigned ncpus = run->wires.ncpus, nmis[CONFIG_MAX_CPUS];
    HandoverSlot slots[CONFIG_MAX_CPUS];
    for (unsigned i = 0; i < ncpus; i++)
        slots[i] = (HandoverSlot){ .cpu = &run->vcpu[i].cpu, .config = cpu_config(&run->vcpu[i]),
                                    .waits_for_sipi = &run->vcpu[i].waits_for_sipi };
    g_autoptr(Handover) handover = debug_fits(run, ops, error) ? handover_new(ops, slots, ncpus, error) : NULL;
    if (!handover)
        return FALSE;
    uint64_t begin = nanoseconds();
    g_mutex_lock(run->wires.lock);
    run_pause(run);
    for (unsigned i = 0; i < ncpus; i++)
        nmis[i] = run->vcpu[i].nmis;
    out_times->stop_ns = nanoseconds() - begin;
    g_mutex_unlock(run->wires.lock);
    gboolean is_ok = (!run->wires.ram->dirty || logs_take(run, error)) && handover_commit(handover, error);
    g_mutex_lock(run->wires.lock);
    uint64_t committed = nanoseconds();
    if (is_ok) {
        handover_swap(handover);
        apic_connect(run);
        for (unsigned i = 0; i < ncpus; i++)
            if (run->vcpu[i].debug)
                ops->debug(run->vcpu[i].cpu, run->vcpu[i].debug, NULL); /* there is room: debug_fits() */
        if (run->wires.ram->dirty)
            logs_set(run, true, NULL); /* what cannot log now fails again when it is asked */
        /* What came for the old ones meanwhile. */
        for (unsigned i = 0; i < ncpus; i++) {
            Cpu *cpu = run->vcpu[i].cpu;
            cpu->ops->set_irq(cpu, run->board && lapic_irq_waits(board_lapic(run->board, i)));
            if (nmis[i] != run->vcpu[i].nmis)
                cpu->ops->nmi(cpu);
        }
    }
    run_resume(run);
    uint64_t end = nanoseconds(); /* before the lock goes: where processors are few, the guest is served first then */
    g_mutex_unlock(run->wires.lock);
    out_times->connect_ns = end - committed;
    out_times->downtime_ns = end - begin;
    out_times->handover = *handover_times(handover);
    return is_ok;
}

Run *run_new(const RunWires *wires, GError **error)
{
    g_autoptr(Run) run = g_new0(Run, 1);
    g_assert(wires->ncpus >= 1 && wires->ncpus <= CONFIG_MAX_CPUS);
    run->wires = *wires;
    g_cond_init(&run->stopped);
    run->pauses = wires->start_paused ? 1 : 0;
    run->reset_asked = true; /* power-on */
    run->is_new = wires->start_paused && !wires->awaits_state;
    run->tsc_offset = (int64_t)(0 - __rdtsc());
    for (unsigned i = 0; i < wires->ncpus; i++) {
        Vcpu *vcpu = &run->vcpu[i];
        vcpu->index = i;
        vcpu->run = run;
        vcpu->lock = wires->lock;
        vcpu->cpuid = *wires->cpuid;
        cpuid_model_set_place(&vcpu->cpuid, i, &wires->topology);
        vcpu->startup_page = -1;
        g_cond_init(&vcpu->wake);
    }
    for (unsigned i = 0; i < wires->ncpus; i++) {
        CpuConfig config = cpu_config(&run->vcpu[i]);
        run->vcpu[i].cpu = wires->ops->create(&config, error);
        if (!run->vcpu[i].cpu)
            return NULL;
    }
    return g_steal_pointer(&run);
}

void run_start(Run *run, Board *board)
{
    g_mutex_lock(run->wires.lock);
    run->board = board;
    for (unsigned i = 0; i < run->wires.ncpus; i++)
        run->vcpu[i].board = board;
    apic_connect(run);
    for (unsigned i = 0; i < run->wires.ncpus; i++) {
        g_autofree char *name = g_strdup_printf("vcpu%u", i);
        run->vcpu[i].thread = g_thread_new(name, vcpu_thread, &run->vcpu[i]);
    }
    g_mutex_unlock(run->wires.lock);
}

static bool are_finished(const Run *run)
{
    for (unsigned i = 0; i < run->wires.ncpus; i++)
        if (!run->vcpu[i].is_finished)
            return false;
    return true;
}

bool run_finish(Run *run)
{
    if (!run->vcpu[0].thread)
        return true;
    g_mutex_lock(run->wires.lock);
    run->finish = true;
    kick_all(run);
    g_cond_broadcast(&run->stopped); /* the boot processor may wait there */
    int64_t deadline = g_get_monotonic_time() + FINISH_TIMEOUT_US;
    while (!are_finished(run) && g_cond_wait_until(&run->stopped, run->wires.lock, deadline))
        ;
    bool is_finished = are_finished(run);
    g_mutex_unlock(run->wires.lock);
    if (!is_finished)
        return false;
    for (unsigned i = 0; i < run->wires.ncpus; i++) {
        g_thread_join(run->vcpu[i].thread);
        run->vcpu[i].thread = NULL;
    }
    return true;
}

void run_free(Run *run)
{
    if (!run)
        return;
    for (unsigned i = 0; i < run->wires.ncpus; i++) {
        Vcpu *vcpu = &run->vcpu[i];
        if (vcpu->cpu)
            vcpu->cpu->ops->free(vcpu->cpu);
        debug_free(vcpu->debug);
        g_cond_clear(&vcpu->wake);
    }
    g_cond_clear(&run->stopped);
    g_free(run);
}

/* --- counters: the sum over all vCPUs, which are of one engine --- */

typedef struct CounterSum {
    const char *name;
    uint64_t value;
} CounterSum;

static void counter_add(void *opaque, const char *name, uint64_t value)
{
    GArray *sums = opaque;
    for (guint i = 0; i < sums->len; i++) {
        CounterSum *sum = &g_array_index(sums, CounterSum, i);
        if (!strcmp(sum->name, name)) {
            sum->value += value;
            return;
        }
    }
    g_array_append_vals(sums, &(CounterSum){ name, value }, 1);
}

void run_counters(Run *run, CpuCounterFunc *row, void *opaque)
{
    g_autoptr(GArray) sums = g_array_new(FALSE, FALSE, sizeof(CounterSum));
    for (unsigned i = 0; i < run->wires.ncpus; i++) {
        Cpu *cpu = run->vcpu[i].cpu;
        if (cpu->ops->counters)
            cpu->ops->counters(cpu, counter_add, sums);
        if (run->board && !cpu->has_apic)
            counter_add(sums, "tpr-accesses", lapic_tpr_count(board_lapic(run->board, i)));
        struct timespec used;
        if (run->vcpu[i].thread_id && !run->vcpu[i].is_finished && clock_gettime(run->vcpu[i].clock, &used) == 0)
            counter_add(sums, "vcpu-time-ns", (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec);
    }
    for (guint i = 0; i < sums->len; i++) {
        const CounterSum *sum = &g_array_index(sums, CounterSum, i);
        row(opaque, sum->name, sum->value);
    }
}

char *run_profile(Run *run)
{
    GString *text = g_string_new(NULL);
    for (unsigned i = 0; i < run->wires.ncpus; i++) {
        Cpu *cpu = run->vcpu[i].cpu;
        g_autofree char *one = cpu->ops->profile ? cpu->ops->profile(cpu) : NULL;
        g_string_append(text, one ? one : "");
    }
    return g_string_free(text, text->len == 0);
}

void run_save(Run *run, unsigned index, X86State *out_state)
{
    Cpu *cpu = run->vcpu[index].cpu;
    cpu->ops->save(cpu, out_state);
}

/* --- debuggers --- */

static void cpu_offset_set(Cpu *cpu, X86State *state, int64_t offset)
{
    state->tsc = 0;
    state->tsc_offset = offset ? offset : 1; /* 0 would leave it as it is */
    cpu->ops->load(cpu, state);
}

static CpuDebug *debug_copy(const CpuDebug *debug)
{
    CpuDebug *copy = debug ? g_memdup2(debug, sizeof *debug) : NULL;
    if (copy) {
        copy->breaks = g_memdup2(debug->breaks, debug->nbreaks * sizeof(Gva));
        copy->watches = g_memdup2(debug->watches, debug->nwatches * sizeof(CpuWatch));
    }
    return copy;
}

gboolean run_debug(Run *run, unsigned index, const CpuDebug *debug, bool is_frozen, GError **error)
{
    Vcpu *vcpu = &run->vcpu[index];
    if (!vcpu->cpu->ops->debug(vcpu->cpu, debug, error))
        return FALSE;
    g_mutex_lock(run->wires.lock);
    debug_free(vcpu->debug);
    vcpu->debug = debug_copy(debug);
    vcpu->is_frozen = is_frozen;
    g_cond_signal(&vcpu->wake);
    g_mutex_unlock(run->wires.lock);
    return TRUE;
}

unsigned run_debug_room(const Run *run) { return run->vcpu[0].cpu->ops->max_debug_points; }

void run_load(Run *run, unsigned index, const X86State *state)
{
    g_autofree X86State *copy = g_memdup2(state, sizeof *state);
    cpu_offset_set(run->vcpu[index].cpu, copy, state->tsc_offset);
}

/* --- what the guest writes --- */

gboolean run_log_writes(Run *run, bool is_on, GError **error)
{
    Ram *ram = run->wires.ram;
    g_mutex_lock(run->wires.lock);
    run_pause(run);
    if (is_on)
        dirty_log_new(ram);
    gboolean is_ok = logs_set(run, is_on, error);
    if (!is_on || !is_ok)
        dirty_log_free(ram->dirty);
    run_resume(run);
    g_mutex_unlock(run->wires.lock);
    return is_ok;
}

gboolean run_log_take(Run *run, PageSet *pages, uint64_t *out_npages, GError **error)
{
    g_mutex_lock(run->wires.lock);
    run_pause(run);
    gboolean is_ok = logs_take(run, error);
    if (is_ok)
        *out_npages = dirty_log_take(run->wires.ram->dirty, pages);
    run_resume(run);
    g_mutex_unlock(run->wires.lock);
    return is_ok;
}

/* --- saved state --- */

void run_time_stop(Run *run)
{
    run->host_tsc = __rdtsc();
    run->is_time_stopped = true;
}

void run_time_start(Run *run)
{
    g_autofree X86State *state = g_new0(X86State, 1);
    int64_t passed = (int64_t)(__rdtsc() - run->host_tsc);
    for (unsigned i = 0; i < run->wires.ncpus && !run->reset_asked; i++) { /* a reset gives them the new offset */
        Cpu *cpu = run->vcpu[i].cpu;
        cpu->ops->save(cpu, state);
        cpu_offset_set(cpu, state, state->tsc_offset - passed);
    }
    g_mutex_lock(run->wires.lock);
    run->tsc_offset -= passed;
    run->is_time_stopped = false;
    g_mutex_unlock(run->wires.lock);
}

unsigned run_cpu_count(const Run *run) { return run->wires.ncpus; }

void run_cpu_save(Run *run, unsigned index, X86State *out_state)
{
    Cpu *cpu = run->vcpu[index].cpu;
    cpu->ops->save(cpu, out_state);
    out_state->tsc = run->host_tsc + (uint64_t)out_state->tsc_offset;
    out_state->tsc_offset = 0;
}

gboolean run_cpu_load(Run *run, unsigned index, const X86State *state, GError **error)
{
    g_autofree X86State *copy = g_memdup2(state, sizeof *state);
    int64_t offset = (int64_t)(state->tsc - run->host_tsc);
    Cpu *cpu = run->vcpu[index].cpu;
    cpu_offset_set(cpu, copy, offset);
    const char *failure = cpu->ops->failure ? cpu->ops->failure(cpu) : NULL;
    if (failure) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_HOST, "vCPU %u: %s does not take its state: %s", index, cpu->ops->name, failure);
        return FALSE;
    }
    g_mutex_lock(run->wires.lock);
    if (index == 0)
        run->tsc_offset = offset;
    run->vcpu[index].nmi_waits = state->nmi_pending;
    g_mutex_unlock(run->wires.lock);
    return TRUE;
}

static void state_visit(void *device, Stream *stream)
{
    Run *run = device;
    stream_bool(stream, &run->reset_asked);
    for (unsigned i = 0; i < run->wires.ncpus; i++) {
        Vcpu *vcpu = &run->vcpu[i];
        int64_t page = vcpu->startup_page;
        stream_bool(stream, &vcpu->waits_for_sipi);
        stream_bool(stream, &vcpu->init_asked);
        stream_i64(stream, &page);
        stream_check(stream, page >= -1 && page <= 0xff, "startup vector");
        stream_check(stream, i || !vcpu->waits_for_sipi, "a boot processor that waits for others");
        vcpu->startup_page = stream_is_ok(stream) ? (int)page : -1;
    }
}

const StateOps run_state = { .name = "run", .version = 1, .visit = state_visit };
