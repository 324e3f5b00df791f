/*
 * The engine on a real KVM: state in, state out, some instructions, a kick.  Exits with 77 (skipped) where KVM is not usable.  Plain
 * asserts, and no library but GLib: the program also runs inside scripts/kvm-lab.
 */
#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bt/bt.h"
#include "core/cpuid.h"
#include "kvm/cpu-int.h"

#define RAM_SIZE (2u << 20)
#define CODE 0x7000u

static uint64_t apic_base = 0xfee00900, cr8;
static unsigned port_count;
static uint64_t port_value;

static Cpu *self; /* of a vCPU without opaque */

static uint64_t host_port_read(void *opaque, uint16_t port, unsigned size) { return 0x5a; }

static void host_port_write(void *opaque, uint16_t port, unsigned size, uint64_t value)
{
    port_count++;
    port_value = value;
    if (port == 0x99)
        kvm_cpu_ops.kick(opaque ? *(Cpu **)opaque : self);
}

static uint64_t host_mmio_read(void *opaque, Gpa gpa, unsigned size) { return gpa; }
static void host_mmio_write(void *opaque, Gpa gpa, unsigned size, uint64_t value) { }
static int host_irq_acknowledge(void *opaque) { return -1; }

static bool host_msr_read(void *opaque, uint32_t msr, uint64_t *out_value)
{
    *out_value = apic_base;
    return true;
}

static bool host_msr_write(void *opaque, uint32_t msr, uint64_t value)
{
    apic_base = value;
    return true;
}

static uint64_t host_cr8_read(void *opaque) { return cr8; }
static void host_cr8_write(void *opaque, uint64_t value) { cr8 = value; }

static const CpuHost host = { .port_read = host_port_read, .port_write = host_port_write, .mmio_read = host_mmio_read,
                              .mmio_write = host_mmio_write, .irq_acknowledge = host_irq_acknowledge, .apic_msr_read = host_msr_read,
                              .apic_msr_write = host_msr_write, .cr8_read = host_cr8_read, .cr8_write = host_cr8_write };

/* 64-bit mode with values in every field that both sides hold. */
static void state_fill(X86State *state, GRand *rand)
{
    memset(state, 0, sizeof *state);
    for (unsigned i = 0; i < X86_NGPRS; i++)
        state->gpr[i] = (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand);
    state->rip = CODE;
    state->rflags = X86_FLAG_FIXED | X86_FLAG_CF | X86_FLAG_ZF | X86_FLAG_ID | (g_rand_boolean(rand) ? X86_FLAG_IF : 0);
    for (unsigned i = 0; i < X86_NSEGS; i++)
        state->seg[i] = (X86Segment){ .selector = (uint16_t)(0x20 + 8 * i), .limit = UINT32_MAX,
                                      .attr = X86_SEG_G | X86_SEG_DB | X86_SEG_P | X86_SEG_S | X86_SEG_WRITABLE | X86_SEG_ACCESSED };
    state->seg[X86_CS].attr = X86_SEG_G | X86_SEG_L | X86_SEG_P | X86_SEG_S | X86_SEG_CODE | X86_SEG_READABLE | X86_SEG_ACCESSED;
    state->seg[X86_FS].base = 0xffff888000000000 + g_rand_int(rand);
    state->seg[X86_GS].base = 0x00007f0000000000 + g_rand_int(rand);
    state->seg[X86_TR] = (X86Segment){ .selector = 0x40, .attr = X86_SEG_P | 11, .limit = 0x67, .base = 0x3000 };
    state->seg[X86_LDTR] = (X86Segment){ .selector = 0x50, .attr = X86_SEG_P | 2, .limit = 0xfff, .base = 0x4000 };
    state->gdtr = (X86Table){ .base = 0x1000, .limit = 0x7f };
    state->idtr = (X86Table){ .base = 0x2000, .limit = 0xfff };
    state->cr0 = X86_CR0_PE | X86_CR0_MP | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP | X86_CR0_AM | X86_CR0_PG;
    state->cr2 = 0xdeadbeef000;
    state->cr3 = 0x10000;
    state->cr4 = X86_CR4_PAE | X86_CR4_PGE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT;
    state->cr8 = g_rand_int_range(rand, 0, 16);
    state->efer = X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE;
    state->dr[0] = 0x1111;
    state->dr[1] = 0x2222;
    state->dr[2] = 0x3333;
    state->dr[3] = 0x4444;
    state->dr[6] = 0xffff0ff0;
    state->dr[7] = 0x400;
    state->apic_base = 0xfee00900;
    state->sysenter_cs = 0x10;
    state->sysenter_esp = 0xffff888000001000;
    state->sysenter_eip = 0xffffffff81001000;
    state->star = 0x0023001000000000;
    state->lstar = 0xffffffff81002000;
    state->cstar = 0xffffffff81003000;
    state->sfmask = 0x47700;
    state->kernel_gs_base = 0xffff888000000000 + g_rand_int(rand);
    state->tsc_aux = 7;
    state->pat = 0x0407050600070106;
    state->misc_enable = 1;
    state->mtrr_deftype = 0xc06;
    state->xcr0 = 1;
    state->xsave[0] = 0x7f;
    state->xsave[1] = 0x03;
    state->xsave[24] = 0xa0;
    state->xsave[25] = 0x1f;
    for (unsigned i = 160; i < 416; i++) /* XMM0–15 */
        state->xsave[i] = (uint8_t)g_rand_int(rand);
    state->xsave[512] = 3;
    state->nmi_masked = g_rand_boolean(rand);
    state->interrupt_shadow = g_rand_boolean(rand);
    state->halted = g_rand_boolean(rand);
    if (g_rand_boolean(rand)) {
        state->exception_pending = state->exception_has_code = true;
        state->exception_vector = X86_EXC_PF;
        state->exception_code = 2;
    }
}

