#include "exec-fixture.h"

#include <setjmp.h>
#include <stdlib.h>
#include <sys/mman.h>

#define RAM_SIZE 0x400000u

BtCpu *fx;
uint8_t *fx_ram;
struct FxHost fx_host;
unsigned fx_code_writes;

static Ram *ram;
static CodeMap *code_map;
static sigjmp_buf escape;

void bt_code_written(BtCpu *cpu, Gpa gpa, unsigned size)
{
    code_map_set(code_map, gpa, false);
    fx_code_writes++;
}

static void __attribute__((noreturn)) unwind(BtCpu *cpu) { siglongjmp(escape, 1); }

static uint64_t port_read(void *opaque, uint16_t port, unsigned size)
{
    fx_host.nport_reads++;
    fx_host.port = port;
    return fx_host.port_answer;
}

static void port_write(void *opaque, uint16_t port, unsigned size, uint64_t value)
{
    fx_host.nport_writes++;
    fx_host.port = port;
    fx_host.value = value;
}

static uint64_t mmio_read(void *opaque, Gpa gpa, unsigned size) { return 0x1122334455667788u >> (8 * (gpa & 7)); }

static void mmio_write(void *opaque, Gpa gpa, unsigned size, uint64_t value)
{
    fx_host.port = gpa;
    fx_host.value = value;
}

static bool apic_msr_read(void *opaque, uint32_t msr, uint64_t *out_value)
{
    *out_value = 0xfee00900;
    return msr == X86_MSR_APIC_BASE;
}

static bool apic_msr_write(void *opaque, uint32_t msr, uint64_t value) { return msr == X86_MSR_APIC_BASE; }
static uint64_t cr8_read(void *opaque) { return 5; }
static void cr8_write(void *opaque, uint64_t value) { fx_host.value = value; }
static int irq_acknowledge(void *opaque) { return -1; }

static const CpuHost host = {port_read, port_write, mmio_read, mmio_write, irq_acknowledge, apic_msr_read, apic_msr_write, cr8_read,
                             cr8_write};

void fx_setup(void)
{
    fx_ram = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ram = ram_new_array(fx_ram, RAM_SIZE);
    code_map = code_map_new(ram);
    fx = aligned_alloc(64, (sizeof *fx + 63) & ~(size_t)63);
    memset(fx, 0, sizeof *fx);
    memset(&fx_host, 0, sizeof fx_host);
    fx_code_writes = 0;
    fx->ram = ram;
    fx->host = &host;
    fx->unwind = unwind;
    mmu_init(&fx->mmu, ram, code_map);
    bt_reset(fx);
}

void fx_teardown(void)
{
    Gva gva;
    ck_assert_uint_eq(mmu_audit(&fx->mmu, &gva), 0);
    code_map_free(code_map);
    ram_free(ram);
    munmap(fx_ram, RAM_SIZE);
    free(fx);
}

int fx_run(void (*fn)(BtCpu *, const Insn *), Insn insn)
{
    fx->exception_pending = false;
    fx->next_rip = fx->rip + insn.length;
    if (sigsetjmp(escape, 0))
        return fx->exception.vector;
    fn(fx, &insn);
    fx->rip = fx->next_rip;
    if (fx->mode_dirty)
        bt_update_mode(fx);
    return FX_DONE;
}

int fx_call(void (*fn)(void *), void *arg)
{
    fx->exception_pending = false;
    if (sigsetjmp(escape, 0))
        return fx->exception.vector;
    fn(arg);
    return FX_DONE;
}

void fx_deliver_pending(void)
{
    sigsetjmp(escape, 0);
    while (!fx->shutdown && bt_deliver_pending(fx))
        ;
    if (fx->mode_dirty)
        bt_update_mode(fx);
}

uint64_t fx_get(Gpa gpa, unsigned size) { return host_load(fx_ram + gpa, size); }
void fx_put(Gpa gpa, unsigned size, uint64_t value) { host_store(fx_ram + gpa, size, value); }

uint64_t fx_descriptor(uint32_t base, uint32_t limit, uint32_t attr)
{
    if (limit > 0xfffff) {
        limit >>= 12;
        attr |= X86_SEG_G;
    }
    return (limit & 0xffff) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)attr << 40 | (uint64_t)(limit >> 16 & 15) << 48 |
           (uint64_t)(base >> 24) << 56;
}

