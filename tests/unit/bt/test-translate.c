/* What translated code must keep to however it is made: code that changes, addresses that lead elsewhere, shadows, steps, faults, kicks. */
#include "../../lib/bt-check.h"

#include <pthread.h>
#include <time.h>

static void setup(void)
{
    bm_setup();
    bm_long();
}

/* STAC and CLAC inside a block: a check that took the wrong entry at first stays with the TLB of its privilege class. */
GUEST(stac_loop, "mov ecx, 3\n1: stac\nmov rax, [rbx]\nmov rdx, [rbx + 0x3000]\nclac\ndec ecx\njnz 1b\nhlt");

START_TEST(class_changes_inside_block)
{
    PUT(BM_CODE, stac_loop);
    bm_state.cr4 |= X86_CR4_SMAP;
    bm_state.gpr[X86_RBX] = BM_DATA;
    memset(bm_ram + BM_DATA, 0x11, 8);
    memset(bm_ram + BM_DATA + 0x3000, 0x22, 8);
    run_to_end();
    ck_assert_uint_eq(reg(X86_RAX), 0x1111111111111111u);
    ck_assert_uint_eq(reg(X86_RDX), 0x2222222222222222u);
}
END_TEST

/* 82 is 80 outside 64-bit code, and nothing in the host's. */
GUEST(opcode_82, ".byte 0x82, 0xc0, 0x05\n.byte 0x82, 0x33, 0xff\n.byte 0xf4");

START_TEST(opcode_82_is_80)
{
    bm_flat32();
    bm_state.gpr[X86_RAX] = 0x10;
    PUT(BM_CODE, opcode_82);
    bm_ram[BM_DATA] = 0x0f;
    run_to_end();
    ck_assert_uint_eq(reg(X86_RAX), 0x15);
    ck_assert_uint_eq(bm_ram[BM_DATA], 0xf0);
}
END_TEST

/* Code that changes. */

GUEST(smc_mov, "mov byte ptr [rip + 1f + 1], 2\n1: mov eax, 1\nhlt");
GUEST(smc_mov_later, "mov byte ptr [rip + 1f + 1], 2\nadd ecx, 1\nmov edx, [rbx]\n1: mov eax, 1\nhlt");
GUEST(smc_lock, "lock add byte ptr [rip + 1f + 1], 1\n1: mov eax, 1\nhlt");
GUEST(smc_stosb, "lea rdi, [rip + 1f + 1]\nmov al, 2\nstosb\n1: mov eax, 1\nhlt");
GUEST(smc_push, "lea rsp, [rip + 1f + 10]\npush 2\n1: movabs rax, 0x1111111111111111\nhlt");
GUEST(smc_sse, "mov eax, 2\nmovq xmm0, rax\nmovq qword ptr [rip + 1f + 2], xmm0\n1: movabs rax, 0x1111111111111111\nhlt");

static const struct { const uint8_t *code, *end; } smc[] = {
    {smc_mov, smc_mov_end}, {smc_mov_later, smc_mov_later_end}, {smc_lock, smc_lock_end}, {smc_stosb, smc_stosb_end},
    {smc_push, smc_push_end}, {smc_sse, smc_sse_end},
};

START_TEST(store_into_own_block)
{
    bm_code(BM_CODE, smc[_i].code, (size_t)(smc[_i].end - smc[_i].code));
    run_to_end();
    ck_assert_uint_eq(reg(X86_RAX), 2);
}
END_TEST

GUEST(smc_call, "lea rsp, [rip + 2f + 10]\ncall 2f\n1: hlt\n2: movabs rax, 0x1111111111111111\nhlt");

START_TEST(call_pushes_over_its_target)
{
    PUT(BM_CODE, smc_call);
    run_to_end();
    ck_assert_uint_eq(reg(X86_RAX), BM_CODE + 7 + 5);
}
END_TEST

GUEST(smc_loop, "mov ecx, 100\nxor edx, edx\n1: add byte ptr [rip + 2f + 1], 1\n2: mov eax, 0\nadd edx, eax\ndec ecx\njnz 1b\nhlt");

START_TEST(immediate_rewritten_in_a_loop)
{
    PUT(BM_CODE, smc_loop);
    run_to_end();
    ck_assert_uint_eq(reg(X86_RDX), 5050);
}
END_TEST

