#include "monitor/hmp-inspect.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "bt/dump.h"
#include "monitor/hmp-expression.h"
#include "vm/inspect.h"
#include "x86/pte.h"

#define DUMP_MAX_BYTES 65536u  /* of one x or xp */
#define TABLE_BUDGET 1000000u  /* page-table entries that one command looks at */
#define SAVE_CHUNK 65536u

/* The vCPU whose registers and page tables are meant. */
static X86State *state_of(Vm *vm)
{
    X86State *state = g_new0(X86State, 1);
    vm_cpu_state(vm, 0, state);
    return state;
}

/* One number, then blanks.  FALSE: *out says why. */
static bool number_take(const char *command, const char **args, const X86State *state, uint64_t *out_value, GString *out)
{
    const char *wrong = expression_take(args, state, out_value);
    if (wrong)
        g_string_append_printf(out, "%s: %s at '%s'\n", command, wrong, *args);
    return !wrong;
}

static bool end_check(const char *command, const char *args, GString *out)
{
    if (*args)
        g_string_append_printf(out, "%s: '%s' is too much\n", command, args);
    return !*args;
}

/* --- formats --- */

typedef struct Format {
    unsigned count;
    char kind;     /* x d u o c i */
    unsigned size; /* bytes of one */
} Format;

/* "/4xg": count, kind and size in any order behind the count; *args moves behind it. */
static bool format_take(const char *command, const char **args, Format *format, GString *out)
{
    const char *at = *args;
    if (*at != '/')
        return true;
    at++;
    if (g_ascii_isdigit(*at)) {
        char *end;
        uint64_t count = g_ascii_strtoull(at, &end, 10);
        format->count = (unsigned)MIN(count, (uint64_t)DUMP_MAX_BYTES + 1);
        at = end;
    }
    for (; *at && *at != ' ' && *at != '\t'; at++) {
        static const char sizes[] = "bhwg";
        if (strchr("xduoci", *at)) {
            format->kind = *at;
        } else if (strchr(sizes, *at)) {
            format->size = 1u << (strchr(sizes, *at) - sizes);
        } else {
            g_string_append_printf(out, "%s: '%c' is no format; known: x d u o c i and sizes b h w g, for example /4xg\n", command, *at);
            return false;
        }
    }
    if (!format->count || format->count * (uint64_t)(format->kind == 'i' ? 15 : format->size) > DUMP_MAX_BYTES) {
        g_string_append_printf(out, "%s: the count must be from 1 to %u bytes' worth\n", command, DUMP_MAX_BYTES);
        return false;
    }
    *args = at + strspn(at, " \t");
    return true;
}

static void value_append(GString *out, const Format *format, uint64_t value)
{
    unsigned bits = format->size * 8;
    int64_t wide = (int64_t)(value << (64 - bits)) >> (64 - bits);
    switch (format->kind) {
    case 'd':
        g_string_append_printf(out, "%" G_GINT64_FORMAT, (gint64)wide);
        break;
    case 'u':
        g_string_append_printf(out, "%" G_GUINT64_FORMAT, value);
        break;
    case 'o':
        g_string_append_printf(out, "0%" G_GINT64_MODIFIER "o", value);
        break;
    case 'c':
        if (value >= 32 && value < 127)
            g_string_append_printf(out, "'%c'", (char)value);
        else
            g_string_append_printf(out, "'\\x%02x'", (unsigned)(value & 0xff));
        break;
    default:
        g_string_append_printf(out, "0x%0*" G_GINT64_MODIFIER "x", (int)format->size * 2, value);
    }
}

/* --- memory --- */

/* Copies what can be read of @size bytes at @address. */
typedef size_t MemoryRead(const X86State *state, const Ram *ram, uint64_t address, void *out_bytes, size_t size);

static size_t physical_read(const X86State *state, const Ram *ram, uint64_t gpa, void *out_bytes, size_t size)
{
    size_t done = 0;
    while (done < size) {
        size_t count = MIN(size - done, (size_t)(PAGE_SIZE - page_offset(gpa + done)));
        const void *host = ram_slice(ram, gpa + done, count);
        if (!host)
            break;
        memcpy((uint8_t *)out_bytes + done, host, count);
        done += count;
    }
    return done;
}

static unsigned code_size(const X86State *state)
{
    if (state->efer & X86_EFER_LMA && state->seg[X86_CS].attr & X86_SEG_L)
        return 8;
    return state->seg[X86_CS].attr & X86_SEG_DB ? 4 : 2;
}

