/* String instructions, port I/O, and the memory access under them. */
#include "exec-fixture.h"

static Insn insn_rep(uint8_t opcode, unsigned opsize)
{
    Insn insn = fx_insn(opcode);
    insn.opsize = (uint8_t)opsize;
    insn.rep = true;
    return insn;
}

static void fill_pattern(Gpa gpa, unsigned size)
{
    for (unsigned i = 0; i < size; i++)
        fx_ram[gpa + i] = (uint8_t)(i * 7 + (i >> 8));
}

/* Sizes and misalignments of REP MOVS over several pages, both directions. */
static const struct {
    uint8_t size;
    uint16_t from, to;
    bool is_down;
} moves[] = {
    {1, 0, 0, false}, {1, 5, 9, false}, {8, 0, 0, false}, {8, 3, 1, false}, {4, 2, 0xffe, false}, {2, 1, 1, true}, {8, 0, 8, true}, {8, 7, 3, true},
};

START_TEST(movs_over_pages)
{
    unsigned size = moves[_i].size, n = 3000, bytes = n * size;
    Gpa from = DATA + moves[_i].from, to = 0x40000 + moves[_i].to;
    fx_long();
    fill_pattern(DATA, 0x8000);
    for (unsigned page = 0; page < 7; page++) /* not contiguous: every second virtual page elsewhere */
        fx_put(TABLES + 0x3000 + (0x41 + page) * 8, 8, (uint64_t)(0x60 + page * 2) << 12 | 7);
    mmu_flush(&fx->mmu, true);
    for (unsigned round = 0; round < 2; round++) { /* with an empty TLB, and a full one, which makes longer runs where pages are contiguous */
        memset(fx_ram + 0x40000, 0, 0x1000);
        memset(fx_ram + 0x60000, 0, 0xe000);
        fx->gpr[X86_RCX] = n;
        fx->gpr[X86_RSI] = moves[_i].is_down ? from + bytes - size : from;
        fx->gpr[X86_RDI] = moves[_i].is_down ? to + bytes - size : to;
        if (moves[_i].is_down)
            bt_set_flags(fx, X86_FLAG_DF);
        ck_assert_int_eq(fx_run(ex_movs, insn_rep(size == 1 ? 0xa4 : 0xa5, size)), FX_DONE);
        ck_assert_uint_eq(fx->gpr[X86_RCX], 0);
        ck_assert_uint_eq(fx->gpr[X86_RDI], moves[_i].is_down ? to - size : to + bytes);
        ck_assert_uint_eq(fx->gpr[X86_RSI], moves[_i].is_down ? from - size : from + bytes);
        for (unsigned i = 0; i < bytes; i++) {
            Gva gva = to + i;
            Gpa gpa = gva < 0x41000 ? gva : ((0x60 + ((gva >> 12) - 0x41) * 2) << 12) + (gva & 0xfff);
            ck_assert_msg(fx_ram[gpa] == fx_ram[from + i], "row %d byte %u", _i, i);
        }
    }
}
END_TEST

/* A run over pages in a row ends where the row does, here at a page that has become read-only. */
START_TEST(long_runs_end_with_the_row)
{
    fx_long();
    memset(fx_ram + 0x40000, 0, 0x6000);
    for (unsigned round = 0; round < 2; round++) {
        fx->gpr[X86_RCX] = 0x5000;
        fx->gpr[X86_RDI] = 0x40800;
        fx->gpr[X86_RAX] = round + 1;
        if (!round) {
            ck_assert_int_eq(fx_run(ex_stos, insn_rep(0xaa, 1)), FX_DONE);
            continue;
        }
        fx_page(0x43000, 5);
        mmu_invlpg(&fx->mmu, 0x43000);
        ck_assert_int_eq(fx_run(ex_stos, insn_rep(0xaa, 1)), X86_EXC_PF);
        ck_assert_uint_eq(fx->exception.cr2, 0x43000);
        ck_assert_uint_eq(fx->gpr[X86_RDI], 0x43000);
        ck_assert_uint_eq(fx->gpr[X86_RCX], 0x5000 - 0x2800);
    }
    for (unsigned i = 0; i < 0x5000; i++)
        ck_assert_uint_eq(fx_ram[0x40800 + i], i < 0x2800 ? 2 : 1);
}
END_TEST

