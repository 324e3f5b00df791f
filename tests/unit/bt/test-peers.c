/* Two vCPUs over one memory: code that one writes and the other executes, locked operations on awkward places. */
#include "../../lib/bt-check.h"

#include <pthread.h>

#define OTHER_CODE  (BM_CODE + 0x10000)
#define OTHER_STACK (BM_STACK - 0x10000)
#define ROUNDS_TEXT "4000"
#define ROUNDS      4000u

static BtCpu *other;
static X86State other_state;

static void setup(void)
{
    bm_setup();
    bm_long();
    other = bm_add_cpu();
    other_state = bm_state;
    other_state.rip = OTHER_CODE;
    other_state.gpr[X86_RSP] = OTHER_STACK;
}

static void teardown(void)
{
    bt_cpu_ops.free(&other->base);
    bm_teardown();
}

static void *other_thread(void *unused)
{
    bt_cpu_ops.load(&other->base, &other_state);
    CpuExit exit = bt_cpu_ops.run(&other->base);
    bt_cpu_ops.save(&other->base, &other_state);
    return exit.kind == CPU_EXIT_HALT ? other : NULL;
}

/* Both run until they halt. */
static void run_both(void)
{
    pthread_t thread;
    void *result;
    ck_assert_int_eq(pthread_create(&thread, NULL, other_thread, NULL), 0);
    BmStop stop = bm_run();
    ck_assert_int_eq(pthread_join(thread, &result), 0);
    ck_assert_ptr_eq(result, other);
    ck_assert_int_eq(stop.exit, CPU_EXIT_HALT);
    ck_assert_msg(stop.vector == -1, "vector %d at %#llx", stop.vector, (unsigned long long)stop.rip);
    ck_assert_msg(other_state.rip - OTHER_CODE < PAGE_SIZE, "the other is at %#llx", (unsigned long long)other_state.rip);
}

static uint64_t word(Gpa at)
{
    uint64_t value;
    memcpy(&value, bm_ram + at, sizeof value);
    return value;
}

/* [rbx]: round; [rbx + 64]: rounds answered; [rbx + 128]: what the function returned.  The function is at BM_FREE. */
GUEST(writer, "mov esi, 0x400001\n"
              "1: inc r12\n"
              "mov [rsi], r12d\n"
              "mov [rbx], r12\n"
              "2: pause\ncmp [rbx + 64], r12\njne 2b\n"
              "cmp [rbx + 128], r12d\njne 3f\n"
              "cmp r12, " ROUNDS_TEXT "\njb 1b\n"
              "3: hlt");
/* The same, and it executes the function too. */
GUEST(writer_that_calls, "mov esi, 0x400001\n"
              "1: inc r12\n"
              "mov [rsi], r12d\n"
              "mov [rbx], r12\n"
              "lea rax, [rsi - 1]\ncall rax\ncmp eax, r12d\njne 3f\n"
              "2: pause\ncmp [rbx + 64], r12\njne 2b\n"
              "cmp [rbx + 128], r12d\njne 3f\n"
              "cmp r12, " ROUNDS_TEXT "\njb 1b\n"
              "3: hlt");
GUEST(reader, "1: pause\nmov r12, [rbx]\ncmp r12, r13\nje 1b\n"
              "mov r13, r12\n"
              "mov r14, rbx\nxor eax, eax\ncpuid\nmov rbx, r14\n"
              "mov edx, 0x400000\ncall rdx\n"
              "mov [rbx + 128], eax\nmov [rbx + 64], r13\n"
              "cmp r13, " ROUNDS_TEXT "\njb 1b\n"
              "hlt");
GUEST(function, "mov eax, 0\nret");

START_TEST(code_written_by_another)
{
    if (_i)
        PUT(BM_CODE, writer_that_calls);
    else
        PUT(BM_CODE, writer);
    PUT(OTHER_CODE, reader);
    PUT(BM_FREE, function);
    /* Ends the other, should this one see a wrong value, by the test's time limit only. */
    run_both();
    ck_assert_uint_eq(word(BM_DATA), ROUNDS);
    ck_assert_uint_eq((uint32_t)word(BM_DATA + 128), ROUNDS);
}
END_TEST

