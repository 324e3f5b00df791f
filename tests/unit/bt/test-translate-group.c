/* Accesses that share a check, and flags that are made again: wherever the shared check cannot hold, nothing may differ from single ones. */
#include "../../lib/bt-check.h"

static uint64_t quad(Gpa at)
{
    uint64_t value;
    memcpy(&value, bm_ram + at, 8);
    return value;
}

static void quad_set(Gpa at, uint64_t value) { memcpy(bm_ram + at, &value, 8); }

static void setup(void)
{
    bm_setup();
    bm_long();
}

/* Reads and writes of four quadwords at RBX, at every distance from the end of a page, the second page being somewhere else. */
GUEST(four, "mov rax, [rbx]\nadd [rbx + 8], rax\nmov rcx, [rbx + 8]\nmov [rbx + 24], rcx\nlea rdx, [rbx + 16]\nmov [rdx], rdx\n"
            "add rdx, 16\nxor rcx, [rdx - 8]\nhlt");

START_TEST(spans_of_all_kinds)
{
    Gva at = 0x300fc8 + 4 * (unsigned)_i;
    PUT(BM_CODE, four);
    *bm_pte(0x301000) = BM_FREE | 3;
    for (Gva a = 0x300f00; a < 0x301000; a += 8)
        quad_set(a, a * 0x10001);
    for (Gva a = BM_FREE; a < BM_FREE + 0x100; a += 8)
        quad_set(a, a * 0x30001);
    uint8_t want[0x80]; /* what linear 0x300fc0 and on holds afterwards */
    memcpy(want, bm_ram + 0x300fc0, 0x40);
    memcpy(want + 0x40, bm_ram + BM_FREE, 0x40);
    uint64_t a, b;
    uint8_t *p = want + (at - 0x300fc0);
    memcpy(&a, p, 8);
    memcpy(&b, p + 8, 8);
    b += a;
    memcpy(p + 8, &b, 8);
    memcpy(p + 24, &b, 8);
    uint64_t address = at + 16;
    memcpy(p + 16, &address, 8);
    bm_state.gpr[X86_RBX] = at;
    run_to_end();
    ck_assert_mem_eq(bm_ram + 0x300fc0, want, 0x40);
    ck_assert_mem_eq(bm_ram + BM_FREE, want + 0x40, 0x40);
    ck_assert_uint_eq(reg(X86_RCX), 0);
    ck_assert_uint_eq(reg(X86_RAX), a);
}
END_TEST

/* The page of a group allows reading only: reads go on, the store faults at itself, and the dirty bit is not set before. */
GUEST(read_then_store, "mov rax, [rbx]\nmov rcx, [rbx + 8]\ncmp rax, rcx\nmov rdx, [rbx + 16]\nmov [rbx + 24], rax\nhlt");

START_TEST(store_faults_at_itself)
{
    PUT(BM_CODE, read_then_store);
    quad_set(0x300000, 7);
    quad_set(0x300008, 9);
    quad_set(0x300010, 11);
    *bm_pte(0x300000) = 0x300000 | 1;
    bm_state.cr0 |= X86_CR0_WP;
    bm_state.gpr[X86_RBX] = 0x300000;
    BmStop stop = run();
    ck_assert_int_eq(stop.vector, X86_EXC_PF);
    ck_assert_uint_eq(stop.rip, BM_CODE + 14);
    ck_assert_uint_eq(stop.code, 3);
    ck_assert_uint_eq(stop.rflags & X86_FLAGS_STATUS, X86_FLAG_CF | X86_FLAG_SF | X86_FLAG_AF);
    ck_assert_uint_eq(reg(X86_RDX), 11);
    ck_assert_uint_eq(*bm_pte(0x300000) & 0x60, 0x20);
}
END_TEST

/* A store that is jumped over must not make its page dirty, nor ask for the right to write. */
GUEST(store_not_reached, "mov rax, [rbx]\ntest rax, rax\njnz 1f\nmov [rbx + 8], rax\n1: mov rcx, [rbx + 16]\nhlt");

