/* The host's side: a signal handler stores the state in which a case stopped and loads the next one, so that sigreturn starts it. */
#include "oracle.h"

#include <asm/prctl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>
#include <unistd.h>

static const int greg[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                             REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

#define XSTATE_MAGIC 0x46505853u
#define FX_SIZE_AT   480 /* sw_reserved.xstate_size in the frame's FXSAVE area */

static Shared *area;
static bool is_running;
static gregset_t home_gregs;
static uint8_t home_fp[16384];

static size_t xstate_size(const uint8_t *fp)
{
    uint32_t magic, size;
    memcpy(&magic, fp + 464, 4);
    memcpy(&size, fp + FX_SIZE_AT, 4);
    return magic == XSTATE_MAGIC && size <= sizeof home_fp ? size : 512;
}

unsigned oracle_xsave(unsigned i)
{
    unsigned a, b, c, d;
    if (!__builtin_cpu_supports("avx512bw"))
        return 0;
    __asm__ volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(0xd), "c"(i));
    return a ? b : 0;
}

static unsigned place[8]; /* of the components; CPUID is slow below a hypervisor */

static void avx512_load(uint8_t *fp, const OracleState *s)
{
    memcpy(fp + place[5], s->mask, sizeof s->mask);
    memcpy(fp + place[6], s->zmm_high, sizeof s->zmm_high);
    memcpy(fp + place[7], s->zmm, sizeof s->zmm);
}

static void avx512_store(const uint8_t *fp, uint64_t bv, OracleState *s)
{
    memset(s->mask, 0, sizeof s->mask);
    memset(s->zmm_high, 0, sizeof s->zmm_high);
    memset(s->zmm, 0, sizeof s->zmm);
    if (place[5] && bv & 0x20)
        memcpy(s->mask, fp + place[5], sizeof s->mask);
    if (place[6] && bv & 0x40)
        memcpy(s->zmm_high, fp + place[6], sizeof s->zmm_high);
    if (place[7] && bv & 0x80)
        memcpy(s->zmm, fp + place[7], sizeof s->zmm);
}

static void case_load(ucontext_t *uc, const Case *c)
{
    uint8_t *fp = (uint8_t *)uc->uc_mcontext.fpregs;
    uint8_t *window = (uint8_t *)(uintptr_t)WINDOW;
    for (unsigned page = 0; page < WINDOW_PAGES; page++)
        if (page != WINDOW_HOLE && page != WINDOW_RO)
            memcpy(window + page * 4096, area->template + page * 4096, 4096);
    for (unsigned i = 0; i < c->nplants; i++)
        memcpy((void *)(uintptr_t)c->plant[i].address, &c->plant[i].value, 8);
    for (unsigned i = 0; i < 16; i++)
        uc->uc_mcontext.gregs[greg[i]] = (greg_t)c->in.gpr[i];
    uc->uc_mcontext.gregs[REG_RIP] = (greg_t)c->in.rip;
    uc->uc_mcontext.gregs[REG_EFL] = (greg_t)(c->in.rflags | 0x202);
    memcpy(fp, c->in.fx, 416); /* the rest of the 512 bytes is the kernel's */
    /* EFLAGS.ID: sigreturn keeps the one in force now. */
    __asm__ volatile("sub $128, %%rsp; pushf; orl $0x200000, (%%rsp); popf; add $128, %%rsp" : : : "memory", "cc");
    uint64_t bv = c->in.components & (place[5] ? 0xe7 : 7), zero = 0;
    memcpy(fp + 512, &bv, 8);
    memcpy(fp + 520, &zero, 8);
    memcpy(fp + 576, c->in.ymm_high, 256);
    if (place[5])
        avx512_load(fp, &c->in);
}

