/* The translator's side: a BtCpu in long mode at CPL 3, with the window and the code at the same linear addresses as natively.  Every
 * exception goes through the IDT to a HLT of its own, on an IST stack. */
#include "oracle.h"

#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "bt/bt.h"
#include "bt/cache.h"
#include "bt/dump.h"

/* Guest physical layout. */
enum {
    PA_PML4 = 0x1000, PA_PDPT = 0x2000, PA_PD = 0x3000, PA_PT_WINDOW = 0x4000, PA_PT_CODE = 0x5000,
    PA_PDPT_HIGH = 0x6000, PA_PD_HIGH = 0x7000, PA_PT_HIGH = 0x8000,
    PA_SYSTEM = 0x10000, /* GDT, TSS, IDT; handlers; IST stack: three pages */
    PA_WINDOW = 0x20000, PA_CODE = 0x100000, PA_END = 0x200000,
};
#define VA_SYSTEM 0xffff800000000000u
#define AT_TSS      0x100u
#define AT_IDT      0x400u
#define AT_HANDLERS 0x1000u
#define AT_STACK    0x3000u /* its top */

static uint8_t *ram_bytes;
static Cpu *cpu;

static void put64(uint64_t pa, uint64_t value) { memcpy(ram_bytes + pa, &value, 8); }
static unsigned window_frame(unsigned page) { return PA_WINDOW + (WINDOW_PAGES - 1 - page) * 4096; } /* not in linear order */

static uint64_t host_zero(void *opaque, uint16_t port, unsigned size) { return 0; }
static void host_ignore(void *opaque, uint16_t port, unsigned size, uint64_t value) { }
static uint64_t mmio_zero(void *opaque, Gpa gpa, unsigned size) { return 0; }
static void mmio_ignore(void *opaque, Gpa gpa, unsigned size, uint64_t value) { }
static int no_irq(void *opaque) { return -1; }
static bool no_msr_read(void *opaque, uint32_t msr, uint64_t *out_value) { return false; }
static bool no_msr_write(void *opaque, uint32_t msr, uint64_t value) { return false; }
static uint64_t cr8_zero(void *opaque) { return 0; }
static void cr8_ignore(void *opaque, uint64_t value) { }

static const CpuHost host = {host_zero, host_ignore, mmio_zero, mmio_ignore, no_irq, no_msr_read, no_msr_write, cr8_zero, cr8_ignore};
static CpuidModel model = {.xcr0_mask = 7};

static unsigned place[8];

static void build_tables(void)
{
    enum { P = 1, RW = 2, US = 4 };
    put64(PA_PML4, PA_PDPT | P | RW | US);
    put64(PA_PML4 + 256 * 8, PA_PDPT_HIGH | P | RW);
    put64(PA_PDPT, PA_PD | P | RW | US);
    put64(PA_PD + (WINDOW >> 21) * 8, PA_PT_WINDOW | P | RW | US);
    put64(PA_PD + (CODE >> 21) * 8, PA_PT_CODE | P | RW | US);
    put64(PA_PDPT_HIGH, PA_PD_HIGH | P | RW);
    put64(PA_PD_HIGH, PA_PT_HIGH | P | RW);
    for (unsigned i = 0; i < WINDOW_PAGES; i++)
        if (i != WINDOW_HOLE)
            put64(PA_PT_WINDOW + 8 * i, window_frame(i) | P | US | (i == WINDOW_RO ? 0 : RW) | 1ull << 63);
    for (unsigned i = 0; i < CODE_SIZE / 4096; i++)
        put64(PA_PT_CODE + 8 * i, (PA_CODE + i * 4096) | P | US);
    for (unsigned i = 0; i < 3; i++)
        put64(PA_PT_HIGH + 8 * i, (PA_SYSTEM + i * 4096) | P | RW);

    put64(PA_SYSTEM + 0x10, 0x00af9b000000ffff); /* kernel code */
    put64(PA_SYSTEM + 0x18, 0x00cf93000000ffff);
    put64(PA_SYSTEM + 0x28, 0x00cff3000000ffff); /* user data, user code */
    put64(PA_SYSTEM + 0x30, 0x00affb000000ffff);
    uint64_t tss = VA_SYSTEM + AT_TSS;
    put64(PA_SYSTEM + 0x40, 0x67 | (tss & 0xffffff) << 16 | 0x8bull << 40 | (tss >> 24 & 0xff) << 56);
    put64(PA_SYSTEM + 0x48, tss >> 32);
    uint64_t top = VA_SYSTEM + AT_STACK;
    memcpy(ram_bytes + PA_SYSTEM + AT_TSS + 4, &top, 8);    /* RSP0 */
    memcpy(ram_bytes + PA_SYSTEM + AT_TSS + 0x24, &top, 8); /* IST1 */
    put64(PA_SYSTEM + AT_TSS + 0x60, 0x68ull << 48);        /* no I/O bitmap */
    for (unsigned v = 0; v < 32; v++) {
        uint64_t handler = VA_SYSTEM + AT_HANDLERS + 16 * v;
        put64(PA_SYSTEM + AT_IDT + 16 * v, (handler & 0xffff) | 0x10 << 16 | 1ull << 32 | 0xeeull << 40 | (handler >> 16 & 0xffff) << 48);
        put64(PA_SYSTEM + AT_IDT + 16 * v + 8, handler >> 32);
        ram_bytes[PA_SYSTEM + AT_HANDLERS + 16 * v] = 0xf4;
    }
}