/* With a full TLB the bytes that were just written are read again, over pages in a row. */
START_TEST(long_runs_overlap)
{
    fx_long();
    for (unsigned round = 0; round < 2; round++) {
        memset(fx_ram + DATA, 0, 0x4000);
        fx_put(DATA, 4, 0x04030201);
        fx->gpr[X86_RCX] = 0x3000;
        fx->gpr[X86_RSI] = DATA;
        fx->gpr[X86_RDI] = DATA + 3;
        ck_assert_int_eq(fx_run(ex_movs, insn_rep(0xa4, 1)), FX_DONE);
        for (unsigned i = 0; i < 0x3003; i++)
            ck_assert_uint_eq(fx_ram[DATA + i], i % 3 + 1);
    }
}
END_TEST

START_TEST(movs_overlap_repeats_pattern)
{
    fx_long();
    fx_put(DATA, 4, 0x04030201);
    fx->gpr[X86_RCX] = 100;
    fx->gpr[X86_RSI] = DATA;
    fx->gpr[X86_RDI] = DATA + 4;
    ck_assert_int_eq(fx_run(ex_movs, insn_rep(0xa4, 4)), FX_DONE);
    for (unsigned i = 0; i < 104; i++)
        ck_assert_uint_eq(fx_ram[DATA + i], i % 4 + 1);
}
END_TEST

START_TEST(fault_keeps_progress)
{
    fx_long();
    fill_pattern(DATA, 0x3000);
    fx_page(0x42000, 5); /* read-only, user */
    fx->gpr[X86_RCX] = 0x600;
    fx->gpr[X86_RSI] = DATA;
    fx->gpr[X86_RDI] = 0x40004;
    ck_assert_int_eq(fx_run(ex_movs, insn_rep(0xa5, 8)), X86_EXC_PF);
    ck_assert_uint_eq(fx->exception.cr2, 0x42000);
    ck_assert_uint_eq(fx->exception.code, X86_PF_P | X86_PF_WRITE);
    ck_assert_uint_eq(fx->gpr[X86_RDI], 0x42000 - 4); /* the element that crosses the pages */
    ck_assert_uint_eq(fx->gpr[X86_RCX], 0x600 - 0x3ff);
    ck_assert_uint_eq(fx->gpr[X86_RSI], DATA + 0x3ff * 8);
    ck_assert_uint_eq(fx_get(0x41ffc, 4), 0); /* nothing of it was written */
    ck_assert_uint_eq(fx->rip, CODE);
    fx_page(0x42000, 7);
    ck_assert_int_eq(fx_run(ex_movs, insn_rep(0xa5, 8)), FX_DONE);
    ck_assert_mem_eq(fx_ram + DATA, fx_ram + 0x40004, 0x3000);
}
END_TEST

START_TEST(pauses_when_polled)
{
    fx_long();
    fx->gpr[X86_RCX] = 0x3000;
    fx->gpr[X86_RDI] = 0x40000;
    fx->poll_kick = 1;
    ck_assert_int_eq(fx_run(ex_stos, insn_rep(0xaa, 4)), FX_DONE);
    ck_assert_uint_eq(fx->rip, CODE); /* the same instruction again */
    ck_assert_uint_eq(fx->gpr[X86_RCX], 0x2000);
    fx->poll_kick = 0;
    ck_assert_int_eq(fx_run(ex_stos, insn_rep(0xaa, 4)), FX_DONE);
    ck_assert_uint_eq(fx->rip, CODE + 2);
    ck_assert_uint_eq(fx->gpr[X86_RDI], 0x43000);
}
END_TEST