START_TEST(store_behind_a_branch_asks_for_nothing)
{
    PUT(BM_CODE, store_not_reached);
    quad_set(0x300000, 7);
    quad_set(0x300010, 11);
    *bm_pte(0x300000) = 0x300000 | 3;
    bm_state.gpr[X86_RBX] = 0x300000;
    run_to_end();
    ck_assert_uint_eq(reg(X86_RCX), 11);
    ck_assert_uint_eq(*bm_pte(0x300000) & 0x60, 0x20);
}
END_TEST

/* A group on a device: each access once, in order. */
GUEST(on_device, "mov eax, [rbx]\nmov ecx, [rbx + 4]\nmov [rbx + 8], eax\npush [rbx + 12]\nhlt");

START_TEST(device_is_asked_once_for_each)
{
    PUT(BM_CODE, on_device);
    bm_host.device_answer = 0x55;
    bm_state.gpr[X86_RBX] = BM_DEVICE;
    run_to_end();
    ck_assert_uint_eq(bm_host.ndevice, 4);
    ck_assert_uint_eq(reg(X86_RCX), 0x55);
    ck_assert_uint_eq(quad(BM_STACK - 8) & 0xff, 0x55);
}
END_TEST

/* A group whose stores change the instruction after them. */
GUEST(into_own_block, "lea rbx, [rip + 1f]\nmov al, [rbx]\nmov byte ptr [rbx + 1], 2\nmov cl, [rbx + 1]\n1: mov eax, 1\nhlt");

START_TEST(group_writes_its_own_block)
{
    PUT(BM_CODE, into_own_block);
    run_to_end();
    ck_assert_uint_eq(reg(X86_RAX), 2);
    ck_assert_uint_eq(reg(X86_RCX) & 0xff, 2);
}
END_TEST

/* A base that changes in ways the pass must see: each would read the wrong quadword if it did not. */
GUEST(base_changes,
      "mov rax, [rbx]\nmov ecx, 0\nxchg rbx, rsi\nadd rax, [rbx + 8]\nxchg rbx, rsi\nlea rbx, [rbx + 16]\nadd rax, [rbx]\n"
      "mov bl, 0x20\nadd rax, [rbx]\nmov bh, 0x30\nadd rax, [rbx]\ncdq\ninc rbx\nadd rax, [rbx - 1]\npush rbx\npop rdi\nadd rax, [rdi + 7]\n"
      "mov ebx, ebx\nadd rax, [rbx + 7]\nhlt");

START_TEST(changes_of_the_base_are_seen)
{
    PUT(BM_CODE, base_changes);
    static const struct { Gpa at; uint64_t value; } cells[] = {
        {0x303000, 1}, {0x305008, 10}, {0x303010, 100}, {0x303020, 7000}, {0x303028, 30000},
    };
    for (unsigned i = 0; i < G_N_ELEMENTS(cells); i++)
        quad_set(cells[i].at, cells[i].value);
    bm_state.gpr[X86_RBX] = 0x303000;
    bm_state.gpr[X86_RSI] = 0x305000;
    run_to_end();
    ck_assert_uint_eq(reg(X86_RAX), 1 + 10 + 100 + 7000 + 7000 + 7000 + 30000 + 30000);
}
END_TEST

/* Pushes over the end of a page, an absent one: the fault is at the push that needs it. */
GUEST(pushes, "mov rsp, rbx\npush rax\npush rcx\npush rdx\npush rsi\nhlt");

START_TEST(pushes_into_an_absent_page)
{
    PUT(BM_CODE, pushes);
    *bm_pte(0x300000) = 0;
    bm_state.gpr[X86_RBX] = 0x301010;
    BmStop stop = run();
    ck_assert_int_eq(stop.vector, X86_EXC_PF);
    ck_assert_uint_eq(stop.rip, BM_CODE + 5);
    ck_assert_uint_eq(stop.rsp, 0x301000);
}
END_TEST

