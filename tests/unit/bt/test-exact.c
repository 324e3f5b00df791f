/*
 * What a CPU does at faults and traps, where translated code could easily do something else: which of two comes first, what was already
 * done, and what the frame shows.  The oracle found most of it; where the manual leaves a choice, Zen 5's is wanted.
 */
#include "../../lib/bt-check.h"

#define NON_CANONICAL 0x800000000000u
#define USER_CODE BM_CODE
#define USER_DATA BM_DATA
#define USER_STACK (BM_STACK - 0x800)

static void setup(void)
{
    bm_setup();
    bm_long();
}

/* --- branches to addresses that are not canonical --- */

GUEST(call_register, "mov rax, r14\ncmp ecx, 1\ncall rax\nud2");
GUEST(call_spilled, "mov r9, r14\ncmp ecx, 1\ncall r9\nud2");
GUEST(call_memory, "mov [rbx], r14\ncmp ecx, 1\ncall [rbx]\nud2");
GUEST(call_adc, "mov rax, r14\nstc\nadc ecx, -2\ncall rax\nud2"); /* flags that cannot be made again */
GUEST(ret_plain, "nop\nmov [rsp], r14\ncmp ecx, 1\nret\nud2");
GUEST(ret_more, "nop\nmov [rsp], r14\ncmp ecx, 1\nret 16\nud2");
GUEST(jump_register, "mov rax, r14\ncmp ecx, 1\njmp rax\nud2");

#define ROW(name, n, length) { #name, name, name##_end, n, length }
static const struct {
    const char *name;
    const uint8_t *code, *end;
    unsigned ninsns, length; /* instructions before the branch, length of the branch */
} branches[] = {
    ROW(call_register, 2, 2), ROW(call_spilled, 2, 3), ROW(call_memory, 2, 2), ROW(call_adc, 3, 2), ROW(ret_plain, 3, 1), ROW(ret_more, 3, 3),
    ROW(jump_register, 2, 2),
};
#undef ROW

/* The fault is the branch's own: nothing is pushed or popped, the flags are as before.  Single steps come only behind it. */
START_TEST(branch_is_refused)
{
    unsigned row = (unsigned)_i % G_N_ELEMENTS(branches);
    bool is_stepped = (unsigned)_i >= G_N_ELEMENTS(branches);
    size_t size = (size_t)(branches[row].end - branches[row].code);
    uint64_t at = BM_CODE + size - 2 - branches[row].length;
    bm_code(BM_CODE, branches[row].code, size);
    memset(bm_ram + BM_STACK - 64, 0x77, 64);
    bm_state.gpr[X86_R14] = NON_CANONICAL;
    if (is_stepped) { /* the step before leads here; the flags and registers are made by hand */
        bm_state.rip = at;
        bm_state.rflags |= X86_FLAG_TF | X86_FLAG_CF;
        bm_state.gpr[X86_RAX] = bm_state.gpr[X86_R9] = NON_CANONICAL;
        memcpy(bm_ram + BM_DATA, &bm_state.gpr[X86_R14], 8);
        memcpy(bm_ram + BM_STACK, &bm_state.gpr[X86_R14], 8);
    }
    BmStop stop = run();
    ck_assert_msg(stop.vector == X86_EXC_GP, "%s: vector %d", branches[row].name, stop.vector);
    ck_assert_msg(stop.rip == at, "%s: at %#llx", branches[row].name, (unsigned long long)stop.rip);
    ck_assert_uint_eq(stop.rsp, BM_STACK);
    uint64_t wanted = is_stepped ? X86_FLAG_CF : row == 3 ? X86_FLAG_SF | X86_FLAG_PF : X86_FLAG_CF | X86_FLAG_SF | X86_FLAG_AF | X86_FLAG_PF;
    ck_assert_msg((stop.rflags & X86_FLAGS_STATUS) == wanted, "%s: flags %#llx", branches[row].name, (unsigned long long)stop.rflags);
    for (unsigned i = 1; i <= 64; i++)
        ck_assert_msg(bm_ram[BM_STACK - i] == 0x77, "%s: something was pushed", branches[row].name);
}
END_TEST

