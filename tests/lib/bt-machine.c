#include "bt-machine.h"

#include <stdlib.h>
#include <sys/mman.h>

#define PT (BM_TABLES + 0x3000) /* four tables */
#define OTHER_PD (BM_OTHER_TABLES + 0x1000)
#define OTHER_PT 0x3f0000u
#define OTHER_PDPT 0x3f1000u
#define GDT 0xa000u
#define IDT 0xb000u
#define TSS 0xc000u
#define HANDLERS 0xd000u
#define HANDLER_STACK 0xf000u
#define CANARY 0xa5
#define CANARY_SIZE ((size_t)64 << 10) /* on each side of RAM; bm_teardown() looks whether it is whole */
#define DEVICE_GPA 0xf0000000u

BtCpu *bm;
uint8_t *bm_ram;
X86State bm_state;
struct BmHost bm_host;

static Ram *ram;
static CpuidModel model = {.xcr0_mask = 7};

static void put64(Gpa at, uint64_t value) { memcpy(bm_ram + at, &value, 8); }
static uint64_t get64(Gpa at)
{
    uint64_t value;
    memcpy(&value, bm_ram + at, 8);
    return value;
}

static uint64_t port_read(void *opaque, uint16_t port, unsigned size) { return 0; }
static void port_write(void *opaque, uint16_t port, unsigned size, uint64_t value) { }

static uint64_t mmio_read(void *opaque, Gpa gpa, unsigned size)
{
    bm_host.ndevice++;
    if (bm_host.on_device)
        bm_host.on_device();
    return bm_host.device_answer;
}

static void mmio_write(void *opaque, Gpa gpa, unsigned size, uint64_t value)
{
    bm_host.ndevice++;
    if (bm_host.on_device)
        bm_host.on_device();
}

static int irq_acknowledge(void *opaque)
{
    int vector = bm_host.vector;
    bm_host.vector = -1;
    bt_cpu_ops.set_irq(&bm->base, false);
    return vector;
}

static bool msr_read(void *opaque, uint32_t msr, uint64_t *out_value) { return false; }
static bool msr_write(void *opaque, uint32_t msr, uint64_t value) { return false; }
static uint64_t cr8_read(void *opaque) { return 0; }
static void cr8_write(void *opaque, uint64_t value) { }

static const CpuHost host = {port_read, port_write, mmio_read, mmio_write, irq_acknowledge, msr_read, msr_write, cr8_read, cr8_write};

static void put_tables(void)
{
    put64(BM_TABLES, (BM_TABLES + 0x1000) | 3);
    put64(BM_TABLES + 0x1000, (BM_TABLES + 0x2000) | 3);
    for (unsigned i = 0; i < 4; i++)
        put64(BM_TABLES + 0x2000 + 8 * i, (PT + i * 0x1000) | 3);
    for (unsigned i = 0; i < BM_RAM_SIZE / PAGE_SIZE; i++)
        put64(PT + 8 * i, (uint64_t)i * PAGE_SIZE | 3);
    *bm_pte(BM_DEVICE) = DEVICE_GPA | 3;
    put64(GDT + BM_SEL_CODE64, 0x00af9b000000ffff);
    put64(GDT + BM_SEL_DATA, 0x00cf93000000ffff);
    put64(GDT + BM_SEL_CODE32, 0x00cf9b000000ffff);
    put64(TSS + 0x24, HANDLER_STACK); /* IST1 */
    for (unsigned v = 0; v < 256; v++) {
        put64(IDT + 16 * v, (HANDLERS + 16 * v) | BM_SEL_CODE64 << 16 | 1ull << 32 | 0x8eull << 40);
        put64(IDT + 16 * v + 8, 0);
        bm_ram[HANDLERS + 16 * v] = 0xf4;
    }
}

