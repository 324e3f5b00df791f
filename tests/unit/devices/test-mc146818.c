#include <stdlib.h>
#include <string.h>

#include "chip-script.h"
#include "devices/mc146818.h"

static ChipScript script;
static Mc146818 *rtc;

static void action(void *chip, const char *word)
{
    if (strcmp(word, "reset") == 0)
        mc146818_reset(chip);
    else
        mc146818_set_irq_enabled(chip, strcmp(word, "on") == 0);
}

#define GET(index, value) "70=" index " 71?" value " "
#define SET(index, value) "70=" index " 71=" value " "

/* 2023-12-31 23:59:50 UTC, a Sunday. */
static void setup(void)
{
    chip_script_init(&script);
    rtc = mc146818_new(&(Mc146818Wires){.clock = script.clock, .irq = chip_line(&script, 8), .start_time_s = 1704067190,
                                        .ram_below_4g = UINT64_C(0x30000000), .ram_above_4g = UINT64_C(0x140000000), .ncpus = 4});
    chip_script_map(&script, 0x70, 2, &mc146818_ops, rtc);
    script.action = action;
    script.chip = rtc;
}

static void teardown(void)
{
    mc146818_free(rtc);
    chip_script_clear(&script);
}

static const struct {
    const char *name, *text;
} rows[] = {
    { "time in BCD", GET("00", "50") GET("02", "59") GET("04", "23") GET("06", "01") GET("07", "31") GET("08", "12") GET("09", "23") GET("32", "20") },
    { "new year", "@10s " GET("00", "00") GET("02", "00") GET("04", "00") GET("06", "02") GET("07", "01") GET("08", "01") GET("09", "24") },
    { "binary, 12 hours", SET("0b", "04") GET("00", "32") GET("02", "3b") GET("04", "8b") GET("07", "1f") "@10s " GET("04", "0c") },
    { "BCD, 12 hours", SET("0b", "00") GET("04", "91") },
    { "registers at power-on", GET("0a", "26") GET("0b", "02") GET("0c", "00") GET("0d", "80") "70?ff" },
    { "NMI bit does not matter", GET("8d", "80") },
    { "UIP before the second ends", GET("0a", "26") "@999800us " GET("0a", "a6") "@1ms " GET("0a", "26") },
    { "memory sizes", GET("15", "80") GET("16", "02") GET("17", "ff") GET("18", "ff") GET("30", "ff") GET("31", "ff") GET("34", "00") GET("35", "2f")
                      GET("5b", "00") GET("5c", "40") GET("5d", "01") GET("5f", "03") },
    { "CMOS is RAM", SET("50", "a5") GET("50", "a5") SET("0f", "05") "!reset " GET("0f", "05") GET("50", "a5") },
    { "setting the time", SET("0b", "82") SET("00", "30") SET("02", "45") SET("04", "12") SET("07", "29") SET("08", "02") SET("09", "24") "@5s "
                          GET("00", "30") SET("0b", "02") GET("00", "30") GET("04", "12") "@2s " GET("00", "32") GET("07", "29") GET("08", "02") },
    { "setting without SET", SET("02", "10") GET("02", "10") GET("04", "23") "@60s " GET("02", "11") },
    { "nonsense is carried", SET("0b", "82") SET("08", "ff") SET("07", "00") SET("0b", "02") GET("0d", "80") },
    { "update interrupt", SET("0b", "12") "@999ms irq: @1ms irq:8+ " GET("0c", "d0") "irq:8- " GET("0c", "00") "@1s irq:8+" },
    { "update flag without interrupt", "@3s irq: " GET("0c", "50") GET("0c", "00") },
    { "alarm at a time", SET("01", "55") SET("03", "59") SET("05", "23") SET("0b", "22") "@4s irq: @1s irq:8+ " GET("0c", "f0") },
    { "alarm every minute", SET("01", "00") SET("03", "ff") SET("05", "ff") SET("0b", "22") "@9s irq: @1s irq:8+ " GET("0c", "f0") "@59s irq:8- @1s irq:8+" },
    { "alarm every second", SET("01", "c0") SET("03", "c0") SET("05", "c0") SET("0b", "22") "@1s irq:8+ " GET("0c", "f0") "@1s irq:8-8+" },
    { "periodic 1024 Hz", SET("0b", "42") "@976us irq: @1us irq:8+ " GET("0c", "c0") "irq:8- @977us irq:8+" },
    { "periodic rate 1 is 256 Hz", SET("0a", "21") SET("0b", "42") "@3906us irq: @1us irq:8+" },
    { "periodic off", SET("0a", "20") SET("0b", "42") "@1s irq: " GET("0c", "10") },
    { "periodic flag without interrupt", "@1ms " GET("0c", "40") "irq:" },
    { "raised and enabled later", "@1s " SET("0b", "12") "irq:8+" },
    { "SET stops updates", SET("0b", "92") GET("0b", "82") "@3s irq: " GET("0c", "40") },
    { "the HPET takes the line", SET("0b", "42") "!off @2ms irq: !on irq:8+" },
    { "reset", SET("0b", "72") "@1s irq:8+ !reset irq:8- " GET("0b", "02") GET("0c", "00") },
};

START_TEST(test_row)
{
    chip_script_run(&script, rows[_i].name, rows[_i].text);
}
END_TEST

int main(void) { return chip_script_main("mc146818", test_row, G_N_ELEMENTS(rows), setup, teardown); }
