/*
 * The engine: creation, the run loop around translated code, and the calls from other threads.
 */
#include "bt/bt.h"

#include <asm/prctl.h>
#include <cpuid.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bt/debugger.h"
#include "bt/decode.h"
#include "bt/exec.h"
#include "bt/foreign.h"
#include "bt/peers.h"
#include "bt/profile.h"
#include "bt/translate.h"
#include "bt/unwind.h"
#include "bt/verify.h"
#include "core/cpuid.h"
#include "core/error.h"
#include "core/guard.h"
#include "core/log.h"

#define HUGE_SIZE (2u << 20)

static BtCpu *bt_cpu(Cpu *cpu) { return (BtCpu *)cpu; }

static void on_flushed(void *opaque, bool global)
{
    BtCpu *cpu = opaque;
    jump_cache_flush(cpu, global);
    cache_reset_cells(cpu->bt, global);
}

static void on_flushed_page(void *opaque, Gva page)
{
    BtCpu *cpu = opaque;
    if (!*cache_code_page(cpu->bt, page))
        return;
    if (cache_is_kernel_half(cpu, page))
        on_flushed(opaque, true);
    else
        cache_reset_page(cpu->bt, cpu, page);
}

static bool host_has_bmi2(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && b & bit_BMI2;
}

/* XSAVE, turned on by the host's kernel. */
static bool host_has_xsave(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && c & bit_OSXSAVE;
}

/* Where the host's XSAVE has the components, and whether it can leave out those in their initial state. */
static void host_xsave_layout(BtCpu *cpu)
{
    unsigned a, b, c, d;
    cpu->has_xsaveopt = __get_cpuid_count(0xd, 1, &a, &b, &c, &d) && a & 1;
    for (unsigned i = 2; i < 8; i++)
        if (__get_cpuid_count(0xd, i, &a, &b, &c, &d) && a && b + a <= X86_XSAVE_SIZE)
            cpu->xsave_at[i] = (uint16_t)b;
    cpu->xsave_at[9] = (uint16_t)cpuid_pkru_at(cpu->cpuid);
}

static void bt_cpu_free(Cpu *base)
{
    BtCpu *cpu = bt_cpu(base);
    if (!cpu)
        return;
    CodeMap *map = cpu->mmu.code;
    cache_flush(cpu->bt, cpu); /* takes its marks away */
    bt_peers_part(cpu);
    profile_free(cpu->profile);
    bt_debugger_free(cpu->debugger);
    bt_foreign_clear(cpu);
    verify_summary(cpu->bt);
    cache_free(cpu->bt);
    code_map_free(map);
    guard_unmap(cpu, HUGE_SIZE);
}

_Static_assert(sizeof(BtCpu) <= HUGE_SIZE, "a vCPU block fits a huge page");

/* The vCPU block has a huge page of its own: translated code reads its TLB all over, and a host TLB miss on that would cost as much as
 * the access itself.  Below 2 GiB it is reached by plain displacements: one byte less an operand, and one cycle less than by a segment's base. */