/* A call whose target and stack are both bad: the target is looked at first. */
START_TEST(call_looks_at_its_target_first)
{
    PUT(BM_CODE, call_register);
    bm_state.gpr[X86_R14] = NON_CANONICAL;
    bm_state.gpr[X86_RSP] = 0x7fe008;
    *bm_pte(0x7fe000) = 0;
    ck_assert_int_eq(run().vector, X86_EXC_GP);
    bm_long();
    bm_state.gpr[X86_R14] = BM_CODE;
    bm_state.gpr[X86_RSP] = 0x7fe008;
    ck_assert_int_eq(run().vector, X86_EXC_PF);
}
END_TEST

/* --- #AC --- */

#define CODE_AND_HLT(name, text) GUEST(name, text "\nhlt")
CODE_AND_HLT(ac_load2, "mov ax, [rbx]");
CODE_AND_HLT(ac_load8, "mov rax, [rbx]");
CODE_AND_HLT(ac_store4, "mov [rbx], eax");
CODE_AND_HLT(ac_stos, "mov ecx, 2\nmov rdi, rbx\nrep stosq");
CODE_AND_HLT(ac_movs, "mov ecx, 2\nmov rsi, rbx\nlea rdi, [rip + 0x100000]\nand rdi, -16\nrep movsd");
CODE_AND_HLT(ac_lods, "mov rsi, rbx\nlodsw");
CODE_AND_HLT(ac_scas, "mov rdi, rbx\nscasd");
CODE_AND_HLT(ac_push, "mov rsp, rbx\npush rax");
CODE_AND_HLT(ac_enter, "mov rsp, rbx\nenter 0, 0");
CODE_AND_HLT(ac_enter_top, "mov rsp, rbx\nenter 0x7001, 0");
CODE_AND_HLT(ac_bts, "bts dword ptr [rbx], 1");
CODE_AND_HLT(ac_cmpxchg8b, "cmpxchg8b [rbx]");
CODE_AND_HLT(ac_cmpxchg16b, "cmpxchg16b [rbx]");
CODE_AND_HLT(ac_fld10, "fld tbyte ptr [rbx]");
CODE_AND_HLT(ac_fnstenv, "fnstenv [rbx]");
CODE_AND_HLT(ac_fnsave16, ".byte 0x66\nfnsave [rbx]");
CODE_AND_HLT(ac_fxsave, "fxsave [rbx]");
CODE_AND_HLT(ac_fxrstor, "fxrstor [rbx]");
CODE_AND_HLT(ac_xsave, "xor edx, edx\nmov eax, 7\nxsave [rbx]");
CODE_AND_HLT(ac_movups, "movups xmm0, [rbx]");
CODE_AND_HLT(ac_movaps, "movaps xmm0, [rbx]");
CODE_AND_HLT(ac_addps, "addps xmm0, [rbx]");
CODE_AND_HLT(ac_vaddps, "vaddps xmm0, xmm0, [rbx]");
CODE_AND_HLT(ac_vmovups_y, "vmovups ymm0, [rbx]");
CODE_AND_HLT(ac_vmovaps_y, "vmovaps ymm0, [rbx]");
CODE_AND_HLT(ac_lddqu, "lddqu xmm0, [rbx]");
CODE_AND_HLT(ac_movntdq, "movntdq [rbx], xmm0");
CODE_AND_HLT(ac_pinsrw, "pinsrw xmm0, [rbx], 1");
CODE_AND_HLT(ac_vmaskmov, "vpcmpeqd ymm1, ymm1, ymm1\nvmaskmovps ymm0, ymm1, [rbx]");
CODE_AND_HLT(ac_vgather, "vpcmpeqd ymm1, ymm1, ymm1\nvpxor ymm2, ymm2, ymm2\nvpgatherdd ymm0, [rbx + ymm2], ymm1");
CODE_AND_HLT(ac_maskmovdqu, "pxor xmm0, xmm0\nmov rdi, rbx\nmaskmovdqu xmm0, xmm0");
CODE_AND_HLT(ac_clflush, "clflush [rbx]");
CODE_AND_HLT(ac_prefetch, "prefetcht0 [rbx]");

