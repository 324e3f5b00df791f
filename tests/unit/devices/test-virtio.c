/* virtio: queue rules, both PCI layouts, and what each device does with requests. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "virtio-driver.h"

#include "devices/virtio-blk.h"
#include "devices/virtio-console.h"
#include "devices/virtio-net.h"
#include "devices/virtio-rng.h"

#define DATA 0x80000u /* guest buffers */
#define NSECTORS 300u

static VirtioDriver driver;
static VirtioBlk *blk;
static VirtioNet *net;
static VirtioRng *rng;
static VirtioConsole *console;
static Block *block;
static char *path;

static uint8_t *guest(uint64_t gpa) { return ram_slice(driver.ram, gpa, 1); }

static void make_disk(void)
{
    path = g_strdup("/tmp/segue-test-blk-XXXXXX");
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    for (unsigned i = 0; i < NSECTORS; i++) {
        uint8_t sector[512];
        memset(sector, (int)i, sizeof sector);
        ck_assert_int_eq(write(fd, sector, sizeof sector), sizeof sector);
    }
    close(fd);
}

static void setup(void) { driver_init(&driver); }

static void teardown(void)
{
    driver_clear(&driver);
    virtio_blk_free(blk);
    virtio_net_free(net);
    virtio_rng_free(rng);
    virtio_console_free(console);
    block_free(block);
    if (path)
        unlink(path);
    g_free(path);
    blk = NULL, net = NULL, rng = NULL, console = NULL, block = NULL, path = NULL;
}

static void probe_disk(BlockMode mode, DriverLayout layout, uint64_t features)
{
    make_disk();
    block = block_open_raw(path, mode, NULL);
    ck_assert_ptr_nonnull(block);
    blk = virtio_blk_new(&(VirtioBlkWires){.ram = driver.ram, .lock = &driver.lock, .block = block, .serial = "S123"});
    driver_probe(&driver, virtio_blk_device(blk), layout, features);
}

/* One block request with @size data bytes at DATA.  Returns the status byte; checks the used length. */
static uint8_t request(uint32_t type, uint64_t sector, uint32_t size, bool data_in)
{
    uint32_t header[4] = {type, 0, (uint32_t)sector, (uint32_t)(sector >> 32)};
    memcpy(guest(0x70000), header, sizeof header);
    *guest(0x70100) = 0xee;
    DriverBuffer buffers[3] = {{0x70000, 16, false}, {DATA, size, data_in}, {0x70100, 1, true}};
    if (size == 0)
        buffers[1] = buffers[2];
    driver_add(&driver, 0, buffers, size ? 3 : 2);
    driver_kick(&driver, 0);
    ck_assert_int_eq(driver_take(&driver, 0), data_in ? size + 1 : 1);
    return *guest(0x70100);
}

static const struct {
    const char *name;
    DriverLayout layout;
    uint64_t features;
} layouts[] = {
    { "modern", DRIVER_MODERN, 0 },
    { "modern, event index", DRIVER_MODERN, VIRTIO_F_EVENT_IDX },
    { "legacy", DRIVER_LEGACY, 0 },
    { "legacy, event index", DRIVER_LEGACY, VIRTIO_F_EVENT_IDX },
};

START_TEST(test_blk_requests)
{
    probe_disk(BLOCK_READ_WRITE, layouts[_i].layout, layouts[_i].features);
    ck_assert_uint_eq(request(0, 7, 1024, true), 0);
    ck_assert_uint_eq(*guest(DATA), 7);
    ck_assert_uint_eq(*guest(DATA + 1023), 8);
    memset(guest(DATA), 0xab, 512);
    ck_assert_uint_eq(request(1, 9, 512, false), 0);
    ck_assert_uint_eq(request(0, 8, 1536, true), 0);
    ck_assert_uint_eq(*guest(DATA + 511), 8);
    ck_assert_uint_eq(*guest(DATA + 512), 0xab);
    ck_assert_uint_eq(*guest(DATA + 1024), 10);
    ck_assert_uint_eq(request(4, 0, 0, false), 0);
    ck_assert_uint_eq(request(8, 0, 20, true), 0);
    ck_assert_str_eq((char *)guest(DATA), "S123");
    ck_assert_uint_eq(request(99, 0, 0, false), 2);
    /* Write zeroes: sectors 20 and 21. */
    uint32_t range[4] = {20, 0, 2, 0};
    memcpy(guest(DATA), range, sizeof range);
    ck_assert_uint_eq(request(13, 0, 16, false), 0);
    ck_assert_uint_eq(request(0, 20, 1536, true), 0);
    ck_assert_uint_eq(*guest(DATA) | *guest(DATA + 1023), 0);
    ck_assert_uint_eq(*guest(DATA + 1024), 22);
}
END_TEST

