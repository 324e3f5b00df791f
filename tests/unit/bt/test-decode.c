/*
 * The decoder against Capstone as second opinion: whenever both decode some bytes, they agree on the length; and operand sizes and access of
 * memory operands agree too.  Known differences are rows of a table, each with the manual reference that decided it.
 */
#include "bt/decode.h"

#include <capstone/capstone.h>
#include <check.h>
#include <glib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bt/insn-table.h"

static const unsigned code_sizes[3] = {2, 4, 8};
static csh handles[3]; /* by code size: 16, 32, 64 bits */
static cs_insn *scratch;

/* Where Capstone 4.0.2 is wrong or follows another vendor. */
typedef struct Exception {
    const char *why;
    uint8_t code_sizes; /* sum of 2, 4, 8: where it applies */
    uint8_t map, first, last;
    bool with_66;       /* only under an operand-size prefix */
} Exception;

static const Exception exceptions[] = {
    {"UD0 and UD1 have a ModRM byte (SDM 2D UD); both raise #UD whatever follows", 14, MAP_0F, 0xb9, 0xb9, false},
    {"as above", 14, MAP_0F, 0xff, 0xff, false},
    {"near branches have a 32-bit displacement in 64-bit code whatever the prefix (SDM 2A Jcc; Capstone follows AMD)", 8, MAP_1B, 0xe8,
     0xe9, true},
    {"as above", 8, MAP_0F, 0x80, 0x8f, true},
    {"a prefix or REX between 66 or 67 and the opcode changes nothing (SDM 2A 2.1.1)", 12, MAP_1B, 0xe8, 0xe9, false},
    {"as above", 8, MAP_1B, 0x68, 0x68, true},
    {"RET imm16 has two bytes at any operand size (SDM 2B RET)", 8, MAP_1B, 0xc2, 0xc2, false},

};

static bool is_exception(const Insn *insn)
{
    for (size_t i = 0; i < G_N_ELEMENTS(exceptions); i++) {
        const Exception *e = &exceptions[i];
        if (e->code_sizes & insn->code_size && e->map == insn->map && insn->opcode >= e->first && insn->opcode <= e->last &&
            (!e->with_66 || insn->opsize_prefix))
            return true;
    }
    return false;
}

typedef struct Tally {
    uint64_t both, only_ours, only_theirs, neither, differ;
} Tally;

static Tally tally;

static void print_bytes(const uint8_t *bytes, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        printf("%02x ", bytes[i]);
}

/* Compares one byte string; prints and counts a difference. */
static void compare(const uint8_t *bytes, unsigned mode)
{
    Insn insn;
    InsnDecode outcome = insn_decode(&insn, bytes, 15, code_sizes[mode], 0x1000, 0);
    const uint8_t *code = bytes;
    size_t left = 15;
    uint64_t address = 0x1000;
    bool theirs = cs_disasm_iter(handles[mode], &code, &left, &address, scratch);
    if (outcome != INSN_OK || !theirs) {
        tally.only_ours += outcome == INSN_OK;
        tally.only_theirs += theirs;
        tally.neither += outcome != INSN_OK && !theirs;
        if (getenv("SHOW_ONLY") && outcome == INSN_OK) {
            static uint8_t ours[16384];
            if (!ours[insn.row - insn_table]++) {
                printf("only ours: %u-bit %-14s ", code_sizes[mode] * 8, insn.row->name);
                print_bytes(bytes, insn.length);
                printf("\n");
            }
        }
        if (getenv("SHOW_ONLY") && theirs) {
            static uint8_t ids[X86_INS_ENDING];
            if (ids[scratch->id]++ < 3) {
                printf("only capstone: %u-bit %s %s  ", code_sizes[mode] * 8, scratch->mnemonic, scratch->op_str);
                print_bytes(bytes, scratch->size);
                printf("\n");
            }
        }
        return;
    }
    tally.both++;
    if (scratch->size == insn.length || is_exception(&insn))
        return;
    static uint8_t seen[16384];
    tally.differ++;
    if (!seen[insn.row - insn_table]++) {
        printf("%u-bit %s: ours %u, capstone %u (%s %s): ", code_sizes[mode] * 8, insn.row->name, insn.length, scratch->size,
               scratch->mnemonic, scratch->op_str);
        print_bytes(bytes, 15);
        printf("\n");
    }
}

static const uint8_t tail[12] = {0x24, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x01, 0x02, 0x03, 0x04};

static void fill(uint8_t *bytes, unsigned at)
{
    for (unsigned i = at; i < 15; i++)
        bytes[i] = tail[(i - at) % sizeof tail];
}

