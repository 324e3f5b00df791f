/* Code as the translator makes it is accepted; the same code with one thing wrong is not, and the verifier says what. */
#include "../../lib/bt-machine.h"

#include <check.h>

#include "bt/translate.h"
#include "bt/verify.h"

#define TLB(class, field) ((int32_t)(offsetof(BtCpu, mmu) + offsetof(Mmu, tlb) + (class) * sizeof(TlbEntry) * TLB_SIZE + offsetof(TlbEntry, field)))
#define MASK ((int32_t)((TLB_SIZE - 1) * sizeof(TlbEntry)))
#define JUMPS ((int32_t)offsetof(BtCpu, jump_cache))

typedef struct Wrong { /* what is changed in the code of check(); zero is right */
    int32_t mask, tag, host, limit, disp;
    unsigned cc, store, size;
} Wrong;

static Bt *bt;
static Emit e;

static void leave(void) { e_jmp(&e, bt->stub_save_dispatch_rw); }
static void gs8(unsigned opcode, unsigned reg, int32_t disp) { e_gs_base(&e, true, opcode, reg, H_T1, disp); }

/* An access of eight bytes by [T0], as in translate-mem.c, with what follows it. */
static void check(Wrong w)
{
    e_mov_rr(&e, true, H_T0, H_RBX);
    e_rorx(&e, true, H_T1, H_T0, 7);
    e_ri(&e, false, XG_AND, H_T1, MASK + w.mask);
    gs8(XO_SUB_RM, H_T0, TLB(MMU_KERNEL, tag_read) + w.tag);
    e_ri(&e, true, XG_CMP, H_T0, 4096 - 8 + w.limit);
    uint8_t *slow = e_jcc_later(&e, w.cc ? w.cc : CC_A);
    gs8(XO_ADD_RM, H_T0, TLB(MMU_KERNEL, host) + w.host);
    uint8_t *body = e.p;
    e_mem(&e, true, w.store ? XO_MOV_MR : XO_MOV_RM, H_RAX, H_T0, -1, 1, w.disp);
    uint8_t *end = e.p;
    leave();
    e_patch32(slow, e.p);
    gs8(XO_ADD_RM, H_T0, TLB(MMU_KERNEL, tag_read));
    e_mov_imm(&e, H_T1, (w.size ? w.size : 8) | ACCESS_READ);
    e_call(&e, bt->stub_mem_slow_rw);
    memcpy(e.p, body, (size_t)(end - body));
    e.p += end - body;
    e_jmp(&e, end);
}

static void right(void) { check((Wrong){ 0 }); }
static void wide_mask(void) { check((Wrong){ .mask = 1 << 20 }); }
static void odd_mask(void) { check((Wrong){ .mask = 8 }); }
static void no_tag(void) { check((Wrong){ .tag = 4 }); }
static void addend_for_tag(void) { check((Wrong){ .tag = 24 }); }
static void other_class(void) { check((Wrong){ .tag = TLB(MMU_USER, host) - TLB(MMU_KERNEL, host) }); }
static void host_of_other_class(void) { check((Wrong){ .host = TLB(MMU_KERNEL_AC, host) - TLB(MMU_KERNEL, host) }); }
static void limit_one_more(void) { check((Wrong){ .limit = 1 }); }
static void limit_less(void) { check((Wrong){ .limit = -8 }); }
static void wrong_condition(void) { check((Wrong){ .cc = CC_AE }); }
static void signed_condition(void) { check((Wrong){ .cc = CC_G }); }
static void beyond(void) { check((Wrong){ .disp = 1 }); }
static void before(void) { check((Wrong){ .disp = -1 }); }
static void store_by_load(void) { check((Wrong){ .store = 1 }); }
static void slow_of_four(void) { check((Wrong){ .size = 4 }); }