void bm_setup(void)
{
    uint8_t *area = mmap(NULL, BM_RAM_SIZE + 2 * CANARY_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    bm_ram = area + CANARY_SIZE;
    memset(area, CANARY, CANARY_SIZE);
    memset(bm_ram + BM_RAM_SIZE, CANARY, CANARY_SIZE);
    ram = ram_new_array(bm_ram, BM_RAM_SIZE);
    put_tables();
    bm_host = (struct BmHost){.vector = -1};
    CpuConfig config = {.ram = ram, .host = &host, .cpuid = &model};
    GError *error = NULL;
    bm = (BtCpu *)bt_cpu_ops.create(&config, &error);
    if (!bm)
        g_error("%s", error->message);
}

BtCpu *bm_add_cpu(void)
{
    CpuConfig config = {.ram = ram, .index = 1, .host = &host, .cpuid = &model};
    GError *error = NULL;
    Cpu *cpu = bt_cpu_ops.create(&config, &error);
    if (!cpu)
        g_error("%s", error->message);
    return (BtCpu *)cpu;
}

void bm_teardown(void)
{
    bt_cpu_ops.free(&bm->base);
    ram_free(ram);
    for (size_t i = 0; i < CANARY_SIZE; i++)
        if (bm_ram[-1 - (ptrdiff_t)i] != CANARY || bm_ram[BM_RAM_SIZE + i] != CANARY)
            g_error("the guest wrote beside its RAM, %zu bytes away", i);
    munmap(bm_ram - CANARY_SIZE, BM_RAM_SIZE + 2 * CANARY_SIZE);
}

static X86Segment segment(unsigned selector, uint32_t attr)
{
    return (X86Segment){.selector = (uint16_t)selector, .attr = attr | X86_SEG_S | X86_SEG_P | X86_SEG_G, .limit = 0xffffffff};
}

static void state_common(void)
{
    memset(&bm_state, 0, sizeof bm_state);
    bm_state.rip = BM_CODE;
    bm_state.rflags = X86_FLAG_FIXED;
    bm_state.gpr[X86_RSP] = BM_STACK;
    bm_state.gpr[X86_RBX] = BM_DATA;
    for (unsigned i = 0; i <= X86_GS; i++)
        bm_state.seg[i] = segment(BM_SEL_DATA, X86_SEG_DB | 3);
    bm_state.seg[X86_TR] = (X86Segment){.selector = 0x40, .attr = X86_SEG_P | 0xb, .base = TSS, .limit = 0x67};
    bm_state.seg[X86_LDTR] = (X86Segment){.attr = X86_SEG_UNUSABLE};
    bm_state.gdtr = (X86Table){.base = GDT, .limit = 0x1f};
    bm_state.idtr = (X86Table){.base = IDT, .limit = 256 * 16 - 1};
    bm_state.cr0 = X86_CR0_PE | X86_CR0_MP | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP;
    bm_state.cr4 = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE | X86_CR4_SMAP;
    bm_state.dr[6] = 0xffff0ff0;
    bm_state.dr[7] = 0x400;
    bm_state.pat = 0x0007040600070406;
    bm_state.xcr0 = 7;
    uint32_t mxcsr = 0x1f80;
    memcpy(bm_state.xsave, "\x7f\x03", 2);
    memcpy(bm_state.xsave + 24, &mxcsr, 4);
}

void bm_long(void)
{
    state_common();
    bm_state.seg[X86_CS] = segment(BM_SEL_CODE64, X86_SEG_L | 0xb);
    bm_state.cr0 |= X86_CR0_PG;
    bm_state.cr3 = BM_TABLES;
    bm_state.efer = X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE;
}

void bm_flat32(void)
{
    state_common();
    bm_state.seg[X86_CS] = segment(BM_SEL_CODE32, X86_SEG_DB | 0xb);
}

void bm_code(Gpa at, const void *bytes, size_t n) { memcpy(bm_ram + at, bytes, n); }

uint64_t *bm_pte(Gva gva) { return (uint64_t *)(void *)(bm_ram + PT + 8 * (gva >> PAGE_SHIFT)); }

void bm_other_space(Gva gva, Gpa gpa)
{
    put64(BM_OTHER_TABLES, OTHER_PDPT | 3);
    put64(OTHER_PDPT, OTHER_PD | 3);
    memcpy(bm_ram + OTHER_PD, bm_ram + BM_TABLES + 0x2000, PAGE_SIZE);
    uint64_t slot = OTHER_PD + 8 * (gva >> 21);
    memcpy(bm_ram + OTHER_PT, bm_ram + page_of(get64(slot)), PAGE_SIZE);
    put64(slot, OTHER_PT | 3);
    put64(OTHER_PT + 8 * (gva >> PAGE_SHIFT & 511), gpa | 3);
}

BmStop bm_run(void)
{
    bt_cpu_ops.load(&bm->base, &bm_state);
    CpuExit exit = bt_cpu_ops.run(&bm->base);
    bt_cpu_ops.save(&bm->base, &bm_state);
    BmStop stop = {.exit = exit.kind, .vector = -1, .rip = bm_state.rip, .rflags = bm_state.rflags, .rsp = bm_state.gpr[X86_RSP]};
    uint64_t at = bm_state.rip - HANDLERS;
    if (exit.kind != CPU_EXIT_HALT || at >= 256 * 16)
        return stop;
    stop.vector = (int)(at / 16);
    Gpa frame = bm_state.gpr[X86_RSP];
    if (frame == HANDLER_STACK - 48) {
        stop.code = (uint32_t)get64(frame);
        frame += 8;
    }
    stop.rip = get64(frame);
    stop.rflags = get64(frame + 16);
    stop.rsp = get64(frame + 24);
    return stop;
}
