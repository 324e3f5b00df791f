#include <stdlib.h>
#include <string.h>

#include "chip-script.h"
#include "devices/fw-cfg.h"

static ChipScript script;
static FwCfg *fw;
static Ram *ram;
static uint8_t memory[0x4000] __attribute__((aligned(4096)));

/* RAM is also on the bus, at 0x100000, so that scripts can write DMA descriptors and see results. */
static uint64_t memory_read(void *device, uint64_t offset, unsigned size)
{
    uint64_t value = 0;
    memcpy(&value, memory + offset, size);
    return value;
}

static void memory_write(void *device, uint64_t offset, unsigned size, uint64_t value) { memcpy(memory + offset, &value, size); }

static const BusOps memory_ops = {.name = "memory", .read = memory_read, .write = memory_write};

static void setup(void)
{
    chip_script_init(&script);
    memset(memory, 0xcc, sizeof memory);
    ram = ram_new_array(memory, sizeof memory);
    fw = fw_cfg_new(&(FwCfgWires){.ram = ram});
    fw_cfg_add_u16(fw, FW_CFG_NCPUS, 4);
    fw_cfg_add_u64(fw, FW_CFG_RAM_SIZE, UINT64_C(0x8877665544332211));
    fw_cfg_add_u32(fw, FW_CFG_X86_IRQ0, 1);
    ck_assert(fw_cfg_add_file(fw, "etc/a", "abc", 3, NULL));
    ck_assert(fw_cfg_add_file(fw, "etc/b", "hello", 5, NULL));
    ck_assert(fw_cfg_add_file(fw, "etc/a", "wxyz", 4, NULL));
    chip_script_map(&script, 0x510, 2, &fw_cfg_ops, fw);
    chip_script_map(&script, 0x514, 8, &fw_cfg_dma_ops, fw);
    chip_script_map(&script, 0x100000, sizeof memory, &memory_ops, NULL);
}

static void teardown(void)
{
    fw_cfg_free(fw);
    ram_free(ram);
    chip_script_clear(&script);
}

/* A descriptor at guest address 0x100: control, length, address, all big-endian. */
#define DMA(control, length, address) \
    "100100=" control " 100104=" length " 100108=" address " 514=00000000 518=00010000 "

static const struct {
    const char *name, *text;
} rows[] = {
    { "signature", "510=0000 511?51 511?45 511?4d 511?55 511?00 511?00" },
    { "ID has DMA", "510=0001 511?03 511?00" },
    { "selecting starts again", "510=0000 511?51 510=0000 511?51" },
    { "numbers", "510=0005 511?04 511?00 510=0003 511?11 511?22 511?33 511?44 511?55 511?66 511?77 511?88 511?00 510=8002 511?01" },
    { "no such item", "510=00ff 511?00 510=7fff 511?00 510=ffff 511?00 510=801f 511?00" },
    { "directory", "510=0019 511?00 511?00 511?00 511?02 511?00 511?00 511?00 511?04 511?00 511?20 511?00 511?00 511?65 511?74 511?63 511?2f 511?61 511?00" },
    { "file replaced", "510=0020 511?77 511?78 511?79 511?7a 511?00" },
    { "word reads are not data", "510=0000 510?0000" },
    { "DMA signature", "514?47464320554d4551 514?554d4551 518?47464320" },
    { "DMA select and read", DMA("0a002100", "05000000", "0010000000000000") "100100?00000000 101000?6c6c6568 101004?6f 101005?cc" },
    { "DMA skip, then read beyond the end", DMA("0c002100", "03000000", "0000000000000000") DMA("02000000", "04000000", "0010000000000000") "100100?00000000 101000?00006f6c" },
    { "DMA write is refused", DMA("18002100", "01000000", "0010000000000000") "100100?01000000 101000?cc" },
    { "DMA beyond RAM", DMA("0a002100", "05000000", "ff3f000000000000") "100100?01000000" },
};

START_TEST(test_row)
{
    chip_script_run(&script, rows[_i].name, rows[_i].text);
}
END_TEST

int main(void) { return chip_script_main("fw-cfg", test_row, G_N_ELEMENTS(rows), setup, teardown); }
