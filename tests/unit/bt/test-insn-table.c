/*
 * The instruction table: rows are well formed and reachable, sensitive instructions are never executed as they are, and memory operands have
 * the size and access that Capstone gives them.
 */
#include "bt/decode.h"

#include <capstone/capstone.h>
#include <check.h>
#include <glib.h>
#include <stdio.h>
#include <string.h>

#include "bt/insn-table.h"

#undef M_E /* <math.h>, which the above include, has its own */

static bool has_method(const InsnRow *row, const char *methods)
{
    static const uint8_t letter[] = {['E'] = M_E, ['M'] = M_M, ['V'] = M_V, ['W'] = M_W, ['U'] = M_U, ['P'] = M_P, ['Q'] = M_Q,
                                     ['N'] = M_N, ['O'] = M_O, ['X'] = M_X, ['Y'] = M_Y, ['S'] = M_S, ['C'] = M_C, ['D'] = M_D,
                                     ['F'] = M_FP, ['T'] = M_ST, ['K'] = M_RK};
    for (unsigned k = 0; k < 4; k++)
        for (const char *m = methods; *m; m++)
            if (row->operand[k] >> 8 == letter[(unsigned)*m])
                return true;
    return false;
}

START_TEST(test_rows_are_well_formed)
{
    for (const InsnRow *row = insn_table; row->name; row++) {
        unsigned n = (unsigned)(row - insn_table);
        const char *name = row->name;
        ck_assert_msg(row->opcode_first <= row->opcode_last, "row %u %s", n, name);
        ck_assert_msg((row->flags_undefined & ~row->flags_written) == 0, "row %u %s: undefined flags are written ones", n, name);
        ck_assert_msg((row->flags_read & ~F_ALL) == 0 && (row->flags_written & ~F_ALL) == 0, "row %u %s: status flags only", n, name);
        ck_assert_msg(row->how != HOW_CALL || row->exec, "row %u %s: exec", n, name);
        ck_assert_msg(row->how != HOW_EMIT || row->tr != TR_NONE, "row %u %s: tr", n, name);
        ck_assert_msg(!(row->attr & A_W0 && row->attr & A_W1), "row %u %s: W", n, name);
        ck_assert_msg(!(row->attr & A_L0 && row->attr & A_L1), "row %u %s: L", n, name);
        ck_assert_msg(!(row->attr & A_MEM && row->attr & A_REG), "row %u %s: mod", n, name);
        ck_assert_msg(!(row->attr & A_REG) || row->access == ACC_NONE, "row %u %s: access without memory", n, name);
        if (row->how == HOW_SAME) {
            ck_assert_msg(!(row->attr & (A_CPL0 | A_ENDS)) && !has_method(row, "SCDXYO"), "row %u %s must not run as it is", n, name);
            ck_assert_msg(row->access == ACC_NONE || has_method(row, "EMWQFK"), "row %u %s: access of what?", n, name);
        }
        bool is_gpr_only = !has_method(row, "VWUPQNFT");
        if (!is_gpr_only && row->how == HOW_SAME) {
            ck_assert_msg(!has_method(row, "VWU") || !(row->encodings & ENC_VEX) || row->attr & A_AVX, "row %u %s: A_AVX", n, name);
            ck_assert_msg(!has_method(row, "VWU") || !(row->encodings & ENC_LEGACY) || row->attr & A_SSE, "row %u %s: A_SSE", n, name);
            ck_assert_msg(!has_method(row, "PQN") || row->attr & A_MMX, "row %u %s: A_MMX", n, name);
            ck_assert_msg(!has_method(row, "FT") || row->attr & A_X87, "row %u %s: A_X87", n, name);
        }
        ck_assert_msg(!has_method(row, "VWU") || row->prefix != PP_ANY, "row %u %s: mandatory prefix", n, name);
    }
}
END_TEST

