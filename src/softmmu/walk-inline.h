/*
 * The walk itself, inlined into mmu_walk(), mmu_probe() and mmu_fill(), because a guest kernel's boot makes millions of them.
 *
 * A and D bits are set after the rights were checked, for all levels at once: when none is missing (nearly always) that is one test.
 */
#pragma once

#include "softmmu/mmu.h"
#include "softmmu/tlb.h"
#include "x86/pte.h"

#define WALK_INLINE static inline __attribute__((always_inline))

/* Wide fields: the compiler keeps them in registers instead of packing bytes through memory. */
typedef struct Walk {
    Gpa gpa;
    uint64_t leaf;       /* the entry that maps the page */
    unsigned error_code; /* valid when rights lacks the access; WALK_RACED: another CPU changed an entry, walk again */
    unsigned rights;     /* MMU_RIGHT_*; WRITE says nothing about the dirty bit */
    unsigned page_bits;
    bool is_dirty;
    bool is_global;
    uint64_t upper_all;  /* the entries above the leaf, ANDed; all ones when there is none */
    uint64_t upper_any;  /* walk8 only: ORed */
    const uint64_t *leaf_at; /* walk8 only */
} Walk;

#define WALK_RACED 0x80000000u

/* entry_find_slow: any slot, A20 applied; a pointer to ones where there is no memory. */
const void *entry_find_slow(const Mmu *mmu, Gpa gpa);

WALK_INLINE const void *entry_find(const Mmu *mmu, Gpa gpa)
{
    if (__builtin_expect(gpa - mmu->main_start < mmu->main_size, 1))
        return mmu->main_host + (gpa - mmu->main_start);
    return entry_find_slow(mmu, gpa);
}

/* walk_set_ad8, walk_set_ad4: the rare part of a walk: set PTE_A in the entries above and @leaf_bits in the leaf, which was seen as @leaf at
 * @level (0: 4 KiB).  False when another CPU changed an entry meanwhile: walk again.  Entries outside RAM and in ROM are left alone. */
bool walk_set_ad8(const Mmu *mmu, Gva gva, Gpa table, unsigned nlevels, unsigned level, uint64_t leaf, uint64_t leaf_bits);
bool walk_set_ad4(const Mmu *mmu, Gva gva, unsigned level, uint32_t leaf, uint32_t leaf_bits);

WALK_INLINE uint32_t walk_error(const Mmu *mmu, MmuAccess access, MmuIndex index, uint32_t cause)
{
    uint32_t code = cause;
    if (access == MMU_WRITE)
        code |= X86_PF_WRITE;
    if (index == MMU_USER)
        code |= X86_PF_USER;
    if (access == MMU_FETCH &&
        (mmu->cr4 & X86_CR4_SMEP || (mmu->format >= MMU_FORMAT_PAE && mmu->efer & X86_EFER_NXE)))
        code |= X86_PF_FETCH;
    return code;
}

WALK_INLINE Walk walk_fault(const Mmu *mmu, MmuAccess access, MmuIndex index, uint32_t cause)
{
    return (Walk){ .rights = 0, .error_code = walk_error(mmu, access, index, cause) };
}

/* walk_identity: CR0.PG = 0. */
WALK_INLINE Walk walk_identity(const Mmu *mmu, Gva gva)
{
    return (Walk){
        .gpa = (gva & 0xffffffffu) & mmu->a20_mask,
        .leaf = PTE_A | PTE_D,
        .upper_all = ~(uint64_t)0,
        .rights = MMU_RIGHT_READ | MMU_RIGHT_WRITE | MMU_RIGHT_FETCH,
        .page_bits = 12,
        .is_dirty = true,
    };
}

/* walk8: 8-byte entries, @nlevels tables (4: 4-level, 2: PAE below its PDPTEs), the first of them at @table. */
WALK_INLINE Walk walk8(const Mmu *mmu, Gva gva, MmuAccess access, MmuIndex index, bool set_ad, unsigned nlevels, Gpa table)
{
    Gpa root = table;
    const uint64_t *at = NULL;
    uint64_t all = ~(uint64_t)0, any = 0, upper_all = all, upper_any = 0;
    unsigned level = nlevels, page_bits = PAGE_SHIFT;

#pragma GCC unroll 4
    while (level > 0) {
        level--;
        unsigned shift = PAGE_SHIFT + 9 * level;
        at = entry_find(mmu, (table & PTE_ADDR_MASK) + ((gva >> shift) & 511) * 8);
        uint64_t value = __atomic_load_n(at, __ATOMIC_RELAXED);
        uint64_t reserved = mmu->reserved | (level == 3 ? PTE_PS : 0);
        if (__builtin_expect((value & (reserved | PTE_P)) != PTE_P, 0))
            return walk_fault(mmu, access, index, value & PTE_P ? X86_PF_P | X86_PF_RSVD : 0);
        upper_all = all;
        upper_any = any;
        all &= value;
        any |= value;
        table = value;
        if (level > 0 && level < 3 && value & PTE_PS) {
            page_bits = shift;
            uint64_t page_mask = ((uint64_t)1 << shift) - 1;
            if (value & page_mask & PTE_ADDR_MASK & ~(uint64_t)0x1000) /* bit 12 is PAT */
                return walk_fault(mmu, access, index, X86_PF_P | X86_PF_RSVD);
            break;
        }
    }

    uint64_t leaf = table;
    unsigned key = (unsigned)((all >> 1) & 3) | (unsigned)(any >> 63) << 2;
    unsigned rights = mmu->rights[index][key], cause = X86_PF_P;
    if (__builtin_expect(mmu->has_keys, 0)) {
        unsigned denied = mmu->key_denied[index][(key & 2) << 3 | key_of(leaf)];
        rights &= ~denied;
        cause |= denied >> access & 1 ? X86_PF_PK : 0;
    }
    if (__builtin_expect(!(rights >> access & 1), 0))
        return walk_fault(mmu, access, index, cause);

    if (set_ad) {
        uint64_t leaf_bits = access == MMU_WRITE ? PTE_A | PTE_D : PTE_A;
        if (__builtin_expect(!(all & PTE_A) || (leaf & leaf_bits) != leaf_bits, 0)) {
            if (!walk_set_ad8(mmu, gva, root, nlevels, level, leaf, leaf_bits))
                return (Walk){ .rights = 0, .error_code = WALK_RACED };
            leaf |= leaf_bits;
        }
    }
    uint64_t offset_mask = ((uint64_t)1 << page_bits) - 1;
    return (Walk){
        .gpa = ((leaf & PTE_ADDR_MASK & ~offset_mask) | (gva & offset_mask)) & mmu->a20_mask,
        .leaf = leaf,
        .rights = rights,
        .page_bits = page_bits,
        .is_dirty = (leaf & PTE_D) != 0,
        .is_global = (leaf & PTE_G) && mmu->cr4 & X86_CR4_PGE,
        .leaf_at = at,
        .upper_all = upper_all,
        .upper_any = upper_any,
    };
}

