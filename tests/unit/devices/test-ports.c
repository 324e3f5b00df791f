/* The one-register devices: debug console, debug exit, POST port, pvpanic. */
#include <stdlib.h>
#include <string.h>

#include "chip-script.h"
#include "devices/debugcon.h"
#include "devices/isa-debug-exit.h"
#include "devices/post80.h"
#include "devices/pvpanic.h"

static ChipScript script;
static Debugcon *console;
static IsaDebugExit *debug_exit;
static Pvpanic *pvpanic;
static Post80 post80;

static void note_write(void *opaque, const uint8_t *bytes, size_t count) { chip_note(&script, "%.*s", (int)count, (const char *)bytes); }
static void note_exit(void *opaque, unsigned status) { chip_note(&script, "%u", status); }
static void note_panic(void *opaque, uint8_t event) { chip_note(&script, "panic%u", event); }

static void setup(void)
{
    chip_script_init(&script);
    console = debugcon_new(&(DebugconWires){.write = note_write, .readback = 0xe9});
    debug_exit = isa_debug_exit_new(&(IsaDebugExitWires){.exit = note_exit});
    pvpanic = pvpanic_new(&(PvpanicWires){.panicked = note_panic});
    post80 = (Post80){0};
    chip_script_map(&script, 0xe9, 1, &debugcon_ops, console);
    chip_script_map(&script, 0xf4, 4, &isa_debug_exit_ops, debug_exit);
    chip_script_map(&script, 0x80, 1, &post80_ops, &post80);
    chip_script_map(&script, 0x505, 1, &pvpanic_ops, pvpanic);
}

static void teardown(void)
{
    debugcon_free(console);
    isa_debug_exit_free(debug_exit);
    pvpanic_free(pvpanic);
    chip_script_clear(&script);
}

static const struct {
    const char *name, *text;
} rows[] = {
    { "debug console", "e9?e9 e9=48 e9=69 log:Hi" },
    { "debug exit", "f4=00 log:1 f4=10 log:33 f4=0000007f log:255 f4?00" },
    { "POST", "80=42 80?42" },
    { "pvpanic", "505?03 505=01 log:panic1 505=02 log:panic2 505=80 log:" },
};

START_TEST(test_row)
{
    chip_script_run(&script, rows[_i].name, rows[_i].text);
}
END_TEST

int main(void) { return chip_script_main("ports", test_row, G_N_ELEMENTS(rows), setup, teardown); }
