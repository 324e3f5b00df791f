/*
 * A division by zero, a misaligned MOVAPS or an unmasked SIMD exception happens in translated code as it would on the bare CPU.  The
 * signal handler finds the guest instruction in the block's map, takes the guest's registers from the signal frame and continues in the
 * dispatcher with the exception pending.
 *
 * Nothing here allocates or locks.  A fault anywhere else, or a page fault (guest addresses never reach the host MMU unchecked), is our own bug
 * and ends the process in the default way, with a core.
 */
#include "bt/unwind.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "bt/cache.h"
#include "bt/emit.h"

static __thread BtCpu *unwind_cpu;

static void die(int signo, const ucontext_t *uc)
{
    char line[] = "segue: internal error: signal 00 outside guest code at 0x0000000000000000, address 0x0000000000000000\n";
    static const char hex[] = "0123456789abcdef";
    uint64_t value[2] = {(uint64_t)uc->uc_mcontext.gregs[REG_RIP], (uint64_t)uc->uc_mcontext.gregs[REG_CR2]};
    char *p = strstr(line, "00 outside");
    p[0] = (char)('0' + signo / 10);
    p[1] = (char)('0' + signo % 10);
    p = line;
    for (unsigned k = 0; k < 2; k++) {
        p = strstr(p, "0x") + 2;
        for (unsigned i = 0; i < 16; i++)
            p[i] = hex[value[k] >> (60 - 4 * i) & 15];
    }
    ssize_t unused = write(STDERR_FILENO, line, sizeof line - 1);
    (void)unused;
    signal(signo, SIG_DFL);
    raise(signo);
}

static void on_fault(int signo, siginfo_t *info, void *context)
{
    ucontext_t *uc = context;
    greg_t *g = uc->uc_mcontext.gregs;
    BtCpu *cpu = unwind_cpu;
    const BtBlock *block = NULL;
    const BtMap *m = cpu ? cache_map_find(cpu->bt, (const uint8_t *)g[REG_RIP], &block) : NULL;
    unsigned trap = (unsigned)g[REG_TRAPNO];
    bool is_guest = m && (trap == X86_EXC_DE || trap == X86_EXC_UD || trap == X86_EXC_GP || trap == X86_EXC_MF ||
                          trap == X86_EXC_AC || trap == X86_EXC_XM || trap == X86_EXC_NM);
    if (!is_guest) {
        die(signo, uc);
        return;
    }
    static const struct {
        uint8_t guest;
        int host;
    } regs[] = {{X86_RAX, REG_RAX}, {X86_RCX, REG_RCX}, {X86_RDX, REG_RDX}, {X86_RBX, REG_RBX}, {X86_RSP, REG_R8},
                {X86_RBP, REG_RBP}, {X86_RSI, REG_RSI}, {X86_RDI, REG_RDI}, {X86_R12, REG_R12}, {X86_R13, REG_R13},
                {X86_R14, REG_R14}, {X86_R15, REG_R15}};
    for (unsigned i = 0; i < sizeof regs / sizeof regs[0]; i++)
        cpu->gpr[regs[i].guest] = (uint64_t)g[regs[i].host];
    if (m->flags_in_host) {
        cpu->status_ah = (uint8_t)(((uint64_t)g[REG_EFL] & 0xd5u) | 2u);
        cpu->status_of = ((uint64_t)g[REG_EFL] & X86_FLAG_OF) != 0;
    }
    uint64_t ip = block->rip + m->guest_at;
    cpu->rip = mode_ip(block->mode, ip);
    cpu->exception = (BtException){.vector = (uint8_t)trap, .has_code = trap == X86_EXC_GP || trap == X86_EXC_AC};
    cpu->exception_pending = true;
    g[REG_RIP] = (greg_t)(uintptr_t)cpu->unwind;
}

void unwind_thread_init(BtCpu *cpu)
{
    static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    static __thread uint8_t stack[64 * 1024];
    stack_t ss = {.ss_sp = stack, .ss_size = sizeof stack};
    unwind_cpu = cpu;
    sigaltstack(&ss, NULL);
    struct sigaction sa = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigemptyset(&sa.sa_mask);
    for (unsigned i = 0; i < sizeof signals / sizeof signals[0]; i++)
        sigaction(signals[i], &sa, NULL);
}
