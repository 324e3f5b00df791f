#include <stdlib.h>
#include <string.h>

#include "chip-script.h"
#include "devices/hpet.h"

static ChipScript script;
static Hpet *hpet;

static void note_legacy(void *opaque, bool is_on) { chip_note(&script, is_on ? "legacy+" : "legacy-"); }

static void action(void *chip, const char *word) { hpet_reset(chip); }

/* ISA IRQs are shown as 100 + number. */
static void isa_set(void *opaque, unsigned number, bool level) { irq_set(chip_line(opaque, 100 + number), level); }

static void setup(void)
{
    chip_script_init(&script);
    hpet = hpet_new(&(HpetWires){.clock = script.clock, .gsi = chip_line(&script, 0), .isa_irq = {.set = isa_set, .opaque = &script},
                                 .legacy_changed = note_legacy});
    chip_script_map(&script, 0x0, HPET_SIZE, &hpet_ops, hpet);
    script.action = action;
    script.chip = hpet;
}

static void teardown(void)
{
    hpet_free(hpet);
    chip_script_clear(&script);
}

/* 100,000 ticks (186a0) are 1 ms.  Route 20 (0x14): config bits 9–13 = 0x2800. */
static const struct {
    const char *name, *text;
} rows[] = {
    { "capabilities", "0?009896808086a201 0?8086a201 4?00989680 100?00ff010400000030 120?00ff010400000020 108?ffffffffffffffff" },
    { "counter", "f0?00000000 @1ms f0?00000000 10=00000001 @1ms f0?000186a0 f0?00000000000186a0 10=00000000 @1ms f0?000186a0 10=00000001 @1ms f0?00030d40" },
    { "counter is writable", "f0=0000000100000000 10=00000001 @1us f0?0000000100000064 f4?00000001" },
    { "one-shot", "100=00002804 108=000186a0 10c=00000000 10=00000001 @999us irq: @1us irq:20+20- @1s irq:" },
    { "one-shot again", "100=00002804 108=00000000000186a0 10=00000001 @1ms irq:20+20- 108=0000000000030d40 @999us irq: @1us irq:20+20-" },
    { "not enabled", "100=00002800 108=00000000000186a0 10=00000001 @2ms irq: 20?00000000" },
    { "comparator in the past is far away", "10=00000001 @1ms 100=00002804 108=0000000000000001 @1s irq:" },
    { "32-bit mode wraps", "f0=00000000ffff0000 100=00002904 108=00000100 10=00000001 @655us irq: @3us irq:20+20-" },
    { "level", "100=00002806 108=00000000000186a0 10=00000001 @1ms irq:20+ 20?00000001 20=00000001 irq:20- 20?00000000" },
    { "level line falls with its enable", "100=00002806 108=00000000000186a0 10=00000001 @1ms irq:20+ 100=00002802 irq:20- 100=00002806 irq:20+ 20=00000001 irq:20-" },
    /* Linux hpet_clkevt_set_state_periodic: comparator with SETVAL, then the period. */
    { "periodic", "10=00000001 100=0000294c 108=000186a0 108=00030d40 @1ms irq:20+20- @1ms irq: @1ms irq:20+20- @2ms irq:20+20-" },
    { "periodic reads its next match", "10=00000001 100=0000294c 108=000186a0 108=00030d40 @1ms 108?00000000000493e0" },
    { "periodic in 64 bits, half by half", "10=00000001 100=0000284c 108=000186a0 100=0000284c 10c=00000000 108=000186a0 10c=00000000 @1ms irq:20+20- @1ms irq:20+20-" },
    { "only timer 0 is periodic", "120=0000286c 120?00002824" },
    { "fast periods do not flood", "10=00000001 100=0000294c 108=00000001 108=00000001 @500us irq:20+20-20+20-20+20-20+20-20+20-" },
    { "period 0 fires once", "10=00000001 100=0000294c 108=000186a0 108=00000000 @1s irq:20+20-" },
    { "legacy replacement", "10=00000003 log:legacy+ 100=00000004 108=00000000000186a0 120=00000004 128=00000000000186a0 @1ms irq:100+100-108+108- 10=00000001 log:legacy-" },
    { "route that does not exist", "100=00000604 108=00000000000186a0 10=00000001 @1ms irq:" },
    { "timer 2", "140=00000404 140?00ff010400000424 148=00000000000186a0 10=00000001 @1ms irq:2+2-" },
    { "stopping keeps the comparator", "100=00002804 108=00000000000186a0 10=00000001 @500us 10=00000000 @1s irq: 10=00000001 @499us irq: @1us irq:20+20-" },
    { "nothing beyond the timers", "160?00000000 160=ffffffff 3f8?0000000000000000" },
    { "half writes", "108=00000001 10c=00000002 108?0000000200000001 24=ffffffff" },
    { "reset", "100=00002806 108=00000000000186a0 10=00000003 log:legacy+ @1ms irq:100+ !reset irq:100- log:legacy- 10?00000000 f0?00000000" },
};

START_TEST(test_row)
{
    chip_script_run(&script, rows[_i].name, rows[_i].text);
}
END_TEST

int main(void) { return chip_script_main("hpet", test_row, G_N_ELEMENTS(rows), setup, teardown); }