static void setup(void)
{
    static const cs_mode modes[3] = {CS_MODE_16, CS_MODE_32, CS_MODE_64};
    insn_decode_init();
    memset(&tally, 0, sizeof tally);
    for (unsigned i = 0; i < 3; i++)
        ck_assert_int_eq(cs_open(CS_ARCH_X86, modes[i], &handles[i]), CS_ERR_OK);
    scratch = cs_malloc(handles[2]);
}

static void teardown(void)
{
    cs_free(scratch, 1);
    for (unsigned i = 0; i < 3; i++)
        cs_close(&handles[i]);
}

static void expect_no_difference(uint64_t least)
{
    printf("both %lu, only ours %lu, only capstone %lu, neither %lu, differ %lu\n", tally.both, tally.only_ours, tally.only_theirs,
           tally.neither, tally.differ);
    ck_assert_uint_ge(tally.both, least);
    ck_assert_uint_eq(tally.differ, 0);
}

START_TEST(test_legacy_maps)
{
    static const uint8_t prefixes[][3] = {
        {0}, {0x66}, {0xf2}, {0xf3}, {0x67}, {0x66, 0x67}, {0x48}, {0x66, 0x48}, {0xf3, 0x48}, {0xf2, 0x48}, {0x41},
    };
    static const uint8_t escapes[4][2] = {{0}, {0x0f}, {0x0f, 0x38}, {0x0f, 0x3a}};
    unsigned mode = (unsigned)_i;
    for (unsigned p = 0; p < G_N_ELEMENTS(prefixes); p++) {
        if (prefixes[p][0] == 0x41 || prefixes[p][0] == 0x48 || prefixes[p][1] == 0x48)
            if (mode != 2)
                continue;
        for (unsigned map = 0; map < 4; map++) {
            uint8_t bytes[15];
            unsigned at = 0;
            for (unsigned i = 0; i < 3 && prefixes[p][i]; i++)
                bytes[at++] = prefixes[p][i];
            for (unsigned i = 0; i < 2 && escapes[map][i]; i++)
                bytes[at++] = escapes[map][i];
            for (unsigned opcode = 0; opcode < 256; opcode++)
                for (unsigned modrm = 0; modrm < 256; modrm++) {
                    bytes[at] = (uint8_t)opcode;
                    bytes[at + 1] = (uint8_t)modrm;
                    fill(bytes, at + 2);
                    compare(bytes, mode);
                }
        }
    }
    expect_no_difference(500000);
}
END_TEST

START_TEST(test_vex_maps)
{
    unsigned mode = (unsigned)_i;
    for (unsigned map = 1; map <= 3; map++)
        for (unsigned p1 = 0; p1 < 256; p1++) {
            unsigned vvvv = (p1 >> 3) & 15;
            if (vvvv != 15 && vvvv != 10)
                continue;
            for (unsigned opcode = 0; opcode < 256; opcode++)
                for (unsigned modrm = 0; modrm < 256; modrm += 1 + modrm % 3) {
                    uint8_t bytes[15] = {0xc4, (uint8_t)(0xe0 | map), (uint8_t)p1, (uint8_t)opcode, (uint8_t)modrm};
                    fill(bytes, 5);
                    compare(bytes, mode);
                }
        }
    expect_no_difference(50000);
}
END_TEST

START_TEST(test_random_bytes)
{
    unsigned mode = (unsigned)_i;
    uint64_t seed = 0x9e3779b97f4a7c15u + mode;
    for (unsigned n = 0; n < 300000; n++) {
        uint8_t bytes[16];
        for (unsigned i = 0; i < 16; i += 8) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            memcpy(bytes + i, &seed, 8);
        }
        if (n % 3 == 0)
            bytes[0] = 0x0f;
        compare(bytes, mode);
    }
    expect_no_difference(100000);
}
END_TEST

/* Fine points that a length does not show. */
typedef struct Particular {
    const char *name;
    unsigned code_size;
    uint8_t bytes[15];
    InsnDecode outcome;
    const char *row;
    unsigned length, mem_size, reg;
    int base, index;
    unsigned segment;
} Particular;