void fx_gate32(unsigned vector, unsigned selector, uint32_t offset, unsigned type, unsigned dpl)
{
    fx_put(IDT + vector * 8, 8,
           (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)(0x80 | dpl << 5 | type) << 40 | (uint64_t)(offset >> 16) << 48);
}

void fx_gate64(unsigned vector, unsigned selector, uint64_t offset, unsigned type, unsigned dpl, unsigned ist)
{
    fx_put(IDT + vector * 16, 8,
           (offset & 0xffff) | (uint64_t)selector << 16 | (uint64_t)ist << 32 | (uint64_t)(0x80 | dpl << 5 | type) << 40 |
               (offset >> 16 & 0xffff) << 48);
    fx_put(IDT + vector * 16 + 8, 8, offset >> 32);
}

void fx_segment(unsigned seg, unsigned selector)
{
    uint64_t raw = fx_get(GDT + (selector & 0xfff8), 8);
    fx->seg[seg] = (X86Segment){.selector = (uint16_t)selector, .attr = descriptor_attr(raw), .limit = descriptor_limit(raw),
                                .base = descriptor_base(raw)};
    fx->mode_dirty = true;
}

Insn fx_insn(uint8_t opcode)
{
    uint8_t code_size = fx->mode & MODE_CODE64 ? 8 : fx->mode & MODE_CODE32 ? 4 : 2;
    return (Insn){.opcode = opcode, .length = 2, .code_size = code_size, .opsize = code_size == 8 ? 4 : code_size, .addrsize = code_size,
                  .base = INSN_REG_NONE, .index = INSN_REG_NONE, .segment = X86_DS, .encoding = ENC_LEGACY};
}

Insn fx_insn_mem(uint8_t opcode, unsigned reg, Gva gva)
{
    Insn insn = fx_insn(opcode);
    insn.has_modrm = insn.has_mem = true;
    insn.reg = (uint8_t)reg;
    insn.disp = (int32_t)gva;
    return insn;
}

Insn fx_insn_reg(uint8_t opcode, unsigned reg, unsigned rm)
{
    Insn insn = fx_insn(opcode);
    insn.has_modrm = true;
    insn.mod = 3;
    insn.reg = (uint8_t)reg;
    insn.rm = (uint8_t)rm;
    return insn;
}

void fx_real(void)
{
    for (unsigned i = X86_ES; i <= X86_GS; i++)
        fx->seg[i] = (X86Segment){.limit = 0xffff, .attr = i == X86_CS ? 0x9b : 0x93};
    fx->idtr = (X86Table){.base = 0, .limit = 0x3ff};
    fx->rip = CODE;
    fx->gpr[X86_RSP] = STACK0;
    bt_update_mode(fx);
}

static void put_tables(void)
{
    const uint32_t code = 0x9b | X86_SEG_DB, data = 0x93 | X86_SEG_DB, user = 3u << X86_SEG_DPL_SHIFT;
    const struct {
        unsigned selector;
        uint64_t raw;
    } rows[] = {
        {SEL_CODE0, fx_descriptor(0, 0xffffffff, code)},
        {SEL_DATA0, fx_descriptor(0, 0xffffffff, data)},
        {SEL_CODE3, fx_descriptor(0, 0xffffffff, code | user)},
        {SEL_DATA3, fx_descriptor(0, 0xffffffff, data | user)},
        {SEL_TSS, fx_descriptor(TSS, 0x3ff, 0x8b)},
        {SEL_TSS_B, fx_descriptor(TSS_B, 0x67, 0x89)},
        {SEL_LDT, fx_descriptor(LDT, 0xff, 0x82)},
        {SEL_CODE64_0, fx_descriptor(0, 0xffffffff, 0x9b | X86_SEG_L)},
        {SEL_CODE64_3, fx_descriptor(0, 0xffffffff, 0x9b | X86_SEG_L | user)},
        {SEL_CONFORMING, fx_descriptor(0, 0xffffffff, 0x9f | X86_SEG_DB)},
        {SEL_READ_ONLY, fx_descriptor(0, 0xffffffff, 0x91 | X86_SEG_DB | user)},
        {SEL_ABSENT, fx_descriptor(0, 0xffffffff, 0x13 | X86_SEG_DB | user)},
        {SEL_EXECUTE_ONLY, fx_descriptor(0, 0xffffffff, 0x99 | X86_SEG_DB | user)},
        {SEL_DOWN, fx_descriptor(0, 0xfff, 0x97 | X86_SEG_DB | user)},
        {SEL_CODE16, fx_descriptor(0, 0xffff, 0x9b)},
        {SEL_TASK_GATE, (uint64_t)SEL_TSS_B << 16 | (uint64_t)0x85 << 40},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++)
        fx_put(GDT + rows[i].selector, 8, rows[i].raw);
    fx->gdtr = (X86Table){.base = GDT, .limit = SEL_END - 1};
    fx->idtr = (X86Table){.base = IDT, .limit = 0xfff};
    fx_segment(X86_TR, SEL_TSS);
    fx->rip = CODE;
    fx->gpr[X86_RSP] = STACK0 - 0x100;
}

