/* How many NMIs a vCPU takes: one that comes while none is handled is taken at once, so the next waits behind it; behind that, none. */
#include "../../lib/bt-check.h"

#define NMI_HANDLER (0xd000u + 16 * X86_EXC_NMI)

static unsigned sent_by_main, sent_by_first_handler;

static void send_nmis(void)
{
    unsigned n = bm_host.ndevice == 1 ? sent_by_main : bm_host.ndevice == 2 ? sent_by_first_handler : 0;
    while (n--)
        bt_cpu_ops.nmi(&bm->base);
}

/* EBX counts the handler's runs, R12 the depth: a second one must not begin within the first. */
GUEST(main_code, "xor ebx, ebx; xor r12d, r12d; xor r13d, r13d\n"
                 "mov eax, [rdx]; mov ecx, 1000; 1: dec ecx; jnz 1b; hlt");
GUEST(handler, "jmp rsi");
GUEST(handler_body, "inc ebx; inc r12d; cmp r12d, 1; je 1f; inc r13d; 1: mov eax, [rdx]; nop; dec r12d; iretq");

#define HANDLER_BODY (BM_CODE + 0x400)

START_TEST(two_at_most)
{
    static const struct {
        unsigned by_main, by_handler, taken;
    } rows[] = { { 1, 0, 1 }, { 2, 0, 2 }, { 3, 0, 2 }, { 1, 1, 2 }, { 1, 3, 2 }, { 2, 1, 2 }, { 2, 2, 2 }, { 0, 0, 0 } };
    sent_by_main = rows[_i].by_main;
    sent_by_first_handler = rows[_i].by_handler;
    bm_host.on_device = send_nmis;
    bm_host.ndevice = 0;
    bm_state.gpr[X86_RSI] = HANDLER_BODY;
    bm_state.gpr[X86_RDX] = BM_DEVICE;
    PUT(BM_CODE, main_code);
    PUT(NMI_HANDLER, handler);
    PUT(HANDLER_BODY, handler_body);
    run_to_end();
    ck_assert_uint_eq(reg(X86_RBX), rows[_i].taken);
    ck_assert_uint_eq(reg(13), 0);
}
END_TEST

static void setup(void)
{
    bm_setup();
    bm_long();
}

int main(void)
{
    Suite *suite = suite_create("bt-nmi");
    TCase *tests = tcase_create("NMI");
    tcase_add_checked_fixture(tests, setup, bm_teardown);
    tcase_add_loop_test(tests, two_at_most, 0, 8);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int nfailed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return nfailed ? EXIT_FAILURE : EXIT_SUCCESS;
}
