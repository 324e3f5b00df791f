#include "devices/i8259.h"

#include <string.h>

#define CASCADE 2

typedef enum PicInit { PIC_READY, PIC_WANT_ICW2, PIC_WANT_ICW3, PIC_WANT_ICW4 } PicInit;

/* One 8259A. */
typedef struct PicChip {
    uint8_t lines;   /* input levels */
    uint8_t latched; /* edges seen since the last acknowledge */
    uint8_t imr, isr;
    uint8_t elcr;
    uint8_t base;   /* ICW2 */
    uint8_t icw3;   /* kept for completeness; a PC's wiring is fixed */
    uint8_t lowest; /* the input with lowest priority, 0–7 */
    uint8_t init;   /* PicInit */
    bool needs_icw4, is_single;
    bool auto_eoi, rotate_on_auto_eoi;
    bool is_special_fully_nested, special_mask;
    bool read_isr, poll;
} PicChip;

typedef struct I8259State {
    PicChip chip[2];
} I8259State;

struct I8259 {
    I8259Wires wires;
    I8259State s;
    bool output;
};

/* Inputs that may change between edge and level: not the timer, keyboard and cascade, nor RTC and coprocessor. */
static const uint8_t elcr_mask[2] = {0xf8, 0xde};

static uint8_t chip_irr(const PicChip *chip)
{
    return (uint8_t)((chip->lines & chip->elcr) | (chip->latched & ~chip->elcr));
}

/* Position in the priority order: 0 is highest.  8: none of @bits. */
static unsigned highest(const PicChip *chip, uint8_t bits)
{
    for (unsigned i = 0; i < 8; i++)
        if (bits & (1u << ((chip->lowest + 1 + i) & 7)))
            return i;
    return 8;
}

static unsigned input_at(const PicChip *chip, unsigned position) { return (chip->lowest + 1 + position) & 7; }

/* chip_pending: the input that @chip would deliver now, -1 for none. */
static int chip_pending(const PicChip *chip, bool is_master)
{
    unsigned want = highest(chip, chip_irr(chip) & (uint8_t)~chip->imr);
    if (want == 8)
        return -1;
    uint8_t blocking = chip->isr;
    if (chip->special_mask)
        blocking &= (uint8_t)~chip->imr;
    /* Special fully nested: the slave may interrupt again while its own input is in service. */
    if (is_master && chip->is_special_fully_nested)
        blocking &= (uint8_t) ~(1u << CASCADE);
    unsigned serving = highest(chip, blocking);
    if (chip->special_mask)
        return blocking & (1u << input_at(chip, want)) ? -1 : (int)input_at(chip, want);
    return want < serving ? (int)input_at(chip, want) : -1;
}

static void update(I8259 *pic)
{
    PicChip *master = &pic->s.chip[0];
    bool slave = chip_pending(&pic->s.chip[1], false) >= 0;
    /* The cascade input follows the slave's INT as a level. */
    master->lines = (uint8_t)((master->lines & ~(1u << CASCADE)) | (slave ? 1u << CASCADE : 0));
    master->latched = (uint8_t)((master->latched & ~(1u << CASCADE)) | (slave ? 1u << CASCADE : 0));
    bool output = chip_pending(master, true) >= 0;
    if (output != pic->output) {
        pic->output = output;
        irq_set(pic->wires.output, output);
    }
}

void i8259_set_irq(I8259 *pic, unsigned irq, bool level)
{
    g_return_if_fail(irq < 16);
    if (irq == CASCADE)
        return;
    PicChip *chip = &pic->s.chip[irq >> 3];
    uint8_t bit = (uint8_t)(1u << (irq & 7));
    if (level) {
        if (!(chip->lines & bit))
            chip->latched |= bit;
        chip->lines |= bit;
    } else {
        /* An edge stays latched.  The 8259A datasheet wants the input high until INTA; chipsets do not, and chips here
         * may pulse. */
        chip->lines &= (uint8_t)~bit;
    }
    update(pic);
}