enum { OK = -1, AC = X86_EXC_AC, GP = X86_EXC_GP };
#define ROW(name, off, vector) { #name, name, name##_end, off, vector }
static const struct {
    const char *name;
    const uint8_t *code, *end;
    unsigned off;
    int vector;
} alignments[] = {
    ROW(ac_load2, 2, OK), ROW(ac_load2, 1, AC), ROW(ac_load8, 8, OK), ROW(ac_load8, 4, AC), ROW(ac_store4, 2, AC), ROW(ac_stos, 4, AC), ROW(ac_stos, 8, OK),
    ROW(ac_movs, 2, AC), ROW(ac_movs, 4, OK), ROW(ac_lods, 1, AC), ROW(ac_scas, 2, AC), ROW(ac_push, 4, AC), ROW(ac_enter, 4, AC), ROW(ac_enter, 8, OK),
    ROW(ac_enter_top, 8, AC), ROW(ac_bts, 2, AC), ROW(ac_cmpxchg8b, 4, AC), ROW(ac_cmpxchg16b, 8, GP), ROW(ac_fld10, 8, OK), ROW(ac_fld10, 4, AC),
    ROW(ac_fnstenv, 4, OK), ROW(ac_fnstenv, 2, AC), ROW(ac_fnsave16, 2, OK), ROW(ac_fnsave16, 1, AC), ROW(ac_fxsave, 2, AC), ROW(ac_fxsave, 8, GP),
    ROW(ac_fxrstor, 1, AC), ROW(ac_fxrstor, 4, GP), ROW(ac_xsave, 1, GP), ROW(ac_movups, 8, AC), ROW(ac_movups, 16, OK), ROW(ac_movaps, 8, GP),
    ROW(ac_addps, 1, GP), ROW(ac_vaddps, 8, AC), ROW(ac_vmovups_y, 16, OK), ROW(ac_vmovups_y, 8, AC), ROW(ac_vmovaps_y, 16, GP), ROW(ac_lddqu, 8, AC),
    ROW(ac_movntdq, 8, GP), ROW(ac_pinsrw, 1, AC), ROW(ac_vmaskmov, 1, OK), ROW(ac_vgather, 1, OK), ROW(ac_maskmovdqu, 8, OK), ROW(ac_maskmovdqu, 4, AC),
    ROW(ac_clflush, 1, OK), ROW(ac_prefetch, 1, OK),
};
#undef ROW

/* CPL 3 with @flags; its code, data and stack are user pages, everything else stays the supervisor's. */
static void user_state(uint32_t flags)
{
    for (unsigned table = 0; table < 3; table++)
        for (unsigned i = 0; i < 4; i++)
            bm_ram[BM_TABLES + table * 0x1000 + 8 * i] |= bm_ram[BM_TABLES + table * 0x1000 + 8 * i] & 1 ? 4 : 0;
    for (Gva page = USER_CODE; page < USER_CODE + 0x2000; page += 0x1000)
        *bm_pte(page) |= 4;
    for (Gva page = USER_DATA; page < USER_DATA + 0x8000; page += 0x1000)
        *bm_pte(page) |= 4;
    *bm_pte(BM_STACK - 0x1000) |= 4;
    bm_state.seg[X86_CS].attr |= 3u << X86_SEG_DPL_SHIFT;
    bm_state.seg[X86_CS].selector |= 3;
    bm_state.seg[X86_SS].attr |= 3u << X86_SEG_DPL_SHIFT;
    bm_state.seg[X86_SS].selector |= 3;
    bm_state.cr0 |= X86_CR0_AM;
    bm_state.rflags |= flags;
    bm_state.gpr[X86_RSP] = USER_STACK;
}

