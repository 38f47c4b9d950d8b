/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* The least that a balancer with a flow table must do for a packet, in steps: what the real program is compared with. */
#ifndef BENCH_FLOORS_H
#define BENCH_FLOORS_H

#include "feed.h"

#ifndef ENTRIES
#define ENTRIES 131072
#endif

struct tuple4 {
    u32 source;
    u32 destination;
    u16 source_port;
    u16 destination_port;
    u32 protocol;
};

struct tuple6 {
    u32 source[4];
    u32 destination[4];
    u16 source_port;
    u16 destination_port;
    u32 protocol;
};

/* user space -> floors: as many entries as the balancer's own table of flows has by default. */
BPF_TABLE("lru_hash", struct tuple4, u64, known4, ENTRIES);
BPF_TABLE("lru_hash", struct tuple6, u64, known6, ENTRIES);

#define PARSED_NOTHING 0
#define PARSED_IPV4 4
#define PARSED_IPV6 6

/* Both ports lie at the same place in TCP and UDP. */
static __always_inline int parse_ports(void *header, void *end, u32 protocol, u16 *source, u16 *destination)
{
    u32 length = protocol == IPPROTO_TCP ? sizeof(struct tcphdr) : sizeof(struct udphdr);
    struct udphdr *ports = header;
    if (header + length > end || (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP))
        return 0;
    *source = ports->source;
    *destination = ports->dest;
    return 1;
}

static __always_inline int parse(void *data, void *end, struct tuple4 *v4, struct tuple6 *v6)
{
    struct ethhdr *ethernet = data;
    if ((void *)(ethernet + 1) > end)
        return PARSED_NOTHING;
    if (ethernet->h_proto == bpf_htons(ETH_P_IP)) {
        struct iphdr *ip = (void *)(ethernet + 1);
        if ((void *)(ip + 1) > end || ip->ihl != 5)
            return PARSED_NOTHING;
        v4->source = ip->saddr;
        v4->destination = ip->daddr;
        v4->protocol = ip->protocol;
        return parse_ports(ip + 1, end, v4->protocol, &v4->source_port, &v4->destination_port) ? PARSED_IPV4 : 0;
    }
    if (ethernet->h_proto == bpf_htons(ETH_P_IPV6)) {
        struct ipv6hdr *ip = (void *)(ethernet + 1);
        if ((void *)(ip + 1) > end)
            return PARSED_NOTHING;
        __builtin_memcpy(v6->source, &ip->saddr, sizeof(v6->source));
        __builtin_memcpy(v6->destination, &ip->daddr, sizeof(v6->destination));
        v6->protocol = ip->nexthdr;
        return parse_ports(ip + 1, end, v6->protocol, &v6->source_port, &v6->destination_port) ? PARSED_IPV6 : 0;
    }
    return PARSED_NOTHING;
}

/* Something that needs every field, so that the compiler reads them. */
static __always_inline int parse_only(void *data, void *end, int yes, int no)
{
    struct tuple4 v4 = {};
    struct tuple6 v6 = {};
    switch (parse(data, end, &v4, &v6)) {
    case PARSED_IPV4:
        return (v4.source ^ v4.destination ^ v4.source_port ^ v4.destination_port ^ v4.protocol) ? yes : no;
    case PARSED_IPV6:
        return (v6.source[0] ^ v6.source[1] ^ v6.source[2] ^ v6.source[3] ^ v6.destination[0] ^ v6.destination[1] ^
                v6.destination[2] ^ v6.destination[3] ^ v6.source_port ^ v6.destination_port ^ v6.protocol)
                   ? yes
                   : no;
    }
    return no;
}

static __always_inline int parse_and_look_up(void *data, void *end, int yes, int no)
{
    struct tuple4 v4 = {};
    struct tuple6 v6 = {};
    u64 *value = 0;
    switch (parse(data, end, &v4, &v6)) {
    case PARSED_IPV4:
        value = known4.lookup(&v4);
        break;
    case PARSED_IPV6:
        value = known6.lookup(&v6);
        break;
    }
    return value && *value ? yes : no;
}

#endif
