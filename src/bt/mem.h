/*
 * mem.h: guest memory for C code that runs while the guest's vector registers are live, segmentation, and the way out to the host.
 *
 * A fault never returns: it leaves through bt_raise*().  A store that crosses a page checks both pages before it writes either.
 * Thread: the vCPU's own.
 */
#pragma once

#include "bt/cpu.h"

#define CANONICAL_BITS 48

static inline bool gva_is_canonical(Gva gva)
{
    return (uint64_t)((int64_t)(gva << (64 - CANONICAL_BITS)) >> (64 - CANONICAL_BITS)) == gva;
}

/* Mode predicates from the state itself, valid also between a change and bt_update_mode(). */
static inline bool bt_long_mode(const BtCpu *cpu) { return cpu->mmu.efer & X86_EFER_LMA; }
static inline bool bt_code64(const BtCpu *cpu) { return bt_long_mode(cpu) && cpu->seg[X86_CS].attr & X86_SEG_L; }
static inline bool bt_is_real(const BtCpu *cpu) { return !(cpu->mmu.cr0 & X86_CR0_PE); }
static inline bool bt_is_v86(const BtCpu *cpu) { return cpu->eflags & X86_FLAG_VM; }
static inline bool bt_is_protected(const BtCpu *cpu) { return !bt_is_real(cpu) && !bt_is_v86(cpu); }
static inline unsigned bt_iopl(const BtCpu *cpu) { return cpu->eflags >> X86_FLAG_IOPL_SHIFT & 3; }

static inline uint64_t host_load(const uint8_t *p, unsigned size)
{
    switch (size) {
    case 1: return *p;
    case 2: return *(const uint16_t *)p;
    case 4: return *(const uint32_t *)p;
    default: return *(const uint64_t *)p;
    }
}

static inline void host_store(uint8_t *p, unsigned size, uint64_t value)
{
    switch (size) {
    case 1: *p = (uint8_t)value; break;
    case 2: *(uint16_t *)p = (uint16_t)value; break;
    case 4: *(uint32_t *)p = (uint32_t)value; break;
    default: *(uint64_t *)p = value; break;
    }
}

/* mem_copy, mem_clear: memcpy and memset(0) without libc and without vector registers. */
static inline void mem_copy(void *to, const void *from, uint64_t size)
{
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
}

static inline void mem_clear(void *to, uint64_t size)
{
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(0) : "memory");
}

uint64_t bt_load_slow(BtCpu *cpu, Gva gva, unsigned size, MmuIndex index);
void bt_store_slow(BtCpu *cpu, Gva gva, unsigned size, uint64_t value, MmuIndex index);

/* bt_load_as, bt_store_as: @size is 1, 2, 4 or 8; @index is the privilege of the access. */
static inline uint64_t bt_load_as(BtCpu *cpu, Gva gva, unsigned size, MmuIndex index)
{
    const TlbEntry *e = &cpu->mmu.tlb[index][(gva >> PAGE_SHIFT) % TLB_SIZE];
    uint64_t offset = gva - e->tag_read;
    if (__builtin_expect(offset <= PAGE_SIZE - size, 1))
        return host_load(e->host + offset, size);
    return bt_load_slow(cpu, gva, size, index);
}

static inline void bt_store_as(BtCpu *cpu, Gva gva, unsigned size, uint64_t value, MmuIndex index)
{
    const TlbEntry *e = &cpu->mmu.tlb[index][(gva >> PAGE_SHIFT) % TLB_SIZE];
    uint64_t offset = gva - e->tag_write;
    if (__builtin_expect(offset <= PAGE_SIZE - size, 1))
        host_store(e->host + offset, size, value);
    else
        bt_store_slow(cpu, gva, size, value, index);
}

void bt_debug_access(BtCpu *cpu, Gva gva, unsigned size, bool is_write); /* exec-debug.c: data breakpoints */