static void input_set(void *opaque, unsigned number, bool level) { i8259_set_irq(opaque, number, level); }

IrqLine i8259_input(I8259 *pic, unsigned irq) { return (IrqLine){.set = input_set, .opaque = pic, .number = irq}; }

bool i8259_output(const I8259 *pic) { return pic->output; }

/* chip_serve: moves @input from requested to in service. */
static void chip_serve(PicChip *chip, unsigned input)
{
    uint8_t bit = (uint8_t)(1u << input);
    chip->latched &= (uint8_t)~bit;
    if (!chip->auto_eoi)
        chip->isr |= bit;
    else if (chip->rotate_on_auto_eoi)
        chip->lowest = (uint8_t)input;
}

int pic_acknowledge(I8259 *pic)
{
    PicChip *master = &pic->s.chip[0], *slave = &pic->s.chip[1];
    int input = chip_pending(master, true);
    int vector;
    if (input < 0) {
        vector = master->base + 7;
    } else if (input != CASCADE) {
        chip_serve(master, (unsigned)input);
        vector = master->base + input;
    } else {
        int second = chip_pending(slave, false);
        chip_serve(master, CASCADE);
        if (second < 0) {
            vector = slave->base + 7;
        } else {
            chip_serve(slave, (unsigned)second);
            vector = slave->base + second;
        }
    }
    update(pic);
    return vector;
}

static void chip_icw1(PicChip *chip, uint8_t value)
{
    chip->latched = 0;
    chip->imr = chip->isr = 0;
    chip->lowest = 7;
    chip->auto_eoi = chip->rotate_on_auto_eoi = false;
    chip->is_special_fully_nested = chip->special_mask = false;
    chip->read_isr = chip->poll = false;
    chip->needs_icw4 = value & 1;
    chip->is_single = value & 2;
    chip->init = PIC_WANT_ICW2;
}

static void chip_ocw2(PicChip *chip, uint8_t value)
{
    unsigned command = value >> 5, input = value & 7, position;
    switch (command) {
    case 0:
    case 4: /* rotate in AEOI mode: clear, set */
        chip->rotate_on_auto_eoi = command == 4;
        break;
    case 1:
    case 5: /* non-specific EOI, with rotation */
        position = highest(chip, chip->special_mask ? chip->isr & (uint8_t)~chip->imr : chip->isr);
        if (position < 8) {
            input = input_at(chip, position);
            chip->isr &= (uint8_t) ~(1u << input);
            if (command == 5)
                chip->lowest = (uint8_t)input;
        }
        break;
    case 2: /* no operation */
        break;
    case 3:
    case 7: /* specific EOI, with rotation */
        chip->isr &= (uint8_t) ~(1u << input);
        if (command == 7)
            chip->lowest = (uint8_t)input;
        break;
    case 6: /* set priority */
        chip->lowest = (uint8_t)input;
        break;
    }
}

static void chip_ocw3(PicChip *chip, uint8_t value)
{
    if (value & 0x40)
        chip->special_mask = value & 0x20;
    if (value & 4)
        chip->poll = true;
    else if (value & 2)
        chip->read_isr = value & 1;
}

static void chip_write_data(PicChip *chip, uint8_t value)
{
    switch ((PicInit)chip->init) {
    case PIC_READY:
        chip->imr = value;
        break;
    case PIC_WANT_ICW2:
        chip->base = value & 0xf8;
        chip->init = chip->is_single ? chip->needs_icw4 ? PIC_WANT_ICW4 : PIC_READY : PIC_WANT_ICW3;
        break;
    case PIC_WANT_ICW3:
        chip->icw3 = value;
        chip->init = chip->needs_icw4 ? PIC_WANT_ICW4 : PIC_READY;
        break;
    case PIC_WANT_ICW4:
        chip->is_special_fully_nested = value & 0x10;
        chip->auto_eoi = value & 2;
        chip->init = PIC_READY;
        break;
    }
}

