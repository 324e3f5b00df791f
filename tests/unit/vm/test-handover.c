/* Vm: handover.  A fake engine that refuses on demand, and the translator's two engines with every field of the state filled. */
#include "../../lib/bt-machine.h"
#include <check.h>
#include <stdlib.h>

#include "vm/handover.h"

/* --- a fake engine --- */

typedef struct FakeCpu {
    Cpu base;
    X86State state;
    bool has_failed;
} FakeCpu;

static unsigned fake_alive, fake_create_fails_at, fake_load_fails_at, fake_created, fake_loaded;

static const CpuOps fake_ops;

static Cpu *fake_create(const CpuConfig *config, GError **error)
{
    if (++fake_created == fake_create_fails_at) {
        g_set_error(error, g_quark_from_static_string("fake"), 1, "no more vCPUs");
        return NULL;
    }
    FakeCpu *cpu = g_new0(FakeCpu, 1);
    cpu->base.ops = &fake_ops;
    fake_alive++;
    return &cpu->base;
}

static void fake_free(Cpu *cpu)
{
    fake_alive--;
    g_free(cpu);
}

static CpuExit fake_run(Cpu *cpu) { return (CpuExit){ .kind = CPU_EXIT_KICKED }; }

static void fake_load(Cpu *base, const X86State *state)
{
    FakeCpu *cpu = (FakeCpu *)base;
    cpu->state = *state;
    cpu->has_failed = fake_load_fails_at && ++fake_loaded == fake_load_fails_at;
}

static void fake_save(Cpu *base, X86State *out_state) { *out_state = ((FakeCpu *)base)->state; }
static const char *fake_failure(Cpu *base) { return ((FakeCpu *)base)->has_failed ? "not this one" : NULL; }

static const CpuOps fake_ops = { .name = "fake", .create = fake_create, .free = fake_free, .run = fake_run, .load = fake_load,
                          .save = fake_save, .failure = fake_failure };

#define NCPUS 3
static Cpu *cpus[NCPUS];
static HandoverSlot slots[NCPUS];

static void fakes_setup(void)
{
    fake_alive = fake_create_fails_at = fake_load_fails_at = fake_created = fake_loaded = 0;
    for (unsigned i = 0; i < NCPUS; i++) {
        cpus[i] = fake_create(&(CpuConfig){ .index = i }, NULL);
        ((FakeCpu *)cpus[i])->state = (X86State){ .rip = 100 + i, .tsc = 5, .tsc_offset = 7 };
        slots[i] = (HandoverSlot){ .cpu = &cpus[i], .config.index = i };
    }
    fake_created = 0;
}

static void fakes_teardown(void)
{
    for (unsigned i = 0; i < NCPUS; i++)
        fake_free(cpus[i]);
    ck_assert_uint_eq(fake_alive, 0);
}

START_TEST(all_move_and_old_ones_end)
{
    Cpu *old = cpus[1];
    Handover *handover = handover_new(&fake_ops, slots, NCPUS, NULL);
    ck_assert_uint_eq(fake_alive, 2 * NCPUS);
    ck_assert(handover_commit(handover, NULL));
    ck_assert_ptr_eq(cpus[1], old); /* not before the swap */
    handover_swap(handover);
    ck_assert_ptr_ne(cpus[1], old);
    handover_free(handover);
    ck_assert_uint_eq(fake_alive, NCPUS);
    for (unsigned i = 0; i < NCPUS; i++) {
        X86State state;
        fake_save(cpus[i], &state);
        ck_assert_uint_eq(state.rip, 100 + i);
        ck_assert_uint_eq(state.tsc, 0); /* by the offset, whatever the time is */
        ck_assert_int_eq(state.tsc_offset, 7);
    }
}
END_TEST

/* Who waits for a startup IPI is the machine's to know, or the engine's that has the local APICs. */
START_TEST(waiting_for_startup_travels)
{
    bool waits[NCPUS] = { false, true, false };
    for (unsigned i = 0; i < NCPUS; i++)
        slots[i].waits_for_sipi = &waits[i];
    Handover *handover = handover_new(&fake_ops, slots, NCPUS, NULL);
    ck_assert(handover_commit(handover, NULL));
    handover_swap(handover);
    handover_free(handover);
    ck_assert(((FakeCpu *)cpus[1])->state.waits_for_sipi && !((FakeCpu *)cpus[0])->state.waits_for_sipi);
    for (unsigned i = 0; i < NCPUS; i++) /* the engine starts one by itself */
        cpus[i]->has_apic = true;
    ((FakeCpu *)cpus[1])->state.waits_for_sipi = false;
    handover = handover_new(&fake_ops, slots, NCPUS, NULL);
    ck_assert(handover_commit(handover, NULL));
    ck_assert(waits[1]); /* not before the swap */
    handover_swap(handover);
    handover_free(handover);
    ck_assert(!waits[1]);
}
END_TEST