static const Particular particulars[] = {
    {"RIP-relative", 8, {0x8b, 0x05, 1, 2, 3, 4}, INSN_OK, "mov", 6, 4, 0, INSN_REG_RIP, INSN_REG_NONE, X86_DS},
    {"disp32 in 32-bit code", 4, {0x8b, 0x05, 1, 2, 3, 4}, INSN_OK, "mov", 6, 4, 0, INSN_REG_NONE, INSN_REG_NONE, X86_DS},
    {"no index 4", 8, {0x8b, 0x04, 0x24}, INSN_OK, "mov", 3, 4, 0, X86_RSP, INSN_REG_NONE, X86_SS},
    {"index R12", 8, {0x42, 0x8b, 0x04, 0x20}, INSN_OK, "mov", 4, 4, 0, X86_RAX, X86_R12, X86_DS},
    {"base R13 is not SS", 8, {0x41, 0x8b, 0x45, 0}, INSN_OK, "mov", 4, 4, 0, X86_R13, INSN_REG_NONE, X86_DS},
    {"16-bit BP + SI", 2, {0x8b, 0x02}, INSN_OK, "mov", 2, 2, 0, X86_RBP, X86_RSI, X86_SS},
    {"REX before a prefix is lost", 8, {0x48, 0x66, 0x8b, 0x00}, INSN_OK, "mov", 4, 2, 0, X86_RAX, INSN_REG_NONE, X86_DS},
    {"ES prefix means nothing", 8, {0x26, 0x8b, 0x00}, INSN_OK, "mov", 3, 4, 0, X86_RAX, INSN_REG_NONE, X86_DS},
    {"GS survives a later CS prefix", 8, {0x65, 0x2e, 0x8b, 0x00}, INSN_OK, "mov", 4, 4, 0, X86_RAX, INSN_REG_NONE, X86_GS},
    {"REX.R and segment registers", 8, {0x44, 0x8c, 0x18}, INSN_OK, "mov", 3, 2, X86_DS, X86_RAX, INSN_REG_NONE, X86_DS},
    {"VEX.W in 32-bit code", 4, {0xc4, 0xe2, 0xf8, 0xf2, 0x00}, INSN_OK, "andn", 5, 4, 0, X86_RAX, INSN_REG_NONE, X86_DS},
    {"VEX.W in 64-bit code", 8, {0xc4, 0xe2, 0xf8, 0xf2, 0x00}, INSN_OK, "andn", 5, 8, 0, X86_RAX, INSN_REG_NONE, X86_DS},
    {"PMOVZXBD ymm", 8, {0xc4, 0xe2, 0x7d, 0x31, 0x00}, INSN_OK, "pmovzxbd", 5, 8, 0, X86_RAX, INSN_REG_NONE, X86_DS},
    {"vvvv must be 1111", 8, {0xc5, 0xf0, 0x10, 0x00}, INSN_UNDEFINED, NULL, 0, 0, 0, 0, 0, 0},
    {"66 before VEX", 8, {0x66, 0xc5, 0xf8, 0x10, 0x00}, INSN_UNDEFINED, NULL, 0, 0, 0, 0, 0, 0},
    {"LOCK on a load", 8, {0xf0, 0x03, 0x00}, INSN_UNDEFINED, NULL, 0, 0, 0, 0, 0, 0},
    {"LOCK on a register", 8, {0xf0, 0x01, 0xc0}, INSN_UNDEFINED, NULL, 0, 0, 0, 0, 0, 0},
    {"fifteen bytes are enough", 8, {0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90}, INSN_OK,
     "xchg", 15, 0, 0, INSN_REG_NONE, INSN_REG_NONE, X86_DS},
    {"sixteen are too many", 8, {0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66},
     INSN_TOO_LONG, NULL, 0, 0, 0, 0, 0, 0},
};

START_TEST(test_particulars)
{
    const Particular *p = &particulars[_i];
    Insn insn;
    ck_assert_msg(insn_decode(&insn, p->bytes, 15, p->code_size, 0, 0) == p->outcome, "%s: outcome", p->name);
    if (p->outcome != INSN_OK)
        return;
    ck_assert_msg(strcmp(insn.row->name, p->row) == 0, "%s: row %s", p->name, insn.row->name);
    ck_assert_msg(insn.length == p->length && insn.mem_size == p->mem_size, "%s: length %u, operand %u", p->name, insn.length, insn.mem_size);
    ck_assert_msg(insn.reg == p->reg && insn.base == p->base && insn.index == p->index && insn.segment == p->segment,
                  "%s: reg %u base %d index %d segment %u", p->name, insn.reg, insn.base, insn.index, insn.segment);
}
END_TEST

START_TEST(test_truncated)
{
    static const uint8_t bytes[] = {0x66, 0x48, 0xc7, 0x84, 0x24, 1, 2, 3, 4, 5, 6, 7, 8};
    Insn insn;
    for (unsigned n = 0; n < sizeof bytes; n++)
        ck_assert_uint_eq(insn_decode(&insn, bytes, n, 8, 0, 0), INSN_TRUNCATED);
    ck_assert_uint_eq(insn_decode(&insn, bytes, sizeof bytes, 8, 0, 0), INSN_OK);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("decode");
    TCase *tcase = tcase_create("capstone");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, test_legacy_maps, 0, 3);
    tcase_add_loop_test(tcase, test_vex_maps, 0, 3);
    tcase_add_loop_test(tcase, test_random_bytes, 0, 3);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("particulars");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_loop_test(tcase, test_particulars, 0, G_N_ELEMENTS(particulars));
    tcase_add_test(tcase, test_truncated);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
