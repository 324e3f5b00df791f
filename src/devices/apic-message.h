/*
 * ApicMessage: an interrupt on its way to local APICs, whoever sent it (I/O APIC, MSI, IPI).
 * Source: SDM 3A 11.6 (ICR), 11.11 (MSI address and data layout).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef enum ApicDelivery {
    APIC_FIXED = 0,
    APIC_LOWEST_PRIORITY = 1,
    APIC_SMI = 2,
    APIC_NMI = 4,
    APIC_INIT = 5,
    APIC_STARTUP = 6,
    APIC_EXTINT = 7,
} ApicDelivery;

typedef struct ApicMessage {
    uint32_t destination; /* APIC ID, or a logical destination */
    bool is_logical;
    bool is_level;    /* trigger mode; goes into TMR */
    bool is_deassert; /* level-triggered with level 0: only INIT has it, and it does nothing on later CPUs */
    bool is_x2;       /* destination is 32 bits wide with x2APIC meaning; false: 8 bits, 0xff is everyone */
    uint8_t delivery; /* ApicDelivery, as encoded by the guest: 3 is reserved */
    uint8_t vector;
} ApicMessage;

/* A place that takes messages. */
typedef struct ApicSink {
    bool (*deliver)(void *opaque, const ApicMessage *message); /* false: nobody accepted it.  NULL: not connected */
    void *opaque;
} ApicSink;

static inline bool apic_send(ApicSink sink, const ApicMessage *message)
{
    return sink.deliver && sink.deliver(sink.opaque, message);
}

/* apic_message_from_msi: decodes an MSI address (0xfeexxxxx) and data.  The redirection hint with a logical destination
 * means one of several, as lowest priority does. */
static inline ApicMessage apic_message_from_msi(uint64_t address, uint32_t data)
{
    bool is_hinted = (address & 0xc) == 0xc && (data >> 8 & 7) == APIC_FIXED;
    return (ApicMessage){
        .destination = (uint32_t)(address >> 12) & 0xff,
        .is_logical = (address >> 2 & 1) != 0,
        .is_level = (data >> 15 & 1) != 0,
        .is_deassert = (data >> 15 & 1) != 0 && (data >> 14 & 1) == 0,
        .delivery = is_hinted ? APIC_LOWEST_PRIORITY : data >> 8 & 7,
        .vector = data & 0xff,
    };
}

/* apic_message_to_msi: the address and data that a device would write for @message; no answer for x2APIC destinations above 255. */
static inline uint64_t apic_message_to_msi(const ApicMessage *message, uint32_t *out_data)
{
    bool is_lowest = message->delivery == APIC_LOWEST_PRIORITY;
    *out_data = message->vector | (uint32_t)(message->delivery & 7) << 8 | (message->is_level ? 1u << 15 : 0) |
                (message->is_deassert ? 0 : 1u << 14);
    return 0xfee00000u | (message->destination & 0xff) << 12 | (is_lowest ? 8u : 0) | (message->is_logical ? 4u : 0);
}