GUEST(smc_flags, "stc\nmov byte ptr [rip + 1f + 1], 2\n1: mov eax, 1\nsbb edx, edx\nhlt");

START_TEST(flags_live_through_a_store_into_own_block)
{
    PUT(BM_CODE, smc_flags);
    run_to_end();
    ck_assert_uint_eq(reg(X86_RAX), 2);
    ck_assert_uint_eq(reg(X86_RDX), 0xffffffff);
}
END_TEST

/* RDX is called ten times; the code of another address changes; ten times again. */
GUEST(change_by_alias, "mov ecx, 10\n1: call rdx\ndec ecx\njnz 1b\nmov byte ptr [rsi], 4\nmov ecx, 10\n1: call rdx\ndec ecx\njnz 1b\nhlt");
GUEST(add_one, "add rax, 1\nret");
GUEST(add_many, "add rax, 100\nret");

START_TEST(store_through_another_address)
{
    PUT(BM_CODE, change_by_alias);
    PUT(0x130000, add_one);
    *bm_pte(0x140000) = 0x130000 | 3;
    bm_state.gpr[X86_RDX] = 0x130000;
    bm_state.gpr[X86_RSI] = 0x140003;
    run_to_end();
    ck_assert_uint_eq(reg(X86_RAX), 10 * 1 + 10 * 4);
}
END_TEST

/* Instructions over two pages: `mov eax, imm32` from 0x110ffe, RET. */

static void put_crossing(Gpa second, unsigned high)
{
    const uint8_t start[] = {0xb8, 0x01}, end[] = {(uint8_t)high, 0, 0, 0xc3};
    bm_code(0x110ffe, start, sizeof start);
    bm_code(second, end, sizeof end);
}

GUEST(cross_remap, "call rdx\ncall rdx\nmov r8, rax\nmov [rsi], rdi\ninvlpg [0x111000]\ncall rdx\nmov r13, rax\nhlt");

START_TEST(second_page_leads_elsewhere)
{
    PUT(BM_CODE, cross_remap);
    put_crossing(0x111000, 2);
    put_crossing(BM_FREE, 3);
    bm_state.gpr[X86_RDX] = 0x110ffe;
    bm_state.gpr[X86_RSI] = (uint64_t)((uint8_t *)bm_pte(0x111000) - bm_ram);
    bm_state.gpr[X86_RDI] = BM_FREE | 3;
    run_to_end();
    ck_assert_uint_eq(reg(X86_R8), 0x201);
    ck_assert_uint_eq(reg(X86_R13), 0x301);
}
END_TEST

static void put_jump(Gpa at, Gpa target)
{
    int32_t rel = (int32_t)(target - (at + 5));
    uint8_t code[5] = {0xe9};
    memcpy(code + 1, &rel, 4);
    bm_code(at, code, sizeof code);
}

/* So, behind an edge of the same page (_i: 0) or of another one. */
START_TEST(second_page_behind_an_edge)
{
    Gpa jump = _i ? 0x120000 : 0x110f00;
    PUT(BM_CODE, cross_remap);
    put_crossing(0x111000, 2);
    put_crossing(BM_FREE, 3);
    put_jump(jump, 0x110ffe);
    bm_state.gpr[X86_RDX] = jump;
    bm_state.gpr[X86_RSI] = (uint64_t)((uint8_t *)bm_pte(0x111000) - bm_ram);
    bm_state.gpr[X86_RDI] = BM_FREE | 3;
    run_to_end();
    ck_assert_uint_eq(reg(X86_R8), 0x201);
    ck_assert_uint_eq(reg(X86_R13), 0x301);
}
END_TEST

GUEST(cross_store, "call rdx\ncall rdx\nmov r8, rax\nmov byte ptr [rsi], 7\ncall rdx\nmov r13, rax\nhlt");

START_TEST(second_page_is_written)
{
    PUT(BM_CODE, cross_store);
    Gpa second = _i ? 0x110000 : 0x111000; /* 1: both pages lead to the same frame */
    *bm_pte(0x111000) = second | 3;
    put_crossing(second, 2);
    bm_state.gpr[X86_RDX] = 0x110ffe;
    bm_state.gpr[X86_RSI] = second;
    run_to_end();
    ck_assert_uint_eq(reg(X86_R8), 0x201);
    ck_assert_uint_eq(reg(X86_R13), 0x701);
}
END_TEST