static BtCpu *block_map(void)
{
    void *start = guard_map_low(HUGE_SIZE, PROT_READ | PROT_WRITE);
    if (start == MAP_FAILED)
        start = guard_map(HUGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
    if (start == MAP_FAILED)
        return NULL;
    madvise(start, HUGE_SIZE, MADV_HUGEPAGE);
    return start;
}

static Cpu *bt_cpu_create(const CpuConfig *config, GError **error)
{
    if (!host_has_xsave()) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_NO_MODE, "-accel bt: the host's CPU or kernel has no XSAVE, which bt needs; "
                    "use a CPU of 2011 or later (or -accel kvm)");
        return NULL;
    }
    insn_decode_init();
    BtCpu *cpu = block_map();
    if (!cpu) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_HOST, "vCPU: cannot map %zu bytes", sizeof *cpu);
        return NULL;
    }
    cpu->base.ops = &bt_cpu_ops;
    cpu->self = cpu;
    cpu->ram = config->ram;
    cpu->index = config->index;
    cpu->host = config->host;
    cpu->host_opaque = config->host_opaque;
    cpu->cpuid = config->cpuid;
    cpu->tsc_offset = config->tsc_offset;
    cpu->stops_at_long_mode = config->stops_at_long_mode;
    bt_foreign_init(cpu);
    CodeMap *map = bt_peers_join(cpu);
    if (!map) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_HOST, "vCPU: more than %u of them over one memory", CODE_MAP_MAX_USERS);
        guard_unmap(cpu, HUGE_SIZE);
        return NULL;
    }
    cpu->bt = cache_new(config->ram, map, error);
    if (!cpu->bt) {
        bt_peers_part(cpu);
        code_map_free(map);
        guard_unmap(cpu, HUGE_SIZE);
        return NULL;
    }
    cpu->bt->cpu_at = (uintptr_t)cpu <= INT32_MAX - HUGE_SIZE ? (uint32_t)(uintptr_t)cpu : 0;
    cpu->bt->has_bmi2 = host_has_bmi2();
    host_xsave_layout(cpu);
    cpu->bt->has_xsaveopt = cpu->has_xsaveopt;
    cpu->bt->xsave_mask = bt_fpu_mask(cpu);
    mmu_init(&cpu->mmu, config->ram, map);
    bt_foreign_listen(cpu);
    stubs_emit(cpu->bt);
    cpu->unwind = (__typeof__(cpu->unwind))(void *)(cpu->bt->stub_dispatch_rw + (cpu->bt->rx - cpu->bt->rw));
    for (unsigned class = 0; class < 2; class++)
        jump_cache_empty_class(cpu, class);
    cpu->mmu.flushed_opaque = cpu;
    cpu->mmu.flushed = on_flushed;
    cpu->mmu.flushed_page = on_flushed_page;
    bt_reset(cpu);
    cpu->mode_dirty = true;
    if (log_on(LOG_PROF))
        cpu->profile = profile_new(cpu, config->symbols);
    return &cpu->base;
}

/* The thread's part: GS points to the vCPU block, and host faults arrive on a stack of their own. */
static void enter_thread(BtCpu *cpu)
{
    static __thread BtCpu *current;
    if (current == cpu)
        return;
    current = cpu;
    syscall(SYS_arch_prctl, ARCH_SET_GS, cpu);
    unwind_thread_init(cpu);
    if (cpu->profile)
        profile_thread_init(cpu->profile);
}

static bool translate_wanted(BtCpu *cpu)
{
    Bt *bt = cpu->bt;
    BtExit *from = bt->link_from;
    cache_reclaim(bt);
    if (!cache_has_room(bt)) {
        cache_flush(bt, cpu);
        from = NULL;
    }
    BtBlock *block = bt_translate(cpu, cpu->rip, bt->want_mode);
    bt->link_from = block ? from : NULL;
    return block != NULL;
}

/* An instruction wants to run while no other vCPU does, or did. */
static void exclusive_turn(BtCpu *cpu)
{
    if (cpu->exclusive == EXCLUSIVE_WANTED) {
        bt_peers_stop(cpu);
        cpu->exclusive = EXCLUSIVE_NEXT;
    } else if (cpu->exclusive == EXCLUSIVE_BEGUN) {
        cpu->exclusive = EXCLUSIVE_NO;
        bt_peers_go(cpu);
    }
}

static CpuExit run_until_exit(BtCpu *cpu)
{
    Bt *bt = cpu->bt;
    for (;;) {
        bool has_run = bt_peers_enter(cpu);
        if (has_run) {
            bt_fpu_settle(cpu);
            cpu->fpu_live = true;
            bt->enter(cpu);
            cpu->fpu_live = false;
            bt->stat_leaves++;
            bt_peers_leave(cpu);
        }
        exclusive_turn(cpu);
        if (cpu->shutdown)
            return (CpuExit){.kind = CPU_EXIT_SHUTDOWN, .reason = cpu->shutdown_reason};
        uint8_t kicks = __atomic_exchange_n(&cpu->kicked, 0, __ATOMIC_SEQ_CST);
        if (kicks & BT_KICK_FOREIGN)
            bt_foreign_apply(cpu);
        if (kicks & BT_KICK) {
            CpuExitKind kind = cpu->long_mode_entered ? CPU_EXIT_LONG_MODE_ENTRY : CPU_EXIT_KICKED;
            cpu->long_mode_entered = false;
            return (CpuExit){.kind = kind};
        }
        if (!has_run)
            continue;
        if (cpu->debugger && cpu->debugger->stop != CPU_STOP_NONE)
            return (CpuExit){.kind = CPU_EXIT_DEBUG, .stop = cpu->debugger->stop, .address = cpu->debugger->address};
        if (bt->wants_translation)
            translate_wanted(cpu);
        else if (cpu->halted)
            return (CpuExit){.kind = CPU_EXIT_HALT};
    }
}