WALK_INLINE Walk walk_pae(const Mmu *mmu, Gva gva, MmuAccess access, MmuIndex index, bool set_ad)
{
    uint64_t pdpte = mmu->pdptr[(gva >> 30) & 3];
    if (!(pdpte & PTE_P))
        return walk_fault(mmu, access, index, 0);
    return walk8(mmu, gva, access, index, set_ad, 2, pdpte);
}

WALK_INLINE Walk walk_32(const Mmu *mmu, Gva gva, MmuAccess access, MmuIndex index, bool set_ad)
{
    const uint32_t *pde_at = entry_find(mmu, (mmu->cr3 & 0xfffff000u) + ((gva >> 22) & 1023) * 4);
    uint32_t pde = __atomic_load_n(pde_at, __ATOMIC_RELAXED);
    if (!(pde & PTE_P))
        return walk_fault(mmu, access, index, 0);

    uint32_t leaf = pde, all = pde;
    unsigned page_bits = 22;
    Gpa page;
    if (pde & PTE_PS && mmu->cr4 & X86_CR4_PSE) {
        if (pde & mmu->reserved_4m)
            return walk_fault(mmu, access, index, X86_PF_P | X86_PF_RSVD);
        page = (pde & 0xffc00000u) | (Gpa)((pde >> 13) & 0xff) << 32; /* PSE-36 */
    } else {
        const uint32_t *leaf_at = entry_find(mmu, (pde & 0xfffff000u) + ((gva >> 12) & 1023) * 4);
        leaf = __atomic_load_n(leaf_at, __ATOMIC_RELAXED);
        if (!(leaf & PTE_P))
            return walk_fault(mmu, access, index, 0);
        all &= leaf;
        page_bits = 12;
        page = leaf & 0xfffff000u;
    }

    unsigned rights = mmu->rights[index][(all >> 1) & 3];
    if (!(rights >> access & 1))
        return walk_fault(mmu, access, index, X86_PF_P);
    if (set_ad) {
        uint32_t leaf_bits = access == MMU_WRITE ? (uint32_t)(PTE_A | PTE_D) : (uint32_t)PTE_A;
        if (__builtin_expect(!(all & PTE_A) || (leaf & leaf_bits) != leaf_bits, 0)) {
            if (!walk_set_ad4(mmu, gva, page_bits == 22, leaf, leaf_bits))
                return (Walk){ .rights = 0, .error_code = WALK_RACED };
            leaf |= leaf_bits;
        }
    }
    uint32_t offset_mask = ((uint32_t)1 << page_bits) - 1;
    return (Walk){
        .gpa = (page | (gva & offset_mask)) & mmu->a20_mask,
        .leaf = leaf,
        .upper_all = page_bits == 22 ? ~(uint64_t)0 : pde,
        .rights = rights,
        .page_bits = page_bits,
        .is_dirty = (leaf & PTE_D) != 0,
        .is_global = (leaf & PTE_G) && mmu->cr4 & X86_CR4_PGE,
    };
}

WALK_INLINE Walk walk_any(const Mmu *mmu, Gva gva, MmuAccess access, MmuIndex index, bool set_ad)
{
    for (;;) {
        Walk walk;
        switch (mmu->format) {
        case MMU_FORMAT_4LEVEL:
            walk = walk8(mmu, gva, access, index, set_ad, 4, mmu->cr3);
            break;
        case MMU_FORMAT_PAE:
            walk = walk_pae(mmu, gva, access, index, set_ad);
            break;
        case MMU_FORMAT_32:
            walk = walk_32(mmu, gva, access, index, set_ad);
            break;
        case MMU_FORMAT_NONE:
            return walk_identity(mmu, gva);
        }
        if (__builtin_expect(walk.error_code != WALK_RACED, 1))
            return walk;
    }
}