/* HLT at CPL 3 is #GP: at the end of the code that is what is wanted, and the two are told apart by where. */
START_TEST(alignment_is_checked)
{
    size_t size = (size_t)(alignments[_i].end - alignments[_i].code);
    bm_code(USER_CODE, alignments[_i].code, size);
    for (unsigned round = 0; round < 2; round++) {
        bool is_on = round == 0;
        bm_long();
        user_state(is_on ? X86_FLAG_AC : 0);
        bm_state.gpr[X86_RBX] = USER_DATA + 0x7000 + alignments[_i].off;
        BmStop stop = run();
        bool is_through = stop.vector == GP && stop.rip == USER_CODE + size - 1;
        int wanted = is_on || alignments[_i].vector != AC ? alignments[_i].vector : OK;
        if (!is_on && strncmp(alignments[_i].name, "ac_fx", 5) == 0)
            wanted = GP;
        if (!is_on && alignments[_i].code == ac_enter_top)
            wanted = X86_EXC_PF;
        ck_assert_msg(wanted == OK ? is_through : stop.vector == wanted && !is_through, "%s at %u, AC %d: vector %d at %#llx", alignments[_i].name,
                      alignments[_i].off, is_on, stop.vector, (unsigned long long)stop.rip);
        if (stop.vector == AC)
            ck_assert_uint_eq(stop.code, 0);
    }
}
END_TEST

/* --- single steps --- */

GUEST(step_movs, "rep movsb\nud2");
GUEST(step_cmps, "repe cmpsb\nud2");
GUEST(step_lock, "lock xor dword ptr [rbx + 0xffe], 0x55555555\nud2");
GUEST(step_int3, "popfq\nint3\nud2");
GUEST(step_iret, "iretq\nnop\nud2");
GUEST(step_icebp, ".byte 0xf1\nud2");
GUEST(step_gather, "vpgatherdd xmm0, [rbx + xmm2], xmm1\nud2");

/* One element each; the instruction is the frame's until the last, without RF. */
START_TEST(string_is_stepped)
{
    PUT(BM_CODE, step_movs);
    memset(bm_ram + BM_DATA, 0x33, 3);
    for (unsigned i = 1; i <= 3; i++) {
        bm_long();
        bm_state.gpr[X86_RSI] = BM_DATA + i - 1;
        bm_state.gpr[X86_RDI] = BM_FREE + i - 1;
        bm_state.gpr[X86_RCX] = 4 - i;
        bm_state.rflags |= X86_FLAG_TF;
        BmStop stop = run();
        ck_assert_int_eq(stop.vector, X86_EXC_DB);
        ck_assert_uint_eq(stop.rip, i < 3 ? BM_CODE : BM_CODE + 2);
        ck_assert_uint_eq(stop.rflags & (X86_FLAG_RF | X86_FLAG_TF), X86_FLAG_TF);
        ck_assert_uint_eq(reg(X86_RCX), 3 - i);
        ck_assert_uint_eq(bm_ram[BM_FREE + i - 1], 0x33);
        ck_assert_uint_eq(bm_ram[BM_FREE + i], 0);
    }
}
END_TEST

/* The last element of a comparison is the one that differs. */
START_TEST(comparison_is_stepped)
{
    PUT(BM_CODE, step_cmps);
    bm_ram[BM_DATA + 1] = 1;
    for (unsigned i = 1; i <= 2; i++) {
        bm_long();
        bm_state.gpr[X86_RSI] = BM_DATA + i - 1;
        bm_state.gpr[X86_RDI] = BM_FREE + i - 1;
        bm_state.gpr[X86_RCX] = 6 - i;
        bm_state.rflags |= X86_FLAG_TF;
        BmStop stop = run();
        ck_assert_int_eq(stop.vector, X86_EXC_DB);
        ck_assert_uint_eq(stop.rip, i < 2 ? BM_CODE : BM_CODE + 2);
        ck_assert_uint_eq(stop.rflags & X86_FLAG_ZF, i < 2 ? X86_FLAG_ZF : 0);
    }
    ck_assert_uint_eq(reg(X86_RCX), 3);
}
END_TEST

/* A locked access over two pages is begun again; the step is of the second time. */
START_TEST(locked_access_is_stepped)
{
    PUT(BM_CODE, step_lock);
    bm_state.rflags |= X86_FLAG_TF;
    BmStop stop = bm_run();
    while (stop.exit == CPU_EXIT_KICKED)
        stop = bm_run();
    ck_assert_int_eq(stop.vector, X86_EXC_DB);
    ck_assert_uint_eq(stop.rip, BM_CODE + (size_t)(step_lock_end - step_lock) - 2);
    ck_assert_uint_eq(bm_ram[BM_DATA + 0xffe], 0x55);
    ck_assert_uint_eq(bm_ram[BM_DATA + 0x1001], 0x55);
}
END_TEST