static CpuExit bt_cpu_run(Cpu *base)
{
    BtCpu *cpu = bt_cpu(base);
    enter_thread(cpu);
    CpuExit exit = run_until_exit(cpu);
    if (cpu->exclusive == EXCLUSIVE_NEXT || cpu->exclusive == EXCLUSIVE_BEGUN)
        bt_peers_go(cpu); /* the instruction begins again, and asks again */
    cpu->exclusive = EXCLUSIVE_NO;
    return exit;
}

static void bt_cpu_load(Cpu *base, const X86State *state)
{
    BtCpu *cpu = bt_cpu(base);
    bt_load_state(cpu, state);
    cpu->shutdown = false;
    cpu->step = 0;
    cpu->mode_dirty = true;
    cpu->commit_kind = COMMIT_NONE;
    cpu->long_mode_entered = false;
}

static void bt_cpu_save(Cpu *base, X86State *out_state) { bt_save_state(bt_cpu(base), out_state); }

static void bt_cpu_kick(Cpu *base)
{
    BtCpu *cpu = bt_cpu(base);
    __atomic_fetch_or(&cpu->kicked, BT_KICK, __ATOMIC_SEQ_CST);
    __atomic_store_n(&cpu->poll_kick, 1, __ATOMIC_SEQ_CST);
}

static void bt_cpu_set_irq(Cpu *base, bool level)
{
    BtCpu *cpu = bt_cpu(base);
    __atomic_store_n(&cpu->irq_line, level, __ATOMIC_SEQ_CST);
    if (level)
        __atomic_store_n(&cpu->poll_kick, 1, __ATOMIC_SEQ_CST);
}

static void bt_cpu_nmi(Cpu *base)
{
    BtCpu *cpu = bt_cpu(base);
    uint32_t n = __atomic_load_n(&cpu->nmi_line, __ATOMIC_RELAXED);
    while (n < 2 && !__atomic_compare_exchange_n(&cpu->nmi_line, &n, n + 1, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED))
        ;
    __atomic_store_n(&cpu->poll_kick, 1, __ATOMIC_SEQ_CST);
}

static char *bt_cpu_describe(Cpu *base)
{
    static const char *const gpr[16] = {"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
                                        "R8 ", "R9 ", "R10", "R11", "R12", "R13", "R14", "R15"};
    static const char *const seg[8] = {"ES ", "CS ", "SS ", "DS ", "FS ", "GS ", "LDT", "TR "};
    const BtCpu *cpu = bt_cpu(base);
    const Bt *bt = cpu->bt;
    GString *s = g_string_new(NULL);
    for (unsigned i = 0; i < 16; i++)
        g_string_append_printf(s, "%s=%016" G_GINT64_MODIFIER "x%c", gpr[i], cpu->gpr[i], i % 4 == 3 ? '\n' : ' ');
    g_string_append_printf(s, "RIP=%016" G_GINT64_MODIFIER "x RFL=%08x CPL=%u HLT=%d\n", cpu->rip, bt_flags(cpu), cpu->cpl, cpu->halted);
    for (unsigned i = 0; i < 8; i++)
        g_string_append_printf(s, "%s=%04x %016" G_GINT64_MODIFIER "x %08x %08x\n", seg[i], cpu->seg[i].selector, cpu->seg[i].base,
                               cpu->seg[i].limit, cpu->seg[i].attr);
    g_string_append_printf(s, "GDT=%016" G_GINT64_MODIFIER "x %04x IDT=%016" G_GINT64_MODIFIER "x %04x\n", cpu->gdtr.base, cpu->gdtr.limit,
                           cpu->idtr.base, cpu->idtr.limit);
    g_string_append_printf(s, "CR0=%08" G_GINT64_MODIFIER "x CR2=%016" G_GINT64_MODIFIER "x CR3=%016" G_GINT64_MODIFIER "x CR4=%08"
                           G_GINT64_MODIFIER "x EFER=%08" G_GINT64_MODIFIER "x\n", cpu->mmu.cr0, cpu->cr2, cpu->mmu.cr3, cpu->mmu.cr4,
                           cpu->mmu.efer);
#define STAT(name) g_string_append_printf(s, #name "=%" G_GUINT64_FORMAT " ", bt->stat_##name)
    STAT(blocks); STAT(insns); STAT(flushes); STAT(invalidated); STAT(dispatch); STAT(mem_slow); STAT(exec); STAT(links);
    STAT(undefined); STAT(code_writes); STAT(cell_resets); STAT(jump_misses); STAT(leaves);
#undef STAT
    g_string_append_printf(s, "\nfills=%" G_GUINT64_FORMAT " walks=%" G_GUINT64_FORMAT " faults=%" G_GUINT64_FORMAT " flushes=%"
                           G_GUINT64_FORMAT " invlpg=%" G_GUINT64_FORMAT " code bytes=%zu\n", cpu->mmu.stat_fills, cpu->mmu.stat_walks,
                           cpu->mmu.stat_faults, cpu->mmu.stat_flushes, cpu->mmu.stat_invlpg, (size_t)(bt->code_p - bt->rw));
    return g_string_free(s, FALSE);
}

