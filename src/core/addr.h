/* Guest addresses.  The name of the type says whose address it is; host memory is always a pointer, never a number. */
#pragma once

#include <stdint.h>

typedef uint64_t Gpa; /* guest physical address */
typedef uint64_t Gva; /* guest linear ("virtual") address, after segmentation */

#define PAGE_SHIFT 12
#define PAGE_SIZE ((uint64_t)1 << PAGE_SHIFT)
#define PAGE_OFFSET_MASK (PAGE_SIZE - 1)

static inline uint64_t page_of(uint64_t addr) { return addr & ~PAGE_OFFSET_MASK; }
static inline uint64_t page_offset(uint64_t addr) { return addr & PAGE_OFFSET_MASK; }