/* TF loaded by POPF: the next instruction runs, and INT3 drops the step of its own. */
START_TEST(step_is_lost_at_int3)
{
    uint64_t flags = X86_FLAG_FIXED | X86_FLAG_TF;
    PUT(BM_CODE, step_int3);
    memcpy(bm_ram + BM_STACK, &flags, 8);
    BmStop stop = run();
    ck_assert_int_eq(stop.vector, X86_EXC_BP);
    ck_assert_uint_eq(stop.rip, BM_CODE + 2);
    ck_assert_uint_eq(stop.rflags & (X86_FLAG_TF | X86_FLAG_RF), X86_FLAG_TF);
    ck_assert_uint_eq(bm_state.dr[6] & 0x4000, 0);
}
END_TEST

/* IRET to TF: one instruction of what it returns to.  From TF: the trap is by the flag with which the IRET began. */
START_TEST(iret_and_steps)
{
    bool to_step = _i == 0;
    uint64_t frame[] = {BM_CODE + 2, BM_SEL_CODE64, X86_FLAG_FIXED | (to_step ? X86_FLAG_TF : 0), BM_STACK - 0x100, BM_SEL_DATA};
    PUT(BM_CODE, step_iret);
    memcpy(bm_ram + BM_STACK, frame, sizeof frame);
    if (!to_step)
        bm_state.rflags |= X86_FLAG_TF;
    BmStop stop = run();
    ck_assert_int_eq(stop.vector, X86_EXC_DB);
    ck_assert_uint_eq(stop.rip, to_step ? BM_CODE + 3 : BM_CODE + 2);
    ck_assert_uint_eq(stop.rflags & X86_FLAG_TF, to_step ? X86_FLAG_TF : 0);
}
END_TEST

/* RF from IRET's frame: the breakpoint on the instruction it returns to is passed over once.  A breakpoint's frame has RF as it was, clear (SDM 3B 17.3.1.1). */
START_TEST(iret_passes_over_a_breakpoint)
{
    bool has_rf = _i == 0;
    uint64_t frame[] = {BM_CODE + 2, BM_SEL_CODE64, X86_FLAG_FIXED | (has_rf ? X86_FLAG_RF : 0), BM_STACK - 0x100, BM_SEL_DATA};
    PUT(BM_CODE, step_iret);
    memcpy(bm_ram + BM_STACK, frame, sizeof frame);
    bm_state.dr[0] = BM_CODE + 2;
    bm_state.dr[1] = BM_CODE + 3;
    bm_state.dr[7] = 0x400 | 2 | 8;
    BmStop stop = run();
    ck_assert_int_eq(stop.vector, X86_EXC_DB);
    ck_assert_uint_eq(stop.rip, BM_CODE + (has_rf ? 3 : 2));
    ck_assert_uint_eq(stop.rflags & X86_FLAG_RF, 0);
    ck_assert_uint_eq(bm_state.dr[6] & 0x400f, has_rf ? 2 : 1);
}
END_TEST

/* A repeated string instruction with a breakpoint on it: RF holds for all of its elements; the data breakpoint in its middle shows RF set. */
START_TEST(string_keeps_rf)
{
    PUT(BM_CODE, step_movs);
    bm_state.gpr[X86_RSI] = BM_DATA;
    bm_state.gpr[X86_RDI] = BM_FREE;
    bm_state.gpr[X86_RCX] = 3;
    bm_state.rflags |= X86_FLAG_RF;
    bm_state.dr[0] = BM_CODE;
    bm_state.dr[1] = BM_FREE + 1;
    bm_state.dr[7] = 0x400 | 2 | 8 | 1u << 20; /* DR1: one byte, written */
    BmStop stop = run();
    ck_assert_int_eq(stop.vector, X86_EXC_DB);
    ck_assert_uint_eq(bm_state.dr[6] & 0x400f, 2);
    ck_assert_uint_eq(stop.rip, BM_CODE);
    ck_assert_uint_eq(stop.rflags & X86_FLAG_RF, X86_FLAG_RF);
    ck_assert_uint_eq(reg(X86_RCX), 1);
}
END_TEST

