#include "core/symbols.h"

#include <elf.h>
#include <stdbool.h>
#include <string.h>

#include "core/error.h"

struct Symbols {
    GArray *rows; /* of Symbol, by address */
    GStringChunk *names;
};

static gint by_address(gconstpointer a, gconstpointer b)
{
    const Symbol *one = a, *two = b;
    return one->address < two->address ? -1 : one->address > two->address;
}

static void symbol_add(Symbols *symbols, uint64_t address, const char *name, const char *file)
{
    Symbol symbol = { .address = address, .name = g_string_chunk_insert_const(symbols->names, name),
                      .file = file ? g_string_chunk_insert_const(symbols->names, file) : NULL };
    g_array_append_val(symbols->rows, symbol);
}

/* --- text --- */

static void text_add(Symbols *symbols, const char *text)
{
    for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        char *end;
        uint64_t address = g_ascii_strtoull(line, &end, 16);
        if (end == line || end[0] != ' ' || !strchr("tTwW", end[1]) || end[1] == '\0' || end[2] != ' ')
            continue;
        size_t size = strcspn(end + 3, " \t\r\n");
        g_autofree char *name = g_strndup(end + 3, size);
        if (address && size)
            symbol_add(symbols, address, name, NULL);
    }
}

/* --- ELF --- */

typedef struct Image {
    const uint8_t *bytes;
    gsize size;
    bool is_64;
} Image;

typedef struct Section {
    uint32_t type, link;
    uint64_t offset, size;
} Section;

static bool image_has(const Image *image, uint64_t offset, uint64_t size)
{
    return offset <= image->size && size <= image->size - offset;
}

static bool section_read(const Image *image, uint64_t index, Section *out)
{
    Elf64_Ehdr header;
    Elf32_Ehdr header32;
    memcpy(&header, image->bytes, sizeof header);
    memcpy(&header32, image->bytes, sizeof header32);
    uint64_t size = image->is_64 ? sizeof(Elf64_Shdr) : sizeof(Elf32_Shdr);
    uint64_t count = image->is_64 ? header.e_shnum : header32.e_shnum, table = image->is_64 ? header.e_shoff : header32.e_shoff;
    if (index >= count || table > image->size || !image_has(image, table + index * size, size))
        return false;
    const uint8_t *at = image->bytes + table + index * size;
    if (image->is_64) {
        Elf64_Shdr section;
        memcpy(&section, at, sizeof section);
        *out = (Section){ section.sh_type, section.sh_link, section.sh_offset, section.sh_size };
    } else {
        Elf32_Shdr section;
        memcpy(&section, at, sizeof section);
        *out = (Section){ section.sh_type, section.sh_link, section.sh_offset, section.sh_size };
    }
    return image_has(image, out->offset, out->size);
}

static Elf64_Sym symbol_read(const Image *image, const uint8_t *at)
{
    Elf64_Sym symbol;
    Elf32_Sym narrow;
    if (image->is_64) {
        memcpy(&symbol, at, sizeof symbol);
        return symbol;
    }
    memcpy(&narrow, at, sizeof narrow);
    return (Elf64_Sym){ .st_name = narrow.st_name, .st_info = narrow.st_info, .st_shndx = narrow.st_shndx, .st_value = narrow.st_value };
}

static void table_add(Symbols *symbols, const Image *image, const Section *table, const Section *strings)
{
    uint64_t size = image->is_64 ? sizeof(Elf64_Sym) : sizeof(Elf32_Sym);
    const char *file = NULL;
    const char *names = (const char *)image->bytes + strings->offset;
    if (!strings->size || names[strings->size - 1])
        return;
    for (uint64_t at = 0; at + size <= table->size; at += size) {
        Elf64_Sym symbol = symbol_read(image, image->bytes + table->offset + at);
        unsigned type = ELF64_ST_TYPE(symbol.st_info);
        const char *name = symbol.st_name < strings->size ? names + symbol.st_name : "";
        if (type == STT_FILE)
            file = *name ? name : NULL;
        else if (type == STT_FUNC && symbol.st_shndx != SHN_UNDEF && *name)
            symbol_add(symbols, symbol.st_value, name, ELF64_ST_BIND(symbol.st_info) == STB_LOCAL ? file : NULL);
    }
}

static void elf_add(Symbols *symbols, const Image *image)
{
    Section table, strings;
    for (uint64_t i = 0; i < UINT16_MAX; i++)
        if (section_read(image, i, &table) && table.type == SHT_SYMTAB && section_read(image, table.link, &strings))
            table_add(symbols, image, &table, &strings);
}

Symbols *symbols_load(const char *path, GError **error)
{
    g_autoptr(GError) cause = NULL;
    g_autofree char *bytes = NULL;
    gsize size = 0;
    if (!g_file_get_contents(path, &bytes, &size, &cause)) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "symbols: %s", cause->message);
        return NULL;
    }
    g_autoptr(Symbols) symbols = g_new0(Symbols, 1);
    symbols->rows = g_array_new(FALSE, FALSE, sizeof(Symbol));
    symbols->names = g_string_chunk_new(64 * 1024);
    if (size >= sizeof(Elf64_Ehdr) && !memcmp(bytes, ELFMAG, SELFMAG)) {
        Image image = { .bytes = (const uint8_t *)bytes, .size = size, .is_64 = bytes[EI_CLASS] == ELFCLASS64 };
        elf_add(symbols, &image);
    } else {
        text_add(symbols, bytes); /* g_file_get_contents() ends it with 0 */
    }
    if (!symbols->rows->len) {
        g_set_error(error, VMM_ERROR, VMM_ERROR_USAGE, "symbols: %s: no functions; needed is an ELF file that is not stripped, or lines as in "
                    "/proc/kallsyms read as root", path);
        return NULL;
    }
    g_array_sort(symbols->rows, by_address);
    return g_steal_pointer(&symbols);
}

void symbols_free(Symbols *symbols)
{
    if (!symbols)
        return;
    g_array_free(symbols->rows, TRUE);
    g_string_chunk_free(symbols->names);
    g_free(symbols);
}

const Symbol *symbols_find(const Symbols *symbols, uint64_t address)
{
    const Symbol *found = NULL;
    guint low = 0, high = symbols ? symbols->rows->len : 0;
    while (low < high) {
        guint middle = low + (high - low) / 2;
        const Symbol *symbol = &g_array_index(symbols->rows, Symbol, middle);
        if (symbol->address <= address) {
            found = symbol;
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return found;
}
