/*
 * Chip tests as text: a row is a name and a script of accesses, each with what must come back.
 *
 * Tokens, separated by blanks (all numbers hexadecimal unless said):
 *   ADDR=VALUE      write; the size is the number of digits of VALUE: 2, 4, 8 or 16
 *   ADDR?VALUE      read and compare; the size is the number of digits of VALUE
 *   ADDR?VALUE&MASK read, mask, compare
 *   @TIME           advance the clock; decimal with ns, us, ms or s
 *   irq:TEXT        what the interrupt lines did since the last irq token: "4+" line 4 rose, "4-" fell; "irq:" nothing
 *   log:TEXT        what the chip's callbacks noted since the last log token (chip_note())
 *   !WORD           the test's own action
 */
#pragma once

#include <check.h>

#include "core/bus.h"
#include "core/clock.h"
#include "core/irq.h"

typedef struct ChipScript {
    Bus *bus;
    Clock *clock;
    GString *irqs, *notes;
    void (*action)(void *chip, const char *word); /* for "!WORD" */
    void *chip;
} ChipScript;

void chip_script_init(ChipScript *script);
void chip_script_clear(ChipScript *script);
void chip_script_map(ChipScript *script, uint64_t start, uint64_t size, const BusOps *ops, void *device);

/* chip_line: a line that writes down its changes under @number. */
IrqLine chip_line(ChipScript *script, unsigned number);
void chip_note(ChipScript *script, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* chip_script_run: fails the test, naming @name and the token, at the first difference. */
void chip_script_run(ChipScript *script, const char *name, const char *text);

/* chip_script_main: the whole of a main(): runs @test once for each of @count rows.  Returns: exit status. */
int chip_script_main(const char *suite, const TTest *test, unsigned count, SFun setup, SFun teardown);