GUEST(cross_absent, "call rdx\nhlt");

#define FUNCTION (BM_FREE + 0x1000)

static void device_writes_code(void)
{
    bm_ram[FUNCTION + 1] = 2;
    ram_wrote(bm->ram, FUNCTION, 16);
}

/* A device's write, which no store of the guest's announces. */
START_TEST(device_writes_translated_code)
{
    static const uint8_t function[] = {0xb8, 1, 0, 0, 0, 0xc3}; /* mov eax, 1; ret */
    static const uint8_t code[] = {
        0xbb, 0x00, 0x10, 0x40, 0x00,                   /* mov ebx, FUNCTION */
        0xff, 0xd3,                                     /* call rbx */
        0x8b, 0x14, 0x25, 0x00, 0xf0, 0x7f, 0x00,       /* mov edx, [BM_DEVICE] */
        0xff, 0xd3, 0x83, 0xf8, 0x02, 0x75, 0xf9, 0xf4, /* again: call rbx; cmp eax, 2; jne again; hlt */
    };
    bm_long();
    bm_code(BM_CODE, code, sizeof code);
    bm_code(FUNCTION, function, sizeof function);
    bm_host.on_device = device_writes_code;
    BmStop stop = bm_run();
    ck_assert_int_eq(stop.vector, -1);
    ck_assert_uint_eq(bm_state.gpr[X86_RAX], 2);
    ck_assert_uint_eq(bm_host.ndevice, 1);
    /* While the vCPU stands still, more than are noted one by one. */
    for (unsigned i = 0; i <= BT_FOREIGN_RANGES; i++) {
        bm_ram[FUNCTION + 1] = (uint8_t)(3 + i);
        ram_wrote(bm->ram, FUNCTION + 1, 1);
    }
    bm_state.rip = FUNCTION;
    bm_state.halted = false;
    bm_state.gpr[X86_RSP] = BM_STACK;
    *(uint64_t *)(bm_ram + BM_STACK) = BM_CODE + sizeof code - 1;
    bm_run();
    ck_assert_uint_eq(bm_state.gpr[X86_RAX], 3 + BT_FOREIGN_RANGES);
}
END_TEST

START_TEST(second_page_is_absent)
{
    PUT(BM_CODE, cross_absent);
    put_crossing(0x111000, 2);
    *bm_pte(0x111000) = 0;
    bm_state.gpr[X86_RDX] = 0x110ffe;
    BmStop stop = run();
    ck_assert_int_eq(stop.vector, X86_EXC_PF);
    ck_assert_uint_eq(stop.rip, 0x110ffe);
    ck_assert_uint_eq(bm_state.cr2, 0x111000);
}
END_TEST

/* Edges and jump caches against changed page tables. */

GUEST(change_cr3, "mov ecx, 10\n1: call rdx\ndec ecx\njnz 1b\nmov cr3, rsi\nmov ecx, 10\n1: call rdx\ndec ecx\njnz 1b\nhlt");
GUEST(change_pte, "mov ecx, 10\n1: call rdx\ndec ecx\njnz 1b\nmov [rsi], rdi\ninvlpg [0x130000]\nmov ecx, 10\n1: call rdx\ndec ecx\njnz 1b\nhlt");

/* _i & 1: RDX leads to 0x130000 by a jump from another page; else directly.  _i & 2: by INVLPG, else by CR3. */
START_TEST(edges_follow_the_page_tables)
{
    put_jump(0x120000, 0x130000);
    PUT(0x130000, add_one);
    PUT(BM_FREE, add_many);
    bm_state.gpr[X86_RDX] = _i & 1 ? 0x120000 : 0x130000;
    if (_i & 2) {
        PUT(BM_CODE, change_pte);
        bm_state.gpr[X86_RSI] = (uint64_t)((uint8_t *)bm_pte(0x130000) - bm_ram);
        bm_state.gpr[X86_RDI] = BM_FREE | 3;
    } else {
        PUT(BM_CODE, change_cr3);
        bm_other_space(0x130000, BM_FREE);
        bm_state.gpr[X86_RSI] = BM_OTHER_TABLES;
    }
    run_to_end();
    ck_assert_uint_eq(reg(X86_RAX), 10 * 1 + 10 * 100);
}
END_TEST

/* Interrupts. */