/* Calls @visit for every combination of mandatory prefix, W, L, map, opcode and ModRM in the table's encodings. */
typedef void (*Visit)(const uint8_t *bytes, unsigned code_size, void *opaque);

static void for_each_encoding(unsigned modrm_step, unsigned code_size, Visit visit, void *opaque)
{
    static const uint8_t mandatory[4] = {0, 0x66, 0xf3, 0xf2};
    for (unsigned map = 0; map < 4; map++)
        for (unsigned pp = 0; pp < 4; pp++)
            for (unsigned wl = 0; wl < 4; wl++)
                for (unsigned vex = 0; vex < 3; vex++) { /* 2: EVEX */
                    if ((vex && (map == 0 || code_size != 8)) || (!vex && (wl & 2)) || (wl && code_size != 8))
                        continue;
                    uint8_t bytes[15];
                    memset(bytes, 0x11, sizeof bytes);
                    unsigned at = 0;
                    if (vex == 2) {
                        bytes[at++] = 0x62;
                        bytes[at++] = (uint8_t)(0xf0 | map);
                        bytes[at++] = (uint8_t)((wl & 1) << 7 | 0x7c | pp);
                        bytes[at++] = (uint8_t)((wl & 2) << 4 | 8);
                    } else if (vex) {
                        bytes[at++] = 0xc4;
                        bytes[at++] = (uint8_t)(0xe0 | map);
                        static const uint8_t vex_pp[4] = {0, 1, 2, 3};
                        bytes[at++] = (uint8_t)((wl & 1) << 7 | 0x78 | (wl & 2) << 1 | vex_pp[pp]);
                    } else {
                        if (mandatory[pp])
                            bytes[at++] = mandatory[pp];
                        if (wl & 1)
                            bytes[at++] = 0x48;
                        if (map)
                            bytes[at++] = 0x0f;
                        if (map > 1)
                            bytes[at++] = map == 2 ? 0x38 : 0x3a;
                    }
                    for (unsigned opcode = 0; opcode < 256; opcode++)
                        for (unsigned modrm = 0; modrm < 256; modrm += modrm_step) {
                            bytes[at] = (uint8_t)opcode;
                            bytes[at + 1] = (uint8_t)modrm;
                            visit(bytes, code_size, opaque);
                        }
                }
}

static void mark_row(const uint8_t *bytes, unsigned code_size, void *opaque)
{
    Insn insn;
    if (insn_decode(&insn, bytes, 15, code_size, 0, 0) == INSN_OK)
        ((uint8_t *)opaque)[insn.row - insn_table] = 1;
}

START_TEST(test_every_row_is_reachable)
{
    g_autofree uint8_t *seen = g_malloc0(insn_table_rows);
    insn_decode_init();
    for_each_encoding(1, 8, mark_row, seen);
    for_each_encoding(1, 4, mark_row, seen);
    unsigned missing = 0;
    for (unsigned n = 0; n < insn_table_rows; n++)
        if (!seen[n]) {
            printf("row %u %s (map %u, opcode %02x, digit %d) is hidden by another row\n", n, insn_table[n].name, insn_table[n].map,
                   insn_table[n].opcode_first, insn_table[n].digit);
            missing++;
        }
    ck_assert_uint_eq(missing, 0);
}
END_TEST

/* Instructions that read or change what the monitor virtualizes: none may reach the host. */
typedef struct Sensitive {
    const char *name;
    unsigned code_size;
    uint8_t bytes[8];
} Sensitive;

