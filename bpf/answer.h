/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* What we answer ourselves, in the name of the address that a packet was for: it goes back the way that it came. */
#ifndef SLUICEGATE_ANSWER_H
#define SLUICEGATE_ANSWER_H

#include "checksum.h"
#include "maps.h"
#include "network.h"
#include "packet.h"

#include <uapi/linux/icmp.h>
#include <uapi/linux/icmpv6.h>

#define HOP_LIMIT_OF_OURS 64

struct icmp_head {
    u8 type;
    u8 code;
    u16 checksum;
};

/* A sender by the way the packet came: its MAC addresses turned round, out of the same interface. */
ALWAYS_INLINE int send_back(context *ctx, struct packet *p)
{
    u8 macs[2 * ETH_ALEN], turned[2 * ETH_ALEN];
    if (ctx_load(ctx, 0, macs, sizeof(macs)))
        return REASON_INTERNAL;
    __builtin_memcpy(turned, macs + ETH_ALEN, ETH_ALEN);
    __builtin_memcpy(turned + ETH_ALEN, macs, ETH_ALEN);
    if (ctx_store(ctx, 0, turned, sizeof(turned)))
        return REASON_INTERNAL;
    p->action = ctx_bounce(ctx);
    p->out = ctx_at_egress(ctx) ? 0 : ctx_ifindex(ctx);
    return GO_ON;
}

/* Can this hook send a frame back out of the interface that it came in on? */
ALWAYS_INLINE int can_send_back(context *ctx)
{
#if ON_XDP
    u32 ifindex = ctx_ifindex(ctx);
    struct interface *interface = interfaces.lookup(&ifindex);
    if (!interface || !(interface->flags & INTERFACE_TAKES_REDIRECT))
        return REASON_NO_REDIRECT;
#endif
    return GO_ON;
}

ALWAYS_INLINE int answer_echo(context *ctx, struct packet *p, struct icmp_head *icmp)
{
    struct network_header header = {};
    u64 sum = 0;
    u8 type = p->family == FAMILY_IPV4 ? ICMP_ECHOREPLY : ICMPV6_ECHO_REPLY;
    int reason = can_send_back(ctx);
    if (reason != GO_ON)
        return reason;
    u32 network = p->network_offset & MAX_HEADER_OFFSET, transport = p->transport_offset & MAX_HEADER_OFFSET;
    /* Type and code share a word of the sum; the addresses only change places, which no sum notices. */
    icmp->checksum = checksum_apply(icmp->checksum, checksum_change(icmp->type, type));
    icmp->type = type;
    if (network_load(ctx, network, p->family, &header) != GO_ON)
        return REASON_INTERNAL;
    u8 hop_limit = header.hop_limit;
    header.hop_limit = HOP_LIMIT_OF_OURS + 1;
    if (p->family == FAMILY_IPV4)
        header.checksum = checksum_apply(header.checksum, checksum_change(hop_limit, HOP_LIMIT_OF_OURS + 1));
    if (ctx_store(ctx, transport, icmp, sizeof(*icmp)) ||
        network_readdress(ctx, network, p->family, &header, p->destination, p->source, true, &sum) != GO_ON)
        return REASON_INTERNAL;
    reason = send_back(ctx, p);
    return reason == GO_ON ? REASON_ANSWERED_ECHO : reason;
}

#endif
