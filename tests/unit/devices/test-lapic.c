#include <stdlib.h>
#include <string.h>

#include "chip-script.h"
#include "devices/lapic.h"

#define NCPUS 3
#define TSC_HZ UINT64_C(2000000000)

static ChipScript script;
static LapicBus *bus;
static Lapic *lapic[NCPUS];
static unsigned numbers[NCPUS] = {0, 1, 2};

static uint64_t guest_tsc(void *opaque) { return (uint64_t)clock_now_ns(script.clock) * 2; }

static int acknowledge_pic(void *opaque) { return 0x30; }

static void note_nmi(void *opaque) { chip_note(&script, "nmi%u~", *(unsigned *)opaque); }
static void note_init(void *opaque) { chip_note(&script, "init%u~", *(unsigned *)opaque); }
static void note_startup(void *opaque, uint8_t vector) { chip_note(&script, "sipi%u:%02x~", *(unsigned *)opaque, vector); }
static void note_eoi(void *opaque, uint8_t vector) { chip_note(&script, "eoi:%02x~", vector); }

static bool note_remote(void *opaque, const ApicMessage *message)
{
    chip_note(&script, "remote:%02x~", message->vector);
    return true;
}

static void note_msr(Lapic *chip, const char *word)
{
    char *end;
    uint32_t msr = (uint32_t)strtoul(word, &end, 16);
    uint64_t value;
    if (*end == '=') {
        if (!lapic_msr_write(chip, msr, strtoull(end + 1, NULL, 16)))
            chip_note(&script, "gp~");
    } else if (lapic_msr_read(chip, msr, &value)) {
        chip_note(&script, "%" G_GINT64_MODIFIER "x~", value);
    } else {
        chip_note(&script, "gp~");
    }
}

/* An optional CPU number and colon, then: ack; msr:N or msr:N=V; lint0+ and so on; cr8=N; cr8; covers; copy (CPU 0's page to CPU 2);
 * give; remote; local; reset; msi=DATA<<20|ADDRESS bits 19:0.  Notes end in "~". */
static void action(void *chip, const char *word)
{
    Lapic *cpu = lapic[0];
    if (word[1] == ':') {
        cpu = lapic[word[0] - '0'];
        word += 2;
    }
    if (strcmp(word, "ack") == 0) {
        chip_note(&script, "%02x~", lapic_acknowledge(cpu) & 0xffff);
    } else if (g_str_has_prefix(word, "msr:")) {
        note_msr(cpu, word + 4);
    } else if (g_str_has_prefix(word, "lint")) {
        irq_set(lapic_lint(cpu, (unsigned)(word[4] - '0')), word[5] == '+');
    } else if (g_str_has_prefix(word, "cr8=")) {
        lapic_cr8_write(cpu, strtoull(word + 4, NULL, 16));
    } else if (strcmp(word, "cr8") == 0) {
        chip_note(&script, "%x~", (unsigned)lapic_cr8_read(cpu));
    } else if (strcmp(word, "covers") == 0) {
        chip_note(&script, "%d%d~", lapic_covers(cpu, 0xfee00020), lapic_covers(cpu, 0xfee01020));
    } else if (strcmp(word, "copy") == 0) {
        uint8_t page[LAPIC_SIZE];
        lapic_save_page(lapic[0], page);
        lapic_load_page(lapic[2], page);
    } else if (strcmp(word, "give") == 0) { /* CPU 0's whole chip to CPU 2 */
        CpuApic apic;
        lapic_give(lapic[0], &apic);
        lapic_take(lapic[2], &apic);
    } else if (strcmp(word, "remote") == 0) {
        lapic_bus_set_remote(bus, (ApicSink){.deliver = note_remote});
    } else if (strcmp(word, "local") == 0) {
        lapic_bus_set_remote(bus, (ApicSink){0});
    } else if (strcmp(word, "reset") == 0) {
        lapic_reset(cpu);
    } else if (g_str_has_prefix(word, "msi=")) {
        ApicMessage message = apic_message_from_msi(0xfee00000 | (strtoull(word + 4, NULL, 16) & 0xfffff), (uint32_t)(strtoull(word + 4, NULL, 16) >> 20));
        if (!lapic_bus_deliver(bus, &message))
            chip_note(&script, "lost~");
    } else {
        ck_abort_msg("bad action %s", word);
    }
}