START_TEST(sixteen_bit_addresses_wrap)
{
    fx_real();
    fx->gpr[X86_RCX] = 0xdead0004;
    fx->gpr[X86_RDI] = 0xbeeffffe;
    fx->gpr[X86_RAX] = 0x5a;
    fx->seg[X86_ES] = (X86Segment){.selector = 0x4000, .base = 0x40000, .limit = 0xffff, .attr = 0x93};
    ck_assert_int_eq(fx_run(ex_stos, insn_rep(0xaa, 2)), FX_DONE);
    ck_assert_uint_eq(fx->gpr[X86_RDI], 0xbeef0002);
    ck_assert_uint_eq(fx->gpr[X86_RCX], 0xdead0000);
    ck_assert_uint_eq(fx_get(0x4fffe, 2), 0x5a5a);
    ck_assert_uint_eq(fx_get(0x40000, 4), 0x5a5a);
    fx->gpr[X86_RDI] = 0xffff;
    fx->gpr[X86_RCX] = 1;
    ck_assert_int_eq(fx_run(ex_stos, insn_rep(0xab, 2)), X86_EXC_GP); /* the word at FFFF leaves the segment */
}
END_TEST

START_TEST(segment_limit_stops_exactly)
{
    fx_user();
    fx_put(GDT + SEL_DATA3, 8, fx_descriptor(0x40000, 0x1fff, 0xf3 | X86_SEG_DB));
    fx_segment(X86_ES, SEL_DATA3 | 3);
    fx->gpr[X86_RCX] = 0x1000;
    fx->gpr[X86_RDI] = 0x1800;
    fx->gpr[X86_RAX] = 0xffffffff;
    ck_assert_int_eq(fx_run(ex_stos, insn_rep(0xab, 4)), X86_EXC_GP);
    ck_assert_uint_eq(fx->gpr[X86_RDI], 0x2000);
    ck_assert_uint_eq(fx->gpr[X86_RCX], 0x1000 - 0x200);
    ck_assert_uint_eq(fx_get(0x41ffc, 8), 0xffffffff);
}
END_TEST

/* CMPS and SCAS against the host's own instruction, flags included. */
static const struct {
    uint64_t a, b;
} pairs[] = {
    {0, 0}, {1, 2}, {2, 1}, {0x80, 1}, {0x7f, 0xff}, {0x10, 1}, {0x8000, 0x7fff}, {0x80000000, 1}, {0x8000000000000000, 1}, {0xff, 0x100},
    {0xffffffffffffffff, 1}, {0x123456789abcdef0, 0x0fedcba987654321},
};

START_TEST(scas_flags)
{
    fx_long();
    for (unsigned size = 1; size <= 8; size *= 2) {
        uint64_t flags;
        fx_put(DATA, 8, pairs[_i].b);
        fx->gpr[X86_RAX] = pairs[_i].a;
        fx->gpr[X86_RDI] = DATA;
        Insn insn = fx_insn(size == 1 ? 0xae : 0xaf);
        insn.opsize = (uint8_t)size;
        ck_assert_int_eq(fx_run(ex_scas, insn), FX_DONE);
        switch (size) {
        case 1: __asm__("cmp %b2, %b1; pushf; pop %0" : "=&r"(flags) : "r"(pairs[_i].a), "r"(pairs[_i].b) : "cc"); break;
        case 2: __asm__("cmp %w2, %w1; pushf; pop %0" : "=&r"(flags) : "r"(pairs[_i].a), "r"(pairs[_i].b) : "cc"); break;
        case 4: __asm__("cmp %k2, %k1; pushf; pop %0" : "=&r"(flags) : "r"(pairs[_i].a), "r"(pairs[_i].b) : "cc"); break;
        default: __asm__("cmp %q2, %q1; pushf; pop %0" : "=&r"(flags) : "r"(pairs[_i].a), "r"(pairs[_i].b) : "cc"); break;
        }
        ck_assert_uint_eq(bt_flags(fx) & X86_FLAGS_STATUS, flags & X86_FLAGS_STATUS);
    }
}
END_TEST