GUEST(sti_shadow, "sti\ninc eax\ninc eax\ninc eax\nhlt");
GUEST(sti_hlt, "sti\nhlt\ninc eax\nhlt");

static void interrupt_now(void)
{
    bm_host.vector = 0x40;
    bt_cpu_ops.set_irq(&bm->base, true);
}

START_TEST(sti_delays_by_one_instruction)
{
    PUT(BM_CODE, sti_shadow);
    interrupt_now();
    BmStop stop = run();
    ck_assert_int_eq(stop.vector, 0x40);
    ck_assert_uint_eq(reg(X86_RAX), 1);
    ck_assert_uint_eq(stop.rip, BM_CODE + 3);
}
END_TEST

START_TEST(sti_hlt_is_woken)
{
    PUT(BM_CODE, sti_hlt);
    interrupt_now();
    BmStop stop = run();
    ck_assert_int_eq(stop.vector, 0x40);
    ck_assert_uint_eq(stop.rip, BM_CODE + 2);
    ck_assert_uint_eq(reg(X86_RAX), 0);
}
END_TEST

GUEST(mov_ss_shadow, "nop\nmov ss, word ptr [rdi]\ninc eax\ninc eax\nhlt");
GUEST(load_no_shadow, "nop\nmov edx, dword ptr [rdi]\njmp 1f\n1: inc eax\ninc eax\n2: dec ecx\njnz 2b\nhlt");

START_TEST(mov_ss_delays_by_one_instruction)
{
    PUT(BM_CODE, mov_ss_shadow);
    bm_host.on_device = interrupt_now;
    bm_host.device_answer = BM_SEL_DATA;
    bm_state.gpr[X86_RDI] = BM_DEVICE;
    bm_state.rflags |= X86_FLAG_IF;
    BmStop stop = run();
    ck_assert_int_eq(stop.vector, 0x40);
    ck_assert_uint_eq(stop.rip, BM_CODE + 1 + 2 + 2);
    ck_assert_uint_eq(reg(X86_RAX), 1);
}
END_TEST

START_TEST(loop_is_interrupted)
{
    PUT(BM_CODE, load_no_shadow);
    bm_host.on_device = interrupt_now;
    bm_state.gpr[X86_RDI] = BM_DEVICE;
    bm_state.gpr[X86_RCX] = 1u << 30;
    bm_state.rflags |= X86_FLAG_IF;
    BmStop stop = run();
    ck_assert_int_eq(stop.vector, 0x40);
    ck_assert_uint_gt(reg(X86_RCX), 1000); /* soon, not at the end */
}
END_TEST

/* Single steps. */

GUEST(step, "pushfq\nor qword ptr [rsp], 0x100\npopfq\ninc eax\ninc eax\nhlt");
GUEST(step_jump, "pushfq\nor qword ptr [rsp], 0x100\npopfq\njmp 1f\nud2\n1: inc eax\nhlt");

START_TEST(step_traps_after_one_instruction)
{
    PUT(BM_CODE, step);
    BmStop stop = run();
    ck_assert_int_eq(stop.vector, X86_EXC_DB);
    ck_assert_uint_eq(reg(X86_RAX), 1);
    ck_assert_uint_eq(stop.rip, BM_CODE + 1 + 8 + 1 + 2);
    ck_assert_uint_eq(stop.rflags & X86_FLAG_TF, X86_FLAG_TF);
    ck_assert_uint_eq(bm_state.dr[6] & 0x400f, 0x4000);
}
END_TEST

START_TEST(step_traps_at_the_target_of_a_jump)
{
    PUT(BM_CODE, step_jump);
    BmStop stop = run();
    ck_assert_int_eq(stop.vector, X86_EXC_DB);
    ck_assert_uint_eq(stop.rip, BM_CODE + 1 + 8 + 1 + 2 + 2);
    ck_assert_uint_eq(reg(X86_RAX), 0);
}
END_TEST

/* Loops without an end. */

GUEST(spin_jump, "1: jmp 1b");
GUEST(spin_flags, "1: add eax, 1\njno 1b\njmp 1b");
GUEST(spin_loop, "1: mov ecx, 5\n2: loop 2b\njmp 1b");
GUEST(spin_indirect, "lea rax, [rip + 1f]\n1: jmp rax");
GUEST(spin_call, "1: call 2f\njmp 1b\n2: ret");
GUEST(spin_pages, "mov rax, 0x130000\n.byte 0xe9\n.long 0x130000 - 0x10000c");