static void setup(void)
{
    chip_script_init(&script);
    bus = lapic_bus_new();
    lapic_bus_set_eoi(bus, note_eoi, NULL);
    for (unsigned i = 0; i < NCPUS; i++) {
        lapic[i] = lapic_new(&(LapicWires){.clock = script.clock, .index = i, .bus = bus, .cpu_irq = chip_line(&script, i), .physical_bits = 40,
                                           .tsc_hz = TSC_HZ, .guest_tsc = guest_tsc, .pic_acknowledge = acknowledge_pic,
                                           .nmi = note_nmi, .init = note_init, .startup = note_startup, .opaque = &numbers[i]});
        chip_script_map(&script, 0xfee00000 + 0x10000 * i, LAPIC_SIZE, &lapic_ops, lapic[i]);
    }
    script.action = action;
}

static void teardown(void)
{
    for (unsigned i = 0; i < NCPUS; i++)
        lapic_free(lapic[i]);
    lapic_bus_free(bus);
    chip_script_clear(&script);
}

#define ON0 "fee000f0=000001ff "
#define ON1 "fee100f0=000001ff "
#define ON2 "fee200f0=000001ff "
#define X2_0 "!msr:1b=fee00d00 "
#define X2_1 "!1:msr:1b=fee00c00 "