/* INT1: a trap behind it, no BS in DR6. */
START_TEST(icebp_is_a_trap)
{
    PUT(BM_CODE, step_icebp);
    BmStop stop = run();
    ck_assert_int_eq(stop.vector, X86_EXC_DB);
    ck_assert_uint_eq(stop.rip, BM_CODE + 1);
    ck_assert_uint_eq(stop.rflags & X86_FLAG_RF, 0);
    ck_assert_uint_eq(bm_state.dr[6] & 0x400f, 0);
}
END_TEST

/* A gather stopped by a fault after its first element: the step of that comes first, at the gather itself; without elements, the fault. */
START_TEST(gather_is_stepped_before_its_fault)
{
    if (!__builtin_cpu_supports("avx2"))
        return;
    bool has_progress = _i == 0;
    int32_t index[4] = {has_progress ? 0 : 0x1000, 0x1000, 0, 0};
    PUT(BM_CODE, step_gather);
    *bm_pte(BM_DATA + 0x1000) = 0;
    bm_state.rflags |= X86_FLAG_TF;
    uint64_t bv = 7;
    memcpy(bm_state.xsave + 512, &bv, 8);
    memset(bm_state.xsave + 160 + 16, 0xff, 16);
    memcpy(bm_state.xsave + 160 + 32, index, 16);
    BmStop stop = run();
    ck_assert_int_eq(stop.vector, has_progress ? X86_EXC_DB : X86_EXC_PF);
    ck_assert_uint_eq(stop.rip, BM_CODE);
    ck_assert_uint_eq(bm_state.dr[6] & 0x4000, has_progress ? 0x4000 : 0);
}
END_TEST

/* --- data breakpoints, as translated code meets them --- */

GUEST(watch_load, "mov rax, [rbx]\nud2");
GUEST(watch_store, "mov [rbx], eax\nud2");
GUEST(watch_add, "add word ptr [rbx], 1\nud2");
GUEST(watch_cmp, "cmp byte ptr [rbx], 1\nud2");
GUEST(watch_push, "lea rsp, [rbx + 8]\npush rax\nud2");
GUEST(watch_enter, "lea rsp, [rbx + 8]\nenter 0, 0\nud2");
GUEST(watch_call, "lea rsp, [rbx + 8]\ncall 1f\n1: ud2");
GUEST(watch_vector, "movups xmm0, [rbx]\nud2");
GUEST(watch_stos, "mov rdi, rbx\nstosd\nud2");
GUEST(watch_fxsave, "fxsave [rbx]\nud2");
GUEST(watch_lock, "lock inc dword ptr [rbx]\nud2");
GUEST(watch_lea, "lea rax, [rbx]\nprefetcht0 [rbx]\nud2");

enum { ON_WRITE = 1, ON_ACCESS = 3, LENGTH_1 = 0, LENGTH_2 = 1, LENGTH_8 = 2, LENGTH_4 = 3 };
#define ROW(name, off, on, length, hit) { #name, name, name##_end, off, on, length, hit }
static const struct {
    const char *name;
    const uint8_t *code, *end;
    unsigned off; /* of the breakpoint from RBX */
    unsigned on, length;
    bool is_hit;
} watches[] = {
    ROW(watch_load, 4, ON_ACCESS, LENGTH_4, true), ROW(watch_load, 8, ON_ACCESS, LENGTH_8, false), ROW(watch_load, 0, ON_WRITE, LENGTH_8, false),
    ROW(watch_store, 2, ON_WRITE, LENGTH_2, true), ROW(watch_store, 3, ON_ACCESS, LENGTH_1, true), ROW(watch_store, 4, ON_WRITE, LENGTH_4, false),
    ROW(watch_add, 1, ON_WRITE, LENGTH_1, true), ROW(watch_add, 0, ON_ACCESS, LENGTH_8, true), ROW(watch_cmp, 0, ON_WRITE, LENGTH_1, false),
    ROW(watch_cmp, 0, ON_ACCESS, LENGTH_1, true), ROW(watch_push, 0, ON_WRITE, LENGTH_8, true), ROW(watch_push, 8, ON_WRITE, LENGTH_8, false),
    ROW(watch_enter, 0, ON_WRITE, LENGTH_8, true), ROW(watch_call, 0, ON_WRITE, LENGTH_4, true), ROW(watch_vector, 15, ON_ACCESS, LENGTH_1, true),
    ROW(watch_vector, 0, ON_WRITE, LENGTH_8, false), ROW(watch_stos, 0, ON_WRITE, LENGTH_4, true), ROW(watch_fxsave, 32, ON_WRITE, LENGTH_4, true),
    ROW(watch_lock, 0, ON_WRITE, LENGTH_4, true), ROW(watch_lea, 0, ON_ACCESS, LENGTH_8, false),
};
#undef ROW