START_TEST(test_blk_many)
{
    /* More requests than the queue has entries: indexes wrap, and each completion finds its way. */
    probe_disk(BLOCK_READ_WRITE, layouts[_i].layout, layouts[_i].features);
    for (unsigned i = 0; i < 200; i++) {
        ck_assert_uint_eq(request(0, i, 512, true), 0);
        ck_assert_uint_eq(*guest(DATA), i);
    }
}
END_TEST

START_TEST(test_blk_limits)
{
    probe_disk(BLOCK_READ_ONLY, DRIVER_MODERN, 0);
    ck_assert_uint_eq(request(0, NSECTORS - 1, 512, true), 0);
    /* Errors still count the data as passed over. */
    ck_assert_uint_eq(request(0, NSECTORS - 1, 1024, true), 1);
    ck_assert_uint_eq(request(0, NSECTORS, 512, true), 1);
    ck_assert_uint_eq(request(0, UINT64_MAX, 512, true), 1);
    ck_assert_uint_eq(request(0, UINT64_MAX / 512, 512, true), 1);
    ck_assert_uint_eq(request(0, 0, 100, true), 1);
    ck_assert_uint_eq(request(1, 0, 512, false), 1); /* read-only */
    ck_assert(virtio_blk_device(blk)->features & 1u << 5);
    ck_assert_uint_eq(bus_read(driver.script.bus, driver.modern + 0x2000, 8), NSECTORS);
}
END_TEST

START_TEST(test_blk_snapshot)
{
    probe_disk(BLOCK_SNAPSHOT, DRIVER_MODERN, 0);
    memset(guest(DATA), 0xcd, 1024);
    ck_assert_uint_eq(request(1, 127, 1024, false), 0); /* across a cluster */
    ck_assert_uint_eq(request(0, 126, 2048, true), 0);
    ck_assert_uint_eq(*guest(DATA), 126);
    ck_assert_uint_eq(*guest(DATA + 512), 0xcd);
    ck_assert_uint_eq(*guest(DATA + 1535), 0xcd);
    ck_assert_uint_eq(*guest(DATA + 1536), 129);
    uint8_t byte;
    int fd = open(path, O_RDONLY);
    ck_assert_int_eq(pread(fd, &byte, 1, 127 * 512), 1);
    close(fd);
    ck_assert_uint_eq(byte, 127);
}
END_TEST

START_TEST(test_blk_locked)
{
    probe_disk(BLOCK_READ_WRITE, DRIVER_MODERN, 0);
    g_autoptr(GError) error = NULL;
    ck_assert_ptr_null(block_open_raw(path, BLOCK_READ_WRITE, &error));
    ck_assert_ptr_nonnull(error);
    g_clear_error(&error);
    ck_assert_ptr_null(block_open_raw("/nonexistent", BLOCK_READ_ONLY, &error));
    ck_assert_ptr_nonnull(error);
}
END_TEST

START_TEST(test_blk_reset_in_flight)
{
    probe_disk(BLOCK_READ_WRITE, DRIVER_MODERN, 0);
    for (unsigned round = 0; round < 50; round++) {
        uint32_t header[4] = {0, 0, 0, 0};
        memcpy(guest(0x70000), header, sizeof header);
        DriverBuffer buffers[3] = {{0x70000, 16, false}, {DATA, 512 * 64, true}, {0x70100, 1, true}};
        driver_add(&driver, 0, buffers, 3);
        driver_kick(&driver, 0);
        g_mutex_lock(&driver.lock);
        bus_write(driver.script.bus, driver.modern + 0x14, 1, 0);
        ck_assert_uint_eq(driver_status(&driver), 0);
        g_mutex_unlock(&driver.lock);
        virtio_blk_drain(blk);
        virtio_pci_free(driver.device);
        memset(guest(0x10000), 0, 0x10000);
        driver.avail[0] = driver.used[0] = 0;
        driver.next_desc = 0;
        driver_probe(&driver, virtio_blk_device(blk), DRIVER_MODERN, 0);
    }
    ck_assert_uint_eq(request(0, 5, 512, true), 0);
    ck_assert_uint_eq(*guest(DATA), 5);
}
END_TEST