static void unchecked(void) { e_mem(&e, true, XO_MOV_RM, H_RAX, H_T0, -1, 1, 0); leave(); }
static void guest_register(void) { e_mem(&e, true, XO_MOV_RM, H_RAX, H_RBX, -1, 1, 0); leave(); }
static void absolute(void) { e_mem(&e, true, XO_MOV_RM, H_RAX, -1, -1, 1, 0x1000); leave(); }
static void indexed(void) { e_mem(&e, true, XO_MOV_RM, H_RAX, H_T0, H_RBX, 1, 0); leave(); }
static void host_stack(void) { e_mem(&e, true, XO_MOV_RM, H_RAX, H_RSP, -1, 1, 0); leave(); }
static void stack_pointer(void) { e_mov_rr(&e, true, H_RSP, H_RAX); leave(); }
static void push(void) { e8(&e, 0x50); leave(); }
static void ret(void) { e8(&e, 0xc3); }
static void syscall_(void) { e8(&e, 0x0f); e8(&e, 0x05); leave(); }
static void int80(void) { e8(&e, 0xcd); e8(&e, 0x80); leave(); }
static void stos(void) { e8(&e, 0xaa); leave(); }
static void write_gs(void) { e8(&e, 0xf3); e8(&e, 0x48); e8(&e, 0x0f); e8(&e, 0xae); e8(&e, 0xd8); leave(); }
static void other_segment(void) { e8(&e, 0x64); e8(&e, 0x8b); e8(&e, 0x03); leave(); }

static void field_read(void) { e_load_gs(&e, H_RAX, CPU_OFF(cr2)); leave(); }
static void field_written(void) { e_store_gs(&e, H_RAX, GPR_OFF(9)); leave(); }
static void field_forbidden(void) { e_store_gs(&e, H_RAX, CPU_OFF(host_rsp)); leave(); }
static void field_tlb(void) { e_store_gs(&e, H_RAX, TLB(MMU_KERNEL, host)); leave(); }
static void field_beyond(void) { e_load_gs(&e, H_RAX, (int32_t)sizeof(BtCpu) - 7); leave(); }
static void field_before(void) { e_load_gs(&e, H_RAX, -8); leave(); }

static void jump_out(void) { e_jmp(&e, bt->rw + 3); }
static void jump_into_insn(void) { e_mov_imm(&e, H_RAX, 5); e_jmp(&e, e.p - 4); }
static void call_out(void) { e_call(&e, bt->stub_save_dispatch_rw); leave(); }
static void jump_register(void) { e_jmp_reg(&e, H_RAX); }
static void falls_out(void) { e_mov_imm(&e, H_RAX, 1); }
static void edge(void) { e_mov_imm(&e, H_T0, 5); e_jmp(&e, bt->stub_link_slot_rw); }
static void edge_of_others(void) { e_mov_imm(&e, H_T0, 6); e_jmp(&e, bt->stub_link_slot_rw); }
static void exec(void) { e_mov_imm(&e, H_T0, 3); e_call(&e, bt->stub_exec_rw); leave(); }
static void exec_of_others(void) { e_mov_imm(&e, H_T0, 2); e_call(&e, bt->stub_exec_rw); leave(); }
static void exec_unknown(void) { e_mov_rr(&e, true, H_T0, H_RAX); e_call(&e, bt->stub_exec_rw); leave(); }

static void jump_cache(int32_t mask, int32_t at)
{
    e_mov_rr(&e, false, H_T1, H_T0);
    e_ri(&e, false, XG_AND, H_T1, mask);
    e_shift(&e, false, 4, H_T1, 4);
    gs8(XO_CMP_RM, H_T0, JUMPS);
    e8(&e, 0x65); /* jmp gs:[T1 + at] */
    e_rex(&e, false, 4, 0, H_T1, false);
    e8(&e, 0xff);
    e8(&e, 0x80 | 4 << 3 | (H_T1 & 7));
    e32(&e, (uint32_t)at);
}
static void indirect(void) { jump_cache(JUMP_CACHE_SIZE - 1, JUMPS + 8); }
static void indirect_wide(void) { jump_cache(2 * JUMP_CACHE_SIZE - 1, JUMPS + 8); }
static void indirect_user(void) { jump_cache(JUMP_CACHE_SIZE - 1, JUMPS + 8 + (int32_t)(sizeof(JumpCacheEntry) * JUMP_CACHE_SIZE)); }

/* The entry in T1 is changed between tag and host. */
static void entry_changes(void)
{
    e_ri(&e, false, XG_AND, H_T1, MASK);
    gs8(XO_SUB_RM, H_T0, TLB(MMU_KERNEL, tag_read));
    e_ri(&e, true, XG_CMP, H_T0, 4088);
    uint8_t *slow = e_jcc_later(&e, CC_A);
    e_ri(&e, false, XG_AND, H_T1, MASK);
    gs8(XO_ADD_RM, H_T0, TLB(MMU_KERNEL, host));
    e_mem(&e, true, XO_MOV_RM, H_RAX, H_T0, -1, 1, 0);
    e_patch32(slow, e.p);
    leave();
}

