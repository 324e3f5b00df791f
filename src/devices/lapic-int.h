/* What the files of the local APIC share: lapic.c (delivery), lapic-registers.c, lapic-timer.c, lapic-bus.c (addressing). */
#pragma once

#include "devices/lapic.h"

/* Register offsets in the xAPIC page; x2APIC MSR = 0x800 + offset / 16. */
enum {
    LAPIC_ID = 0x20,
    LAPIC_VERSION = 0x30,
    LAPIC_TPR = 0x80,
    LAPIC_APR = 0x90,
    LAPIC_PPR = 0xa0,
    LAPIC_EOI = 0xb0,
    LAPIC_RRD = 0xc0,
    LAPIC_LDR = 0xd0,
    LAPIC_DFR = 0xe0,
    LAPIC_SVR = 0xf0,
    LAPIC_ISR = 0x100,
    LAPIC_TMR = 0x180,
    LAPIC_IRR = 0x200,
    LAPIC_ESR = 0x280,
    LAPIC_ICR = 0x300,
    LAPIC_ICR2 = 0x310,
    LAPIC_LVT = 0x320,
    LAPIC_LVT_END = 0x380,
    LAPIC_TMICT = 0x380,
    LAPIC_TMCCT = 0x390,
    LAPIC_TDCR = 0x3e0,
    LAPIC_SELF_IPI = 0x3f0
};

enum { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

#define LVT_MASKED        (1u << 16)
#define LVT_LEVEL         (1u << 15)
#define LVT_DELIVERY(v)   ((v) >> 8 & 7)
#define LVT_TIMER_MODE(v) ((v) >> 17 & 3)

enum { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_TSC_DEADLINE, TIMER_RESERVED };

#define APIC_BASE_BSP    (1u << 8)
#define APIC_BASE_X2     (1u << 10)
#define APIC_BASE_ENABLE (1u << 11)

#define SVR_ENABLE (1u << 8)

#define ESR_SEND_VECTOR    (1u << 5)
#define ESR_RECEIVE_VECTOR (1u << 6)
#define ESR_REGISTER       (1u << 7)

typedef struct LapicState {
    uint64_t apic_base;
    uint32_t tpr, ldr, dfr, svr;
    uint32_t isr[8], tmr[8], irr[8]; /* one bit a vector */
    uint32_t esr, esr_pending;       /* as read; gathered since the last ESR write */
    uint64_t icr;                    /* x2APIC layout: destination in bits 63:32 (xAPIC: 63:56) */
    uint32_t lvt[LVT_COUNT];
    uint32_t divide;        /* TDCR as written */
    uint32_t initial_count; /* TMICT */
    bool timer_running;     /* one-shot and periodic: counting since timer_start_ns */
    int64_t timer_start_ns;
    uint64_t tsc_deadline;  /* 0: not armed */
    bool lint[2];           /* pin levels */
    uint32_t narbitrations; /* lowest-priority messages won */
} LapicState;

struct Lapic {
    LapicWires wires;
    LapicState s;
    Timer *timer;
    bool irq_level;
    uint64_t ntpr; /* accesses to the TPR, by its address or as an MSR */
};

static inline bool lapic_is_enabled(const Lapic *lapic) { return lapic->s.apic_base & APIC_BASE_ENABLE; }
static inline bool lapic_is_x2(const Lapic *lapic)
{
    return (lapic->s.apic_base & (APIC_BASE_ENABLE | APIC_BASE_X2)) == (APIC_BASE_ENABLE | APIC_BASE_X2);
}
static inline bool lapic_is_software_enabled(const Lapic *lapic)
{
    return lapic_is_enabled(lapic) && lapic->s.svr & SVR_ENABLE;
}

/* lapic.c */
void lapic_update(Lapic *lapic); /* drives cpu_irq after anything has changed */
void lapic_report_error(Lapic *lapic, uint32_t esr_bit);
void lapic_end_of_interrupt(Lapic *lapic);
void lapic_send_ipi(Lapic *lapic, uint64_t icr);
void lapic_set_x2_ldr(Lapic *lapic); /* the logical ID that follows from the APIC ID in x2APIC mode */
uint8_t lapic_ppr(const Lapic *lapic);
void lapic_lvt_fire(Lapic *lapic, unsigned entry); /* the entry's source raised an edge */

/* lapic-timer.c */
void lapic_timer_fired(void *opaque);
void lapic_timer_poll(Lapic *lapic); /* handles an expiry that is due */
void lapic_timer_reset(Lapic *lapic);
uint32_t lapic_timer_count(Lapic *lapic);
void lapic_timer_set_initial(Lapic *lapic, uint32_t count);
void lapic_timer_set_divide(Lapic *lapic, uint32_t value);
void lapic_timer_set_lvt(Lapic *lapic, uint32_t value);
void lapic_timer_set_deadline(Lapic *lapic, uint64_t tsc);
void lapic_timer_restore(Lapic *lapic, uint32_t current_count);
void lapic_timer_rearm(Lapic *lapic); /* the clock, the TSC or the state was set from outside, or the bus became remote or ceased to be */

/* lapic-bus.c */
void lapic_bus_add(LapicBus *bus, Lapic *lapic);
void lapic_bus_remove(LapicBus *bus, Lapic *lapic);
bool lapic_bus_is_remote(const LapicBus *bus);
void lapic_bus_eoi(LapicBus *bus, uint8_t vector);
typedef enum LapicGroup { LAPIC_GROUP_ALL, LAPIC_GROUP_OTHERS } LapicGroup;
bool lapic_bus_deliver_group(LapicBus *bus, Lapic *sender, LapicGroup group, const ApicMessage *message);