/* --- network card --- */

static struct {
    unsigned nframes, nready;
    size_t size;
    uint8_t frame[4096];
} cable;

static void on_send(void *opaque, const uint8_t *frame, size_t size)
{
    cable.nframes++;
    cable.size = size;
    memcpy(cable.frame, frame, MIN(size, sizeof cable.frame));
}

static void on_ready(void *opaque) { cable.nready++; }

static void probe_net(int i)
{
    memset(&cable, 0, sizeof cable);
    net = virtio_net_new(&(VirtioNetWires){ .ram = driver.ram, .mac = { 0x52, 0x54, 0, 0x12, 0x34, 0x56 }, .send = on_send,
                                            .can_receive = on_ready });
    driver_probe(&driver, virtio_net_device(net), layouts[i].layout, layouts[i].features);
}

START_TEST(test_net_sends)
{
    probe_net(_i);
    unsigned header = layouts[_i].layout == DRIVER_MODERN ? 12 : 10;
    memset(guest(DATA), 0xee, 4096);
    for (unsigned n = 0; n < 60; n++)
        *guest(DATA + header + n) = (uint8_t)n;
    driver_add(&driver, 1, (DriverBuffer[]){ { DATA, header + 20, false }, { DATA + header + 20, 40, false } }, 2);
    driver_add(&driver, 1, (DriverBuffer[]){ { DATA, header, false } }, 1); /* no frame behind the header */
    driver_kick(&driver, 1);
    ck_assert_int_eq(driver_take(&driver, 1), 0);
    ck_assert_int_eq(driver_take(&driver, 1), 0);
    ck_assert_uint_eq(cable.nframes, 1);
    ck_assert_uint_eq(cable.size, 60);
    for (unsigned n = 0; n < 60; n++)
        ck_assert_uint_eq(cable.frame[n], n);
}
END_TEST

START_TEST(test_net_receives)
{
    uint8_t frame[100];
    memset(frame, 0x5a, sizeof frame);
    probe_net(_i);
    unsigned header = layouts[_i].layout == DRIVER_MODERN ? 12 : 10;
    g_mutex_lock(&driver.lock);
    ck_assert(!virtio_net_receive(net, frame, sizeof frame)); /* no buffer yet */
    g_mutex_unlock(&driver.lock);
    driver_add(&driver, 0, (DriverBuffer[]){ { DATA, 4, true }, { DATA + 4, 200, true } }, 2);
    driver_kick(&driver, 0);
    ck_assert_uint_ge(cable.nready, 1);
    g_mutex_lock(&driver.lock);
    memset(guest(DATA), 0xee, 4096);
    uint8_t large[400] = { 0 };
    ck_assert(virtio_net_receive(net, large, sizeof large)); /* fits nowhere: dropped, and the buffer is kept */
    ck_assert(!driver_takeable(&driver, 0));
    ck_assert(virtio_net_receive(net, frame, sizeof frame));
    g_mutex_unlock(&driver.lock);
    ck_assert_int_eq(driver_take(&driver, 0), header + (int)sizeof frame);
    ck_assert_mem_eq(guest(DATA + header), frame, sizeof frame);
    ck_assert_uint_eq(*guest(DATA + header + sizeof frame), 0xee);
    if (header == 12)
        ck_assert_uint_eq(*guest(DATA + 10), 1);
}
END_TEST

