/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * The last step of a rewritten packet. Towards backends the next hop stands in a table that the agent keeps; towards
 * clients, who may be anywhere, the routing table is asked once per flow and the answer is kept with the flow.
 * XDP decides *before* it rewrites: what it cannot send itself goes to the tc program untouched.
 */
#ifndef SLUICEGATE_HOP_H
#define SLUICEGATE_HOP_H

#include "maps.h"
#include "packet.h"

ALWAYS_INLINE int report_mtu(u32 mtu)
{
    struct scratch *scratch = ctx_scratch();
    if (!scratch)
        return REASON_INTERNAL;
    scratch->mtu = mtu;
    return GO_TOO_BIG;
}

/* Can this hook send to the hop? Otherwise the reason. */
ALWAYS_INLINE int hop_check(context *ctx, const struct packet *p, const struct hop *hop)
{
    if (!hop->ifindex)
        return REASON_NO_ROUTE;
    if (hop->flags & HOP_LOCAL)
        return ON_XDP ? REASON_LOCAL : GO_ON;
    if (p->hop_limit <= 1)
        return REASON_TTL_EXCEEDED;
    if (ctx_packet_size(ctx, p) > hop->mtu)
        return report_mtu(hop->mtu);
#if ON_XDP
    if (!(hop->flags & HOP_RESOLVED))
        return REASON_NEIGHBOUR_UNRESOLVED;
    if (!(hop->flags & HOP_XDP))
        return REASON_NO_REDIRECT;
#if WITH_PARTIAL_CHECKSUMS
    if (!p->fragment && checksum_is_partial(p)) /* checksums of fragmented datagrams are always finished */
        return REASON_PARTIAL_CHECKSUM;
#endif
#endif
    return GO_ON;
}

/* Is there a next hop of this id, and can this hook send to it? The id is the caller's variable: one of its own here
 * makes the verifier follow a quarter more in the programs that open flows. */
ALWAYS_INLINE int find_nexthop(context *ctx, const struct packet *p, u32 *id, struct nexthop **nexthop)
{
    *nexthop = nexthops.lookup(id);
    return *nexthop ? hop_check(ctx, p, &(*nexthop)->hop) : REASON_INTERNAL;
}

ALWAYS_INLINE int send_to_nexthop(context *ctx, struct packet *p, const struct nexthop *nexthop)
{
#if ON_XDP
    return ctx_send(ctx, p, &nexthop->hop);
#else
    if (nexthop->hop.flags & HOP_LOCAL)
        return ctx_leave_to_stack(p);
    /* By address even when the MAC is known: so the kernel keeps the neighbour entry alive. */
    return ctx_send_to_neighbour(ctx, p, nexthop->hop.ifindex, nexthop->gateway, nexthop->family);
#endif
}

/* The way back to a client, as far as one lookup tells. */
struct client_way {
    struct hop hop;
    u32 gateway[4];
    u32 family;
    bool is_known_to_stack; /* the packet is on its way out already */
};

/* The way back to the sender of a packet on its way out: into the interface, where the stack takes it. */
ALWAYS_INLINE int local_hop(context *ctx, struct hop *hop)
{
    u8 macs[2 * ETH_ALEN];
    if (ctx_load(ctx, 0, macs, sizeof(macs)))
        return REASON_INTERNAL;
    *hop = (struct hop){.ifindex = ctx_ifindex(ctx), .mtu = 0xffff, .flags = HOP_RESOLVED | HOP_LOCAL};
    __builtin_memcpy(hop->destination_mac, macs + ETH_ALEN, ETH_ALEN);
    __builtin_memcpy(hop->source_mac, macs, ETH_ALEN);
    return GO_ON;
}

/*
 * Ask the routing table how to reach the client and note it in `cache` when the neighbour is known. The VIP stands as
 * source, so policy routing sees the packet as it will leave.
 */
ALWAYS_INLINE int resolve_client(context *ctx, const struct packet *p, const u32 vip[4], const u32 client[4],
                                 u32 generation, struct hop *cache, struct client_way *way)
{
    struct bpf_fib_lookup lookup = {.ifindex = ctx_ifindex(ctx), .l4_protocol = p->protocol};
    if (p->family == FAMILY_IPV4) {
        lookup.family = 2; /* AF_INET */
        lookup.ipv4_src = vip[0];
        lookup.ipv4_dst = client[0];
    } else {
        lookup.family = 10; /* AF_INET6 */
        __builtin_memcpy(lookup.ipv6_src, vip, sizeof(lookup.ipv6_src));
        __builtin_memcpy(lookup.ipv6_dst, client, sizeof(lookup.ipv6_dst));
    }
    int result = bpf_fib_lookup(ctx, &lookup, sizeof(lookup), 0);
    if (result == BPF_FIB_LKUP_RET_FWD_DISABLED)
        return REASON_FORWARDING_OFF;
    if (result == BPF_FIB_LKUP_RET_FRAG_NEEDED)
        return report_mtu(lookup.mtu_result); /* at tc the helper compares the packet with the device's MTU itself */
    if (result != BPF_FIB_LKUP_RET_SUCCESS && result != BPF_FIB_LKUP_RET_NO_NEIGH)
        return REASON_NO_ROUTE;
    u32 ifindex = lookup.ifindex;
    struct interface *interface = interfaces.lookup(&ifindex);

    way->hop.ifindex = ifindex;
    way->hop.mtu = interface ? interface->mtu : 1280; /* a device we have not been told of yet: the IPv6 minimum */
    way->hop.generation = generation;
    way->hop.flags = 0;
    way->family = lookup.family == 2 ? FAMILY_IPV4 : FAMILY_IPV6;
    __builtin_memcpy(way->gateway, lookup.ipv6_dst, sizeof(way->gateway));
    if (result == BPF_FIB_LKUP_RET_NO_NEIGH)
        return GO_ON;
    way->hop.flags = HOP_RESOLVED;
    if (interface && (interface->flags & INTERFACE_TAKES_REDIRECT))
        way->hop.flags |= HOP_XDP;
    __builtin_memcpy(way->hop.destination_mac, lookup.dmac, ETH_ALEN);
    __builtin_memcpy(way->hop.source_mac, lookup.smac, ETH_ALEN);
    *cache = way->hop;
    return GO_ON;
}

/* Is there a way to the client that this hook can use? Fills `way` from the flow's cache or the routing table. */
ALWAYS_INLINE int find_client(context *ctx, const struct packet *p, const u32 vip[4], const u32 client[4],
                              u32 generation, struct hop *cache, struct client_way *way)
{
    if (ctx_at_egress(ctx)) {
        way->is_known_to_stack = true;
        return GO_ON;
    }
    if ((cache->generation == (u16)generation && cache->ifindex) || (cache->flags & HOP_LOCAL)) {
        way->hop = *cache;
    } else {
        int reason = resolve_client(ctx, p, vip, client, generation, cache, way);
        if (reason != GO_ON)
            return reason;
    }
    return hop_check(ctx, p, &way->hop);
}

ALWAYS_INLINE int send_to_client(context *ctx, struct packet *p, const struct client_way *way)
{
#if !ON_XDP
    if (way->is_known_to_stack)
        return ctx_leave_to_stack(p);
    if (!(way->hop.flags & HOP_RESOLVED))
        return ctx_send_to_neighbour(ctx, p, way->hop.ifindex, way->gateway, way->family);
#endif
    return ctx_send(ctx, p, &way->hop);
}

#endif