/* Only one of two ways to an access has a check. */
static void check_on_one_path(void)
{
    uint8_t *around = e_jcc_later(&e, CC_E);
    e_ri(&e, false, XG_AND, H_T1, MASK);
    gs8(XO_SUB_RM, H_T0, TLB(MMU_KERNEL, tag_read));
    e_ri(&e, true, XG_CMP, H_T0, 4088);
    uint8_t *slow = e_jcc_later(&e, CC_A);
    gs8(XO_ADD_RM, H_T0, TLB(MMU_KERNEL, host));
    e_patch32(around, e.p);
    e_mem(&e, true, XO_MOV_RM, H_RAX, H_T0, -1, 1, 0);
    e_patch32(slow, e.p);
    leave();
}

static void bits(int32_t mask)
{
    e_mov_imm(&e, H_T1, 8 | ACCESS_READ | ACCESS_WRITE);
    e_call(&e, bt->stub_mem_slow_rw);
    e_ri(&e, false, XG_AND, H_T1, mask);
    e_store_gs(&e, H_T1, CPU_OFF(scratch[2]));
    e_load_gs(&e, H_T1, CPU_OFF(scratch[2]));
    e8(&e, 0x4d); /* bts [T0], T1 */
    e8(&e, 0x0f);
    e8(&e, 0xab);
    e8(&e, 0x11);
    leave();
}
static void bits_masked(void) { bits(63); }
static void bits_reach(void) { bits(127); }

/* Operands made of guest registers, as in translate-mem.c: [base + T0 + disp], with an index [T0 + index * 4 + disp], T0 + base's addend. */
typedef struct WrongForm {
    unsigned base, index; /* of the operand, if not those of the check */
    unsigned changes;     /* 1 + this register is changed behind the check */
    unsigned scale;
    int32_t disp, field;
    int store, call;
} WrongForm;

static void form(bool is_indexed, WrongForm w)
{
    int index = is_indexed ? H_RCX : -1;
    e_mem(&e, true, XO_LEA, H_T0, H_RBX, index, 4, 16);
    e_rorx(&e, true, H_T1, H_RBX, 7);
    e_ri(&e, false, XG_AND, H_T1, MASK);
    gs8(XO_SUB_RM, H_T0, TLB(MMU_KERNEL, tag_read));
    e_ri(&e, true, XG_CMP, H_T0, 4096 - 8);
    uint8_t *slow = e_jcc_later(&e, CC_A);
    gs8(XO_MOV_RM, H_T0, TLB(MMU_KERNEL, addend) + w.field);
    if (w.changes)
        e_mov_imm(&e, w.changes - 1, 0);
    if (w.call) {
        e_mov_imm(&e, H_T1, 8 | ACCESS_READ);
        e_call(&e, bt->stub_commit_rw);
    }
    if (is_indexed)
        e_mem(&e, true, XO_LEA, H_T0, H_T0, w.base ? (int)w.base : H_RBX, 1, 0);
    uint8_t *body = e.p;
    if (is_indexed)
        e_mem(&e, true, w.store ? XO_MOV_MR : XO_MOV_RM, H_RAX, H_T0, w.index ? (int)w.index : H_RCX, w.scale ? w.scale : 4, 16 + w.disp);
    else
        e_mem(&e, true, w.store ? XO_MOV_MR : XO_MOV_RM, H_RAX, w.base ? (int)w.base : H_RBX, H_T0, w.scale ? w.scale : 1, 16 + w.disp);
    uint8_t *end = e.p;
    leave();
    e_patch32(slow, e.p);
    e_mov_imm(&e, H_T1, 8 | ACCESS_READ);
    e_call(&e, bt->stub_mem_slow_rw);
    if (is_indexed) {
        e_neg(&e, H_T0);
        e_mem(&e, true, XO_LEA, H_T0, H_T0, H_RCX, 4, 16);
        e_neg(&e, H_T0);
    } else {
        e_rr(&e, true, XO_SUB_RM, H_T0, H_RBX);
        e_mem(&e, true, XO_LEA, H_T0, H_T0, -1, 1, -16);
    }
    memcpy(e.p, body, (size_t)(end - body));
    e.p += end - body;
    leave();
}

