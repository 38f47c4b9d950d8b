/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * Which rule takes a new flow. Each of its fields names a set of rules by one lookup; the lowest bit that all five sets
 * share is the first rule that matches. So a thousand rules cost what one does (bit vectors: Lakshman and Stiliadis,
 * SIGCOMM 1998).
 */
#ifndef SLUICEGATE_SNIFF_RULES_H
#define SLUICEGATE_SNIFF_RULES_H

#include "sniff_flow.h"

#define SNIFF_KEY_BITS 64 /* table and side */

ALWAYS_INLINE struct sniff_set *sniff_set(u32 *index)
{
    u32 none = 0;
    return sniff_sets.lookup(index ? index : &none);
}

ALWAYS_INLINE u32 *sniff_net(const struct packet *p, u32 table, u32 side, const u32 address[4])
{
#if WITH_IPV4
    if (p->family == FAMILY_IPV4) {
        struct sniff_net4_key key = {
            .prefix_length = SNIFF_KEY_BITS + 32, .table = table, .side = side, .address = address[0]};
        return sniff_nets4.lookup(&key);
    }
#endif
#if WITH_IPV6
    struct sniff_net6_key key = {.prefix_length = SNIFF_KEY_BITS + 128, .table = table, .side = side};
    copy_address(key.address, address);
    return sniff_nets6.lookup(&key);
#endif
    return 0;
}

ALWAYS_INLINE u32 *sniff_port(u32 table, u32 side, u16 port)
{
    struct sniff_port_key key = {.prefix_length = SNIFF_KEY_BITS + 16, .table = table, .side = side, .port = port};
    return sniff_ports.lookup(&key);
}

ALWAYS_INLINE u32 sniff_protocol_of(u8 protocol)
{
    switch (protocol) {
    case IPPROTO_TCP:
        return SNIFF_TCP;
    case IPPROTO_UDP:
        return SNIFF_UDP;
    case IPPROTO_SCTP:
        return SNIFF_SCTP;
    case IPPROTO_ICMP:
        return SNIFF_ICMP;
    case IPPROTO_ICMPV6:
        return SNIFF_ICMPV6;
    }
    return SNIFF_OTHER;
}

/* Number of the lowest bit; the word has one. */
ALWAYS_INLINE u32 lowest_bit(u64 word)
{
    u32 number = 0;
    for (u32 width = 32; width; width /= 2) {
        if (!(word & ((1ULL << width) - 1))) {
            word >>= width;
            number += width;
        }
    }
    return number;
}

/* The rule that takes a flow from `source` to `destination`; SNIFF_RULE_NONE when none does. */
ALWAYS_INLINE u32 sniff_match(const struct packet *p, const struct sniffer *sniffer, bool turned, bool *ignored)
{
    u32 table = sniffer->table;
    u32 protocol = sniffer->protocols[sniff_protocol_of(p->protocol)];
    u32 excluding = sniffer->ignored;
    struct sniff_set *by_source = sniff_set(sniff_net(p, table, SNIFF_SOURCE, turned ? p->destination : p->source));
    struct sniff_set *by_destination =
        sniff_set(sniff_net(p, table, SNIFF_DESTINATION, turned ? p->source : p->destination));
    struct sniff_set *by_source_port =
        sniff_set(sniff_port(table, SNIFF_SOURCE, turned ? p->destination_port : p->source_port));
    struct sniff_set *by_destination_port =
        sniff_set(sniff_port(table, SNIFF_DESTINATION, turned ? p->source_port : p->destination_port));
    struct sniff_set *by_protocol = sniff_set(&protocol);
    struct sniff_set *exclude = sniff_set(&excluding);
    if (!by_source || !by_destination || !by_source_port || !by_destination_port || !by_protocol || !exclude)
        return SNIFF_RULE_NONE;
    for (u32 i = 0; i < SNIFF_SET_WORDS; i++) {
        u64 word = by_source->words[i] & by_destination->words[i] & by_source_port->words[i] &
                   by_destination_port->words[i] & by_protocol->words[i];
        if (word) {
            u32 bit = lowest_bit(word);
            *ignored = (exclude->words[i] >> bit) & 1;
            return i * 64 + bit;
        }
    }
    return SNIFF_RULE_NONE;
}

#endif