static const Sensitive sensitive[] = {
    {"sgdt", 8, {0x0f, 0x01, 0x00}},
    {"sidt", 8, {0x0f, 0x01, 0x08}},
    {"lgdt", 8, {0x0f, 0x01, 0x10}},
    {"lidt", 8, {0x0f, 0x01, 0x18}},
    {"smsw m", 8, {0x0f, 0x01, 0x20}},
    {"smsw r", 8, {0x0f, 0x01, 0xe0}},
    {"lmsw m", 8, {0x0f, 0x01, 0x30}},
    {"lmsw r", 8, {0x0f, 0x01, 0xf0}},
    {"invlpg", 8, {0x0f, 0x01, 0x38}},
    {"swapgs", 8, {0x0f, 0x01, 0xf8}},
    {"rdtscp", 8, {0x0f, 0x01, 0xf9}},
    {"xgetbv", 8, {0x0f, 0x01, 0xd0}},
    {"xsetbv", 8, {0x0f, 0x01, 0xd1}},
    {"clac", 8, {0x0f, 0x01, 0xca}},
    {"stac", 8, {0x0f, 0x01, 0xcb}},
    {"sldt", 8, {0x0f, 0x00, 0x00}},
    {"sldt r", 8, {0x0f, 0x00, 0xc0}},
    {"str", 8, {0x0f, 0x00, 0x08}},
    {"str r", 8, {0x0f, 0x00, 0xc8}},
    {"lldt", 8, {0x0f, 0x00, 0xd0}},
    {"ltr", 8, {0x0f, 0x00, 0xd8}},
    {"verr", 8, {0x0f, 0x00, 0xe0}},
    {"verw", 8, {0x0f, 0x00, 0xe8}},
    {"lar", 8, {0x0f, 0x02, 0xc0}},
    {"lsl", 8, {0x0f, 0x03, 0xc0}},
    {"syscall", 8, {0x0f, 0x05}},
    {"clts", 8, {0x0f, 0x06}},
    {"sysret", 8, {0x0f, 0x07}},
    {"invd", 8, {0x0f, 0x08}},
    {"wbinvd", 8, {0x0f, 0x09}},
    {"mov r, cr0", 8, {0x0f, 0x20, 0xc0}},
    {"mov r, dr0", 8, {0x0f, 0x21, 0xc0}},
    {"mov cr3, r", 8, {0x0f, 0x22, 0xd8}},
    {"mov dr7, r", 8, {0x0f, 0x23, 0xf8}},
    {"wrmsr", 8, {0x0f, 0x30}},
    {"rdtsc", 8, {0x0f, 0x31}},
    {"rdmsr", 8, {0x0f, 0x32}},
    {"rdpmc", 8, {0x0f, 0x33}},
    {"sysenter", 8, {0x0f, 0x34}},
    {"sysexit", 8, {0x0f, 0x35}},
    {"push fs", 8, {0x0f, 0xa0}},
    {"pop fs", 8, {0x0f, 0xa1}},
    {"cpuid", 8, {0x0f, 0xa2}},
    {"push gs", 8, {0x0f, 0xa8}},
    {"pop gs", 8, {0x0f, 0xa9}},
    {"lss", 8, {0x0f, 0xb2, 0x00}},
    {"lfs", 8, {0x0f, 0xb4, 0x00}},
    {"lgs", 8, {0x0f, 0xb5, 0x00}},
    {"mov r, ds", 8, {0x8c, 0xd8}},
    {"mov m, ds", 8, {0x8c, 0x18}},
    {"mov ds, r", 8, {0x8e, 0xd8}},
    {"mov ss, m", 8, {0x8e, 0x10}},
    {"pushf", 8, {0x9c}},
    {"popf", 8, {0x9d}},
    {"in al, imm", 8, {0xe4, 0x10}},
    {"in eax, imm", 8, {0xe5, 0x10}},
    {"out imm, al", 8, {0xe6, 0x10}},
    {"out imm, eax", 8, {0xe7, 0x10}},
    {"in al, dx", 8, {0xec}},
    {"in eax, dx", 8, {0xed}},
    {"out dx, al", 8, {0xee}},
    {"out dx, eax", 8, {0xef}},
    {"insb", 8, {0x6c}},
    {"rep insd", 8, {0xf3, 0x6d}},
    {"outsb", 8, {0x6e}},
    {"rep outsd", 8, {0xf3, 0x6f}},
    {"hlt", 8, {0xf4}},
    {"cli", 8, {0xfa}},
    {"sti", 8, {0xfb}},
    {"int3", 8, {0xcc}},
    {"int", 8, {0xcd, 0x80}},
    {"int1", 8, {0xf1}},
    {"iret", 8, {0xcf}},
    {"iretq", 8, {0x48, 0xcf}},
    {"retf", 8, {0xcb}},
    {"retf imm", 8, {0xca, 0x08, 0x00}},
    {"call far m", 8, {0xff, 0x18}},
    {"jmp far m", 8, {0xff, 0x28}},
    {"movsb", 8, {0xa4}},
    {"rep stosq", 8, {0xf3, 0x48, 0xab}},
    {"lodsb", 8, {0xac}},
    {"cmpsb", 8, {0xa6}},
    {"scasb", 8, {0xae}},
    {"fxsave", 8, {0x0f, 0xae, 0x00}},
    {"fxrstor", 8, {0x0f, 0xae, 0x08}},
    {"xsave", 8, {0x0f, 0xae, 0x20}},
    {"xrstor", 8, {0x0f, 0xae, 0x28}},
    {"rdfsbase", 8, {0xf3, 0x0f, 0xae, 0xc0}},
    {"rdgsbase", 8, {0xf3, 0x0f, 0xae, 0xc8}},
    {"wrfsbase", 8, {0xf3, 0x0f, 0xae, 0xd0}},
    {"wrgsbase", 8, {0xf3, 0x0f, 0xae, 0xd8}},
    {"push es", 4, {0x06}},
    {"pop es", 4, {0x07}},
    {"push cs", 4, {0x0e}},
    {"push ss", 4, {0x16}},
    {"pop ss", 4, {0x17}},
    {"push ds", 4, {0x1e}},
    {"pop ds", 4, {0x1f}},
    {"arpl", 4, {0x63, 0xc0}},
    {"bound", 4, {0x62, 0x00}},
    {"into", 4, {0xce}},
    {"les", 4, {0xc4, 0x00}},
    {"lds", 4, {0xc5, 0x00}},
    {"call far", 4, {0x9a, 0, 0, 0, 0, 8, 0}},
    {"jmp far", 4, {0xea, 0, 0, 0, 0, 8, 0}},
    {"pushf", 4, {0x9c}},
    {"popf", 4, {0x9d}},
};