static void by_base(void) { form(false, (WrongForm){ 0 }); }
static void by_other_base(void) { form(false, (WrongForm){ .base = H_RDX }); }
static void by_base_beyond(void) { form(false, (WrongForm){ .disp = 1 }); }
static void by_base_before(void) { form(false, (WrongForm){ .disp = -1 }); }
static void by_base_twice(void) { form(false, (WrongForm){ .scale = 2 }); }
static void by_base_changed(void) { form(false, (WrongForm){ .changes = 1 + H_RBX }); }
static void by_base_after_c(void) { form(false, (WrongForm){ .call = 1 }); }
static void by_base_host(void) { form(false, (WrongForm){ .field = -8 }); }
static void by_base_stored(void) { form(false, (WrongForm){ .store = 1 }); }
static void by_index(void) { form(true, (WrongForm){ 0 }); }
static void by_other_index(void) { form(true, (WrongForm){ .index = H_RDX }); }
static void by_index_of_other_base(void) { form(true, (WrongForm){ .base = H_RDX }); }
static void by_index_scaled(void) { form(true, (WrongForm){ .scale = 8 }); }
static void by_index_beyond(void) { form(true, (WrongForm){ .disp = 1 }); }
static void by_index_changed(void) { form(true, (WrongForm){ .changes = 1 + H_RCX }); }

/* The first access of a group: T0, a copy of T2, is checked, and T2 gets the addend. */
static void lead(Wrong w)
{
    e_mem(&e, true, XO_LEA, H_T2, H_RBX, -1, 1, 8);
    e_rorx(&e, true, H_T1, H_RBX, 7);
    e_ri(&e, false, XG_AND, H_T1, MASK);
    e_mov_rr(&e, true, H_T0, w.cc ? H_RBX : H_T2);
    gs8(XO_SUB_RM, H_T0, TLB(MMU_KERNEL, tag_read));
    if (w.tag)
        e_mem(&e, true, XO_LEA, H_T2, H_T2, -1, 1, w.tag);
    e_ri(&e, true, XG_CMP, H_T0, 4096 - 16);
    uint8_t *fail = e_jcc_later(&e, CC_A);
    if (w.mask)
        e_mov_imm(&e, H_T1, 0);
    gs8(XO_ADD_RM, H_T2, TLB(MMU_KERNEL, addend) + w.host);
    e_mem(&e, true, XO_MOV_RM, H_RAX, H_T2, -1, 1, 8 + w.disp);
    e_patch32(fail, e.p);
    leave();
}
static void lead_right(void) { lead((Wrong){ 0 }); }
static void lead_beyond(void) { lead((Wrong){ .disp = 1 }); }
static void lead_of_other(void) { lead((Wrong){ .cc = 1 }); }
static void lead_changed(void) { lead((Wrong){ .tag = 8 }); }
static void lead_other_entry(void) { lead((Wrong){ .mask = 1 }); }
static void lead_host(void) { lead((Wrong){ .host = -8 }); }

/* An operand whose address, and so whose entry, is known. */
static void known(Wrong w)
{
    const int32_t entry = 5 * (int32_t)sizeof(TlbEntry);
    e_mov_imm(&e, H_T0, 0x5000 + (unsigned)w.mask);
    e_gs(&e, true, XO_CMP_RM, H_T0, TLB(MMU_KERNEL, tag_read) + entry);
    uint8_t *slow = e_jcc_later(&e, w.cc ? w.cc : CC_NE);
    e_load_gs(&e, H_T0, TLB(MMU_KERNEL, host) + entry + w.host);
    e_mem(&e, true, w.store ? XO_MOV_MR : XO_MOV_RM, H_RAX, H_T0, -1, 1, 4088 + w.disp);
    leave();
    e_patch32(slow, e.p);
    e_mov_imm(&e, H_T0, 0x5ff8);
    e_mov_imm(&e, H_T1, 8 | ACCESS_READ | (w.store ? ACCESS_WRITE : 0));
    e_call(&e, bt->stub_mem_slow_rw);
    e_mem(&e, true, XO_LEA, H_T0, H_T0, -1, 1, -4088);
    e_mem(&e, true, w.store ? XO_MOV_MR : XO_MOV_RM, H_RAX, H_T0, -1, 1, 4088);
    leave();
}
static void known_page(void) { known((Wrong){ 0 }); }
static void known_beyond(void) { known((Wrong){ .disp = 1 }); }
static void known_no_page(void) { known((Wrong){ .mask = 8 }); }
static void known_host_of_other(void) { known((Wrong){ .host = sizeof(TlbEntry) }); }
static void known_wrong_condition(void) { known((Wrong){ .cc = CC_A }); }
static void known_stored(void) { known((Wrong){ .store = 1 }); }