START_TEST(refused_creation_leaves_nothing)
{
    fake_create_fails_at = 2;
    GError *error = NULL;
    ck_assert_ptr_null(handover_new(&fake_ops, slots, NCPUS, &error));
    ck_assert_str_eq(error->message, "no more vCPUs");
    ck_assert_uint_eq(fake_alive, NCPUS);
    g_error_free(error);
}
END_TEST

START_TEST(refused_state_leaves_the_old_ones)
{
    fake_load_fails_at = 2;
    Cpu *old[NCPUS] = { cpus[0], cpus[1], cpus[2] };
    GError *error = NULL;
    Handover *handover = handover_new(&fake_ops, slots, NCPUS, NULL);
    ck_assert(!handover_commit(handover, &error));
    ck_assert_str_eq(error->message, "vCPU 1: fake cannot take its state: not this one");
    handover_free(handover);
    ck_assert_mem_eq(old, cpus, sizeof old);
    ck_assert_uint_eq(((FakeCpu *)cpus[2])->state.rip, 102);
    ck_assert_uint_eq(fake_alive, NCPUS);
    g_error_free(error);
}
END_TEST

START_TEST(unreadable_state_is_refused)
{
    ((FakeCpu *)cpus[0])->has_failed = true;
    GError *error = NULL;
    Handover *handover = handover_new(&fake_ops, slots, NCPUS, NULL);
    ck_assert(!handover_commit(handover, &error));
    ck_assert_str_eq(error->message, "vCPU 0: fake cannot give its state: not this one");
    handover_free(handover);
    g_error_free(error);
}
END_TEST

/* --- the translator and its one-instruction engine --- */

static X86State state_random(GRand *rand)
{
    X86State state = bm_state;
    for (unsigned i = 0; i < X86_NGPRS; i++)
        state.gpr[i] = (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand);
    state.rflags = X86_FLAG_FIXED | (g_rand_int(rand) & (X86_FLAGS_STATUS | X86_FLAG_IF | X86_FLAG_DF | X86_FLAG_AC | X86_FLAG_TF));
    state.cr2 = g_rand_int(rand);
    state.dr[0] = g_rand_int(rand);
    state.dr[6] = 0xffff0ff0 | (g_rand_int(rand) & 15);
    state.tsc = 0;
    state.tsc_offset = (int64_t)((uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand));
#define FILL(name, number) state.name = g_rand_int(rand);
    X86_MSR_ROWS(FILL)
#undef FILL
    state.spec_ctrl = g_rand_int(rand) & 1;
    for (unsigned i = 0; i < 832; i++)
        state.xsave[i] = (uint8_t)g_rand_int(rand);
    for (unsigned i = 0; i < 4; i++)
        state.pdptr[i] = g_rand_int(rand);
    state.exception_pending = g_rand_boolean(rand);
    state.exception_vector = state.exception_pending ? (g_rand_boolean(rand) ? X86_EXC_PF : 0x31) : 0;
    state.exception_has_code = state.exception_vector == X86_EXC_PF;
    state.exception_code = state.exception_has_code ? g_rand_int(rand) & 7 : 0;
    state.nmi_pending = g_rand_boolean(rand);
    state.nmi_masked = g_rand_boolean(rand);
    state.interrupt_shadow = g_rand_boolean(rand);
    state.halted = g_rand_boolean(rand);
    return state;
}

START_TEST(every_field_survives)
{
    bm_setup();
    bm_long();
    g_autoptr(GRand) rand = g_rand_new_with_seed((guint32)_i);
    X86State given = state_random(rand);
    CpuConfig config = { .ram = bm->ram, .cpuid = bm->cpuid, .host = bm->host };
    Cpu *cpu = bt_cpu_ops.create(&config, NULL);
    HandoverSlot slot = { .cpu = &cpu, .config = config };
    cpu->ops->load(cpu, &given);
    static X86State before, after;
    cpu->ops->save(cpu, &before);
    ck_assert_mem_eq(before.gpr, given.gpr, sizeof given.gpr);
    ck_assert_int_eq(before.tsc_offset, given.tsc_offset);
    for (unsigned i = 0; i < 2; i++) {
        Handover *handover = handover_new(i ? &bt_cpu_ops : &bt_one_cpu_ops, &slot, 1, NULL);
        ck_assert_ptr_nonnull(handover);
        ck_assert(handover_commit(handover, NULL));
        handover_swap(handover);
        handover_free(handover);
        ck_assert_ptr_eq(cpu->ops, i ? &bt_cpu_ops : &bt_one_cpu_ops);
        cpu->ops->save(cpu, &after);
        ck_assert_uint_ge(after.tsc, before.tsc);
        after.tsc = before.tsc;
        ck_assert_mem_eq(&before, &after, sizeof before);
    }
    cpu->ops->free(cpu);
    bm_teardown();
}
END_TEST

