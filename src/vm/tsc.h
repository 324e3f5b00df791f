/* The frequency of the host's time-stamp counter. */
#pragma once

#include <stdint.h>

/* tsc_hz_measure: in Hz.  What the host's kernel says, where a short look agrees; else measured for some milliseconds, busy.  Any thread. */
uint64_t tsc_hz_measure(void);
