#include <stdlib.h>
#include <string.h>

#include "chip-script.h"
#include "devices/ns16550.h"

static ChipScript script;
static Ns16550 *uart;

static void note_write(void *opaque, const uint8_t *bytes, size_t count)
{
    chip_note(&script, "%.*s", (int)count, (const char *)bytes);
}

static void note_room(void *opaque) { chip_note(&script, "room"); }

/* "!rxTEXT": TEXT arrives; notes how much was taken when not all. */
static void action(void *chip, const char *word)
{
    if (g_str_has_prefix(word, "rx")) {
        size_t taken = ns16550_receive(chip, (const uint8_t *)word + 2, strlen(word + 2));
        if (taken != strlen(word + 2))
            chip_note(&script, "took%zu", taken);
    } else if (strcmp(word, "break") == 0) {
        ns16550_receive_break(chip);
    } else if (strcmp(word, "reset") == 0) {
        ns16550_reset(chip);
    } else {
        chip_note(&script, "room=%zu", ns16550_receive_room(chip));
    }
}

static void setup(void)
{
    chip_script_init(&script);
    uart = ns16550_new(&(Ns16550Wires){.clock = script.clock, .irq = chip_line(&script, 4), .write = note_write, .can_receive = note_room});
    chip_script_map(&script, 0x3f8, 8, &ns16550_ops, uart);
    script.action = action;
    script.chip = uart;
}

static void teardown(void)
{
    ns16550_free(uart);
    chip_script_clear(&script);
}

static const struct {
    const char *name, *text;
} rows[] = {
    { "power-on", "3f9?00 3fa?01 3fb?00 3fc?00 3fd?60 3fe?b0 3ff?00 irq: log:" },
    { "scratch", "3ff=a5 3ff?a5" },
    { "divisor", "3fb=83 3f8=0c 3f9=34 3f8?0c 3f9?34 3fb=03 3f9?00 log:" },
    { "transmit", "3f8=41 3f8=42 log:AB 3fd?60" },
    { "16550A is found", "3fa=01 3fa?c1 3fa=00 3fa?01" },
    { "IER keeps four bits", "3f9=ff 3f9?0f" },
    /* Linux autoconfig_irq and serial8250_do_startup: THRE must come with ETBEI, go with IIR, and come again with ETBEI off and on. */
    { "THRE with ETBEI", "3f9=02 irq:4+ 3fa?02 irq:4- 3fa?01 3f9=00 3f9=02 irq:4+ 3fa?02 irq:4-" },
    { "THRE after a byte", "3f9=02 3fa?02 irq:4+4- 3f8=41 irq:4+ 3fa?02 irq:4- log:A" },
    { "ETBEI off drops it", "3f9=02 irq:4+ 3f9=00 irq:4-" },
    { "ETBEI written again is no event", "3f9=02 3fa?02 irq:4+4- 3f9=02 irq:" },
    { "receive without FIFO", "3f9=01 !rxa irq:4+ 3fa?04 3fd?61 !rxb log:took0 3f8?61 irq:4- log:room 3fd?60" },
    { "FIFO trigger 8", "3fa=81 3f9=01 irq: log:room !rxabcdefg irq: !rxh irq:4+ 3fa?c4 3f8?61 irq:4-" },
    { "FIFO timeout", "3fa=81 3f9=01 !rxa @100ms irq:4+ 3fa?cc 3f8?61 irq:4- 3fa?c1" },
    { "timeout waits four characters", "3fb=83 3f8=0c 3fb=03 3fa=81 3f9=01 !rxa @4ms irq: @1ms irq:4+" },
    { "FIFO takes 16", "3fa=01 log:room !rx0123456789abcdefgh log:took16 !? log:room=0 3f8?30 log:room !? log:room=1" },
    { "FIFO reset", "3fa=01 log:room !rxabc 3fa=03 log:room 3fd?60 !? log:room=16" },
    { "break", "3f9=04 !break irq:4+ 3fa?06 3fd?71 irq:4- 3fd?61 3f8?00" },
    { "break stays with its byte", "3fa=01 !rxa !break 3fd?61 3f8?61 3fd?71 3f8?00 3fd?60" },
    { "priorities", "3fa=01 3f9=0f 3fa?c2 !rxa !break 3fa?c4 3f8?61 3fa?c6 3fd?71 3fa?c4 3f8?00 3fa?c1" },
    { "line status beats THRE, which waits", "3f9=06 !break 3fa?06 3fd?71 3fa?02 3fa?01" },
    { "loopback keeps bytes in", "3fc=10 3f8=5a log: 3fd?61 3f8?5a 3fd?60" },
    { "loopback is closed to the outside", "3fc=10 !? log:room=0 3fc=00 log:room !? log:room=1" },
    { "loopback modem lines", "3fc=1f 3fe?f0&f0 3fc=1a 3fe?90&f0 3fc=15 3fe?60&f0" }, /* Linux's probe: RTS + OUT2 give CTS + DCD */
    { "modem status interrupt", "3f9=08 irq: 3fc=10 irq:4+ 3fa?00 3fe?0b irq:4- 3fe?00 3fc=12 irq:4+ 3fe?11 irq:4-" },
    { "RI delta at the trailing edge", "3fc=10 3fe?0b 3fc=14 3fe?40 3fc=10 3fe?04" },
    { "loopback overrun", "3fc=10 3f8=41 3f8=42 3fd?63 3fd?61 3f8?41" },
    { "loopback break", "3fc=10 3fb=43 3fd?71 3f8?00" },
    { "reset", "3f9=02 irq:4+ 3fb=03 !reset irq:4- 3f9?00 3fb?00 3fd?60" },
    { "LSR and MSR are read-only", "3fd=00 3fe=ff 3fd?60 3fe?b0" },
};

START_TEST(test_row)
{
    chip_script_run(&script, rows[_i].name, rows[_i].text);
}
END_TEST

int main(void) { return chip_script_main("ns16550", test_row, G_N_ELEMENTS(rows), setup, teardown); }
