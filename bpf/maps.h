/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * All maps. Sizes come from the agent's settings (-DFLOWS=... and so on); "agent" below is the reconciler, "programs"
 * are XDP and tc on every interface. The loader pins each map under a digest of its layout.
 */
#ifndef SLUICEGATE_MAPS_H
#define SLUICEGATE_MAPS_H

#include "reasons.h"
#include "sniff_maps.h"
#include "types.h"

#ifndef FLOWS
#define FLOWS 131072     /* flows per family that are remembered; about 180 bytes each */
#endif
#ifndef NATS
#define NATS 131072      /* FullNAT flows per family; allocated as used, about 180 bytes each */
#endif
#ifndef SERVICES
#define SERVICES 1024    /* ports of LoadBalancers, per family */
#endif
#ifndef FRONTENDS
#define FRONTENDS 4096   /* VIP x port */
#endif
#ifndef BACKENDS
#define BACKENDS 16384   /* backend x port of a LoadBalancer */
#endif
#ifndef NEXTHOPS
#define NEXTHOPS 4096    /* neighbours on the way to backends */
#endif
#ifndef INTERFACES
#define INTERFACES 1024
#endif
#ifndef SOURCES
#define SOURCES 16384    /* allowed client prefixes of all services */
#endif
#ifndef AFFINITIES
#define AFFINITIES 65536 /* clients that stick to a backend, per family */
#endif
#ifndef FRAGMENTS
#define FRAGMENTS 8192   /* fragmented datagrams under way, per family */
#endif
#define TABLE_SLOTS 4093 /* of the inner map template only; real tables carry their own length */

/* agent -> programs. Index 0. */
BPF_TABLE("array", u32, struct settings, settings, 1);

/* agent -> programs. Index: address_hash() / 64. */
BPF_TABLE("array", u32, struct address_filter, address_filter, ADDRESS_FILTER_WORDS);

/* agent -> programs. VIP, protocol, port -> frontend id. ICMP and ICMPv6 with port 0 stand for the address itself. */
BPF_TABLE("hash", struct endpoint4, u32, vips4, FRONTENDS);
BPF_TABLE("hash", struct endpoint6, u32, vips6, FRONTENDS);

/* agent -> programs. Frontend id. */
BPF_TABLE("array", u32, struct frontend, frontends, FRONTENDS);

/* agent -> programs. Service id -> its selection table: slot -> backend id. A table is built aside and swapped in whole. */
BPF_F_TABLE("array", u32, u32, slots_template, TABLE_SLOTS, BPF_F_INNER_MAP);
BPF_ARRAY_OF_MAPS(tables, "slots_template", SERVICES);

/* programs only. Service id -> round robin position. */
BPF_TABLE("array", u32, struct cursor, cursors, SERVICES);

/* agent -> programs. Backend id. */
BPF_TABLE("array", u32, struct backend, backends, BACKENDS);

/* agent -> programs. Next hop id. An entry is never edited in place: a change gets a new id. */
BPF_TABLE("array", u32, struct nexthop, nexthops, NEXTHOPS);

/* agent -> programs. Interface index. */
BPF_TABLE("hash", u32, struct interface, interfaces, INTERFACES);

/* agent -> programs. DNAT backend's address, protocol, port -> frontends that it may answer for. */
BPF_TABLE("hash", struct endpoint4, struct reverse, reverse4, BACKENDS);
BPF_TABLE("hash", struct endpoint6, struct reverse, reverse6, BACKENDS);

/* programs write, the agent's sweep reads. A client's flow by client and frontend. In FullNAT only a cache of `nat`. */
BPF_TABLE("lru_hash", struct flow4_key, struct flow, flows4, FLOWS);
BPF_TABLE("lru_hash", struct flow6_key, struct flow, flows6, FLOWS);

/* programs write, the agent's sweep removes what expired. Owner of a FullNAT port by the reply's own header. Never LRU:
 * an evicted entry would give its port to another client while the backend still holds the connection. */
BPF_F_TABLE("hash", struct nat4_key, struct nat, nat4, NATS, BPF_F_NO_PREALLOC);
BPF_F_TABLE("hash", struct nat6_key, struct nat, nat6, NATS, BPF_F_NO_PREALLOC);

/* agent -> programs. Corrections of a backend's count of flows, which misses evicted and forgotten ones. Backend id. */
BPF_TABLE("array", u32, s64, backend_fix, BACKENDS);

/* agent -> programs. Service and client prefix that may open flows; the value says nothing. */
BPF_F_TABLE("lpm_trie", struct source4_key, u32, sources4, SOURCES, BPF_F_NO_PREALLOC);
BPF_F_TABLE("lpm_trie", struct source6_key, u32, sources6, SOURCES, BPF_F_NO_PREALLOC);

/* programs only. Client and service -> the backend it sticks to. */
BPF_TABLE("lru_hash", struct affinity4_key, struct affinity, affinity4, AFFINITIES);
BPF_TABLE("lru_hash", struct affinity6_key, struct affinity, affinity6, AFFINITIES);

/* programs only. Service id. */
BPF_TABLE("array", u32, struct admission, admissions, SERVICES);

/* programs only. Last identification given out, by a hash of the destination: unique there within 65,536 datagrams. */
BPF_TABLE("array", u32, u64, identifications, IDENTIFICATIONS);

/* programs only. Datagrams in fragments: from the first one's header to where the others go. */
BPF_TABLE("lru_hash", struct fragment4_key, struct fragment, fragments4, FRAGMENTS);
BPF_TABLE("lru_hash", struct fragment6_key, struct fragment, fragments6, FRAGMENTS);

/* programs -> agent. Index: hook * REASON_STRIDE + reason. */
BPF_TABLE("percpu_array", u32, struct verdict_counter, verdicts, HOOK_COUNT * REASON_STRIDE);

/* programs -> agent. Frontend id; backend id. */
BPF_TABLE("percpu_array", u32, struct traffic, frontend_traffic, FRONTENDS);
BPF_TABLE("percpu_array", u32, struct traffic, backend_traffic, BACKENDS);

/* programs -> agent and programs. Backend id. */
BPF_TABLE("array", u32, struct backend_load, backend_load, BACKENDS);

/* programs -> agent. Backend id. */
BPF_TABLE("array", u32, struct backend_latency, backend_latency, BACKENDS);

#endif