START_TEST(test_rng)
{
    rng = virtio_rng_new(driver.ram);
    driver_probe(&driver, virtio_rng_device(rng), layouts[_i].layout, layouts[_i].features);
    driver_add(&driver, 0, &(DriverBuffer){DATA, 64, true}, 1);
    driver_kick(&driver, 0);
    ck_assert_int_eq(driver_take(&driver, 0), 64);
    uint8_t any = 0;
    for (unsigned i = 0; i < 64; i++)
        any |= *guest(DATA + i);
    ck_assert_uint_ne(any, 0);
    /* INTx of slot 3 is PIRQ C: IRQ 11. */
    ck_assert_str_eq(driver.script.irqs->str, "11+");
    uint64_t isr = driver.layout == DRIVER_MODERN ? driver.modern + 0x1000 : driver.legacy + 0x13;
    ck_assert_uint_eq(bus_read(driver.script.bus, isr, 1), 1);
    ck_assert_uint_eq(bus_read(driver.script.bus, isr, 1), 0);
    ck_assert_str_eq(driver.script.irqs->str, "11+11-");
    /* NO_INTERRUPT, or an event index far away, keeps it quiet. */
    uint8_t *avail = guest(driver_avail(&driver, 0));
    uint16_t one = 1, far = 100;
    memcpy(avail, &one, 2);
    memcpy(avail + 4 + 2 * driver.queue_size[0], &far, 2);
    driver_add(&driver, 0, &(DriverBuffer){DATA, 8, true}, 1);
    driver_kick(&driver, 0);
    ck_assert_int_eq(driver_take(&driver, 0), 8);
    ck_assert_str_eq(driver.script.irqs->str, "11+11-");
}
END_TEST

START_TEST(test_msix)
{
    rng = virtio_rng_new(driver.ram);
    driver_probe(&driver, virtio_rng_device(rng), DRIVER_MODERN, 0);
    Bus *bus = driver.script.bus;
    bus_write(bus, driver.msix + 16, 4, 0xfee00000);
    bus_write(bus, driver.msix + 24, 4, 0x51);
    bus_write(bus, driver.msix + 28, 4, 0);
    bus_write(bus, driver.modern + 0x16, 2, 0);
    bus_write(bus, driver.modern + 0x1a, 2, 7); /* no such vector */
    ck_assert_uint_eq(bus_read(bus, driver.modern + 0x1a, 2), 0xffff);
    bus_write(bus, driver.modern + 0x1a, 2, 1);
    ck_assert_uint_eq(bus_read(bus, driver.modern + 0x1a, 2), 1);
    PciDevice *device = virtio_pci_device(driver.device);
    bus_write(bus, 0xcf8, 4, 0x80001800u | device->msix.capability);
    bus_write(bus, 0xcfe, 2, 0x8000);
    driver_add(&driver, 0, &(DriverBuffer){DATA, 8, true}, 1);
    driver_kick(&driver, 0);
    ck_assert_int_eq(driver_take(&driver, 0), 8);
    ck_assert_str_eq(driver.script.notes->str, "51 ");
    ck_assert_str_eq(driver.script.irqs->str, "");
}
END_TEST

static void note_write(void *opaque, const uint8_t *bytes, size_t count) { chip_note(&driver.script, "%.*s", (int)count, (const char *)bytes); }
static void note_room(void *opaque) { chip_note(&driver.script, "<room>"); }

START_TEST(test_console)
{
    console = virtio_console_new(&(VirtioConsoleWires){.ram = driver.ram, .write = note_write, .can_receive = note_room});
    ck_assert_uint_eq(virtio_console_receive(console, (const uint8_t *)"early", 5), 0);
    driver_probe(&driver, virtio_console_device(console), layouts[_i].layout, layouts[_i].features);
    g_string_truncate(driver.script.notes, 0);
    memcpy(guest(DATA), "hello", 5);
    DriverBuffer out[2] = {{DATA, 2, false}, {DATA + 2, 3, false}};
    driver_add(&driver, 1, out, 2);
    driver_kick(&driver, 1);
    ck_assert_int_eq(driver_take(&driver, 1), 0);
    ck_assert_str_eq(driver.script.notes->str, "hello");
    ck_assert_uint_eq(virtio_console_receive(console, (const uint8_t *)"abcdef", 6), 0);
    driver_add(&driver, 0, &(DriverBuffer){DATA, 4, true}, 1);
    driver_kick(&driver, 0);
    ck_assert_str_eq(driver.script.notes->str, "hello<room>");
    ck_assert_uint_eq(virtio_console_receive(console, (const uint8_t *)"abcdef", 6), 4);
    ck_assert_int_eq(driver_take(&driver, 0), 4);
    ck_assert(memcmp(guest(DATA), "abcd", 4) == 0);
}
END_TEST

/* Rules broken by the driver: the queue stops and the device asks for a reset; nothing is written. */
typedef struct BadDesc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
} BadDesc;