static const struct { const uint8_t *code, *end; } spins[] = {
    {spin_jump, spin_jump_end}, {spin_flags, spin_flags_end}, {spin_loop, spin_loop_end}, {spin_indirect, spin_indirect_end},
    {spin_call, spin_call_end}, {spin_pages, spin_pages_end},
};

static void *kick_later(void *unused)
{
    struct timespec wait = {.tv_nsec = 30000000};
    nanosleep(&wait, NULL);
    bt_cpu_ops.kick(&bm->base);
    return NULL;
}

START_TEST(kick_ends_any_loop)
{
    pthread_t thread;
    bm_code(BM_CODE, spins[_i].code, (size_t)(spins[_i].end - spins[_i].code));
    put_jump(0x130000, 0x140000);
    put_jump(0x140000, 0x130000);
    pthread_create(&thread, NULL, kick_later, NULL);
    BmStop stop = bm_run();
    pthread_join(thread, NULL);
    ck_assert_int_eq(stop.exit, CPU_EXIT_KICKED);
    ck_assert_uint_lt(stop.rip - BM_CODE, 0x50000);
}
END_TEST

/* More code than the cache holds, twice. */

GUEST(big_end, "dec rcx\njz 1f\n.byte 0xe9\n.long 0x400000 - 0x60000a\n1: hlt");

START_TEST(cache_is_emptied_when_full)
{
    bm->bt->code_end = bm->bt->code_start + (8u << 20);
    const unsigned n = 0x200000 / 4;
    for (unsigned i = 0; i < n; i++)
        bm_code(BM_FREE + 4 * i, "\x01\x03\x89\xdb", 4); /* add [rbx], eax; mov ebx, ebx: so that no check serves two */
    PUT(0x600000, big_end);
    bm_state.rip = BM_FREE;
    bm_state.gpr[X86_RAX] = 1;
    bm_state.gpr[X86_RCX] = 2;
    run_to_end();
    uint32_t sum;
    memcpy(&sum, bm_ram + BM_DATA, 4);
    ck_assert_uint_eq(sum, 2 * n);
    ck_assert_uint_ge(bm->bt->stat_flushes, 1);
    ck_assert_uint_ge(bm->bt->stat_insns, n + n / 4);
}
END_TEST

/* Faults of the host's CPU, and of memory, at the guest's instruction with the guest's registers. */

#define FILL                                                                                                            \
    "mov ecx, 0x101\nmov edx, 0x102\nmov ebp, 0x105\nmov esi, 0x106\nmov edi, 0x107\nmov r8d, 0x108\nmov r9d, 0x109\n"      \
    "mov r10d, 0x10a\nmov r11d, 0x10b\nmov r12d, 0x10c\nmov r13d, 0x10d\nmov r14d, 0x10e\nmov r15d, 0x10f\nxor eax, eax\n" \
    "cmp eax, 1\nmov eax, 0x100\n"
#define FILL_SIZE (5u * 5 + 8 * 6 + 2 + 3 + 5)
#define AFTER "\nmov eax, 1\nmov r13d, 1\nmov r15d, 1\nhlt"

GUEST(fault_div_reg, FILL "nop\nnop\nnop\ndiv bh" AFTER); /* no access: the flags are still in the host's */
GUEST(fault_div_mem, FILL "nop\nnop\nnop\ndiv dword ptr [rbx]" AFTER);
GUEST(fault_movaps, FILL "nop\nnop\nnop\nmovaps xmm0, [rbx + 4]" AFTER);
GUEST(fault_store, FILL "nop\nnop\nnop\nmov [0x7fe000], rax" AFTER);
GUEST(fault_push, FILL "nop\nnop\nnop\nmov [0x7fe000], r15" AFTER);

static const struct {
    const uint8_t *code, *end;
    int vector;
} faults[] = {
    {fault_div_reg, fault_div_reg_end, X86_EXC_DE}, {fault_div_mem, fault_div_mem_end, X86_EXC_DE}, {fault_movaps, fault_movaps_end, X86_EXC_GP},
    {fault_store, fault_store_end, X86_EXC_PF}, {fault_push, fault_push_end, X86_EXC_PF},
};