void guest_init(Shared *shared)
{
    ram_bytes = mmap(NULL, PA_END, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    build_tables();
    for (unsigned i = 5; i < 8; i++)
        place[i] = oracle_xsave(i);
    if (place[5])
        model.xcr0_mask = 0xe7;
    CpuConfig config = {.ram = ram_new_array(ram_bytes, PA_END), .host = &host, .cpuid = &model};
    GError *error = NULL;
    cpu = bt_cpu_ops.create(&config, &error);
    if (!cpu) {
        fprintf(stderr, "oracle: %s\n", error->message);
        exit(1);
    }
}

static X86Segment segment(uint16_t selector, uint32_t attr, uint64_t base)
{
    return (X86Segment){.selector = selector, .attr = attr, .limit = 0xffffffff, .base = base};
}

static void state_build(X86State *s, const Case *c)
{
    memset(s, 0, sizeof *s);
    memcpy(s->gpr, c->in.gpr, sizeof s->gpr);
    s->rip = c->in.rip;
    s->rflags = c->in.rflags | 0x202 | X86_FLAG_ID; /* ID as native_init() sets it */
    const uint32_t user = X86_SEG_S | 3u << X86_SEG_DPL_SHIFT | X86_SEG_P | X86_SEG_G;
    for (unsigned i = 0; i <= X86_GS; i++)
        s->seg[i] = segment(0x2b, user | X86_SEG_DB | 3, 0);
    s->seg[X86_CS] = c->code_size == 8 ? segment(0x33, user | X86_SEG_L | 0xb, 0) : segment(0x23, user | X86_SEG_DB | 0xb, 0);
    s->seg[X86_FS].selector = s->seg[X86_GS].selector = 0; /* as in a Linux process */
    s->seg[X86_GS].base = ORACLE_GS;
    s->seg[X86_TR] = segment(0x40, X86_SEG_P | 0xb, VA_SYSTEM + AT_TSS);
    s->seg[X86_TR].limit = 0x67;
    s->seg[X86_LDTR] = segment(0, X86_SEG_UNUSABLE, 0);
    s->gdtr = (X86Table){.base = VA_SYSTEM, .limit = 0x4f};
    s->idtr = (X86Table){.base = VA_SYSTEM + AT_IDT, .limit = 32 * 16 - 1};
    s->cr0 = X86_CR0_PE | X86_CR0_MP | X86_CR0_ET | X86_CR0_NE | X86_CR0_WP | X86_CR0_AM | X86_CR0_PG;
    s->cr3 = PA_PML4;
    s->cr4 = X86_CR4_PAE | X86_CR4_OSFXSR | X86_CR4_OSXMMEXCPT | X86_CR4_OSXSAVE;
    s->efer = X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE;
    s->dr[6] = 0xffff0ff0;
    s->dr[7] = 0x400;
    s->pat = 0x0007040600070406;
    s->xcr0 = model.xcr0_mask;
    memcpy(s->xsave, c->in.fx, 416);
    uint64_t bv = c->in.components & model.xcr0_mask;
    memcpy(s->xsave + 512, &bv, 8);
    memcpy(s->xsave + 576, c->in.ymm_high, 256);
    if (place[5]) {
        memcpy(s->xsave + place[5], c->in.mask, sizeof c->in.mask);
        memcpy(s->xsave + place[6], c->in.zmm_high, sizeof c->in.zmm_high);
        memcpy(s->xsave + place[7], c->in.zmm, sizeof c->in.zmm);
    }
}

static void result_read(const X86State *s, CpuExit exit, Result *r)
{
    memcpy(r->out.gpr, s->gpr, sizeof s->gpr);
    uint64_t bv, offset = s->rip - (VA_SYSTEM + AT_HANDLERS);
    memcpy(r->out.fx, s->xsave, 512);
    memcpy(&bv, s->xsave + 512, 8);
    if (!(bv & 1)) {
        memset(r->out.fx, 0, 24);
        memset(r->out.fx + 32, 0, 128);
        r->out.fx[0] = 0x7f, r->out.fx[1] = 3;
    }
    if (!(bv & 2))
        memset(r->out.fx + 160, 0, 256);
    if (bv & 4)
        memcpy(r->out.ymm_high, s->xsave + 576, 256);
    else
        memset(r->out.ymm_high, 0, 256);
    memset(r->out.mask, 0, sizeof r->out.mask);
    memset(r->out.zmm_high, 0, sizeof r->out.zmm_high);
    memset(r->out.zmm, 0, sizeof r->out.zmm);
    if (place[5] && bv & 0x20)
        memcpy(r->out.mask, s->xsave + place[5], sizeof r->out.mask);
    if (place[6] && bv & 0x40)
        memcpy(r->out.zmm_high, s->xsave + place[6], sizeof r->out.zmm_high);
    if (place[7] && bv & 0x80)
        memcpy(r->out.zmm, s->xsave + place[7], sizeof r->out.zmm);
    if (exit.kind != CPU_EXIT_HALT || offset >= 32 * 16) {
        r->vector = VECTOR_EXIT;
        r->error = exit.kind;
        r->out.rip = s->rip;
        return;
    }
    r->vector = (uint32_t)(offset / 16);
    bool has_code = 1u << r->vector & (1u << 8 | 1u << 10 | 1u << 11 | 1u << 12 | 1u << 13 | 1u << 14 | 1u << 17);
    const uint64_t *frame = (const uint64_t *)(ram_bytes + PA_SYSTEM + AT_STACK - (has_code ? 48 : 40));
    r->error = has_code ? (uint32_t)*frame++ : 0;
    r->out.rip = frame[0];
    r->out.rflags = frame[2];
    r->out.gpr[X86_RSP] = frame[3];
    r->cr2 = s->cr2;
}

void guest_run(Shared *shared)
{
    static X86State state;
    BtCpu *bt = (BtCpu *)cpu;
    memcpy(ram_bytes + PA_CODE, shared->code, CODE_SIZE);
    cache_flush(bt->bt, bt);
    mmu_flush(&bt->mmu, true);
    for (; shared->at < shared->ncases; shared->at++) {
        const Case *c = &shared->cases[shared->at];
        Result *r = &shared->guest[shared->at];
        for (unsigned page = 0; page < WINDOW_PAGES; page++)
            memcpy(ram_bytes + window_frame(page), shared->template + page * 4096, 4096);
        for (unsigned i = 0; i < c->nplants; i++)
            for (unsigned k = 0; k < 8; k++) {
                unsigned at = c->plant[i].address - WINDOW + k;
                ram_bytes[window_frame(at / 4096) + at % 4096] = (uint8_t)(c->plant[i].value >> 8 * k);
            }
        state_build(&state, c);
        bt_cpu_ops.load(cpu, &state);
        CpuExit exit = bt_cpu_ops.run(cpu);
        bt_cpu_ops.save(cpu, &state);
        result_read(&state, exit, r);
        for (unsigned page = 0; page < WINDOW_PAGES; page++)
            if (page != WINDOW_HOLE)
                memcpy(r->window + page * 4096, ram_bytes + window_frame(page), 4096);
    }
}

void guest_dump(Shared *shared)
{
    BtCpu *bt = (BtCpu *)cpu;
    for (unsigned i = 0; i < bt->bt->nblocks; i++) {
        const BtBlock *block = &bt->bt->blocks[i];
        if (block->rip - CODE < CODE_SIZE) {
            g_autofree char *text = dump_block(bt->bt, block, shared->code + (block->rip - CODE));
            fputs(text, stderr);
        }
    }
}
