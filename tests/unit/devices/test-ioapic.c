#include <stdlib.h>
#include <string.h>

#include "chip-script.h"
#include "devices/ioapic.h"

static ChipScript script;
static Ioapic *ioapic;
static bool accepts;

static bool deliver(void *opaque, const ApicMessage *message)
{
    chip_note(&script, "%02x>%02x%s%s/%u~", message->vector, message->destination, message->is_logical ? "l" : "",
              message->is_level ? "L" : "", message->delivery);
    return accepts;
}

/* "!N+" "!N-": pin N rises, falls.  "!eoiVV".  "!deaf": nobody accepts from now on. */
static void action(void *chip, const char *word)
{
    if (g_str_has_prefix(word, "eoi")) {
        ioapic_eoi(chip, (uint8_t)strtoul(word + 3, NULL, 16));
    } else if (g_str_has_prefix(word, "handles")) {
        chip_note(&script, "%d~", ioapic_handles(chip, (uint8_t)strtoul(word + 7, NULL, 16)));
    } else if (strcmp(word, "deaf") == 0 || strcmp(word, "hearing") == 0) {
        accepts = strcmp(word, "hearing") == 0;
    } else if (strcmp(word, "reset") == 0) {
        ioapic_reset(chip);
    } else {
        char *sign;
        unsigned pin = (unsigned)strtoul(word, &sign, 10);
        irq_set(ioapic_pin(chip, pin), *sign == '+');
    }
}

static void setup(void)
{
    chip_script_init(&script);
    accepts = true;
    ioapic = ioapic_new(&(IoapicWires){.sink = {.deliver = deliver}, .id = 1});
    chip_script_map(&script, 0xfec00000, IOAPIC_SIZE, &ioapic_ops, ioapic);
    script.action = action;
    script.chip = ioapic;
}

static void teardown(void)
{
    ioapic_free(ioapic);
    chip_script_clear(&script);
}

/* RTE(pin register, low half): writes the high half 0, then the low. */
#define SELECT(reg) "fec00000=" reg " "
#define WRITE(value) "fec00010=" value " "
#define EDGE4 SELECT("19") WRITE("00000000") SELECT("18") WRITE("00000034")
#define LEVEL10 SELECT("25") WRITE("03000000") SELECT("24") WRITE("0000883a")

static const struct {
    const char *name, *text;
} rows[] = {
    { "identification", "fec00000=00 fec00010?01000000 fec00000=01 fec00010?00170020 fec00000=00000002 fec00010?01000000 fec00000?00000002" },
    { "ID has four bits", SELECT("00") WRITE("ff000000") "fec00010?0f000000" },
    { "power-on entries", SELECT("10") "fec00010?00010000" " " SELECT("3f") "fec00010?00000000" },
    { "read-only bits", SELECT("10") WRITE("ffffffff") "fec00010?0001afff" },
    { "beyond the last pin", SELECT("40") WRITE("ffffffff") "fec00010?00000000" },
    { "edge", EDGE4 "!4+ log:34>00/0~ !4+ log: !4- log: !4+ log:34>00/0~" },
    { "masked edge is lost", SELECT("18") WRITE("00010034") "!4+ log: " WRITE("00000034") "log:" },
    { "level", LEVEL10 "!10+ log:3a>03lL/0~ fec00010?0000c83a !10- log: !eoi3a log: fec00010?0000883a" },
    { "level repeats while high", LEVEL10 "!10+ !eoi3a !eoi3a log:3a>03lL/0~3a>03lL/0~3a>03lL/0~" },
    { "level waits for EOI", LEVEL10 "!10+ !10- !10+ log:3a>03lL/0~ !eoi3a log:3a>03lL/0~" },
    { "EOI register", LEVEL10 "!10+ log:3a>03lL/0~ !10- fec00040=0000003a fec00010?0000883a" },
    { "EOI of another vector", LEVEL10 "!10+ !eoi3b log:3a>03lL/0~ fec00010?0000c83a" },
    { "masked level is remembered", LEVEL10 WRITE("0001883a") "!10+ log: " WRITE("0000883a") "log:3a>03lL/0~" },
    { "mask and edge clear remote IRR", LEVEL10 "!10+ " WRITE("0001083a") "fec00010?0001083a log:3a>03lL/0~" }, /* Linux's __eoi_ioapic_pin */
    { "remote IRR stays under the mask", LEVEL10 "!10+ " WRITE("0001883a") "fec00010?0001c83a " WRITE("0000883a") "log:3a>03lL/0~" },
    { "nobody there", "!deaf " LEVEL10 "!10+ fec00010?0000883a !hearing " WRITE("0000883a") "log:3a>03lL/0~3a>03lL/0~" },
    { "NMI has no remote IRR", SELECT("24") WRITE("00008400") "!10+ log:00>00L/4~ fec00010?00008400" },
    { "handles", LEVEL10 "!handles3a !handles34 log:1~0~" },
    { "reset keeps pin levels", LEVEL10 "!10+ !reset " LEVEL10 "log:3a>03lL/0~3a>03lL/0~" },
};

START_TEST(test_row)
{
    chip_script_run(&script, rows[_i].name, rows[_i].text);
}
END_TEST

int main(void) { return chip_script_main("ioapic", test_row, G_N_ELEMENTS(rows), setup, teardown); }