/* bt_check_alignment: #AC(0) where it is on and @gva is no multiple of @alignment. */
static inline void bt_check_alignment(BtCpu *cpu, Gva gva, unsigned alignment)
{
    if (__builtin_expect(cpu->mode & MODE_ALIGN && gva & (alignment - 1), 0))
        bt_raise_code(cpu, X86_EXC_AC, 0);
}

/* bt_check_access: #AC(0) when the mode asks for it (SDM 3A 6.15 #AC); data breakpoints. */
static inline void bt_check_access(BtCpu *cpu, Gva gva, unsigned size, bool is_write)
{
    if (__builtin_expect(!(cpu->mode & (MODE_ALIGN | MODE_DEBUG)), 1))
        return;
    bt_check_alignment(cpu, gva, size);
    if (cpu->mode & MODE_DEBUG)
        bt_debug_access(cpu, gva, size, is_write);
}

/* bt_load, bt_store: at the current privilege.  @gva comes from bt_linear(). */
static inline uint64_t bt_load(BtCpu *cpu, Gva gva, unsigned size)
{
    bt_check_access(cpu, gva, size, false);
    return bt_load_as(cpu, gva, size, bt_mmu_index(cpu));
}

static inline void bt_store(BtCpu *cpu, Gva gva, unsigned size, uint64_t value)
{
    bt_check_access(cpu, gva, size, true);
    bt_store_as(cpu, gva, size, value, bt_mmu_index(cpu));
}

/* bt_load_element, bt_store_element: the same without #AC: what masks of AVX and gathers select (Zen 5; SDM 3A 6.15 leaves it open). */
static inline uint64_t bt_load_element(BtCpu *cpu, Gva gva, unsigned size)
{
    if (cpu->mode & MODE_DEBUG)
        bt_debug_access(cpu, gva, size, false);
    return bt_load_as(cpu, gva, size, bt_mmu_index(cpu));
}

static inline void bt_store_element(BtCpu *cpu, Gva gva, unsigned size, uint64_t value)
{
    if (cpu->mode & MODE_DEBUG)
        bt_debug_access(cpu, gva, size, true);
    bt_store_as(cpu, gva, size, value, bt_mmu_index(cpu));
}

/* bt_load_sys, bt_store_sys: implicit supervisor accesses to descriptor tables and TSS (SDM 3A 4.6.1). */
static inline uint64_t bt_load_sys(BtCpu *cpu, Gva gva, unsigned size) { return bt_load_as(cpu, gva, size, MMU_KERNEL); }
static inline void bt_store_sys(BtCpu *cpu, Gva gva, unsigned size, uint64_t value)
{
    bt_store_as(cpu, gva, size, value, MMU_KERNEL);
}

/* bt_probe: raises what an access of @size bytes (any number) would raise, accessing nothing; sets A/D bits. */
void bt_probe(BtCpu *cpu, Gva gva, uint64_t size, MmuAccess access, MmuIndex index);

/* bt_read_block, bt_write_block: @size bytes at the current privilege; a write probes all pages first. */
void bt_read_block(BtCpu *cpu, Gva gva, void *out, unsigned size);
void bt_write_block(BtCpu *cpu, Gva gva, const void *data, unsigned size);

/* bt_host_page: host address of the byte at @gva, good up to the end of its page, at the current privilege.  NULL: not plain RAM
 * (device, ROM store, store to a page with translations); use bt_load()/bt_store() there.  Raises #PF. */
uint8_t *bt_host_page(BtCpu *cpu, Gva gva, MmuAccess access);

/* bt_segment_allows: the limit and type checks of SDM 3A 5.3–5.5, without raising.  Not for 64-bit code. */
bool bt_segment_allows(const BtCpu *cpu, unsigned seg, uint32_t offset, uint64_t size, MmuAccess access);