static void data_segments(unsigned selector)
{
    static const uint8_t data[] = {X86_ES, X86_SS, X86_DS, X86_FS, X86_GS};
    for (unsigned i = 0; i < sizeof data; i++)
        fx_segment(data[i], selector);
}

void fx_protected(void)
{
    put_tables();
    mmu_set_paging(&fx->mmu, X86_CR0_PE | X86_CR0_ET, 0, 0);
    fx_segment(X86_CS, SEL_CODE0);
    data_segments(SEL_DATA0);
    fx_put(TSS + 4, 4, STACK0);
    fx_put(TSS + 8, 4, SEL_DATA0);
    fx->cpl = 0;
    bt_update_mode(fx);
}

void fx_user(void)
{
    fx_protected();
    fx_segment(X86_CS, SEL_CODE3 | 3);
    data_segments(SEL_DATA3 | 3);
    fx->gpr[X86_RSP] = STACK3;
    fx->cpl = 3;
    bt_update_mode(fx);
}

void fx_long(void)
{
    put_tables();
    fx_put(TABLES, 8, (TABLES + 0x1000) | 7);
    fx_put(TABLES + 0x1000, 8, (TABLES + 0x2000) | 7);
    fx_put(TABLES + 0x2000, 8, (TABLES + 0x3000) | 7);
    for (unsigned i = 0; i < 512; i++)
        fx_put(TABLES + 0x3000 + i * 8, 8, (uint64_t)i << 12 | 7);
    mmu_set_cr3(&fx->mmu, TABLES);
    mmu_set_paging(&fx->mmu, X86_CR0_PE | X86_CR0_ET | X86_CR0_PG | X86_CR0_WP, X86_CR4_PAE,
                   X86_EFER_LME | X86_EFER_LMA | X86_EFER_SCE | X86_EFER_NXE);
    fx_segment(X86_CS, SEL_CODE64_0);
    data_segments(SEL_DATA0);
    fx_put(TSS + 4, 8, STACK0);
    fx_put(TSS + 36, 8, STACK_IST);
    fx->cpl = 0;
    bt_update_mode(fx);
}

void fx_long_user(void)
{
    fx_long();
    fx_segment(X86_CS, SEL_CODE64_3 | 3);
    data_segments(SEL_DATA3 | 3);
    fx->gpr[X86_RSP] = STACK3;
    fx->cpl = 3;
    bt_update_mode(fx);
}

void fx_v86(void)
{
    fx_protected();
    bt_set_flags(fx, X86_FLAG_VM | X86_FLAG_IOPL | X86_FLAG_IF);
    for (unsigned i = X86_ES; i <= X86_GS; i++)
        fx->seg[i] = (X86Segment){.selector = 0x100, .base = 0x1000, .limit = 0xffff, .attr = 0xf3};
    fx->gpr[X86_RSP] = STACK3 - 0x1000;
    fx->rip = CODE - 0x1000;
    bt_update_mode(fx);
}

void fx_page(Gva gva, uint64_t flags)
{
    fx_put(TABLES + 0x3000 + (gva >> 12) * 8, 8, page_of(gva) | flags);
    mmu_flush(&fx->mmu, true);
}

int fx_main(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int nfailed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return nfailed != 0;
}