static const struct {
    const char *name;
    BadDesc desc[3];
    uint16_t head, avail;
} bad[] = {
    { "loop", { { DATA, 8, 3, 0 } }, 0, 1 },
    { "loop of two", { { DATA, 8, 3, 1 }, { DATA, 8, 3, 0 } }, 0, 1 },
    { "next beyond the table", { { DATA, 8, 3, 500 } }, 0, 1 },
    { "head beyond the table", { { DATA, 8, 2, 0 } }, 16, 1 },
    { "outside RAM", { { DRIVER_RAM_SIZE - 4, 8, 2, 0 } }, 0, 1 },
    { "address wraps", { { UINT64_MAX - 3, 8, 2, 0 } }, 0, 1 },
    { "empty buffer", { { DATA, 0, 2, 0 } }, 0, 1 },
    { "out after in", { { DATA, 8, 3, 1 }, { DATA, 8, 0, 0 } }, 0, 1 },
    { "indirect not negotiated", { { DATA, 16, 4, 0 } }, 0, 1 },
    { "more available than entries", { { DATA, 8, 2, 0 } }, 0, 17 },
};

START_TEST(test_bad_chain)
{
    rng = virtio_rng_new(driver.ram);
    driver_probe(&driver, virtio_rng_device(rng), DRIVER_MODERN, 0);
    memcpy(guest(driver_desc(&driver, 0)), bad[_i].desc, sizeof bad[_i].desc);
    memcpy(guest(driver_avail(&driver, 0) + 4), &bad[_i].head, 2);
    memcpy(guest(driver_avail(&driver, 0) + 2), &bad[_i].avail, 2);
    driver_kick(&driver, 0);
    ck_assert_msg(driver_status(&driver) == 0x4f, "%s: status %02x", bad[_i].name, driver_status(&driver));
    ck_assert_msg(!driver_takeable(&driver, 0), "%s: something was pushed", bad[_i].name);
    driver_kick(&driver, 0);
    bus_write(driver.script.bus, driver.modern + 0x14, 1, 0);
    ck_assert_uint_eq(driver_status(&driver), 0);
}
END_TEST

START_TEST(test_indirect)
{
    rng = virtio_rng_new(driver.ram);
    driver_probe(&driver, virtio_rng_device(rng), DRIVER_MODERN, VIRTIO_F_INDIRECT_DESC);
    BadDesc inner[3] = {{DATA, 8, 3, 2}, {DATA, 0, 0, 0}, {DATA + 0x100, 8, 2, 0}}, outer = {0x70000, sizeof inner, 4, 0};
    memcpy(guest(0x70000), inner, sizeof inner);
    uint16_t head = 0, avail = 1;
    memcpy(guest(driver_desc(&driver, 0)), &outer, sizeof outer);
    memcpy(guest(driver_avail(&driver, 0) + 4), &head, 2);
    memcpy(guest(driver_avail(&driver, 0) + 2), &avail, 2);
    driver_kick(&driver, 0);
    ck_assert_int_eq(driver_take(&driver, 0), 16);
    /* An indirect table within an indirect table is refused. */
    inner[0] = outer;
    memcpy(guest(0x70000), inner, sizeof inner);
    avail = 2;
    memcpy(guest(driver_avail(&driver, 0) + 6), &head, 2);
    memcpy(guest(driver_avail(&driver, 0) + 2), &avail, 2);
    driver_kick(&driver, 0);
    ck_assert_uint_eq(driver_status(&driver), 0x4f);
}
END_TEST

