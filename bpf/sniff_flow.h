/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* The sniffer's flows: which interface is sniffed, the key that both directions share, and what a packet adds. */
#ifndef SLUICEGATE_SNIFF_FLOW_H
#define SLUICEGATE_SNIFF_FLOW_H

#include "packet.h"
#include "sniff_maps.h"

#define SCTP_HEADER 12

/* The sniffer of an interface, if it has one. */
ALWAYS_INLINE struct tap *tap_of(u32 ifindex)
{
    u32 index = ifindex % TAPS;
    struct tap *tap = taps.lookup(&index);
    if (tap && tap->ifindex != ifindex)
        tap = 0;
    asm volatile("" : "+r"(tap)); /* else the compiler asks for equal numbers again, which proves nothing to the verifier */
    return tap;
}

ALWAYS_INLINE struct sniff_settings *get_sniff_settings(void)
{
    u32 index = 0;
    return sniff_settings.lookup(&index);
}

ALWAYS_INLINE bool is_number_above(const u32 a[4], const u32 b[4])
{
    u64 high_a = (u64)a[0] << 32 | a[1], high_b = (u64)b[0] << 32 | b[1];
    u64 low_a = (u64)a[2] << 32 | a[3], low_b = (u64)b[2] << 32 | b[3];
    return high_a > high_b || (high_a == high_b && low_a > low_b);
}

/* Which end of the key the sender is: 0 or 1. */
ALWAYS_INLINE u32 sniff_sender(const struct packet *p, u32 zero)
{
    bool above = is_number_above(p->source, p->destination) ||
                 (same_address(p->source, p->destination) && p->source_port > p->destination_port);
    return forget(above, zero);
}

ALWAYS_INLINE u32 sniff_tunnel_key(const struct packet *p)
{
    return p->tunnel_kind == TUNNEL_SHARED ? p->tunnel : 0;
}

ALWAYS_INLINE void sniff4_key_of(const struct packet *p, u32 ifindex, u32 sender, struct sniff4_key *key)
{
    *key = (struct sniff4_key){
        .ifindex = ifindex, .tunnel = sniff_tunnel_key(p), .protocol = p->protocol};
    key->address[0] = sender ? p->destination[0] : p->source[0];
    key->address[1] = sender ? p->source[0] : p->destination[0];
    key->port[0] = sender ? p->destination_port : p->source_port;
    key->port[1] = sender ? p->source_port : p->destination_port;
}

ALWAYS_INLINE void sniff6_key_of(const struct packet *p, u32 ifindex, u32 sender, struct sniff6_key *key)
{
    *key = (struct sniff6_key){
        .ifindex = ifindex, .tunnel = sniff_tunnel_key(p), .protocol = p->protocol};
    copy_address(key->low, sender ? p->destination : p->source);
    copy_address(key->high, sender ? p->source : p->destination);
    key->port[0] = sender ? p->destination_port : p->source_port;
    key->port[1] = sender ? p->source_port : p->destination_port;
}

ALWAYS_INLINE struct sniff *sniff_lookup(const struct packet *p, u32 ifindex, u32 sender)
{
#if WITH_IPV4
    if (p->family == FAMILY_IPV4) {
        struct sniff4_key key;
        sniff4_key_of(p, ifindex, sender, &key);
        return sniffs4.lookup(&key);
    }
#endif
#if WITH_IPV6
    struct sniff6_key key;
    sniff6_key_of(p, ifindex, sender, &key);
    return sniffs6.lookup(&key);
#endif
    return 0;
}

/* Put a new flow, in place of one that is over if need be, and find it again; 0 when the table takes none. */
ALWAYS_INLINE struct sniff *sniff_put(const struct packet *p, u32 ifindex, u32 sender, struct sniff *flow)
{
#if WITH_IPV4
    if (p->family == FAMILY_IPV4) {
        struct sniff4_key key;
        sniff4_key_of(p, ifindex, sender, &key);
        sniffs4.update(&key, flow);
        return sniffs4.lookup(&key);
    }
#endif
#if WITH_IPV6
    struct sniff6_key key;
    sniff6_key_of(p, ifindex, sender, &key);
    sniffs6.update(&key, flow);
    return sniffs6.lookup(&key);
#endif
    return 0;
}

/* Is the packet on its way to the side that opened the flow? */
ALWAYS_INLINE u32 sniff_is_reverse(const struct sniff *flow, u32 sender)
{
    return sender ^ (flow->flags & SNIFF_FROM_SECOND ? 1 : 0);
}

/* Is this packet the first of another flow with the same ends? */
ALWAYS_INLINE bool sniff_is_over(const struct sniff *flow, const struct packet *p, const struct sniffer *sniffer, u32 now)
{
    s32 idle = p->protocol == IPPROTO_TCP ? sniffer->tcp_idle : sniffer->other_idle;
    s32 age = now - flow->last_seen; /* below 0: another CPU saw a packet after this one had read the clock */
    bool held = flow->state == SNIFF_DROP && (s32)(flow->until - now) > 0;
    bool closing = flow->flags & (SNIFF_FIN_OPENER | SNIFF_FIN_OTHER | SNIFF_RESET);
    return !held && (age > idle || (closing && is_opening(p)));
}

/* Not atomic: a direction of a flow keeps to one CPU, mostly, and counts are for people. */
ALWAYS_INLINE void sniff_count(struct sniff *flow, const struct packet *p, u32 reverse, u32 octets, u32 now)
{
    u8 flags = 0;
    if (p->tcp_flags & TCP_FIN)
        flags |= reverse ? SNIFF_FIN_OTHER : SNIFF_FIN_OPENER;
    if (p->tcp_flags & TCP_RST)
        flags |= SNIFF_RESET;
    if (flow->last_seen != now)
        flow->last_seen = now;
    if (flags & ~flow->flags)
        flow->flags |= flags;
    if (reverse) {
        flow->packets[1]++;
        flow->octets[1] += octets;
        flow->tcp_flags[1] |= p->tcp_flags;
    } else {
        flow->packets[0]++;
        flow->octets[0] += octets;
        flow->tcp_flags[0] |= p->tcp_flags;
    }
}

/* The engine's word on a flow; 0 when it has said nothing. */
ALWAYS_INLINE u64 *sniff_word(const struct sniff *flow)
{
    u32 slot = (u32)flow->id & (SNIFF_SLOTS - 1);
    u64 *word = sniff_verdicts.lookup(&slot);
    return word && *word >> 32 == flow->id >> 32 ? word : 0;
}

#endif