START_TEST(repne_scas_finds)
{
    fx_long();
    memset(fx_ram + DATA, 'x', 0x3000);
    fx_ram[DATA + 0x2345] = 0;
    fx->gpr[X86_RAX] = 0;
    fx->gpr[X86_RCX] = ~(uint64_t)0;
    fx->gpr[X86_RDI] = DATA;
    Insn insn = fx_insn(0xae);
    insn.repne = true;
    ck_assert_int_eq(fx_run(ex_scas, insn), FX_DONE);
    ck_assert_uint_eq(fx->gpr[X86_RDI], DATA + 0x2346);
    ck_assert_uint_eq(~fx->gpr[X86_RCX], 0x2346);
    ck_assert(bt_flags(fx) & X86_FLAG_ZF);
}
END_TEST

START_TEST(repe_cmps_stops_at_difference)
{
    fx_long();
    fill_pattern(DATA, 0x2000);
    fill_pattern(0x40000, 0x2000);
    fx_ram[0x41003] ^= 1;
    fx->gpr[X86_RCX] = 0x800;
    fx->gpr[X86_RSI] = DATA;
    fx->gpr[X86_RDI] = 0x40000;
    ck_assert_int_eq(fx_run(ex_cmps, insn_rep(0xa7, 4)), FX_DONE);
    ck_assert_uint_eq(fx->gpr[X86_RSI], DATA + 0x1004);
    ck_assert_uint_eq(fx->gpr[X86_RCX], 0x800 - 0x401);
    ck_assert(!(bt_flags(fx) & X86_FLAG_ZF));
    /* A count of zero changes no flag. */
    bt_set_flags(fx, X86_FLAG_ZF | X86_FLAG_CF);
    fx->gpr[X86_RCX] = 0;
    ck_assert_int_eq(fx_run(ex_cmps, insn_rep(0xa7, 4)), FX_DONE);
    ck_assert_uint_eq(bt_flags(fx), X86_FLAG_ZF | X86_FLAG_CF | X86_FLAG_FIXED);
}
END_TEST

START_TEST(store_to_code_page_is_reported)
{
    fx_long();
    code_map_set(fx->mmu.code, 0x40000, true);
    fx->gpr[X86_RCX] = 0x1000;
    fx->gpr[X86_RDI] = 0x40000;
    ck_assert_int_eq(fx_run(ex_stos, insn_rep(0xaa, 4)), FX_DONE);
    ck_assert_uint_eq(fx_code_writes, 1); /* the first store drops the mark, the rest goes at full speed */
    ck_assert(fx->store_hit_code);
}
END_TEST

START_TEST(page_crossing_store_checks_both)
{
    fx_long();
    fx_page(0x41000, 0);
    fx_put(0x40ff8, 8, 0x1111111111111111);
    Insn insn = fx_insn_mem(0x8f, 0, 0x40ffc);
    insn.opsize = 8;
    ck_assert_int_eq(fx_run(ex_pop_rm, insn), X86_EXC_PF);
    ck_assert_uint_eq(fx->exception.cr2, 0x41000);
    ck_assert_uint_eq(fx_get(0x40ff8, 8), 0x1111111111111111);
    ck_assert_uint_eq(fx->gpr[X86_RSP], STACK0 - 0x100);
}
END_TEST

START_TEST(mmio_goes_to_the_host)
{
    fx_protected();
    Insn insn = fx_insn(0xa3);
    insn.imm = 0xfee00300;
    fx->gpr[X86_RAX] = 0xcafe;
    ck_assert_int_eq(fx_run(ex_moffs, insn), FX_DONE);
    ck_assert_uint_eq(fx_host.port, 0xfee00300);
    ck_assert_uint_eq(fx_host.value, 0xcafe);
    insn.opcode = 0xa1;
    ck_assert_int_eq(fx_run(ex_moffs, insn), FX_DONE);
    ck_assert_uint_eq(fx->gpr[X86_RAX], 0x55667788);
    insn.imm = 0xfee00fff; /* crosses into the next page: pieces of 1 and 3 bytes */
    ck_assert_int_eq(fx_run(ex_moffs, insn), FX_DONE);
    ck_assert_uint_eq(fx->gpr[X86_RAX], 0x66778811);
}
END_TEST