START_TEST(test_common_registers)
{
    rng = virtio_rng_new(driver.ram);
    driver_probe(&driver, virtio_rng_device(rng), DRIVER_MODERN, 0);
    Bus *bus = driver.script.bus;
    uint64_t at = driver.modern;
    ck_assert_uint_eq(bus_read(bus, at + 0x12, 2), 1);
    bus_write(bus, at, 4, 1);
    ck_assert_uint_eq(bus_read(bus, at + 4, 4), 1); /* VERSION_1 */
    bus_write(bus, at, 4, 7);
    ck_assert_uint_eq(bus_read(bus, at + 4, 4), 0);
    bus_write(bus, at + 0x16, 2, 3); /* no such queue */
    ck_assert_uint_eq(bus_read(bus, at + 0x18, 2), 0);
    bus_write(bus, at + 0x18, 2, 8);
    bus_write(bus, at + 0x1c, 2, 1);
    ck_assert_uint_eq(bus_read(bus, at + 0x18, 2), 0);
    bus_write(bus, at + 0x16, 2, 0);
    ck_assert_uint_eq(bus_read(bus, at + 0x1c, 2), 1);
    bus_write(bus, at + 0x20, 4, 0x12345670); /* rings stay put while enabled */
    ck_assert_uint_eq(bus_read(bus, at + 0x20, 8), driver_desc(&driver, 0));
    /* A feature that was not offered. */
    bus_write(bus, at + 0x14, 1, 0);
    bus_write(bus, at + 0x14, 1, 3);
    bus_write(bus, at + 8, 4, 0);
    bus_write(bus, at + 0xc, 4, 1u << 5);
    bus_write(bus, at + 0x14, 1, 0xb);
    ck_assert_uint_eq(bus_read(bus, at + 0x14, 1), 3);
    /* Rings outside RAM, and a size that is no power of two. */
    bus_write(bus, at + 0x20, 8, DRIVER_RAM_SIZE);
    bus_write(bus, at + 0x1c, 2, 1);
    ck_assert_uint_eq(bus_read(bus, at + 0x1c, 2), 0);
    bus_write(bus, at + 0x14, 1, 0);
    bus_write(bus, at + 0x18, 2, 3);
    bus_write(bus, at + 0x1c, 2, 1);
    ck_assert_uint_eq(bus_read(bus, at + 0x1c, 2), 0);
}
END_TEST

START_TEST(test_config_window)
{
    rng = virtio_rng_new(driver.ram);
    driver_probe(&driver, virtio_rng_device(rng), DRIVER_MODERN, 0);
    Bus *bus = driver.script.bus;
    /* Walk the capabilities to type 5. */
    unsigned at = 0;
    for (unsigned next = pci_config_get(virtio_pci_device(driver.device), PCI_CAPABILITIES, 1); next;
         next = pci_config_get(virtio_pci_device(driver.device), next + 1, 1))
        if (pci_config_get(virtio_pci_device(driver.device), next, 1) == PCI_CAP_VENDOR &&
            pci_config_get(virtio_pci_device(driver.device), next + 3, 1) == 5)
            at = next;
    ck_assert_uint_ne(at, 0);
    const struct { unsigned offset; uint32_t value; } writes[] = {{at + 4, 4}, {at + 8, 0x14}, {at + 12, 1}};
    for (unsigned i = 0; i < G_N_ELEMENTS(writes); i++) {
        bus_write(bus, 0xcf8, 4, 0x80001800u | writes[i].offset);
        bus_write(bus, 0xcfc, 4, writes[i].value);
    }
    bus_write(bus, 0xcf8, 4, 0x80001800u | (at + 16));
    ck_assert_uint_eq(bus_read(bus, 0xcfc, 1), 0xf);
    bus_write(bus, 0xcfc, 1, 0);
    ck_assert_uint_eq(driver_status(&driver), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("virtio");
    TCase *tcase = tcase_create("virtio");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 120);
    tcase_add_loop_test(tcase, test_blk_requests, 0, G_N_ELEMENTS(layouts));
    tcase_add_loop_test(tcase, test_blk_many, 0, G_N_ELEMENTS(layouts));
    tcase_add_test(tcase, test_blk_limits);
    tcase_add_test(tcase, test_blk_snapshot);
    tcase_add_test(tcase, test_blk_locked);
    tcase_add_test(tcase, test_blk_reset_in_flight);
    tcase_add_loop_test(tcase, test_net_sends, 0, G_N_ELEMENTS(layouts));
    tcase_add_loop_test(tcase, test_net_receives, 0, G_N_ELEMENTS(layouts));
    tcase_add_loop_test(tcase, test_rng, 0, G_N_ELEMENTS(layouts));
    tcase_add_test(tcase, test_msix);
    tcase_add_loop_test(tcase, test_console, 0, G_N_ELEMENTS(layouts));
    tcase_add_loop_test(tcase, test_bad_chain, 0, G_N_ELEMENTS(bad));
    tcase_add_test(tcase, test_indirect);
    tcase_add_test(tcase, test_common_registers);
    tcase_add_test(tcase, test_config_window);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