static const struct {
    const char *name, *text;
} rows[] = {
    { "power-on", "fee00020?00000000 fee10020?01000000 fee00030?00050014 fee000f0?000000ff fee000e0?ffffffff fee00320?00010000 "
                  "fee00350?00000700 fee10350?00010000 fee00360?00010000 fee00370?00010000 !msr:1b !1:msr:1b log:fee00900~fee00800~" },
    { "narrow and stray accesses", ON0 "fee00032?0005 fee00030?14 fee00034?00000000 fee000f0=00 fee000f1=00000000 fee000f0?000001ff" },
    { "LVT stays masked while software disabled", "fee00320=000000ec fee00320?000100ec " ON0 "fee00320=000000ec fee00320?000000ec fee000f0=000000ff fee00320?000100ec" },
    { "LVT reserved bits", ON0 "fee00320=ffffffff fee00320?000100ff fee00350=ffffffff fee00350?0001a7ff fee00370=ffffffff fee00370?000100ff" },
    { "self IPI", ON0 "fee00300=00040041 irq:0+ fee00220?00000002 !ack log:41~ irq:0- fee00220?00000000 fee00120?00000002 fee000a0?00000040 "
                  "fee000b0=00000000 fee00120?00000000 fee000a0?00000000 log:" },
    { "nothing while software disabled", "fee00300=00040041 irq:" },
    { "priority classes", ON0 "fee00300=00040041 !ack fee00300=0004004f irq:0+0- fee00300=00040051 irq:0+ log:41~ !ack log:51~ irq:0- "
                          "fee000b0=00000000 irq: fee000b0=00000000 irq:0+ !ack log:4f~" },
    { "TPR", ON0 "fee00080=00000050 fee00300=0004005f irq: fee000a0?00000050 fee00080=0000004f irq:0+ fee000a0?0000004f !cr8 log:4~ !cr8=5 irq:0- fee00080?00000050" },
    { "acknowledge with nothing", ON0 "!ack log:ffff~" },
    { "physical IPI", ON1 "fee00310=01000000 fee00300=00000061 irq:1+ fee00300?00000061 !1:ack log:61~" },
    { "physical IPI to nobody", ON1 "fee00310=07000000 fee00300=00000061 irq:" },
    { "physical broadcast", ON0 ON1 ON2 "fee00310=ff000000 fee00300=00000061 irq:0+1+2+" },
    { "all", ON0 ON1 ON2 "fee00300=00080061 irq:0+1+2+" },
    { "others", ON0 ON1 ON2 "fee10300=000c0061 irq:0+2+" },
    { "logical flat", ON0 ON1 ON2 "fee000d0=01000000 fee100d0=02000000 fee200d0=04ffffff fee200d0?04000000 fee00310=06000000 fee00300=00000861 irq:1+2+" },
    { "logical cluster", ON0 ON1 ON2 "fee000e0=0fffffff fee100e0=00000000 fee100e0?0fffffff fee200e0=0fffffff fee000d0=11000000 fee100d0=12000000 "
                         "fee200d0=21000000 fee00310=13000000 fee00300=00000861 irq:0+1+" },
    { "lowest priority", ON0 ON1 "fee000d0=01000000 fee100d0=02000000 fee00080=00000030 fee00310=03000000 fee00300=00000961 irq:1+" },
    { "lowest priority takes turns", ON0 ON1 "fee000d0=01000000 fee100d0=02000000 fee00310=03000000 fee00300=00000961 irq:0+ fee00300=00000971 irq:1+" },
    { "NMI", "fee00310=01000000 fee00300=00000400 log:nmi1~" },
    { "INIT and SIPI", ON1 "fee10300=00040041 irq:1+ fee00310=01000000 fee00300=0000c500 log:init1~ irq:1- fee00300=00008500 log: "
                       "fee00300=00000699 log:sipi1:99~ fee100f0?000000ff" },
    { "self NMI is invalid", ON0 "fee00300=00040400 log:" },
    { "ESR", ON0 "fee00370=000000fe fee00300=00040005 irq:0+ fee00280?00000000 fee00280=00000000 fee00280?00000020 fee00280=00000000 fee00280?00000000 !ack log:fe~" },
    { "ESR: receive, illegal register", ON1 "fee00310=01000000 !msi=00301000 fee10280=00000000 fee10280?00000040 fee103f0?00000000 fee10280=00000000 fee10280?00000080 log:lost~" },
    { "level EOI reaches the I/O APIC", ON0 "!msi=c04100000 irq:0+ fee001a0?00000002 !ack fee000b0=00000000 log:41~eoi:41~" },
    { "edge EOI does not", ON0 "!msi=04100000 irq:0+ !ack fee000b0=00000000 log:41~" },
    { "edge clears TMR", ON0 "!msi=c04100000 !ack fee000b0=00000000 !msi=04100000 fee001a0?00000000 log:41~eoi:41~" },
    { "MSI to CPU 1", ON1 "!msi=06101000 irq:1+" },
    { "MSI with redirection hint picks one", ON0 ON1 "fee000d0=01000000 fee100d0=02000000 !msi=0610300c irq:0+ !msi=0620300c irq:1+" },
    { "8259 through LINT0", "!lint0+ irq:0+ !ack log:30~ !lint0- irq:0-" },
    { "8259 before local", ON0 "fee00350=00000700 fee00300=000400f1 !lint0+ !ack log:30~ !lint0- !ack log:f1~" },
    { "LINT0 masked", "fee00350=00010700 !lint0+ irq: fee00350?00010700" },
    { "LINT0 fixed edge", ON0 "fee00350=00000044 !lint0+ irq:0+ !ack log:44~ irq:0- fee000b0=00000000 irq: log:" },
    { "LINT0 fixed level", ON0 "fee00350=00008044 !lint0+ irq:0+ !ack irq:0- fee000b0=00000000 irq:0+ log:44~eoi:44~" },
    { "LINT1 NMI", ON0 "fee00360=00000400 !lint1+ log:nmi0~" },
    { "LINT1 masked", "!lint1+ log:" },
    { "globally disabled: 8259 and NMI by wire", "fee00350=00010000 !msr:1b=fee00100 !lint0+ irq:0+ !ack !lint1+ log:30~nmi0~" },
    { "one-shot", ON0 "fee003e0=0000000b fee00320=000000ec fee00380=000f4240 fee00390?000f4240 @400us fee00390?000927c0 @599us irq: @1us irq:0+ fee00390?00000000 "
                  "!ack log:ec~ irq:0- @10ms irq:" },
    { "divided by 16", ON0 "fee003e0=00000003 fee003e0?00000003 fee00320=000000ec fee00380=0000ffff @1ms irq: @49ms irq:0+" },
    { "periodic", ON0 "fee003e0=0000000b fee00320=000200ec fee00380=000f4240 @1ms irq:0+ !ack fee000b0=00000000 irq:0- @500us irq: fee00390?0007a120 @500us irq:0+ log:ec~" },
    { "masked timer counts", ON0 "fee003e0=0000000b fee00320=000100ec fee00380=000f4240 @500us fee00390?0007a120 @1ms irq: fee00390?00000000" },
    { "count 0 stops", ON0 "fee003e0=0000000b fee00320=000000ec fee00380=000f4240 fee00380=00000000 @1s irq: fee00390?00000000" },
    /* kvm-unit-tests, apic: test_apic_change_mode */
    { "mode changes keep the count", ON0 "fee003e0=0000000b fee00320=000100ec fee00380=000f4240 @600us fee00320=000300ec fee00390?00061a80 @500us fee00390?000dbba0 "
                                     "@500us fee00320=000100ec fee00390?00061a80 @500us fee00390?00000000 fee00320=000300ec @100us fee00390?00000000" },
    { "divider change keeps the count", ON0 "fee003e0=0000000b fee00320=000000ec fee00380=000f4240 @500us fee003e0=00000000 fee00390?0007a120 @900us irq: @100us irq:0+" },
    { "TSC deadline", ON0 "fee00320=000400ec !msr:6e0=1e8480 !msr:6e0 log:1e8480~ fee00380=00001000 fee00380?00000000 @999us irq: @2us irq:0+ !msr:6e0 log:0~" },
    { "TSC deadline in the past", ON0 "@1ms fee00320=000400ec !msr:6e0=1 irq:0+ !msr:6e0 log:0~" },
    { "TSC deadline disarmed", ON0 "fee00320=000400ec !msr:6e0=1e8480 !msr:6e0=0 @1s irq:" },
    { "TSC deadline ignored in other modes", ON0 "fee00320=000000ec !msr:6e0=1 @1s irq: !msr:6e0 log:0~" },
    { "TSC deadline gone with its mode", ON0 "fee00320=000400ec !msr:6e0=1e8480 fee00320=000000ec fee00320=000400ec !msr:6e0 @1s irq: log:0~" },
    { "x2APIC transitions", "!msr:1b=fee00500 !msr:1b=fee00d00 !msr:1b=fee00900 !msr:1b=fee00100 !msr:1b=fee00d00 !msr:1b=fee00900 !msr:1b log:gp~gp~gp~fee00900~" },
    { "APIC_BASE reserved bits", "!msr:1b=10000000900 !msr:1b=fee00901 !msr:1b=8000000900 log:gp~gp~ !covers log:00~" },
    { "page moves, and goes with x2APIC", "!covers !msr:1b=fee01900 !covers !msr:1b=fee00900 " X2_0 "!covers log:10~01~00~" },
    { "x2APIC registers", X2_0 X2_1 "!msr:802 !1:msr:802 !msr:803 !1:msr:80d log:0~1~50014~2~ !msr:80e !msr:809 !msr:80b !msr:831 !msr:83f log:gp~gp~gp~gp~gp~" },
    { "x2APIC read-only and reserved", X2_0 "!msr:802=0 !msr:80d=1 !msr:80b=1 !msr:828=1 !msr:80f=1000001ff !msr:83f=100 log:gp~gp~gp~gp~gp~gp~ !msr:80b=0 !msr:828=0 log:" },
    { "x2APIC MSRs need x2APIC mode", "!msr:802 !msr:80f=1ff log:gp~gp~" },
    { "x2APIC IPI", X2_0 X2_1 "!1:msr:80f=1ff !msr:830=100000061 irq:1+ !1:ack !msr:830 log:61~100000061~" },
    { "x2APIC logical", X2_0 X2_1 "!1:msr:80f=1ff !msr:830=200000861 irq:1+ !1:ack !msr:830=1000200000861 irq:1- log:61~" },
    { "x2APIC broadcast", X2_0 X2_1 ON2 "!msr:80f=1ff !1:msr:80f=1ff !msr:830=ffffffff00000061 irq:0+1+2+" },
    { "x2APIC self IPI", X2_0 "!msr:80f=1ff !msr:83f=61 irq:0+ !ack !msr:80b=0 log:61~" },
    { "disable resets", ON0 "fee00300=00040041 irq:0+ !msr:1b=fee00100 irq:0- !msr:1b=fee00900 fee000f0?000000ff irq:" },
    { "page copy", ON0 "fee003e0=0000000b fee00320=000000ec fee00380=000f4240 @400us fee00300=00040041 fee00080=00000010 irq:0+ !copy irq:2+ "
                   "fee20390?000927c0 fee20220?00000002 fee20080?00000010 fee200f0?000001ff !2:ack log:41~ @600us irq:2-2+ fee20270?00001000 fee20280?00000000" },
    { "remote: messages go there, timers stand still", ON0 ON1 "fee003e0=0000000b fee00320=000000ec fee00380=000f4240 !remote !msi=06101000 @2ms irq: "
                                                       "log:remote:61~ !local @1us irq:0+ !ack log:ec~" },
    { "remote: what waits here is not delivered", ON0 "fee00300=00040041 irq:0+ !remote irq:0- !ack !local irq:0+ !ack log:ffff~41~" },
    { "remote: 8259 and NMI pass, masked here or not", "fee00350=00010700 !remote !lint0+ irq:0+ !ack !lint1+ !lint0- irq:0- log:30~nmi0~" },
    { "remote: a deadline that passed meanwhile", ON0 "fee00320=000400ec !msr:6e0=1e8480 !remote @2ms irq: !local @1us irq:0+" },
    { "give: page, mode and deadline", X2_0 "!msr:80f=1ff !msr:832=400ec !msr:6e0=1e8480 !give !2:msr:1b !2:msr:6e0 log:fee00d00~1e8480~ @1001us irq:0+2+" },
    { "reset", ON0 "fee00300=00040041 irq:0+ !reset irq:0- fee00350?00000700" },
};

START_TEST(test_row)
{
    chip_script_run(&script, rows[_i].name, rows[_i].text);
}
END_TEST

int main(void) { return chip_script_main("lapic", test_row, G_N_ELEMENTS(rows), setup, teardown); }