START_TEST(ports_and_permission_bitmap)
{
    fx_user();
    Insn out = fx_insn(0xee), in = fx_insn(0xed);
    fx->gpr[X86_RDX] = 0x3f8;
    fx_put(TSS + 102, 2, 0x400); /* beyond the limit: no bitmap */
    ck_assert_int_eq(fx_run(ex_out, out), X86_EXC_GP);
    fx_put(TSS + 102, 2, 0x80);
    memset(fx_ram + TSS + 0x80, 0xff, 0x100);
    fx_put(TSS + 0x80 + 0x3f8 / 8, 1, 0xf0);
    fx->gpr[X86_RAX] = 0x41;
    ck_assert_int_eq(fx_run(ex_out, out), FX_DONE);
    ck_assert_uint_eq(fx_host.port, 0x3f8);
    ck_assert_uint_eq(fx_host.value, 0x41);
    fx_host.port_answer = 0x12345678;
    ck_assert_int_eq(fx_run(ex_in, in), FX_DONE);
    ck_assert_uint_eq(fx->gpr[X86_RAX], 0x12345678);
    fx->gpr[X86_RDX] = 0x3f9; /* the dword reaches a forbidden port */
    ck_assert_int_eq(fx_run(ex_in, in), X86_EXC_GP);
    bt_set_flags(fx, X86_FLAG_IOPL);
    ck_assert_int_eq(fx_run(ex_in, in), FX_DONE);
}
END_TEST

START_TEST(rep_ins_checks_memory_first)
{
    fx_long();
    fx_page(0x41000, 0);
    fx->gpr[X86_RCX] = 4;
    fx->gpr[X86_RDI] = 0x40ffe;
    fx->gpr[X86_RDX] = 0x1f0;
    fx_host.port_answer = 0x77;
    ck_assert_int_eq(fx_run(ex_ins, insn_rep(0x6c, 4)), X86_EXC_PF);
    ck_assert_uint_eq(fx_host.nport_reads, 2); /* no byte of the device is lost */
    ck_assert_uint_eq(fx->gpr[X86_RCX], 2);
    ck_assert_uint_eq(fx_get(0x40ffe, 2), 0x7777);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("exec-string");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, fx_setup, fx_teardown);
    tcase_add_loop_test(tcase, movs_over_pages, 0, (int)(sizeof moves / sizeof moves[0]));
    tcase_add_test(tcase, movs_overlap_repeats_pattern);
    tcase_add_test(tcase, long_runs_end_with_the_row);
    tcase_add_test(tcase, long_runs_overlap);
    tcase_add_test(tcase, fault_keeps_progress);
    tcase_add_test(tcase, pauses_when_polled);
    tcase_add_test(tcase, sixteen_bit_addresses_wrap);
    tcase_add_test(tcase, segment_limit_stops_exactly);
    tcase_add_loop_test(tcase, scas_flags, 0, (int)(sizeof pairs / sizeof pairs[0]));
    tcase_add_test(tcase, repne_scas_finds);
    tcase_add_test(tcase, repe_cmps_stops_at_difference);
    tcase_add_test(tcase, store_to_code_page_is_reported);
    tcase_add_test(tcase, page_crossing_store_checks_both);
    tcase_add_test(tcase, mmio_goes_to_the_host);
    tcase_add_test(tcase, ports_and_permission_bitmap);
    tcase_add_test(tcase, rep_ins_checks_memory_first);
    suite_add_tcase(suite, tcase);
    return fx_main(suite);
}