/* Flags that are made again: for a return, a fault, a crossed page and a device. */
GUEST(again_ret, "sub rsp, 8\nadd rsp, 8\ncall 2f\nlahf\nmov r12, rax\nhlt\n2: mov ecx, 5\ncmp ecx, 7\nmov rdx, [rbx]\nmov rsi, [rbx + 8]\nret");
GUEST(again_cross, "mov ecx, 5\ncmp ecx, 7\nmov rdx, [rbx + 0xff8]\nmov rsi, [rbx + 0x1000]\nmov rdi, [rbx + 0x1008]\nlahf\nmov r12, rax\nhlt");
GUEST(again_device, "mov ecx, 5\nsub ecx, 7\nmov edx, [rbp]\nlahf\nmov r12, rax\nhlt");
GUEST(again_jump, "lea rdx, [rip + 1f]\nmov ecx, 3\nsub ecx, 5\nmov rsi, [rbx]\njmp rdx\n1: lahf\nmov r12, rax\nhlt");
static const struct { const uint8_t *code, *end; } again[] = {
    {again_ret, again_ret_end}, {again_cross, again_cross_end}, {again_device, again_device_end}, {again_jump, again_jump_end},
};

START_TEST(flags_are_made_again)
{
    bm_code(BM_CODE, again[_i].code, (size_t)(again[_i].end - again[_i].code));
    bm_state.gpr[X86_RBX] = 0x300000;
    bm_state.gpr[X86_RBP] = BM_DEVICE;
    for (unsigned round = 0; round < 3; round++) { /* unlinked, linked, from the jump cache */
        bm_state.rip = BM_CODE;
        bm_state.halted = false;
        bm_state.gpr[X86_R12] = 0;
        run_to_end();
        ck_assert_uint_eq(reg(X86_R12) >> 8 & 0xff, 0x93); /* SF, AF, CF of 5 - 7; PF of fe is 0 */
    }
}
END_TEST

/* A search through nodes of {next[2], key} that lie in pages of their own, one of them over the end of a page; the loop is two blocks. */
GUEST(search, "jmp 2f\n1: setb cl\nmovzx ecx, cl\nmov rbx, [rbx + rcx * 8]\ninc edx\n2: cmp [rbx + 16], rax\njne 1b\nhlt");

START_TEST(pointer_is_carried_over_an_edge)
{
    static const Gpa node[] = {0x300000, 0x310008, 0x320010, 0x32fff4, 0x340000, 0x350000};
    PUT(BM_CODE, search);
    for (unsigned i = 0; i < G_N_ELEMENTS(node); i++) {
        quad_set(node[i] + 8 * (i & 1), node[(i + 1) % G_N_ELEMENTS(node)]);
        quad_set(node[i] + 16, i & 1 ? 50 : 200);
    }
    quad_set(node[5] + 16, 100);
    for (unsigned round = 0; round < 3; round++) {
        bm_state.rip = BM_CODE;
        bm_state.halted = false;
        bm_state.gpr[X86_RBX] = node[0];
        bm_state.gpr[X86_RAX] = 100;
        bm_state.gpr[X86_RDX] = 0;
        run_to_end();
        ck_assert_uint_eq(reg(X86_RBX), node[5]);
        ck_assert_uint_eq(reg(X86_RDX), 5);
    }
    unsigned ncarried = 0;
    for (unsigned i = 0; i < bm->bt->nblocks; i++)
        ncarried += bm->bt->blocks[i].carry_base == X86_RBX;
    ck_assert_uint_ge(ncarried, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bt-translate-group");
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, setup, bm_teardown);
    tcase_set_timeout(tc, 30);
    tcase_add_loop_test(tc, spans_of_all_kinds, 0, 14);
    tcase_add_test(tc, store_faults_at_itself);
    tcase_add_test(tc, store_behind_a_branch_asks_for_nothing);
    tcase_add_test(tc, device_is_asked_once_for_each);
    tcase_add_test(tc, group_writes_its_own_block);
    tcase_add_test(tc, changes_of_the_base_are_seen);
    tcase_add_test(tc, pushes_into_an_absent_page);
    tcase_add_test(tc, pointer_is_carried_over_an_edge);
    tcase_add_loop_test(tc, flags_are_made_again, 0, (int)G_N_ELEMENTS(again));
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int nfailed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return nfailed != 0;
}