static void instructions_append(GString *out, const X86State *state, const uint8_t *bytes, size_t size, uint64_t address, unsigned count)
{
    if (!dump_is_ready()) {
        g_string_append(out, "x/i: the disassembler (package libcapstone4) is loaded at the start, when there is a monitor or somebody to type; "
                             "start Segue with -monitor, -qmp or -d bt\n");
        return;
    }
    g_autofree char *text = dump_code(bytes, size, address, code_size(state));
    const char *at = text;
    for (unsigned i = 0; i < count && *at; i++) {
        const char *end = strchr(at, '\n');
        end = end ? end + 1 : at + strlen(at);
        g_string_append_len(out, at, end - at);
        at = end;
    }
}

static void values_append(GString *out, const Format *format, const uint8_t *bytes, size_t size, uint64_t address)
{
    unsigned per_line = format->kind == 'c' ? 16 : MAX(1u, 16 / MAX(format->size, 4u));
    if (format->size == 1 && format->kind != 'c')
        per_line = 8;
    for (size_t i = 0; (i + 1) * format->size <= size; i++) {
        uint64_t value = 0;
        memcpy(&value, bytes + i * format->size, format->size);
        if (i % per_line == 0)
            g_string_append_printf(out, "%s%016" G_GINT64_MODIFIER "x:", i ? "\n" : "", address + i * format->size);
        g_string_append_c(out, ' ');
        value_append(out, format, value);
    }
    g_string_append_c(out, '\n');
}

static void memory_dump(Vm *vm, const char *command, MemoryRead *read, const char *args, GString *out)
{
    Format format = { .count = 1, .kind = 'x', .size = 4 };
    g_autofree X86State *state = state_of(vm);
    uint64_t address;
    if (!format_take(command, &args, &format, out) || !number_take(command, &args, state, &address, out) || !end_check(command, args, out))
        return;
    if (format.kind == 'c')
        format.size = 1;
    size_t wanted = format.count * (size_t)(format.kind == 'i' ? 15 : format.size);
    g_autofree uint8_t *bytes = g_malloc(wanted);
    size_t size = read(state, vm_ram(vm), address, bytes, wanted);
    if (format.kind == 'i' && size)
        instructions_append(out, state, bytes, size, address, format.count);
    else if (size >= format.size)
        values_append(out, &format, bytes, size, address);
    if (size < wanted && (format.kind != 'i' || !size))
        g_string_append_printf(out, "%s: no memory at 0x%" G_GINT64_MODIFIER "x\n", command, address + size);
}

void hmp_x(Vm *vm, const char *args, GString *out) { memory_dump(vm, "x", inspect_read, args, out); }
void hmp_xp(Vm *vm, const char *args, GString *out) { memory_dump(vm, "xp", physical_read, args, out); }

void hmp_print(Vm *vm, const char *args, GString *out)
{
    Format format = { .count = 1, .kind = 'x', .size = 8 };
    g_autofree X86State *state = state_of(vm);
    uint64_t value;
    if (!format_take("print", &args, &format, out) || !number_take("print", &args, state, &value, out) || !end_check("print", args, out))
        return;
    if (format.kind == 'x')
        g_string_append_printf(out, "0x%" G_GINT64_MODIFIER "x", value);
    else
        value_append(out, &format, value);
    g_string_append_c(out, '\n');
}

void hmp_gva2gpa(Vm *vm, const char *args, GString *out)
{
    g_autofree X86State *state = state_of(vm);
    uint64_t gva;
    InspectPage page;
    if (!number_take("gva2gpa", &args, state, &gva, out) || !end_check("gva2gpa", args, out))
        return;
    if (inspect_find(state, vm_ram(vm), gva, &page))
        g_string_append_printf(out, "gpa: 0x%" G_GINT64_MODIFIER "x\n", page.gpa + (gva & (page.size - 1)));
    else
        g_string_append(out, "Unmapped\n");
}

/* --- saving memory --- */