START_TEST(test_sensitive)
{
    const Sensitive *s = &sensitive[_i];
    uint8_t bytes[15] = {0};
    Insn insn;
    insn_decode_init();
    memcpy(bytes, s->bytes, sizeof s->bytes);
    ck_assert_msg(insn_decode(&insn, bytes, 15, s->code_size, 0, 0) == INSN_OK, "%s: no row", s->name);
    ck_assert_msg(insn.row->how == HOW_CALL || insn.row->how == HOW_EMIT, "%s: row %s would run on the host", s->name, insn.row->name);
}
END_TEST

/* Memory operands. */
typedef struct Opinion {
    const char *why;
    const char *name; /* of the row, or a beginning of it that ends with '*' */
} Opinion;

/* Rows whose size in Capstone 4.0.2 is not what is accessed. */
static const Opinion size_exceptions[] = {
    {"m32 (SDM 2B PUNPCKLBW)", "punpckl*"},
    {"REX.W wins over 66 (SDM 2A 2.2.1.2)", "push"},
    {"as above", "pop"},
    {"as above", "adc"},
    {"m32 under 66 too on AMD's CPUs; m16 in SDM 2B MOVSXD", "movsxd"},
    {"m32, m64 (SDM 2A COMISS)", "comis*"},
    {"m16 (SDM 2A FSTSW)", "fnstsw"},
    {"CLWB, not XSAVEOPT, under 66", "clwb"},
    {"m16:32 (SDM 2A LDS)", "lss"},
    {"as above", "lfs"},
    {"as above", "lgs"},
    {"as above", "call far"},
    {"as above", "jmp far"},
    {"r32/m16 (SDM 2A LSL)", "lsl"},
};