static unsigned compare(const X86State *a, const X86State *b)
{
    unsigned differences = 0;
#define SAME(field)                                               \
    if (memcmp(&a->field, &b->field, sizeof a->field) != 0) {     \
        printf("%s differs: %#llx, then %#llx\n", #field, *(const unsigned long long *)&a->field, *(const unsigned long long *)&b->field); \
        differences++;                                            \
    }
    SAME(gpr) SAME(rip) SAME(rflags) SAME(cr0) SAME(cr2) SAME(cr3) SAME(cr4) SAME(cr8) SAME(efer) SAME(dr) SAME(apic_base)
    SAME(xcr0) SAME(gdtr.base) SAME(gdtr.limit) SAME(idtr.base) SAME(idtr.limit) SAME(exception_pending) SAME(exception_vector)
    SAME(exception_has_code) SAME(exception_code) SAME(nmi_pending) SAME(nmi_masked) SAME(interrupt_shadow) SAME(halted)
#define SAME_MSR(name, number) SAME(name)
    X86_MSR_ROWS(SAME_MSR)
    for (unsigned i = 0; i < X86_NSEGS; i++) {
        SAME(seg[i].selector) SAME(seg[i].attr) SAME(seg[i].limit) SAME(seg[i].base)
    }
#undef SAME
    if (memcmp(a->xsave, b->xsave, 28) != 0 || memcmp(a->xsave + 160, b->xsave + 160, 256) != 0) {
        printf("xsave differs\n");
        differences++;
    }
    return differences;
}

static void paging_write(Ram *ram)
{
    uint64_t *table = ram_slice(ram, 0x10000, 3 * PAGE_SIZE);
    table[0] = 0x11003;
    table[512] = 0x12003;
    table[1024] = 0x83;
}

static void check(bool is_ok, const char *what)
{
    printf("%s: %s\n", what, is_ok ? "ok" : "WRONG");
    if (!is_ok)
        _exit(1);
}

/* bt → canonical → KVM → canonical → bt → canonical. */
static unsigned round_trip_bt(Cpu *kvm, Ram *ram, const CpuidModel *model, GRand *rand)
{
    Cpu *bt = bt_cpu_ops.create(&(CpuConfig){ .ram = ram, .host = &host, .host_opaque = &kvm, .cpuid = model }, NULL);
    if (!bt) { /* a host without XSAVE */
        printf("bt does not run here\n");
        return 0;
    }
    X86State *a = g_new0(X86State, 1), *b = g_new0(X86State, 1), *c = g_new0(X86State, 1);
    unsigned differences = 0;
    for (unsigned i = 0; i < 40; i++) {
        state_fill(a, rand);
        bt_cpu_ops.load(bt, a);
        bt_cpu_ops.save(bt, b);
        differences += compare(a, b);
        kvm_cpu_ops.load(kvm, b);
        kvm_cpu_ops.save(kvm, c);
        differences += compare(b, c);
        bt_cpu_ops.load(bt, c);
        bt_cpu_ops.save(bt, b);
        differences += compare(c, b);
    }
    bt_cpu_ops.free(bt);
    g_free(a);
    g_free(b);
    g_free(c);
    return differences;
}

static uint32_t word(const CpuApic *apic, unsigned offset)
{
    uint32_t value;
    memcpy(&value, apic->page + offset, sizeof value);
    return value;
}

/* The state and the local APIC of a vCPU that has one, a message to it, and the pages that its guest writes. */
static void check_apic(Ram *ram, const CpuidModel *model, GRand *rand)
{
    g_autoptr(GError) error = NULL;
    if (!kvm_has_apic()) {
        printf("no local APICs in this kernel\n");
        return;
    }
    CpuConfig config = { .ram = ram, .host = &host, .cpuid = model, .wants_apic = true };
    Cpu *cpu = kvm_cpu_ops.create(&config, &error);
    check(cpu && cpu->has_apic, error ? error->message : "create with local APIC");
    config.index = 1;
    Cpu *second = kvm_cpu_ops.create(&config, &error);
    check(second && ((KvmCpu *)second)->vm == ((KvmCpu *)cpu)->vm, error ? error->message : "two vCPUs in one KVM machine");
    X86State *a = g_new0(X86State, 1), *b = g_new0(X86State, 1);
    CpuApic *x = g_new0(CpuApic, 1), *y = g_new0(CpuApic, 1);
    unsigned differences = 0;
    for (unsigned i = 0; i < 40; i++) {
        state_fill(a, rand);
        kvm_cpu_ops.load(cpu, a);
        kvm_cpu_ops.save(cpu, b);
        differences += compare(a, b);
    }
    check(differences == 0, "state there and back with local APIC, 40 times");

    kvm_cpu_ops.apic_get(cpu, x);
    x->page[0xf1] = 1;     /* SVR: enabled by software */
    x->page[0x80] = 0x20;  /* TPR */
    x->page[0x213] = 0x02; /* IRR: vector 0x39 */
    x->page[0x320] = 0xec; /* the timer: vector, and stopped */
    x->page[0x322] = 0x04; /* by TSC deadline, far away */
    x->tsc_deadline = UINT64_C(1) << 62;
    kvm_cpu_ops.apic_set(cpu, x);
    kvm_cpu_ops.apic_get(cpu, y);
    check(y->base == x->base && y->tsc_deadline == x->tsc_deadline && word(y, 0x80) == 0x20 && word(y, 0x210) == word(x, 0x210) &&
          word(y, 0x320) == 0x400ec, "local APIC there and back");
    check(kvm_cpu_ops.msi(cpu, 0xfee00000, 0x4045), "a message is taken");
    kvm_cpu_ops.apic_get(cpu, y);
    check(word(y, 0x220) == 1u << 5, "and it waits");

    /* mov %rax,(%rbx); out %al,$0x99; hlt */
    static const uint8_t code[] = { 0x48, 0x89, 0x03, 0xe6, 0x99, 0xf4 };
    memcpy(ram_slice(ram, CODE, sizeof code), code, sizeof code);
    uint64_t bits[RAM_SIZE / PAGE_SIZE / 64 + 1] = { 0 };
    check(kvm_dirty_log(cpu, true, &error) && kvm_dirty_take(cpu, 0, bits, &error), error ? error->message : "dirty log");
    state_fill(a, rand);
    a->exception_pending = a->halted = a->interrupt_shadow = false;
    a->rflags = X86_FLAG_FIXED;
    a->gpr[X86_RBX] = 0x23000;
    port_count = 0;
    self = cpu;
    kvm_cpu_ops.load(cpu, a);
    CpuExit exit = kvm_cpu_ops.run(cpu);
    check(exit.kind == CPU_EXIT_KICKED && port_count == 1, exit.reason ? exit.reason : "runs with local APIC");
    memset(bits, 0, sizeof bits);
    check(kvm_dirty_take(cpu, 0, bits, &error) && bits[0] >> 0x23 & 1, error ? error->message : "the written page is in the dirty log");
    check(kvm_dirty_take(cpu, 0, bits, &error) && !(bits[0] >> 0x23 & 1) && kvm_dirty_log(cpu, false, &error), "and then no more");
    kvm_cpu_ops.free(second);
    kvm_cpu_ops.free(cpu);
    g_free(a);
    g_free(b);
    g_free(x);
    g_free(y);
}

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0); /* a crash shows what came before it */
    g_autoptr(GError) error = NULL;
    if (!kvm_require(KVM_MMU_ANY, &error)) {
        printf("skipped: %s\n", error->message);
        return 77;
    }
    g_autoptr(Ram) ram = ram_new(RAM_SIZE, &error);
    CpuidModel *model = g_new0(CpuidModel, 1);
    cpuid_model_init(model);
    Cpu *cpu = NULL;
    cpu = kvm_cpu_ops.create(&(CpuConfig){ .ram = ram, .host = &host, .host_opaque = &cpu, .cpuid = model }, &error);
    check(cpu != NULL, error ? error->message : "create");
    GRand *rand = g_rand_new_with_seed(1);
    X86State *a = g_new0(X86State, 1), *b = g_new0(X86State, 1);

    unsigned differences = 0;
    for (unsigned i = 0; i < 40; i++) {
        state_fill(a, rand);
        kvm_cpu_ops.load(cpu, a);
        kvm_cpu_ops.save(cpu, b);
        differences += compare(a, b);
    }
    check(differences == 0, "state there and back, 40 times");
    differences = round_trip_bt(cpu, ram, model, rand);
    check(differences == 0, "state from bt to kvm to bt, 40 times");

    /* mov $0x1234,%ax; out %eax,$0x98; add $5,%rbx; out %al,$0x99; inc %rcx; hlt: stops after the second OUT, whole. */
    static const uint8_t code[] = { 0x66, 0xb8, 0x34, 0x12, 0xe7, 0x98, 0x48, 0x83, 0xc3, 5, 0xe6, 0x99, 0x48, 0xff, 0xc1, 0xf4 };
    memcpy(ram_slice(ram, CODE, sizeof code), code, sizeof code);
    paging_write(ram);
    state_fill(a, rand);
    a->exception_pending = a->halted = a->interrupt_shadow = a->nmi_masked = false;
    a->gpr[X86_RAX] = 0x77770000;
    a->gpr[X86_RBX] = 1;
    a->gpr[X86_RCX] = 100;
    kvm_cpu_ops.load(cpu, a);
    CpuExit exit = kvm_cpu_ops.run(cpu);
    check(exit.kind == CPU_EXIT_KICKED, exit.reason ? exit.reason : "a kick from inside an access");
    kvm_cpu_ops.save(cpu, b);
    check(port_count == 2 && b->rip == CODE + 12 && b->gpr[X86_RBX] == 6 && b->gpr[X86_RCX] == 100, "the instruction is finished");
    kvm_cpu_ops.load(cpu, b);
    exit = kvm_cpu_ops.run(cpu);
    kvm_cpu_ops.save(cpu, b);
    check(exit.kind == CPU_EXIT_HALT && b->halted && b->gpr[X86_RCX] == 101, "and the next one follows");

    /* A state that no CPU can be in is a sentence, and the next good one works again. */
    state_fill(a, rand);
    a->cr4 = 0; /* long mode without PAE */
    kvm_cpu_ops.load(cpu, a);
    exit = kvm_cpu_ops.run(cpu);
    check(exit.kind == CPU_EXIT_ERROR && strstr(exit.reason, "KVM_SET_SREGS2"), "a state that KVM refuses");
    state_fill(a, rand);
    kvm_cpu_ops.load(cpu, a);
    kvm_cpu_ops.save(cpu, b);
    check(compare(a, b) == 0, "a good state after it");

    kvm_cpu_ops.free(cpu);
    check_apic(ram, model, rand);
    g_free(a);
    g_free(b);
    g_free(model);
    g_rand_free(rand);
    return 0;
}