/* A loop of arithmetic, interrupted after random numbers of instructions and moved each time, ends with what it ends with in one go. */
START_TEST(moved_computation_is_right)
{
    static const uint8_t code[] = {
        0x48, 0x69, 0xc0, 0x0d, 0x66, 0x19, 0x00, /* imul rax, rax, 0x19660d */
        0x48, 0x05, 0x5f, 0xf3, 0x6e, 0x3c,       /* add rax, 0x3c6ef35f */
        0x48, 0x11, 0xc3,                         /* adc rbx, rax */
        0x66, 0x48, 0x0f, 0x6e, 0xc8,             /* movq xmm1, rax */
        0x66, 0x0f, 0xd4, 0xc1,                   /* paddq xmm0, xmm1 */
        0xff, 0xc9, 0x75, 0xe4,                   /* dec ecx; jnz */
        0xf4,                                     /* hlt */
    };
    bm_setup();
    bm_long();
    bm_code(BM_CODE, code, sizeof code);
    bm_state.gpr[X86_RCX] = 200000;
    bm_state.cr4 |= X86_CR4_OSFXSR;
    X86State start = bm_state;
    bm_run();
    X86State wanted = bm_state;
    ck_assert(wanted.halted && wanted.gpr[X86_RCX] == 0);

    CpuConfig config = { .ram = bm->ram, .cpuid = bm->cpuid, .host = bm->host };
    Cpu *cpu = bt_cpu_ops.create(&config, NULL);
    HandoverSlot slot = { .cpu = &cpu, .config = config };
    cpu->ops->load(cpu, &start);
    unsigned moves = 0;
    for (CpuExitKind exit = CPU_EXIT_KICKED; exit != CPU_EXIT_HALT; moves++) {
        if (moves < 300) /* the engine returns at the next boundary it looks at kicks */
            cpu->ops->kick(cpu);
        exit = cpu->ops->run(cpu).kind;
        ck_assert(exit == CPU_EXIT_KICKED || exit == CPU_EXIT_HALT);
        Handover *handover = handover_new(moves & 1 ? &bt_cpu_ops : &bt_one_cpu_ops, &slot, 1, NULL);
        ck_assert(handover_commit(handover, NULL));
        handover_swap(handover);
        handover_free(handover);
    }
    ck_assert_uint_gt(moves, 300);
    X86State end;
    cpu->ops->save(cpu, &end);
    ck_assert_mem_eq(end.gpr, wanted.gpr, sizeof end.gpr);
    ck_assert_mem_eq(end.xsave + 160, wanted.xsave + 160, 32);
    ck_assert_uint_eq(end.rip, wanted.rip);
    cpu->ops->free(cpu);
    bm_teardown();
}
END_TEST

/* Long mode begins: the engine comes back right behind the instruction, once, and only when asked. */
START_TEST(long_mode_is_an_exit)
{
    static const uint8_t code[] = {
        0x0f, 0x22, 0xc0,       /* mov cr0, eax: paging on */
        0x0f, 0x22, 0xc2,       /* mov cr0, edx: off */
        0x0f, 0x22, 0xc0, 0xf4, /* on again; hlt */
    };
    bm_setup();
    for (unsigned asked = 0; asked < 2; asked++) {
        bm_flat32();
        bm_code(BM_CODE, code, sizeof code);
        bm_state.cr3 = BM_TABLES;
        bm_state.cr4 |= X86_CR4_PAE;
        bm_state.efer = X86_EFER_LME;
        bm_state.gpr[X86_RAX] = bm_state.cr0 | X86_CR0_PG;
        bm_state.gpr[X86_RDX] = bm_state.cr0;
        CpuConfig config = { .ram = bm->ram, .cpuid = bm->cpuid, .host = bm->host, .stops_at_long_mode = asked };
        Cpu *cpu = bt_cpu_ops.create(&config, NULL);
        X86State state;
        cpu->ops->load(cpu, &bm_state);
        for (unsigned i = 0; asked && i < 2; i++) {
            ck_assert_int_eq(cpu->ops->run(cpu).kind, CPU_EXIT_LONG_MODE_ENTRY);
            cpu->ops->save(cpu, &state);
            ck_assert(state.efer & X86_EFER_LMA);
            ck_assert_uint_eq(state.rip, BM_CODE + (i ? 9 : 3));
        }
        ck_assert_int_eq(cpu->ops->run(cpu).kind, CPU_EXIT_HALT);
        cpu->ops->free(cpu);
    }
    bm_teardown();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("handover");
    TCase *fakes = tcase_create("fakes"), *engines = tcase_create("engines");
    tcase_add_checked_fixture(fakes, fakes_setup, fakes_teardown);
    tcase_add_test(fakes, all_move_and_old_ones_end);
    tcase_add_test(fakes, waiting_for_startup_travels);
    tcase_add_test(fakes, refused_creation_leaves_nothing);
    tcase_add_test(fakes, refused_state_leaves_the_old_ones);
    tcase_add_test(fakes, unreadable_state_is_refused);
    suite_add_tcase(suite, fakes);
    tcase_add_loop_test(engines, every_field_survives, 0, 20);
    tcase_add_test(engines, moved_computation_is_right);
    tcase_add_test(engines, long_mode_is_an_exit);
    tcase_set_timeout(engines, 30);
    suite_add_tcase(suite, engines);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
