#include <stdlib.h>
#include <string.h>

#include "chip-script.h"
#include "devices/i8254.h"

static ChipScript script;
static I8254 *pit;

static void action(void *chip, const char *word)
{
    if (strcmp(word, "reset") == 0)
        i8254_reset(chip);
    else
        i8254_set_irq_enabled(chip, strcmp(word, "on") == 0);
}

static void setup(void)
{
    chip_script_init(&script);
    pit = i8254_new(&(I8254Wires){.clock = script.clock, .irq = chip_line(&script, 0)});
    chip_script_map(&script, 0x40, 4, &i8254_ops, pit);
    chip_script_map(&script, 0x61, 1, &i8254_speaker_ops, pit);
    script.action = action;
    script.chip = pit;
}

static void teardown(void)
{
    i8254_free(pit);
    chip_script_clear(&script);
}

/* 11932 ticks (2e9c) are 10.0002 ms; one tick is 838 ns. */
static const struct {
    const char *name, *text;
} rows[] = {
    { "silent until programmed", "@1s irq:" },
    { "mode 2 at 100 Hz", "43=34 40=9c 40=2e irq: @9ms irq: @2ms irq:0+0- @10ms irq:0+0-" },
    { "mode 3 at 18.2 Hz", "43=36 40=00 40=00 @54ms irq: @1ms irq:0+0-" },
    { "nine periods", "43=34 40=9c 40=2e @100ms irq:0+0-0+0-0+0-0+0-0+0-0+0-0+0-0+0-0+0-" },
    { "mode 0", "43=30 40=9c 40=2e irq: @9ms irq: @2ms irq:0+ @1s irq:" },
    { "mode 0 again", "43=30 40=9c 40=2e @11ms irq:0+ 40=9c 40=2e irq:0- @11ms irq:0+" },
    { "mode 4", "43=38 40=9c 40=2e @11ms irq:0+ @1s irq:" }, /* the kernel's one-shot clock event */
    { "a new mode stops the old", "43=34 40=9c 40=2e 43=30 @1s irq:" },
    { "counts down", "43=34 40=00 40=10 40?00 40?10 @84us 43=00 40?9c 40?0f 40?9c&ff" },
    { "latch holds both bytes", "43=34 40=00 40=10 43=00 @838us 40?00 40?10" },
    { "second latch is ignored", "43=34 40=00 40=10 43=00 @838us 43=00 40?00 40?10" },
    { "low byte only", "43=14 40=80 @1676ns 43=00 40?7f" },
    { "high byte only", "43=24 40=12 40?12" },
    { "read back counts and status", "43=34 40=00 40=10 43=c2 40?b4 40?00 40?10" },
    { "read back before the count", "43=34 43=e2 40?f4" },
    { "BCD", "43=35 40=00 40=10 @1676ns 43=00 40?99 40?09" },
    { "BCD zero is 10000", "43=31 40=00 40=00 @1676ns 43=00 40?99 40?99" },
    { "mode 3 counts by two", "43=36 40=00 40=10 @8390ns 43=00 40?ec 40?0f" },
    { "mode 0 wraps", "43=30 40=02 40=00 @3400ns 43=00 40?fe 40?ff" },
    { "speaker gate", "61?00&0f 61=01 61?01&0f 61=03 61?03&0f 61=0f 61?0f&0f" },
    { "refresh toggles", "61?00&10 @15100ns 61?10&10 @15100ns 61?00&10" },
    { "channel 2 counts only with its gate", "43=b0 42=00 42=10 @1ms 43=80 42?00 42?10 61=01 @84us 43=80 42?9c 42?0f" },
    { "gate off holds the count", "61=01 43=b0 42=00 42=10 @84us 61=00 @1ms 43=80 42?9c 42?0f" },
    { "OUT2 in mode 0", "61=01 43=b0 42=9c 42=2e 61?00&20 @9ms 61?00&20 @2ms 61?20&20" }, /* the kernel's TSC calibration */
    { "OUT2 in mode 1 starts with the gate", "43=b2 42=9c 42=2e @20ms 61?20&20 61=01 61?00&20 @11ms 61?20&20" },
    { "OUT2 in mode 3", "61=01 43=b6 42=9c 42=2e 61?20&20 @6ms 61?00&20 @5ms 61?20&20" },
    { "OUT2 in mode 3 without gate is high", "43=b6 42=9c 42=2e @6ms 61?20&20" },
    { "line taken by the HPET", "43=34 40=9c 40=2e !off @55ms irq: !on @4ms irq: @2ms irq:0+0-" },
    { "fast periods do not flood", "43=34 40=02 40=00 @1ms irq:0+0-0+0-0+0-0+0-0+0-0+0-0+0-0+0-0+0-0+0-" },
    { "reset", "43=34 40=9c 40=2e !reset @1s irq:" },
};

START_TEST(test_row)
{
    chip_script_run(&script, rows[_i].name, rows[_i].text);
}
END_TEST

int main(void) { return chip_script_main("i8254", test_row, G_N_ELEMENTS(rows), setup, teardown); }