/* A trap behind the instruction, which is carried out; UD2 stands there. */
START_TEST(data_breakpoint_is_met)
{
    size_t size = (size_t)(watches[_i].end - watches[_i].code);
    bm_code(BM_CODE, watches[_i].code, size);
    bm_state.dr[2] = BM_DATA + 0x40 + watches[_i].off;
    bm_state.gpr[X86_RBX] = BM_DATA + 0x40;
    bm_state.dr[7] = 0x400 | 1u << 5 | watches[_i].on << 24 | watches[_i].length << 26;
    BmStop stop = run();
    ck_assert_msg(stop.vector == (watches[_i].is_hit ? X86_EXC_DB : X86_EXC_UD), "%s + %u: vector %d", watches[_i].name, watches[_i].off, stop.vector);
    ck_assert_msg(stop.rip == BM_CODE + size - 2, "%s: at %#llx", watches[_i].name, (unsigned long long)stop.rip);
    ck_assert_uint_eq(bm_state.dr[6] & 0x400f, watches[_i].is_hit ? 4 : 0);
}
END_TEST

/* --- expand-down segments, as translated code meets them --- */

GUEST(down_ds, ".code32\nmov eax, [esi]\nhlt\n.code64");
GUEST(down_ds_store, ".code32\nmov [esi], al\nhlt\n.code64");
GUEST(down_ss, ".code32\nlea ebp, [esi]\nmov eax, [ebp]\nhlt\n.code64");

#define ROW(name, segment, limit, wide, at, vector) { #name, name, name##_end, X86_##segment, limit, wide, at, vector }
static const struct {
    const char *name;
    const uint8_t *code, *end;
    unsigned segment;
    uint32_t limit;
    bool is_wide;
    uint32_t at;
    int vector; /* -1: none */
} downs[] = {
    ROW(down_ds, DS, 0xfff, true, 0x1000, -1), ROW(down_ds, DS, 0xfff, true, 0xfff, 13), ROW(down_ds, DS, 0xfff, true, 0, 13),
    ROW(down_ds, DS, 0xfff, true, 0xfffffffd, 13), ROW(down_ds, DS, 0xfff, false, 0xfffc, -1), ROW(down_ds, DS, 0xfff, false, 0xfffd, 13),
    ROW(down_ds, DS, 0xfff, false, 0x10000, 13), ROW(down_ds_store, DS, 0x1ffff, true, 0x20000, -1), ROW(down_ds_store, DS, 0x1ffff, true, 0x1ffff, 13),
    ROW(down_ds_store, DS, 0xffffffff, true, 0x20000, 13), ROW(down_ss, SS, 0xfff, true, 0x1000, -1), ROW(down_ss, SS, 0xfff, true, 0xffe, 12),
};
#undef ROW