static void pic_write(I8259 *pic, unsigned index, uint64_t offset, uint8_t value)
{
    PicChip *chip = &pic->s.chip[index];
    if (offset)
        chip_write_data(chip, value);
    else if (value & 0x10)
        chip_icw1(chip, value);
    else if (value & 8)
        chip_ocw3(chip, value);
    else
        chip_ocw2(chip, value);
    update(pic);
}

static uint8_t pic_read(I8259 *pic, unsigned index, uint64_t offset)
{
    PicChip *chip = &pic->s.chip[index];
    if (chip->poll) {
        /* A read after the poll command is an INTA of this chip alone. */
        chip->poll = false;
        int input = chip_pending(chip, index == 0);
        if (input < 0)
            return 0;
        chip_serve(chip, (unsigned)input);
        update(pic);
        return (uint8_t)(0x80 | input);
    }
    if (offset)
        return chip->imr;
    return chip->read_isr ? chip->isr : chip_irr(chip);
}

static uint64_t master_read(void *device, uint64_t offset, unsigned size) { return pic_read(device, 0, offset); }
static uint64_t slave_read(void *device, uint64_t offset, unsigned size) { return pic_read(device, 1, offset); }

static void master_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    pic_write(device, 0, offset, (uint8_t)value);
}

static void slave_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    pic_write(device, 1, offset, (uint8_t)value);
}

static uint64_t elcr_read(void *device, uint64_t offset, unsigned size)
{
    I8259 *pic = device;
    return pic->s.chip[offset].elcr;
}

static void elcr_write(void *device, uint64_t offset, unsigned size, uint64_t value)
{
    I8259 *pic = device;
    pic->s.chip[offset].elcr = (uint8_t)value & elcr_mask[offset];
    update(pic);
}

const BusOps i8259_master_ops = {.name = "i8259-master", .read = master_read, .write = master_write, .max_size = 1};
const BusOps i8259_slave_ops = {.name = "i8259-slave", .read = slave_read, .write = slave_write, .max_size = 1};
const BusOps i8259_elcr_ops = {.name = "i8259-elcr", .read = elcr_read, .write = elcr_write, .max_size = 1};

void i8259_reset(I8259 *pic)
{
    for (unsigned i = 0; i < 2; i++) {
        uint8_t lines = pic->s.chip[i].lines;
        pic->s.chip[i] = (PicChip){.lines = lines, .lowest = 7};
    }
    update(pic);
}

I8259 *i8259_new(const I8259Wires *wires)
{
    I8259 *pic = g_new0(I8259, 1);
    pic->wires = *wires;
    i8259_reset(pic);
    return pic;
}

void i8259_free(I8259 *pic) { g_free(pic); }

/* --- saved state --- */

static void state_visit(void *device, Stream *stream)
{
    I8259 *pic = device;
    for (unsigned i = 0; i < 2; i++) {
        PicChip *chip = &pic->s.chip[i];
        uint8_t *const bytes[] = {&chip->lines, &chip->latched, &chip->imr, &chip->isr, &chip->elcr, &chip->base, &chip->icw3, &chip->lowest,
                                  &chip->init};
        bool *const flags[] = {&chip->needs_icw4, &chip->is_single, &chip->auto_eoi, &chip->rotate_on_auto_eoi,
                               &chip->is_special_fully_nested, &chip->special_mask, &chip->read_isr, &chip->poll};
        for (unsigned j = 0; j < G_N_ELEMENTS(bytes); j++)
            stream_u8(stream, bytes[j]);
        for (unsigned j = 0; j < G_N_ELEMENTS(flags); j++)
            stream_bool(stream, flags[j]);
        chip->elcr &= elcr_mask[i];
        stream_check(stream, chip->lowest < 8, "8259 priority");
        stream_check(stream, chip->init <= PIC_WANT_ICW4, "8259 initialisation");
    }
    stream_bool(stream, &pic->output);
}

const StateOps i8259_state = {.name = "i8259", .version = 1, .visit = state_visit};