START_TEST(faults_are_precise)
{
    bm_code(BM_CODE, faults[_i].code, (size_t)(faults[_i].end - faults[_i].code));
    *bm_pte(0x7fe000) = 0;
    BmStop stop = run();
    ck_assert_int_eq(stop.vector, faults[_i].vector);
    ck_assert_uint_eq(stop.rip, BM_CODE + FILL_SIZE + 3);
    for (unsigned r = 0; r < 16; r++)
        if (r != X86_RSP && r != X86_RBX)
            ck_assert_msg(reg(r) == 0x100 + r, "register %u: %#llx", r, (unsigned long long)reg(r));
    ck_assert_uint_eq(reg(X86_RBX), BM_DATA);
    ck_assert_uint_eq(stop.rsp, BM_STACK);
    ck_assert_uint_eq(stop.rflags & X86_FLAGS_STATUS, X86_FLAG_CF | X86_FLAG_PF | X86_FLAG_AF | X86_FLAG_SF); /* of cmp 0, 1 */
    ck_assert_uint_eq(stop.code, faults[_i].vector == X86_EXC_PF ? 2 : 0);
}
END_TEST

/* Blocks that are made and dropped without end, each under a key of its own, must not fill the table that they are looked up in. */
START_TEST(table_of_blocks_keeps_an_end)
{
    Bt *bt = bm->bt;
    unsigned n = 0;
    while (cache_has_room(bt) && n < (9u << CACHE_HASH_BITS) / 8) {
        BtBlock *block = &bt->blocks[bt->nblocks];
        *block = (BtBlock){.rip = (uint64_t)n << 12, .gpa = BM_FREE, .guest_size = 1, .code_at = (uint32_t)(bt->code_p - bt->rw),
                           .cold_at = (uint32_t)(bt->cold_p - bt->rw), .exit_first = bt->nexits, .exec_first = bt->nexecs,
                           .map_first = bt->nmap};
        bt->nblocks++;
        cache_insert(bt, block);
        ck_assert_ptr_eq(cache_find(bt, BM_FREE, (uint64_t)n << 12, 0, 0), block);
        ck_assert(cache_invalidate(bt, bm, BM_FREE, 1));
        cache_reclaim(bt);
        ck_assert_ptr_null(cache_find(bt, BM_FREE, (uint64_t)n << 12, 0, 0));
        n++;
    }
    ck_assert_uint_eq(bt->nblocks, 0);
    if (!cache_has_room(bt))
        cache_flush(bt, bm);
    ck_assert(cache_has_room(bt));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bt-translate");
    TCase *tc = tcase_create("all");
    tcase_add_checked_fixture(tc, setup, bm_teardown);
    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, class_changes_inside_block);
    tcase_add_test(tc, opcode_82_is_80);
    tcase_add_loop_test(tc, store_into_own_block, 0, (int)G_N_ELEMENTS(smc));
    tcase_add_test(tc, call_pushes_over_its_target);
    tcase_add_test(tc, immediate_rewritten_in_a_loop);
    tcase_add_test(tc, flags_live_through_a_store_into_own_block);
    tcase_add_test(tc, store_through_another_address);
    tcase_add_test(tc, second_page_leads_elsewhere);
    tcase_add_loop_test(tc, second_page_behind_an_edge, 0, 2);
    tcase_add_loop_test(tc, second_page_is_written, 0, 2);
    tcase_add_test(tc, device_writes_translated_code);
    tcase_add_test(tc, second_page_is_absent);
    tcase_add_loop_test(tc, edges_follow_the_page_tables, 0, 4);
    tcase_add_test(tc, sti_delays_by_one_instruction);
    tcase_add_test(tc, sti_hlt_is_woken);
    tcase_add_test(tc, mov_ss_delays_by_one_instruction);
    tcase_add_test(tc, loop_is_interrupted);
    tcase_add_test(tc, step_traps_after_one_instruction);
    tcase_add_test(tc, step_traps_at_the_target_of_a_jump);
    tcase_add_loop_test(tc, kick_ends_any_loop, 0, (int)G_N_ELEMENTS(spins));
    tcase_add_test(tc, cache_is_emptied_when_full);
    tcase_add_test(tc, table_of_blocks_keeps_an_end);
    tcase_add_loop_test(tc, faults_are_precise, 0, (int)G_N_ELEMENTS(faults));
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int nfailed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return nfailed != 0;
}