START_TEST(expand_down_is_checked)
{
    bm_code(BM_CODE, downs[_i].code, (size_t)(downs[_i].end - downs[_i].code));
    for (unsigned round = 0; round < 2; round++) {
        bm_flat32();
        for (unsigned v = 12; v < 14; v++) { /* 32-bit gates, on the same stack */
            uint64_t gate = (0xd000u + 16 * v) | BM_SEL_CODE32 << 16 | 0x8eull << 40;
            memcpy(bm_ram + bm_state.idtr.base + 8 * v, &gate, 8);
        }
        bm_state.seg[downs[_i].segment].attr = X86_SEG_S | X86_SEG_P | X86_SEG_G | 7u | (downs[_i].is_wide ? X86_SEG_DB : 0);
        bm_state.seg[downs[_i].segment].limit = downs[_i].limit;
        bm_state.gpr[X86_RSI] = downs[_i].at;
        BmStop stop = run();
        ck_assert_msg(stop.vector == downs[_i].vector, "%s at %#x, limit %#x: vector %d", downs[_i].name, downs[_i].at, downs[_i].limit, stop.vector);
    }
}
END_TEST

/* AVX's component initial, AVX-512's upper one not, and a legacy SSE instruction: on Zen 5, XSAVEOPT then calls AVX's in use and does not write it. */
GUEST(settle_sse, "paddd xmm0, xmm1\nhlt");

START_TEST(initial_ymm_stays_initial)
{
    if (!__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512bw"))
        return;
    uint64_t bv = 0x43;
    static const uint8_t zero[256];
    CpuidModel *model = (CpuidModel *)bm->cpuid;
    bm_teardown();
    model->xcr0_mask = 0xe7;
    setup();
    bm_state.xcr0 = 0xe7;
    memcpy(bm_state.xsave + 512, &bv, 8);
    memset(bm_state.xsave + 576, 0x77, 256);
    memset(bm_state.xsave + bm->xsave_at[6], 0x55, 512);
    PUT(BM_CODE, settle_sse);
    run_to_end();
    if (bm_state.xsave[512] & 4)
        ck_assert_mem_eq(bm_state.xsave + 576, zero, sizeof zero);
    ck_assert_uint_eq(bm_state.xsave[bm->xsave_at[6]], 0x55);
    model->xcr0_mask = 7;
}
END_TEST

/* CMPS, MOVS: an absent source comes before a destination that is not canonical. */
GUEST(order_cmps, "repne cmpsd\nud2");
GUEST(order_movs, "movsd\nud2");

START_TEST(source_faults_first)
{
    if (_i == 0)
        PUT(BM_CODE, order_cmps);
    else
        PUT(BM_CODE, order_movs);
    bm_state.gpr[X86_RSI] = 0x7fe000;
    bm_state.gpr[X86_RDI] = NON_CANONICAL;
    bm_state.gpr[X86_RCX] = 2;
    *bm_pte(0x7fe000) = 0;
    ck_assert_int_eq(run().vector, X86_EXC_PF);
    ck_assert_uint_eq(bm_state.cr2, 0x7fe000);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("exact");
    TCase *tc = tcase_create("exact");
    tcase_add_checked_fixture(tc, setup, bm_teardown);
    tcase_add_loop_test(tc, branch_is_refused, 0, 2 * (int)G_N_ELEMENTS(branches));
    tcase_add_test(tc, call_looks_at_its_target_first);
    tcase_add_loop_test(tc, alignment_is_checked, 0, (int)G_N_ELEMENTS(alignments));
    tcase_add_test(tc, string_is_stepped);
    tcase_add_test(tc, comparison_is_stepped);
    tcase_add_test(tc, locked_access_is_stepped);
    tcase_add_test(tc, step_is_lost_at_int3);
    tcase_add_loop_test(tc, iret_and_steps, 0, 2);
    tcase_add_loop_test(tc, iret_passes_over_a_breakpoint, 0, 2);
    tcase_add_test(tc, string_keeps_rf);
    tcase_add_test(tc, icebp_is_a_trap);
    tcase_add_loop_test(tc, gather_is_stepped_before_its_fault, 0, 2);
    tcase_add_loop_test(tc, data_breakpoint_is_met, 0, (int)G_N_ELEMENTS(watches));
    tcase_add_loop_test(tc, expand_down_is_checked, 0, (int)G_N_ELEMENTS(downs));
    tcase_add_test(tc, initial_ymm_stays_initial);
    tcase_add_loop_test(tc, source_faults_first, 0, 2);
    tcase_set_timeout(tc, 60);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
