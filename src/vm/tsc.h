/* The frequency of the host's time-stamp counter. */
#pragma once

#include <stdint.h>

/* tsc_begin: a first look at the clocks, early in the program: the longer ago, the better tsc_hz_measure() is, and the less it has to wait. */
void tsc_begin(void);

/* tsc_hz_measure: in Hz.  What the host's kernel says, where the clocks agree; else as they ran since tsc_begin(), 5 ms at least, busy.  Main thread. */
uint64_t tsc_hz_measure(void);