static const struct {
    const char *name;
    void (*emit)(void);
    const char *complaint; /* NULL: accepted */
} rows[] = {
#define ROW(name, complaint) { #name, name, complaint }
    ROW(right, NULL), ROW(wide_mask, "not masked"), ROW(odd_mask, "not masked"), ROW(no_tag, "no field"), ROW(addend_for_tag, "not checked"),
    ROW(other_class, "another privilege class"), ROW(host_of_other_class, "not checked"), ROW(limit_one_more, "beyond"), ROW(limit_less, NULL),
    ROW(wrong_condition, "not checked"), ROW(signed_condition, "not checked"), ROW(beyond, "beyond"), ROW(before, "beyond"),
    ROW(store_by_load, "only a load"), ROW(slow_of_four, "beyond"), ROW(unchecked, "not checked"), ROW(guest_register, "not checked"),
    ROW(absolute, "not checked"), ROW(indexed, "not checked"), ROW(host_stack, "stack"), ROW(stack_pointer, "stack pointer"), ROW(push, "only C"),
    ROW(ret, "only C"), ROW(syscall_, "only C"), ROW(int80, "only C"), ROW(stos, "only C"), ROW(write_gs, "only C"),
    ROW(other_segment, "segment prefix"), ROW(field_read, NULL), ROW(field_written, NULL), ROW(field_forbidden, "not its to write"),
    ROW(field_tlb, "not its to write"), ROW(field_beyond, "outside the vCPU block"), ROW(field_before, "outside the vCPU block"),
    ROW(jump_out, "no stub"), ROW(jump_into_insn, "middle"), ROW(call_out, "no stub"), ROW(jump_register, "indirect"),
    ROW(falls_out, "outside the block"), ROW(edge, NULL), ROW(edge_of_others, "no edge"), ROW(exec, NULL), ROW(exec_of_others, "no function"),
    ROW(exec_unknown, "no function"), ROW(indirect, NULL), ROW(indirect_wide, "not masked"), ROW(indirect_user, "another privilege class"),
    ROW(entry_changes, "not checked"), ROW(check_on_one_path, "not checked"), ROW(bits_masked, NULL), ROW(bits_reach, "bit offset"),
    ROW(by_base, NULL), ROW(by_other_base, "not checked"), ROW(by_base_beyond, "beyond"), ROW(by_base_before, "beyond"),
    ROW(by_base_twice, "not checked"), ROW(by_base_changed, "not checked"), ROW(by_base_after_c, "not checked"), ROW(by_base_host, "not checked"),
    ROW(by_base_stored, "only a load"), ROW(by_index, NULL), ROW(by_other_index, "not checked"), ROW(by_index_of_other_base, "not checked"),
    ROW(by_index_scaled, "not checked"), ROW(by_index_beyond, "beyond"), ROW(by_index_changed, "not checked"), ROW(known_page, NULL),
    ROW(lead_right, NULL), ROW(lead_beyond, "beyond"), ROW(lead_of_other, "not checked"), ROW(lead_changed, "not checked"),
    ROW(lead_other_entry, "not checked"), ROW(lead_host, "not checked"),
    ROW(known_beyond, "beyond"), ROW(known_no_page, "not checked"), ROW(known_host_of_other, "not checked"),
    ROW(known_wrong_condition, "not checked"), ROW(known_stored, "only a load"),
#undef ROW
};

static void setup(void)
{
    bm_setup();
    bt = bm->bt;
    e = (Emit){ .p = bt->code_p, .to_exec = bt->rx - bt->rw };
}

START_TEST(code_is_judged)
{
    rows[_i].emit();
    uint32_t start = (uint32_t)(bt->code_p - bt->rw);
    VerifyCode code = { .start = start, .size = (uint32_t)(e.p - bt->code_p), .entry = { start, start, start }, .mode = MODE_CODE64 | MODE_CPL0,
                        .exit_first = 5, .exit_end = 6, .exec_first = 3, .exec_end = 4 };
    g_autofree char *said = verify_code(bt, &code);
    if (!rows[_i].complaint)
        ck_assert_msg(!said, "%s: %s", rows[_i].name, said);
    else
        ck_assert_msg(said && strstr(said, rows[_i].complaint), "%s: %s", rows[_i].name, said ? said : "accepted");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("verify");
    TCase *tc = tcase_create("verify");
    tcase_add_checked_fixture(tc, setup, bm_teardown);
    tcase_add_loop_test(tc, code_is_judged, 0, (int)G_N_ELEMENTS(rows));
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