static void memory_save(Vm *vm, const char *command, MemoryRead *read, const char *args, GString *out)
{
    g_autofree X86State *state = state_of(vm);
    uint64_t address, size;
    g_auto(GStrv) words = g_strsplit(args, " ", 3); /* no blanks in the numbers: a path may look like a division */
    if (g_strv_length(words) < 3 || !*words[2]) {
        g_string_append_printf(out, "%s: ADDRESS SIZE FILE are needed\n", command);
        return;
    }
    const char *first = words[0], *second = words[1], *file = g_strstrip(words[2]);
    if (!number_take(command, &first, state, &address, out) || !end_check(command, first, out) ||
        !number_take(command, &second, state, &size, out) || !end_check(command, second, out))
        return;
    bool is_quoted = file[0] == '"' && file[1] && g_str_has_suffix(file, "\"");
    g_autofree char *path = is_quoted ? g_strndup(file + 1, strlen(file) - 2) : g_strdup(file);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        g_string_append_printf(out, "%s: %s: %s\n", command, path, g_strerror(errno));
        return;
    }
    g_autofree uint8_t *bytes = g_malloc(SAVE_CHUNK);
    while (size) {
        size_t wanted = (size_t)MIN(size, SAVE_CHUNK), got = read(state, vm_ram(vm), address, bytes, wanted);
        if (got && write(fd, bytes, got) != (ssize_t)got) {
            g_string_append_printf(out, "%s: %s: %s\n", command, path, g_strerror(errno));
            break;
        }
        address += got;
        size -= got;
        if (got < wanted) {
            g_string_append_printf(out, "%s: no memory at 0x%" G_GINT64_MODIFIER "x\n", command, address);
            break;
        }
    }
    close(fd);
}

void hmp_memsave(Vm *vm, const char *args, GString *out) { memory_save(vm, "memsave", inspect_read, args, out); }
void hmp_pmemsave(Vm *vm, const char *args, GString *out) { memory_save(vm, "pmemsave", physical_read, args, out); }

/* --- page tables --- */

static void budget_note(unsigned budget, Gva cursor, GString *out)
{
    if (!budget)
        g_string_append_printf(out, "(not looked at from 0x%" G_GINT64_MODIFIER "x on: more than %u entries)\n", cursor, TABLE_BUDGET);
}

void hmp_info_tlb(Vm *vm, GString *out)
{
    g_autofree X86State *state = state_of(vm);
    Gva cursor = 0;
    unsigned budget = TABLE_BUDGET, nlines = 0;
    InspectPage page;
    if (!(state->cr0 & X86_CR0_PG))
        g_string_append(out, "PG disabled\n");
    while (inspect_next(state, vm_ram(vm), &cursor, &budget, &page)) {
        if (++nlines > 20000) {
            g_string_append_printf(out, "(more pages from 0x%" G_GINT64_MODIFIER "x on: 20000 are listed)\n", page.gva);
            return;
        }
        g_string_append_printf(out, "%016" G_GINT64_MODIFIER "x: %016" G_GINT64_MODIFIER "x %c%c%c%c%c%c%c\n", page.gva, page.gpa,
                               page.entry & PTE_NX ? 'X' : '-', page.entry & PTE_G ? 'G' : '-', page.size > PAGE_SIZE ? 'P' : '-',
                               page.entry & PTE_D ? 'D' : '-', page.entry & PTE_A ? 'A' : '-', page.entry & PTE_US ? 'U' : '-',
                               page.entry & PTE_RW ? 'W' : '-');
    }
    budget_note(budget, cursor, out);
}

void hmp_info_mem(Vm *vm, GString *out)
{
    const uint64_t rights = PTE_US | PTE_RW;
    g_autofree X86State *state = state_of(vm);
    Gva cursor = 0, start = 0, end = 0;
    uint64_t now = 0;
    unsigned budget = TABLE_BUDGET;
    InspectPage page;
    if (!(state->cr0 & X86_CR0_PG))
        g_string_append(out, "PG disabled\n");
    for (;;) {
        bool is_found = inspect_next(state, vm_ram(vm), &cursor, &budget, &page);
        if (is_found && end > start && page.gva == end && (page.entry & rights) == now) {
            end += page.size;
            continue;
        }
        if (end != start)
            g_string_append_printf(out, "%016" G_GINT64_MODIFIER "x-%016" G_GINT64_MODIFIER "x %016" G_GINT64_MODIFIER "x %cr%c\n", start, end,
                                   end - start, now & PTE_US ? 'u' : '-', now & PTE_RW ? 'w' : '-');
        if (!is_found)
            break;
        start = page.gva;
        end = page.gva + page.size;
        now = page.entry & rights;
    }
    budget_note(budget, cursor, out);
}
