#include "vm/inspect.h"

#include <string.h>

#include "x86/pte.h"

/* How a CR0, CR4 and EFER lay out tables.  Source: SDM 3A 4.1.1, tables 4-1 and 4-2. */
typedef struct Format {
    unsigned nlevels; /* 0: no paging */
    unsigned index_bits, entry_bytes;
    bool is_long;
} Format;

static Format format_of(const X86State *state)
{
    if (!(state->cr0 & X86_CR0_PG))
        return (Format){ 0 };
    if (!(state->cr4 & X86_CR4_PAE))
        return (Format){ .nlevels = 2, .index_bits = 10, .entry_bytes = 4 };
    if (!(state->efer & X86_EFER_LMA))
        return (Format){ .nlevels = 3, .index_bits = 9, .entry_bytes = 8 };
    return (Format){ .nlevels = state->cr4 & X86_CR4_LA57 ? 5 : 4, .index_bits = 9, .entry_bytes = 8, .is_long = true };
}

static unsigned level_shift(const Format *format, unsigned level) { return PAGE_SHIFT + level * format->index_bits; }

static uint64_t entry_read(const Ram *ram, Gpa at, unsigned bytes)
{
    const void *host = ram_slice(ram, at, bytes);
    uint64_t value = 0;
    if (host)
        memcpy(&value, host, bytes);
    return value;
}

static bool maps_page(const X86State *state, const Format *format, unsigned level, uint64_t entry)
{
    if (level == 0)
        return true;
    if (!(entry & PTE_PS))
        return false;
    return format->entry_bytes == 4 ? level == 1 && state->cr4 & X86_CR4_PSE : level == 1 || (level == 2 && format->is_long);
}

static Gpa page_gpa(const Format *format, unsigned level, uint64_t entry)
{
    if (format->entry_bytes == 4)
        return level ? (entry & 0xffc00000u) | (entry >> 13 & 0xff) << 32 : entry & 0xfffff000u; /* PSE-36 */
    return entry & PTE_ADDR_MASK & ~(((uint64_t)1 << level_shift(format, level)) - 1);
}

static uint64_t address_limit(const Format *format)
{
    unsigned bits = format->is_long ? PAGE_SHIFT + format->nlevels * 9 : 32;
    return ((uint64_t)1 << bits) - 1;
}

/* The address a program uses for the lower bits @low. */
static Gva canonical(const Format *format, uint64_t low)
{
    if (!format->is_long)
        return low;
    unsigned unused = 64 - (PAGE_SHIFT + format->nlevels * 9);
    return (Gva)((int64_t)(low << unused) >> unused);
}

/* The page at @low, or false and in *out_hole_bits how much around it is unmapped for sure. */
static bool page_walk(const X86State *state, const Ram *ram, const Format *format, uint64_t low, InspectPage *out_page, unsigned *out_hole_bits)
{
    Gpa table = format->entry_bytes == 4 ? state->cr3 & 0xfffff000u : format->is_long ? state->cr3 & PTE_ADDR_MASK : state->cr3 & 0xffffffe0u;
    uint64_t rights = PTE_RW | PTE_US, nx = 0;
    for (unsigned level = format->nlevels; level-- > 0;) {
        unsigned shift = level_shift(format, level);
        bool is_pdpte = !format->is_long && format->nlevels == 3 && level == 2;
        uint64_t index = low >> shift & (((uint64_t)1 << format->index_bits) - 1);
        uint64_t entry = is_pdpte ? state->pdptr[index & 3] : entry_read(ram, table + index * format->entry_bytes, format->entry_bytes);
        if (!(entry & PTE_P)) {
            *out_hole_bits = shift;
            return false;
        }
        if (!is_pdpte) { /* which have no rights of their own */
            rights &= entry;
            nx |= entry;
        }
        if (!is_pdpte && maps_page(state, format, level, entry)) {
            uint64_t size = (uint64_t)1 << shift;
            *out_page = (InspectPage){ .gva = canonical(format, low & ~(size - 1)), .gpa = page_gpa(format, level, entry), .size = size,
                                       .entry = (entry & ~(PTE_RW | PTE_US | PTE_NX)) | (rights & (PTE_RW | PTE_US)) |
                                                (format->entry_bytes == 8 ? nx & PTE_NX : 0) };
            return true;
        }
        table = format->entry_bytes == 4 ? entry & 0xfffff000u : entry & PTE_ADDR_MASK;
    }
    g_assert_not_reached();
}

bool inspect_find(const X86State *state, const Ram *ram, Gva gva, InspectPage *out_page)
{
    Format format = format_of(state);
    unsigned hole_bits;
    if (!format.nlevels) {
        *out_page = (InspectPage){ .gva = page_of(gva & 0xffffffffu), .gpa = page_of(gva & 0xffffffffu), .size = PAGE_SIZE,
                                   .entry = PTE_P | PTE_RW | PTE_US };
        return true;
    }
    uint64_t low = gva & address_limit(&format);
    return (!format.is_long || canonical(&format, low) == gva) && page_walk(state, ram, &format, low, out_page, &hole_bits);
}

bool inspect_next(const X86State *state, const Ram *ram, Gva *cursor, unsigned *budget, InspectPage *out_page)
{
    Format format = format_of(state);
    uint64_t limit = address_limit(&format), low = *cursor & limit;
    if (!format.nlevels || *cursor == ~(Gva)0)
        return false;
    while (*budget) {
        --*budget;
        unsigned hole_bits = 0;
        bool is_found = page_walk(state, ram, &format, low, out_page, &hole_bits);
        uint64_t step = is_found ? out_page->size : (uint64_t)1 << hole_bits, next = (low & ~(step - 1)) + step;
        bool is_last = next > limit;
        if (is_found) {
            *cursor = is_last ? ~(Gva)0 : canonical(&format, next);
            return true;
        }
        if (is_last)
            return false;
        low = next;
    }
    return false;
}

size_t inspect_read(const X86State *state, const Ram *ram, Gva gva, void *out_bytes, size_t size)
{
    size_t done = 0;
    while (done < size) {
        InspectPage page;
        if (!inspect_find(state, ram, gva + done, &page))
            break;
        uint64_t offset = page_offset(gva + done), inside = (gva + done) & (page.size - 1);
        size_t count = MIN(size - done, (size_t)(PAGE_SIZE - offset));
        const void *host = ram_slice(ram, page.gpa + inside, count);
        if (!host)
            break;
        memcpy((uint8_t *)out_bytes + done, host, count);
        done += count;
    }
    return done;
}
