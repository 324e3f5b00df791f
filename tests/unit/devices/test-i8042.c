#include <stdlib.h>
#include <string.h>

#include "chip-script.h"
#include "devices/i8042.h"

static ChipScript script;
static I8042 *kbc;

static void note_reset(void *opaque) { chip_note(&script, "reset"); }
static void note_a20(void *opaque, bool is_enabled) { chip_note(&script, is_enabled ? "a20+" : "a20-"); }

/* "!keyHEX": raw bytes from the keyboard; notes "full" when they were refused. */
static void action(void *chip, const char *word)
{
    if (strcmp(word, "reset") == 0) {
        i8042_reset(chip);
        return;
    }
    uint8_t bytes[64];
    unsigned count = 0;
    for (const char *hex = word + 3; hex[0] && hex[1]; hex += 2)
        bytes[count++] = (uint8_t)strtoul((char[]){hex[0], hex[1], 0}, NULL, 16);
    if (!i8042_key(chip, bytes, count))
        chip_note(&script, "full");
}

static void setup(void)
{
    chip_script_init(&script);
    kbc = i8042_new(&(I8042Wires){.keyboard_irq = chip_line(&script, 1), .mouse_irq = chip_line(&script, 12), .reset = note_reset, .a20 = note_a20});
    chip_script_map(&script, 0x60, 1, &i8042_data_ops, kbc);
    chip_script_map(&script, 0x64, 1, &i8042_command_ops, kbc);
    chip_script_map(&script, 0x92, 1, &i8042_port92_ops, kbc);
    script.action = action;
    script.chip = kbc;
}

static void teardown(void)
{
    i8042_free(kbc);
    chip_script_clear(&script);
}

#define MOUSE "64=60 60=47 "

static const struct {
    const char *name, *text;
} rows[] = {
    { "power-on", "64?14 64=20 64?1d 60?45 irq:1+1- 64?1c" },
    { "self-test", "64=aa 64?1d 60?55 64?1c" },
    { "interface tests", "64=ab 60?00 64=a9 60?00" },
    { "command byte", "64=60 64?1c 60=74 64?14 64=20 60?74 irq:" },
    { "controller RAM", "64=62 60=a5 64=22 60?a5" },
    /* Linux i8042_check_aux: loopback, disable, enable. */
    { "AUX loop", "64=60 60=75 64=d3 60=5a 64?35 60?5a 64=a7 64=20 60?75 64=a8 64=20 60?55" },
    { "keyboard identify", "64=60 60=04 60=f2 60?fa 60?ab 60?83 64?14" },
    { "keyboard reset", "60=ff 60?fa 60?aa 64?14" },
    { "keyboard LEDs, rate", "60=ed 60?fa 60=07 60?fa 60=f3 60?fa 60=00 60?fa" },
    { "keyboard scan code set", "64=60 60=05 60=f0 60?fa 60=00 60?fa 60?02 60=f0 60=01 60=f0 60=00 60?fa 60?fa 60?fa 60?fa 60?01" },
    { "keyboard: unknown", "60=00 60?fe 60=ee 60?ee" },
    { "a new command ends an old one", "60=ed 60?fa 60=f4 60?fa 60=00 60?fe" },
    { "key, translated", "!key1c irq:1+ 60?1e irq:1- !keyf01c 60?9e irq:1+1-" },
    { "key, raw", "64=60 60=05 !keyf01c irq:1+ 60?f0 60?1c irq:1-1+1-" },
    { "extended key", "!keye0f075 60?e0 60?c8 64?14" },
    { "keyboard closed", "64=ad !key1c 64?1c 64=ae 64?1d 60?1e" },
    { "keyboard stopped", "60=f5 60?fa !key1c log:full 60=f4 60?fa !key1c 60?1e" },
    { "keyboard buffer", "64=ad !key1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c log: !key1c log:full" },
    { "mouse identify", MOUSE "64=d4 60=f2 irq:12+ 64?35 60?fa 60?00 irq:12-12+12-" },
    { "mouse reset", MOUSE "64=d4 60=ff 60?fa 60?aa 60?00 64?14" },
    { "mouse status", MOUSE "64=d4 60=f3 64=d4 60=28 64=d4 60=e8 64=d4 60=03 60?fa 60?fa 60?fa 60?fa 64=d4 60=f4 60?fa 64=d4 60=e9 60?fa 60?20 60?03 60?28" },
    { "mouse: unknown", MOUSE "64=d4 60=00 60?fe 64?14" },
    { "mouse wrap", MOUSE "64=d4 60=ee 60?fa 64=d4 60=12 60?12 64=d4 60=ec 60?fa" },
    { "mouse flood", MOUSE "64=d4 60=ff 64=d4 60=e9 64=d4 60=e9 64=d4 60=e9 64=d4 60=e9 64=d4 60=e9 64=d4 60=e9 64=d4 60=e9 64=d4 60=e9 64=d4 60=e9 60?fa" },
    { "output port", "64=d0 60?03 64=d1 60=dd log:a20- 64=d0 60?dd 64=d1 60=df log:a20+" },
    { "A20 commands", "64=dd log:a20- 64=df log:a20+ 64=ff log:" },
    { "reset pulse", "64=fe log:reset 64=f0 log:reset 64=fd log:" },
    { "reset by the output port", "64=d1 60=02 log:reset" },
    { "port 92", "92?02 92=00 log:a20- 92?00 92=02 log:a20+ 92=03 log:reset 92?02" },
    { "input port", "64=c0 60?a0" },
    { "system reset", "92=00 log:a20- 64=60 60=00 !key1c !reset log:a20+ 64?14 64=20 60?45" },
};

START_TEST(test_row)
{
    chip_script_run(&script, rows[_i].name, rows[_i].text);
}
END_TEST

int main(void) { return chip_script_main("i8042", test_row, G_N_ELEMENTS(rows), setup, teardown); }
