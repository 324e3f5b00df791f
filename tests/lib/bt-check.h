/* For libcheck tests over bt-machine: guest code assembled with the test, and running it to its HLT. */
#pragma once

#include "bt-machine.h"

#include <check.h>

#define GUEST(name, text)                                                                                           \
    extern const uint8_t name[], name##_end[];                                                                      \
    __asm__(".pushsection .rodata\n.intel_syntax noprefix\n" #name ":\n" text "\n" #name "_end:\n.att_syntax\n.popsection\n")
#define PUT(at, name) bm_code((at), name, (size_t)(name##_end - name))

static inline uint64_t reg(unsigned r) { return bm_state.gpr[r]; }

/* run: until the guest halts, be it in a handler.  run_to_end: its own HLT, no exception. */
static inline BmStop run(void)
{
    BmStop stop = bm_run();
    ck_assert_int_eq(stop.exit, CPU_EXIT_HALT);
    return stop;
}

static inline void run_to_end(void)
{
    BmStop stop = run();
    ck_assert_msg(stop.vector == -1, "vector %d at %#llx", stop.vector, (unsigned long long)stop.rip);
}
