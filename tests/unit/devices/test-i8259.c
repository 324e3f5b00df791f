#include <stdlib.h>
#include <string.h>

#include "chip-script.h"
#include "devices/i8259.h"

static ChipScript script;
static I8259 *pic;

/* "!N+" "!N-": input N rises, falls.  "!ack": INTA, notes the vector. */
static void action(void *chip, const char *word)
{
    if (strcmp(word, "ack") == 0) {
        chip_note(&script, "%02x", pic_acknowledge(chip));
    } else if (strcmp(word, "reset") == 0) {
        i8259_reset(chip);
    } else {
        char *sign;
        unsigned irq = (unsigned)strtoul(word, &sign, 10);
        irq_set(i8259_input(chip, irq), *sign == '+');
    }
}

static void setup(void)
{
    chip_script_init(&script);
    pic = i8259_new(&(I8259Wires){.output = chip_line(&script, 0)});
    chip_script_map(&script, 0x20, 2, &i8259_master_ops, pic);
    chip_script_map(&script, 0xa0, 2, &i8259_slave_ops, pic);
    chip_script_map(&script, 0x4d0, 2, &i8259_elcr_ops, pic);
    script.action = action;
    script.chip = pic;
}

static void teardown(void)
{
    i8259_free(pic);
    chip_script_clear(&script);
}

/* As Linux does it: vectors 30–3f, all unmasked. */
#define INIT "20=11 21=30 21=04 21=01 a0=11 a1=38 a1=02 a1=01 "
#define INIT_AEOI "20=11 21=30 21=04 21=03 a0=11 a1=38 a1=02 a1=01 "

static const struct {
    const char *name, *text;
} rows[] = {
    { "mask register", INIT "21?00 21=fb 21?fb a1=ff a1?ff" },
    { "edge", INIT "!1+ irq:0+ 20?02 !ack log:31 irq:0- 20=0b 20?02 20=20 20?00 irq:" },
    { "edge stays after the line falls", INIT "!1+ !1- irq:0+ !ack log:31" },
    { "an edge counts once", INIT "!1+ !ack log:31 20=20 irq:0+0- !1+ irq: !1- !1+ irq:0+" },
    { "masked", INIT "21=02 !1+ irq: 21=00 irq:0+" },
    { "priority", INIT "!5+ !3+ !ack log:33 irq:0+0- 20=20 irq:0+ !ack log:35 irq:0-" },
    { "nested", INIT "!5+ !ack log:35 !3+ irq:0+0-0+ !ack log:33 20=20 irq:0- 20=0b 20?20 20=20 20?00" },
    { "lower waits for EOI", INIT "!3+ !ack log:33 !5+ irq:0+0- 20=20 irq:0+ !ack log:35" },
    { "slave", INIT "!12+ irq:0+ !ack log:3c irq:0- a0=0b a0?10 20=0b 20?04 a0=20 20=20 a0?00 20?00" },
    { "slave priority under the master's 2", INIT "!12+ !1+ !ack log:31 20=20 !ack log:3c" },
    { "slave's lower waits", INIT "!8+ !ack log:38 !9+ irq:0+0- 20=20 irq: a0=20 irq:0+ !ack log:39" },
    { "cascade input is not for devices", INIT "!2+ irq:" },
    { "specific EOI", INIT "!5+ !ack !3+ !ack log:3533 20=65 20=0b 20?08 20=63 20?00" },
    { "spurious 7", INIT "!1+ irq:0+ 21=02 irq:0- !ack log:37 20=0b 20?00" },
    { "spurious 15", INIT "4d1=02 !9+ irq:0+ !9- !ack log:37 irq:0-" },
    { "level repeats until it falls", INIT "4d0=20 4d0?20 !5+ !ack log:35 irq:0+0- 20=20 irq:0+ !5- irq:0-" },
    { "ELCR keeps legacy inputs edge", "4d0=ff 4d0?f8 4d1=ff 4d1?de" },
    { "auto EOI", INIT_AEOI "!1+ !ack log:31 20=0b 20?00 !0+ irq:0+0-0+" },
    { "rotate on EOI", INIT "!1+ !ack 20=a0 !1- !1+ !4+ log:31 !ack log:34" },
    { "set priority", INIT "20=c3 !3+ !4+ !ack log:34" },
    { "special mask", INIT "!3+ !ack log:33 21=08 20=68 !5+ irq:0+0-0+ !ack log:35 20=48 irq:0-" },
    { "special mask: same level stays blocked", INIT "!3+ !ack log:33 20=68 !3- !3+ irq:0+0- 20=20 irq:0+" },
    { "poll", INIT "20=0c 20?00 !6+ 20=0c 20?86 irq:0+0- 20=0b 20?40" },
    { "special fully nested", "20=11 21=30 21=04 21=11 a0=11 a1=38 a1=02 a1=01 !12+ !ack log:3c irq:0+0- !9+ irq:0+ !ack log:39" },
    { "ICW1 clears", INIT "21=ff !1+ 20=11 21=30 21=04 21=01 20?00 21?00 irq:" },
    { "ICW1 single, without ICW4", "20=12 21=40 21=55 21?55" },
    { "probe by mask", INIT "21=ff 21?ff 21=fb 21?fb" }, /* Linux's probe_8259A */
    { "reset", INIT "!1+ irq:0+ !reset irq:0- 20?00" },
};

START_TEST(test_row)
{
    chip_script_run(&script, rows[_i].name, rows[_i].text);
}
END_TEST

int main(void) { return chip_script_main("i8259", test_row, G_N_ELEMENTS(rows), setup, teardown); }
