/* Bits of paging-structure entries.  Facts only.  Source: SDM 3A tables 4-4 to 4-6 (32-bit), 4-8 to 4-11 (PAE), 4-14 to 4-20 (4-level). */
#pragma once

#include <stdint.h>

#define PTE_P   ((uint64_t)1 << 0)
#define PTE_RW  ((uint64_t)1 << 1)
#define PTE_US  ((uint64_t)1 << 2)
#define PTE_A   ((uint64_t)1 << 5)
#define PTE_D   ((uint64_t)1 << 6)
#define PTE_PS  ((uint64_t)1 << 7) /* in entries that can map a large page */
#define PTE_G   ((uint64_t)1 << 8)
#define PTE_NX  ((uint64_t)1 << 63)
#define PTE_KEY_SHIFT 59 /* protection key: bits 62:59 of a leaf, 4-level paging with CR4.PKE or PKS */

#define PTE_ADDR_MASK ((uint64_t)0x000ffffffffff000) /* 8-byte entries: bits 51:12 */

#define CR3_PCID_MASK ((uint64_t)0xfff)
#define CR3_NO_FLUSH  ((uint64_t)1 << 63) /* in the operand of MOV to CR3, with CR4.PCIDE */
