/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* What a packet is to us: read, and told from the many that are nothing to us. */
#ifndef SLUICEGATE_CLASSIFY_H
#define SLUICEGATE_CLASSIFY_H

#include "filter.h"
#include "maps.h"
#include "parse.h"

ALWAYS_INLINE u32 vip_lookup(const struct packet *p, u8 protocol, u16 port)
{
    u32 *id = 0;
#if WITH_IPV4
    if (p->family == FAMILY_IPV4) {
        struct endpoint4 key = {
            .address = p->destination[0], .port = port, .protocol = protocol};
        id = vips4.lookup(&key);
        return id ? *id : 0;
    }
#endif
#if WITH_IPV6
    struct endpoint6 key = {.port = port, .protocol = protocol};
    copy_address(key.address, p->destination);
    id = vips6.lookup(&key);
#endif
    return id ? *id : 0;
}

/* Is the packet's destination a VIP, whatever its ports? The agent enters each under ICMP. */
ALWAYS_INLINE bool is_for_vip(const struct packet *p)
{
    return vip_lookup(p, p->family == FAMILY_IPV4 ? IPPROTO_ICMP : IPPROTO_ICMPV6, 0);
}

ALWAYS_INLINE int read_packet(context *ctx, struct packet *p, u32 zero)
{
    return parse_network(ctx, (void *)(long)ctx->data, (void *)(long)ctx->data_end, zero, p);
}

/* What the balancer makes of a packet that was read. Leaves the frontend of a VIP in `frontend`, else 0. */
ALWAYS_INLINE int classify_hot(context *ctx, struct packet *p, u32 *frontend)
{
    void *data = (void *)(long)ctx->data;
    void *end = (void *)(long)ctx->data_end;
    if (!ctx_is_for_us(ctx) || (WITH_SNIFF && !is_unicast(data, end)))
        return REASON_OTHER_HOST;
    /* Any router may report an error about a balanced flow: the addresses that count are in the packet it quotes. */
    if (is_icmp(p))
        return GO_ICMP;
    if (!filter_has_vip(p->destination, p->family))
        return GO_ON;
    if (p->fragment == FRAGMENT_LATER)
        return GO_FRAGMENT;
    int reason = parse_transport(data, end, p);
    if (reason != GO_ON)
        return reason;
    *frontend = vip_lookup(p, p->protocol, p->destination_port);
    return *frontend ? GO_ON : REASON_OTHER_PORT;
}

/* What cold programs do first: they have more ways behind them than the verifier could follow one by one. */
ALWAYS_INLINE int classify(context *ctx, struct packet *p, const struct settings *settings, u32 *frontend)
{
    int reason = read_packet(ctx, p, settings->zero);
    if (reason == GO_ON)
        reason = classify_hot(ctx, p, frontend);
    forget_packet(p, settings->zero);
    return reason;
}

#endif
