/*
 * The vCPUs of one machine that run in this engine, and what they owe each other for guest code that one of them writes and another has
 * translated.  Each has a code cache of its own; the marks on pages with translations are common (softmmu's CodeMap).
 *
 *   - A store to a page with marks takes the slow path; every vCPU whose mark is there is told the range (bt/foreign.h) and drops what it
 *     translated from it before it goes on after its next poll, and in any case before anything that serializes is through.
 *   - The first translation of a page waits until no other vCPU can still have the page writable in its TLB: bt_peers_claim().
 *   - An access that must be atomic and crosses a page runs while all others stand: bt_peers_stop().
 *
 * A vCPU is either in the guest, from bt_peers_enter() to bt_peers_leave(), or outside, where it has no host pointers into guest
 * memory and waits for whatever it likes.  Who is told something while in the guest is kicked and does it on the way out; who is outside
 * does it before going in.  So waiting for one another cannot deadlock, as long as nobody waits for the machine lock inside while its
 * holder waits for a vCPU: those drop it.   Source for what guests rely on: SDM 3A 8.1.3 (cross-modifying code), 8.1.2 (locked operations).
 */
#pragma once

#include "bt/cpu.h"

/* bt_peers_join: @cpu becomes one of the vCPUs over its RAM, with a code map of its own in mmu.code's place.  NULL when there are
 * CODE_MAP_MAX_USERS already.   bt_peers_part: its translations have been dropped; the map
 * is the caller's to free. */
CodeMap *bt_peers_join(BtCpu *cpu);
void bt_peers_part(BtCpu *cpu);

/* bt_peers_enter: false: something waits to be done outside first (cpu->kicked), and the vCPU is still there. */
bool bt_peers_enter(BtCpu *cpu);
void bt_peers_leave(BtCpu *cpu);

/* bt_peers_claim: before the bytes of the page at @gpa are read for translation, outside.  From the return on, all stores to it are told. */
void bt_peers_claim(BtCpu *cpu, Gpa gpa);

/* bt_peers_written: the vCPU has stored [@gpa, @gpa + @size), one page's, where others have marks.  Inside, host's vector state. */
void bt_peers_written(BtCpu *cpu, Gpa gpa, uint64_t size);

/* bt_peers_stop: returns when all others stand outside and will stay there until bt_peers_go().  Both outside. */
void bt_peers_stop(BtCpu *cpu);
void bt_peers_go(BtCpu *cpu);