/* bt_linear: segmentation.  Raises #GP(0), or #SS(0) for SS. @size is the operand's, for the limit check. */
Gva bt_linear(BtCpu *cpu, unsigned seg, uint64_t offset, unsigned size, MmuAccess access);

/* bt_effective_address: the offset that the ModRM memory operand of @insn names, cut to the address size. */
uint64_t bt_effective_address(BtCpu *cpu, const Insn *insn);

/* bt_operand: linear address of the ModRM memory operand, checked for @size bytes. */
static inline Gva bt_operand(BtCpu *cpu, const Insn *insn, unsigned size, MmuAccess access)
{
    return bt_linear(cpu, insn->segment, bt_effective_address(cpu, insn), size, access);
}

/* The way out.  bt_host_call() runs @fn, compiled like any C, with the host's own vector state; what it returns comes back. */
typedef uint64_t (*BtHostFn)(BtCpu *cpu, uint64_t a, uint64_t b, uint64_t c);
uint64_t bt_host_call(BtCpu *cpu, BtHostFn fn, uint64_t a, uint64_t b, uint64_t c);

/* PKRU is an XSAVE component that software keeps: mmu.pkru. */
#define XCR0_PKRU 0x200u
/* bt_fpu_mask: the XSAVE components that are live in host registers while fpu_live. */
static inline uint64_t bt_fpu_mask(const BtCpu *cpu) { return 3 | (cpu->cpuid ? cpu->cpuid->xcr0_mask & ~(uint64_t)XCR0_PKRU : 0); }

/* bt_fpu_park: guest vector state → xsave[], host defaults in the registers.  bt_fpu_unpark: back.  Both set fpu_live; nothing happens
 * when it is already so. */
void bt_fpu_park(BtCpu *cpu);
/* bt_fpu_settle: makes cpu->xsave say in its bytes too that the upper halves of the YMM registers are in their initial state, where only XSTATE_BV does
 * and ZMM registers are not.  To be called before the image is loaded: on Zen 5, a legacy SSE instruction then marks those halves in use but not
 * modified, so the next XSAVEOPT would leave in the image whatever stood there. */
void bt_fpu_settle(BtCpu *cpu);
void bt_fpu_unpark(BtCpu *cpu);

/* Functions for bt_host_call(), in exec-host.c: the CpuHost callbacks. */
uint64_t host_port_read(BtCpu *cpu, uint64_t port, uint64_t size, uint64_t unused);
uint64_t host_port_write(BtCpu *cpu, uint64_t port, uint64_t size, uint64_t value);
uint64_t host_mmio_read(BtCpu *cpu, uint64_t gpa, uint64_t size, uint64_t unused);
uint64_t host_mmio_write(BtCpu *cpu, uint64_t gpa, uint64_t size, uint64_t value);
uint64_t host_apic_msr_read(BtCpu *cpu, uint64_t msr, uint64_t out_value, uint64_t unused); /* out_value: uint64_t *; 0: #GP */
uint64_t host_apic_msr_write(BtCpu *cpu, uint64_t msr, uint64_t value, uint64_t unused);    /* 0: #GP */
uint64_t host_cr8_read(BtCpu *cpu, uint64_t by_guest, uint64_t unused2, uint64_t unused3);
uint64_t host_cr8_write(BtCpu *cpu, uint64_t value, uint64_t by_guest, uint64_t unused2);
uint64_t host_written(BtCpu *cpu, uint64_t gpa, uint64_t size, uint64_t unused); /* bt_peers_written() */
uint64_t host_yield(BtCpu *cpu, uint64_t unused1, uint64_t unused2, uint64_t unused3); /* another thread may run */
uint64_t host_irq_acknowledge(BtCpu *cpu, uint64_t unused1, uint64_t unused2, uint64_t unused3); /* (uint64_t)-1: none */

/* bt_code_written: bt.c drops the translations of [@gpa, @gpa + @size), which an exec function has just overwritten. */
void bt_code_written(BtCpu *cpu, Gpa gpa, unsigned size);