/* Each round the function is on a page that nobody has executed yet, and that the writer has in its TLB. */
GUEST(writer_fresh, "mov esi, 0x401000\n"
              "1: inc r12\n"
              "mov dword ptr [rsi + 5], 0x9090c3\n"
              "mov byte ptr [rsi], 0xb8\n"
              "mov [rsi + 1], r12d\n"
              "mov [rbx + 8], rsi\n"
              "mov [rbx], r12\n"
              "2: pause\ncmp [rbx + 64], r12\njne 2b\n"
              "cmp [rbx + 128], r12d\njne 3f\n"
              "test r12d, 1\njz 4f\nmov byte ptr [rsi], 0x90\nadd rsi, 0x1000\n"
              "4: cmp r12, 900\njb 1b\n"
              "3: hlt");
GUEST(reader_fresh, "1: pause\nmov r12, [rbx]\ncmp r12, r13\nje 1b\n"
              "mov r13, r12\n"
              "mov r14, rbx\nxor eax, eax\ncpuid\nmov rbx, r14\n"
              "mov rdx, [rbx + 8]\ncall rdx\n"
              "mov [rbx + 128], eax\nmov [rbx + 64], r13\n"
              "cmp r13, 900\njb 1b\n"
              "hlt");

START_TEST(code_on_fresh_pages)
{
    PUT(BM_CODE, writer_fresh);
    PUT(OTHER_CODE, reader_fresh);
    run_both();
    ck_assert_uint_eq(word(BM_DATA), 900);
    ck_assert_uint_eq((uint32_t)word(BM_DATA + 128), 900);
}
END_TEST

GUEST(adder, "mov ecx, " ROUNDS_TEXT "\n1: lock add qword ptr [rsi], 1\nmov rax, 1\nlock xadd [rsi], rax\ndec ecx\njnz 1b\nhlt");

/* Within a page, over the end of one, on a page with the other's code, on one with its own. */
static const Gpa counters[] = { BM_DATA + 8, BM_DATA + PAGE_SIZE - 3, OTHER_CODE + 0x803, BM_CODE + 0xffc };

START_TEST(locked_operations)
{
    PUT(BM_CODE, adder);
    PUT(OTHER_CODE, adder);
    memset(bm_ram + counters[_i], 0, 8);
    bm_state.gpr[X86_RSI] = other_state.gpr[X86_RSI] = counters[_i];
    run_both();
    ck_assert_uint_eq(word(counters[_i]), 4 * ROUNDS);
}
END_TEST

/* Both halves together, or a sum is lost: on a page of data, on one with the other's code and on one with its own. */
GUEST(adder_16, "mov ebp, " ROUNDS_TEXT "\n1: mov rax, [rsi]\nmov rdx, [rsi + 8]\n"
                "2: mov rbx, rax\nmov rcx, rdx\nadd rbx, 1\nadc rcx, 1\nlock cmpxchg16b [rsi]\njnz 2b\n"
                "dec ebp\njnz 1b\nhlt");
static const Gpa counters_16[] = { BM_DATA + 16, OTHER_CODE + 0x810, BM_CODE + 0xff0 };

START_TEST(locked_16_bytes)
{
    PUT(BM_CODE, adder_16);
    PUT(OTHER_CODE, adder_16);
    Gpa at = counters_16[_i];
    uint64_t start = UINT64_MAX - ROUNDS; /* the carry out of the low half comes in the middle */
    memcpy(bm_ram + at, &start, 8);
    memset(bm_ram + at + 8, 0, 8);
    bm_state.gpr[X86_RSI] = other_state.gpr[X86_RSI] = at;
    run_both();
    ck_assert_uint_eq(word(at), ROUNDS - 1);
    ck_assert_uint_eq(word(at + 8), 2 * ROUNDS + 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bt-peers");
    TCase *tests = tcase_create("two vCPUs");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 60);
    tcase_add_loop_test(tests, code_written_by_another, 0, 2);
    tcase_add_test(tests, code_on_fresh_pages);
    tcase_add_loop_test(tests, locked_operations, 0, 4);
    tcase_add_loop_test(tests, locked_16_bytes, 0, 3);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int nfailed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return nfailed ? EXIT_FAILURE : EXIT_SUCCESS;
}