static char *bt_cpu_profile(Cpu *base)
{
    const BtCpu *cpu = bt_cpu(base);
    return cpu->profile ? profile_report(cpu->profile) : NULL;
}

static void bt_cpu_counters(Cpu *base, CpuCounterFunc *row, void *opaque)
{
    const BtCpu *cpu = bt_cpu(base);
    const Bt *bt = cpu->bt;
    const Mmu *mmu = &cpu->mmu;
    const struct {
        const char *name;
        const uint64_t *value;
    } rows[] = {
        { "bt-blocks", &bt->stat_blocks },           { "bt-instructions", &bt->stat_insns },   { "bt-cache-flushes", &bt->stat_flushes },
        { "bt-blocks-dropped", &bt->stat_invalidated }, { "bt-dispatches", &bt->stat_dispatch }, { "bt-helper-calls", &bt->stat_exec },
        { "bt-slow-accesses", &bt->stat_mem_slow },  { "bt-code-writes", &bt->stat_code_writes },
        { "tlb-misses", &mmu->stat_fills },          { "tlb-walks", &mmu->stat_walks },        { "page-faults", &mmu->stat_faults },
        { "tlb-misses-empty", &mmu->stat_empty },    { "tlb-misses-other-page", &mmu->stat_conflicts },
        { "tlb-misses-more-rights", &mmu->stat_upgrades }, { "tlb-cr3-loads", &mmu->stat_cr3_loads },
        { "tlb-recalls", &mmu->stat_recalls },       { "bt-links", &bt->stat_links },
        { "bt-jump-misses", &bt->stat_jump_misses }, { "bt-leaves", &bt->stat_leaves },
        { "tlb-flushes", &mmu->stat_flushes },       { "tlb-page-flushes", &mmu->stat_invlpg },
        { "tpr-accesses", &cpu->stat_cr8 },           { "bt-ports", &cpu->stat_ports },       { "bt-mmio", &cpu->stat_mmio },
        { "bt-interrupts", &cpu->stat_interrupts },
    };
    for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
        row(opaque, rows[i].name, __atomic_load_n(rows[i].value, __ATOMIC_RELAXED));
}

static gboolean bt_cpu_log_take(Cpu *base, GError **error)
{
    mmu_log_writes(&bt_cpu(base)->mmu);
    return TRUE;
}

static gboolean bt_cpu_log_writes(Cpu *base, bool is_on, GError **error) { return !is_on || bt_cpu_log_take(base, error); }

static gboolean bt_cpu_debug(Cpu *base, const CpuDebug *debug, GError **error)
{
    bt_debugger_set(bt_cpu(base), debug);
    return TRUE;
}

/* What both engines do alike. */
#define BT_OPS(its_name, its_create)                                                                                                 \
    {                                                                                                                                \
        .name = its_name, .create = its_create, .free = bt_cpu_free, .run = bt_cpu_run, .load = bt_cpu_load, .save = bt_cpu_save,     \
        .kick = bt_cpu_kick, .set_irq = bt_cpu_set_irq, .nmi = bt_cpu_nmi, .log_writes = bt_cpu_log_writes,                          \
        .log_take = bt_cpu_log_take, .debug = bt_cpu_debug, .describe = bt_cpu_describe, .counters = bt_cpu_counters,                \
        .profile = bt_cpu_profile,                                                                                                   \
    }

const CpuOps bt_cpu_ops = BT_OPS("bt", bt_cpu_create);

static Cpu *bt_one_create(const CpuConfig *config, GError **error)
{
    Cpu *base = bt_cpu_create(config, error);
    if (base) {
        base->ops = &bt_one_cpu_ops;
        bt_cpu(base)->one_insn = true;
    }
    return base;
}

const CpuOps bt_one_cpu_ops = BT_OPS("bt-one-insn", bt_one_create);
