#include <glib.h>

#include "softmmu/mmu.h"

/* The marks themselves, which the code maps of a machine share. */
struct CodeMarks {
    gint nmaps;
    uint32_t *users[RAM_MAX_SLOTS];
};

static CodeMarks *marks_new(const Ram *ram)
{
    CodeMarks *marks = g_new0(CodeMarks, 1);
    for (unsigned i = 0; i < ram->nslots; i++)
        marks->users[i] = g_new0(uint32_t, ram->slot[i].size >> PAGE_SHIFT);
    return marks;
}

static void marks_unref(CodeMarks *marks)
{
    if (!g_atomic_int_dec_and_test(&marks->nmaps))
        return;
    for (unsigned i = 0; i < RAM_MAX_SLOTS; i++)
        g_free(marks->users[i]);
    g_free(marks);
}

static CodeMap *map_new(Ram *ram, CodeMarks *marks, unsigned user)
{
    g_assert(user < CODE_MAP_MAX_USERS);
    CodeMap *map = g_new0(CodeMap, 1);
    map->ram = ram;
    map->user = 1u << user;
    map->marks = marks;
    g_atomic_int_inc(&marks->nmaps);
    for (unsigned i = 0; i < RAM_MAX_SLOTS; i++)
        map->users[i] = marks->users[i];
    for (unsigned i = 0; i < ram->nslots; i++)
        map->write_at[i] = g_new0(uint16_t, ram->slot[i].size >> PAGE_SHIFT);
    return map;
}

CodeMap *code_map_new(Ram *ram) { return map_new(ram, marks_new(ram), 0); }

CodeMap *code_map_share(CodeMap *map, unsigned user) { return map_new(map->ram, map->marks, user); }

void code_map_free(CodeMap *map)
{
    if (!map)
        return;
    marks_unref(map->marks);
    for (unsigned i = 0; i < RAM_MAX_SLOTS; i++)
        g_free(map->write_at[i]);
    g_free(map);
}

/* word_find: NULL outside memory, and for ROM added after the map, which needs no marks. */
static uint32_t *word_find(const CodeMap *map, Gpa gpa)
{
    const RamSlot *slot = ram_find(map->ram, gpa);
    if (!slot)
        return NULL;
    uint32_t *words = map->users[slot - map->ram->slot];
    return words ? &words[(gpa - slot->start) >> PAGE_SHIFT] : NULL;
}

uint32_t code_map_users(const CodeMap *map, Gpa gpa)
{
    const uint32_t *word = word_find(map, gpa);
    return word ? __atomic_load_n(word, __ATOMIC_ACQUIRE) : 0;
}

bool code_map_test(const CodeMap *map, Gpa gpa) { return code_map_users(map, gpa) & map->user; }

uint32_t code_map_set(CodeMap *map, Gpa gpa, bool has_code)
{
    uint32_t *word = word_find(map, gpa);
    if (!word)
        return 0;
    return has_code ? __atomic_fetch_or(word, map->user, __ATOMIC_SEQ_CST) : __atomic_fetch_and(word, ~map->user, __ATOMIC_SEQ_CST);
}
