#include <stdlib.h>
#include <string.h>

#include "chip-script.h"
#include "devices/pci.h"

static ChipScript script;
static PciBus *pci;
static PciDevice card, other;

static void note_reset(void *opaque) { chip_note(&script, "reset"); }

static bool deliver(void *opaque, const ApicMessage *message)
{
    chip_note(&script, "%02x>%02x", message->vector, message->destination);
    return true;
}

/* Lines by ISA IRQ. */
static void isa_set(void *opaque, unsigned number, bool level) { irq_set(chip_line(&script, number), level); }

static uint64_t port_read(void *device, uint64_t offset, unsigned size) { return 0x50 + offset; }
static uint64_t table_read(void *device, uint64_t offset, unsigned size)
{
    return offset >= 0x800 ? pci_msix_pba_read(device, (uint32_t)offset - 0x800) : pci_msix_read(device, (uint32_t)offset);
}
static void ignore_write(void *device, uint64_t offset, unsigned size, uint64_t value) {}
static void table_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    pci_msix_write(device, (uint32_t)offset, (uint32_t)value);
}

static const BusOps port_ops = {.name = "card-ports", .read = port_read, .write = ignore_write, .max_size = 1};
static const BusOps table_ops = {.name = "card-table", .read = table_read, .write = table_write, .min_size = 4, .max_size = 4};

static void note_config(PciDevice *device, unsigned offset, unsigned size)
{
    if (offset == 0xf0)
        chip_note(&script, "config%u", size);
}

static void action(void *chip, const char *word)
{
    if (strcmp(word, "reset") == 0) {
        pci_bus_reset(pci);
    } else if (strcmp(word, "assign") == 0) {
        ck_assert(pci_bus_assign(pci, NULL));
    } else if (strcmp(word, "detach") == 0) {
        pci_detach(&card);
    } else if (strcmp(word, "routes") == 0) {
        pci_bus_set_default_routes(pci);
    } else if (strcmp(word, "taken") == 0) {
        GError *error = NULL;
        ck_assert(!pci_attach(pci, &(PciDevice){.name = "late"}, PCI_DEVFN(3, 0), &error));
        g_clear_error(&error);
    } else if (g_str_has_prefix(word, "msix")) {
        pci_msix_notify(&card, (unsigned)(word[4] - '0'));
    } else if (strcmp(word, "msi") == 0) {
        pci_msi_notify(&other);
    } else {
        pci_set_intx(word[0] == 'a' ? &card : &other, word[1] == '+'); /* a+ a- b+ b- */
    }
}

static void setup(void)
{
    chip_script_init(&script);
    pci = pci_bus_new(&(PciBusWires){.ports = script.bus, .memory = script.bus, .isa_irq = {.set = isa_set}, .msi = {.deliver = deliver},
                                     .reset = note_reset});
    chip_script_map(&script, 0xcf8, 8, &pci_bus_ops, pci);
    pci_device_init(&card, "card", &(PciIdentity){.vendor = 0x1234, .device = 0x5678, .revision = 9, .class_code = 0x020000,
                                                  .subsystem_vendor = 0xaaaa, .subsystem = 0xbbbb, .interrupt_pin = 1});
    pci_add_bar(&card, 0, &(PciBar){.size = 32, .is_io = true, .ops = &port_ops, .device = &card});
    pci_add_bar(&card, 1, &(PciBar){.size = 4096, .ops = &table_ops, .device = &card});
    pci_add_bar(&card, 4, &(PciBar){.size = 16384, .is_64 = true, .is_prefetchable = true, .ops = &port_ops, .device = &card});
    pci_add_msix(&card, 3, 1, 0, 0x800);
    card.config_written = note_config;
    pci_device_init(&other, "other", &(PciIdentity){.vendor = 0x1234, .device = 0x9999, .interrupt_pin = 1});
    pci_add_msi(&other);
    ck_assert(pci_attach(pci, &card, PCI_DEVFN(3, 0), NULL));
    ck_assert(pci_attach(pci, &other, PCI_DEVFN(7, 0), NULL)); /* same PIRQ as slot 3 */
    script.action = action;
}

static void teardown(void)
{
    pci_bus_free(pci);
    chip_script_clear(&script);
}

#define AT(devfn_offset) "cf8=8000" devfn_offset " "
#define ROUTE_C(irq) AT("0860") "cfe=" irq " "

