/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* The sniffer's maps; as in maps.h. */
#ifndef SLUICEGATE_SNIFF_MAPS_H
#define SLUICEGATE_SNIFF_MAPS_H

#include "sniff_types.h"

#ifndef SNIFFS
#define SNIFFS 65536         /* flows per family that are remembered; about 180 bytes each */
#endif
#ifndef SNIFF_SLOTS
#define SNIFF_SLOTS 131072   /* verdict words; a power of two */
#endif
#ifndef SNIFF_PREFIXES
#define SNIFF_PREFIXES 65536 /* of all sniffers' rules, in two versions while they change */
#endif

/* agent -> programs. Index: low bits of the interface's index. */
BPF_TABLE("array", u32, struct tap, taps, TAPS);

/* agent -> programs. Index 0. */
BPF_TABLE("array", u32, struct sniff_settings, sniff_settings, 1);

/* agent -> programs. Number of a sniffer. */
BPF_TABLE("array", u32, struct sniffer, sniffers, SNIFFERS);

/* agent -> programs. Sets of rules; 0 is the empty one. */
BPF_TABLE("array", u32, struct sniff_set, sniff_sets, SNIFF_SETS);

/* agent -> programs. Table, side and prefix -> set of the rules that take it. */
BPF_F_TABLE("lpm_trie", struct sniff_net4_key, u32, sniff_nets4, SNIFF_PREFIXES, BPF_F_NO_PREALLOC);
BPF_F_TABLE("lpm_trie", struct sniff_net6_key, u32, sniff_nets6, SNIFF_PREFIXES, BPF_F_NO_PREALLOC);
BPF_F_TABLE("lpm_trie", struct sniff_port_key, u32, sniff_ports, SNIFF_PREFIXES, BPF_F_NO_PREALLOC);

/* programs write, the agent's sweep removes what ended. A flow on an interface, both directions. */
BPF_TABLE("lru_hash", struct sniff4_key, struct sniff, sniffs4, SNIFFS);
BPF_TABLE("lru_hash", struct sniff6_key, struct sniff, sniffs6, SNIFFS);

/* workers -> programs. Slot -> generation << 32 | seconds << 8 | action; one of another generation says nothing. */
BPF_F_TABLE("array", u32, u64, sniff_verdicts, SNIFF_SLOTS, BPF_F_MMAPABLE);

/* programs only. How many flows this CPU has opened. Index 0. */
BPF_TABLE("percpu_array", u32, u64, sniff_slots, 1);

/* programs -> workers. Worker -> its ring. */
BPF_RINGBUF_OUTPUT(ring_template, 1); /* pages; the agent makes the real ones of its own size */
BPF_ARRAY_OF_MAPS(sniff_rings, "ring_template", SNIFF_WORKERS);

/* programs -> agent. Number of a sniffer; worker; sniffer * SNIFF_RULES + rule: flows. */
BPF_TABLE("percpu_array", u32, struct sniff_counter, sniff_counters, SNIFFERS);
BPF_TABLE("percpu_array", u32, struct sniff_loss, sniff_lost, SNIFF_WORKERS);
BPF_TABLE("array", u32, u64, sniff_rule_flows, SNIFFERS * SNIFF_RULES);

#endif