static const Opinion access_exceptions[] = {
    {"Capstone takes it for AND", "test"},
    {"MOVQ under F3 is a load", "movq"},
    {"CLWB, not XSAVEOPT, under 66", "clwb"},
};

static bool name_matches(const char *pattern, const char *name)
{
    size_t n = strlen(pattern);
    return n && pattern[n - 1] == '*' ? strncmp(pattern, name, n - 1) == 0 : strcmp(pattern, name) == 0;
}

static bool is_listed(const Opinion *list, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (name_matches(list[i].name, name))
            return true;
    return false;
}

typedef struct MemoryCheck {
    csh handle;
    cs_insn *theirs;
    unsigned compared, differ;
    uint8_t *seen;
} MemoryCheck;

static void check_memory(const uint8_t *bytes, unsigned code_size, void *opaque)
{
    if (code_size == 8 && bytes[0] == 0x62)
        return; /* Capstone 4.0.2 gives 50 EVEX rows wrong sizes; the native oracle judges them, with operands at the end of a page */
    MemoryCheck *check = opaque;
    Insn insn;
    if (insn_decode(&insn, bytes, 15, code_size, 0, 0) != INSN_OK || !insn.has_mem || insn.mem_size == 0)
        return;
    const uint8_t *code = bytes;
    size_t left = 15;
    uint64_t address = 0;
    if (!cs_disasm_iter(check->handle, &code, &left, &address, check->theirs))
        return;
    const cs_x86 *x86 = &check->theirs->detail->x86;
    for (unsigned i = 0; i < x86->op_count; i++) {
        if (x86->operands[i].type != X86_OP_MEM)
            continue;
        check->compared++;
        /* Capstone misses many stores, so only those it sees are required of the row. */
        bool access_differs = x86->operands[i].access & CS_AC_WRITE && !(insn.row->access & ACC_W) &&
                              !is_listed(access_exceptions, G_N_ELEMENTS(access_exceptions), insn.row->name);
        bool size_differs = x86->operands[i].size != insn.mem_size &&
                            !is_listed(size_exceptions, G_N_ELEMENTS(size_exceptions), insn.row->name);
        if ((size_differs || access_differs) && !check->seen[insn.row - insn_table]++) {
            check->differ++;
            printf("%-14s size %u access %u; capstone %s %s: size %u access %u\n", insn.row->name, insn.mem_size, insn.row->access,
                   check->theirs->mnemonic, check->theirs->op_str, x86->operands[i].size, x86->operands[i].access);
        }
        return;
    }
}

START_TEST(test_memory_operands)
{
    MemoryCheck check = {.seen = g_malloc0(insn_table_rows)};
    insn_decode_init();
    ck_assert_int_eq(cs_open(CS_ARCH_X86, CS_MODE_64, &check.handle), CS_ERR_OK);
    cs_option(check.handle, CS_OPT_DETAIL, CS_OPT_ON);
    check.theirs = cs_malloc(check.handle);
    for_each_encoding(8, 8, check_memory, &check);
    cs_free(check.theirs, 1);
    cs_close(&check.handle);
    g_free(check.seen);
    printf("%u memory operands compared, %u differ\n", check.compared, check.differ);
    ck_assert_uint_gt(check.compared, 1000);
    ck_assert_uint_eq(check.differ, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("insn-table");
    TCase *tcase = tcase_create("rows");
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, test_rows_are_well_formed);
    tcase_add_test(tcase, test_every_row_is_reachable);
    tcase_add_loop_test(tcase, test_sensitive, 0, G_N_ELEMENTS(sensitive));
    tcase_add_test(tcase, test_memory_operands);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