static void case_store(const ucontext_t *uc, Result *r)
{
    const uint8_t *fp = (const uint8_t *)uc->uc_mcontext.fpregs;
    const uint8_t *window = (const uint8_t *)(uintptr_t)WINDOW;
    uint64_t bv;
    for (unsigned i = 0; i < 16; i++)
        r->out.gpr[i] = (uint64_t)uc->uc_mcontext.gregs[greg[i]];
    r->out.rip = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
    r->out.rflags = (uint64_t)uc->uc_mcontext.gregs[REG_EFL];
    memcpy(r->out.fx, fp, 512);
    memcpy(&bv, fp + 512, 8);
    if (!(bv & 1)) {
        memset(r->out.fx, 0, 24);
        memset(r->out.fx + 32, 0, 128);
        r->out.fx[0] = 0x7f, r->out.fx[1] = 3;
    }
    if (!(bv & 2))
        memset(r->out.fx + 160, 0, 256);
    if (bv & 4)
        memcpy(r->out.ymm_high, fp + 576, 256);
    else
        memset(r->out.ymm_high, 0, 256);
    avx512_store(fp, bv, &r->out);
    r->vector = (uint32_t)uc->uc_mcontext.gregs[REG_TRAPNO];
    r->error = (uint32_t)uc->uc_mcontext.gregs[REG_ERR];
    r->cr2 = (uint64_t)uc->uc_mcontext.gregs[REG_CR2];
    for (unsigned page = 0; page < WINDOW_PAGES; page++)
        if (page != WINDOW_HOLE)
            memcpy(r->window + page * 4096, window + page * 4096, 4096);
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
    __asm__ volatile("sub $128, %%rsp; pushf; andl $~0x40000, (%%rsp); popf; add $128, %%rsp" : : : "memory", "cc"); /* the case's AC */
    ucontext_t *uc = context;
    uint8_t *fp = (uint8_t *)uc->uc_mcontext.fpregs;
    if (!is_running) {
        is_running = true;
        memcpy(home_gregs, uc->uc_mcontext.gregs, sizeof home_gregs);
        memcpy(home_fp, fp, xstate_size(fp));
    } else {
        case_store(uc, &area->native[area->at]);
        area->at++;
    }
    if (area->at < area->ncases) {
        case_load(uc, &area->cases[area->at]);
        return;
    }
    is_running = false;
    memcpy(uc->uc_mcontext.gregs, home_gregs, sizeof home_gregs);
    memcpy(fp, home_fp, xstate_size(fp));
}

static void map_fixed(uint64_t address, size_t size, int prot)
{
    void *p = mmap((void *)(uintptr_t)address, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE, -1, 0);
    if (p != (void *)(uintptr_t)address) {
        perror("oracle: mmap");
        exit(77);
    }
}

void native_init(Shared *shared)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    static uint8_t stack[256 << 10];
    stack_t ss = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    area = shared;
    for (unsigned i = 5; i < 8; i++)
        place[i] = oracle_xsave(i);
    map_fixed(WINDOW, WINDOW_SIZE, PROT_READ | PROT_WRITE);
    munmap((void *)(uintptr_t)(WINDOW + WINDOW_HOLE * 4096), 4096);
    map_fixed(CODE, CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC);
    sigaltstack(&ss, NULL);
    for (unsigned i = 0; i < sizeof signals / sizeof signals[0]; i++)
        sigaction(signals[i], &sa, NULL);
    __asm__ volatile("mov %0, %%ds; mov %0, %%es" : : "r"(0x2b)); /* as guest.c has them */
    syscall(SYS_arch_prctl, ARCH_SET_GS, (unsigned long)ORACLE_GS);
}

void native_run(Shared *shared)
{
    uint8_t *ro = (uint8_t *)(uintptr_t)(WINDOW + WINDOW_RO * 4096);
    mprotect(ro, 4096, PROT_READ | PROT_WRITE);
    memcpy(ro, shared->template + WINDOW_RO * 4096, 4096);
    mprotect(ro, 4096, PROT_READ);
    mprotect((void *)(uintptr_t)CODE, CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC);
    memcpy((void *)(uintptr_t)CODE, shared->native_code, CODE_SIZE);
    mprotect((void *)(uintptr_t)CODE, CODE_SIZE, PROT_READ | PROT_EXEC);
    __asm__ volatile("int3" : : : "memory");
}