/* The card is 00:03.0 (18xx), the other 00:07.0 (38xx). */
static const struct {
    const char *name, *text;
} rows[] = {
    { "mechanism #1 is there", "cf8=80000000 cf8?80000000 cf8=80ff00ff cf8?80ff00fc cfb=01 cf8?80ff00fc" }, /* Linux's pci_check_type1 */
    { "host bridge", AT("0000") "cfc?12378086 cfe?1237 cff?12 " AT("0008") "cfc?06000002 " AT("002c") "cfc?11001af4" },
    { "ISA bridge", AT("0800") "cfc?70008086 " AT("080c") "cfe?80 " AT("0860") "cfc?80808080" },
    { "power management", AT("0b00") "cfc?71138086 " AT("0b40") "cfc?00000601 cfc=ffffffff cfc?00000601 " AT("0b58") "cfc?02000000 " AT("0b3c") "cfc?00000109" },
    { "nobody", AT("2000") "cfc?ffffffff cfc=00000000 cf8=80011800 cfc?ffffffff cf8=00001800 cfc?ffffffff cfc?ff" },
    { "identity is read-only", AT("1800") "cfc?56781234 cfc=00000000 cfc?56781234 " AT("1808") "cfc?02000009 " AT("182c") "cfc?bbbbaaaa " AT("183c") "cfc?00000100 cfc=ffffffff cfc?000001ff" },
    { "command bits", AT("1804") "cfc=ffff cfc?0547 cfe?0010" },
    { "BAR sizes", AT("1810") "cfc=ffffffff cfc?ffffffe1 " AT("1814") "cfc=ffffffff cfc?fffff000 " AT("1820") "cfc=ffffffff cfc?ffffc00c "
                   AT("1824") "cfc=ffffffff cfc?ffffffff " AT("1818") "cfc=ffffffff cfc?00000000 " AT("1830") "cfc=ffffffff cfc?00000000" },
    { "port BAR", AT("1810") "cfc=0000c000 c003?ff " AT("1804") "cfc=0001 c003?53 " AT("1810") "cfc=0000d000 c003?ff d003?53 " AT("1804") "cfc=0000 d003?ff" },
    { "sizing while enabled", AT("1804") "cfc=0003 " AT("1810") "cfc=0000c000 c001?51 cfc=ffffffff c001?ff cfc=0000c000 c001?51" },
    { "64-bit BAR", AT("1804") "cfc=0002 " AT("1820") "cfc=00004000 4003?53 " AT("1824") "cfc=00000001 4003?ff 100004003?53" },
    { "BAR over another range stays off", AT("1810") "cfc=00000ce0 " AT("1804") "cfc=0001 ce1?ff cf8?80001804" },
    { "capability list", AT("1834") "cfc?40 " AT("1840") "cfc?00020011 " AT("1844") "cfc?00000001 " AT("1848") "cfc?00000801" },
    { "INTx through PIRQ C", ROUTE_C("0b") "!a+ irq:11+ !b+ irq: !a- irq: !b- irq:11-" },
    { "PIRQ off", "!a+ irq: " ROUTE_C("0a") "irq:10+ " ROUTE_C("0b") "irq:10-11+ " ROUTE_C("80") "irq:11-" },
    { "PIRQ to a forbidden IRQ", ROUTE_C("08") "!a+ irq:" },
    { "INTx disable, status", ROUTE_C("0b") "!a+ " AT("1804") "cfe?0018 irq:11+ cfc=0400 irq:11- cfc=0000 irq:11+" },
    { "default routes", "!routes " AT("0860") "cfc?0b0b0a0a !a+ irq:11+" },
    { "MSI-X", AT("1814") "cfc=e0000000 " AT("1804") "cfc=0002 e0000000=fee02000 e0000004=00000000 e0000008=00000041 e000000c?00000001 e000000c=00000000 "
               "!msix0 log: " AT("1840") "cfe=8000 cfe?8002 !msix0 log:41>02" },
    { "MSI-X masked", AT("1814") "cfc=e0000000 " AT("1804") "cfc=0002 " AT("1840") "cfe=8000 e0000010=fee01000 e0000018=00000042 "
                      "!msix1 !msix1 log: e0000800?00000002 e000001c=00000000 log:42>01 e0000800?00000000 " AT("1840") "cfe=c000 !msix1 log: cfe=8000 log:42>01" },
    { "MSI-X beyond the table", AT("1814") "cfc=e0000000 " AT("1804") "cfc=0002 e0000030=ffffffff e0000030?00000000 " AT("1840") "cfe=8000 !msix7 log:" },
    { "MSI", AT("3840") "cfe?0180 !msi log: " AT("3844") "cfc=fee03000 " AT("384c") "cfc=0043 " AT("3840") "cfe=0001 !msi log:43>03" },
    { "MSI masked", AT("3844") "cfc=fee03000 " AT("384c") "cfc=0043 " AT("3840") "cfe=0001 " AT("3850") "cfc=00000001 !msi log: " AT("3854") "cfc?00000001 "
                    AT("3850") "cfc=00000000 log:43>03 " AT("3854") "cfc?00000000" },
    { "MSI to memory goes nowhere", AT("3844") "cfc=00001000 " AT("3840") "cfe=0001 !msi log:" },
    { "device's own bytes", AT("18f0") "cfc=1234 log:config2 cfc?0000" },
    { "reset control", "cf9?00 cf9=02 log: cf9=06 log:reset cf9?02" },
    { "assign", "!routes !assign " AT("1810") "cfc?0000c001 " AT("1814") "cfc?e0000000 " AT("1820") "cfc?e000400c " AT("1804") "cfc?0003 " AT("183c") "cfc?0b c01f?6f" },
    { "slot taken", "!taken" },
    { "detach", "!routes !assign !a+ irq:11+ c001?51 !detach irq:11- c001?ff " AT("1800") "cfc?ffffffff" },
    { "reset", "!routes !assign !a+ irq:11+ !reset irq:11- c001?ff cf8?00000000 " AT("0860") "cfc?80808080 " AT("1810") "cfc?00000001" },
};

START_TEST(test_row)
{
    chip_script_run(&script, rows[_i].name, rows[_i].text);
}
END_TEST

int main(void) { return chip_script_main("pci", test_row, G_N_ELEMENTS(rows), setup, teardown); }
