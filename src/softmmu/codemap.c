#include <glib.h>

#include "softmmu/mmu.h"

#define CODE_MAP_CODE 1u

CodeMap *code_map_new(Ram *ram)
{
    CodeMap *map = g_new0(CodeMap, 1);
    map->ram = ram;
    for (unsigned i = 0; i < ram->nslots; i++)
        map->has_code[i] = g_malloc0(ram->slot[i].size >> PAGE_SHIFT);
    for (unsigned i = 0; i < ram->nslots; i++)
        map->write_at[i] = g_new0(uint16_t, ram->slot[i].size >> PAGE_SHIFT);
    return map;
}

void code_map_free(CodeMap *map)
{
    if (!map)
        return;
    for (unsigned i = 0; i < RAM_MAX_SLOTS; i++)
        g_free(map->has_code[i]);
    for (unsigned i = 0; i < RAM_MAX_SLOTS; i++)
        g_free(map->write_at[i]);
    g_free(map);
}

/* byte_find: NULL outside memory, and for ROM added after the map, which needs no marks. */
static uint8_t *byte_find(const CodeMap *map, Gpa gpa)
{
    const RamSlot *slot = ram_find(map->ram, gpa);
    if (!slot)
        return NULL;
    uint8_t *bytes = map->has_code[slot - map->ram->slot];
    return bytes ? &bytes[(gpa - slot->start) >> PAGE_SHIFT] : NULL;
}

bool code_map_test(const CodeMap *map, Gpa gpa)
{
    const uint8_t *byte = byte_find(map, gpa);
    return byte && __atomic_load_n(byte, __ATOMIC_ACQUIRE) & CODE_MAP_CODE;
}

void code_map_set(CodeMap *map, Gpa gpa, bool has_code)
{
    uint8_t *byte = byte_find(map, gpa);
    if (!byte)
        return;
    if (has_code)
        __atomic_fetch_or(byte, CODE_MAP_CODE, __ATOMIC_SEQ_CST);
    else
        __atomic_fetch_and(byte, (uint8_t)~CODE_MAP_CODE, __ATOMIC_SEQ_CST);
}
