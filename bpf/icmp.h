/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * ICMP: pings to a VIP are answered here, and errors about a balanced flow are carried through the translation in both
 * directions. An error is known by the packet that it quotes: one we sent to a client (from the VIP) or one we sent to
 * a backend. Everything else is the stack's.
 */
#ifndef SLUICEGATE_ICMP_H
#define SLUICEGATE_ICMP_H

#include "answer.h"
#include "backend.h"
#include "checksum.h"
#include "classify.h"
#include "filter.h"
#include "flow.h"
#include "hop.h"
#include "network.h"

#define ICMP_HEADER_SIZE 8

/* The quoted packet and what it becomes. */
struct quoted {
    struct network_header header;
    u32 offset;           /* of its IP header */
    u32 transport_offset;
    u16 source_port;
    u16 destination_port;
};

ALWAYS_INLINE int quoted_load(context *ctx, const struct packet *p, struct quoted *q)
{
    u16 ports[2];
    q->offset = (p->transport_offset & MAX_HEADER_OFFSET) + ICMP_HEADER_SIZE;
    int reason = network_load(ctx, q->offset, p->family, &q->header);
    if (reason != GO_ON)
        return reason;
    if ((q->header.protocol != IPPROTO_TCP && q->header.protocol != IPPROTO_UDP) || q->header.is_later_fragment)
        return REASON_NOT_OURS;
    q->transport_offset = q->offset + q->header.length;
    if (ctx_load(ctx, q->transport_offset, ports, sizeof(ports)))
        return REASON_MALFORMED;
    q->source_port = ports[0];
    q->destination_port = ports[1];
    return GO_ON;
}

/*
 * Translate the quoted packet and the outer header, and keep three checksums right: the quoted IP header's, the quoted
 * transport's where the quote reaches that far, and ICMP's own, which covers the quote and in IPv6 the outer addresses.
 */
ALWAYS_INLINE int error_rewrite(context *ctx, const struct packet *p, const struct quoted *q, const u32 quoted_source[4],
                                const u32 quoted_destination[4], u16 quoted_source_port, u16 quoted_destination_port,
                                const u32 source[4], const u32 destination[4])
{
    u64 sum = 0, outer_sum = 0;
    u16 ports[2] = {quoted_source_port, quoted_destination_port};
    u64 port_change = checksum_change(q->source_port, quoted_source_port) +
                      checksum_change(q->destination_port, quoted_destination_port);
    u64 address_change = checksum_change_address(q->header.source, quoted_source, p->family) +
                         checksum_change_address(q->header.destination, quoted_destination, p->family);
    bool tcp = q->header.protocol == IPPROTO_TCP;
    u32 checksum_offset = q->transport_offset + (tcp ? offsetof(struct tcphdr, check) : offsetof(struct udphdr, check));
    u32 network = p->network_offset & MAX_HEADER_OFFSET, transport = p->transport_offset & MAX_HEADER_OFFSET;
    struct network_header outer = {};
    u16 before, checksum;

    if (network_readdress(ctx, q->offset, p->family, &q->header, quoted_source, quoted_destination, false, &sum) !=
            GO_ON ||
        ctx_store(ctx, q->transport_offset, ports, sizeof(ports)))
        return REASON_INTERNAL;
    sum += port_change;
    if (checksum_offset + 2 <= p->network_offset + p->length &&
        !ctx_load(ctx, checksum_offset, &before, sizeof(before)) && (tcp || before)) {
        checksum = checksum_apply(before, address_change + port_change);
        sum += checksum_change(before, checksum);
        if (ctx_store(ctx, checksum_offset, &checksum, sizeof(checksum)))
            return REASON_INTERNAL;
    }
    if (network_load(ctx, network, p->family, &outer) != GO_ON ||
        network_readdress(ctx, network, p->family, &outer, source, destination, true, &outer_sum) != GO_ON)
        return REASON_INTERNAL;
    if (p->family == FAMILY_IPV6)
        sum += outer_sum;
    if (ctx_load(ctx, transport + offsetof(struct icmp_head, checksum), &checksum, sizeof(checksum)))
        return REASON_INTERNAL;
    checksum = checksum_apply(checksum, sum);
    return ctx_store(ctx, transport + offsetof(struct icmp_head, checksum), &checksum, sizeof(checksum))
               ? REASON_INTERNAL
               : GO_ON;
}

/* About a packet that we sent to a client in the VIP's name: the backend that sent it must hear of it. */
ALWAYS_INLINE int error_to_backend(context *ctx, struct packet *p, const struct quoted *q)
{
    struct packet quote = {.family = p->family};
    copy_address(quote.destination, q->header.source);
    u32 frontend_id = vip_lookup(&quote, q->header.protocol, q->source_port);
    struct frontend *frontend = frontends.lookup(&frontend_id);
    if (!frontend_id || !frontend)
        return REASON_NOT_OURS;
    struct client client = {.port = q->destination_port, .frontend = frontend_id, .family = p->family};
    copy_address(client.address, q->header.destination);
    struct flow *flow = flow_lookup(&client);
    if (!flow)
        return REASON_NO_FLOW;
    u32 backend_id = flow->backend;
    struct backend *backend = backends.lookup(&backend_id);
    if (!backend || backend->state == BACKEND_FREE || backend->generation != flow->backend_generation)
        return REASON_BACKEND_GONE;
    u32 nexthop_id = backend->nexthop;
    struct nexthop *nexthop = 0;
    int reason = find_nexthop(ctx, p, &nexthop_id, &nexthop);
    if (reason != GO_ON)
        return reason;

    u8 mode = mode_of(frontend, backend);
    if (mode == MODE_FULL_NAT)
        reason = error_rewrite(ctx, p, q, backend->address, flow->source, backend->port, flow->nat_port, flow->source,
                               backend->address);
    else if (mode == MODE_DNAT)
        reason = error_rewrite(ctx, p, q, backend->address, client.address, backend->port, client.port, p->source,
                               backend->address);
    else
        reason = error_rewrite(ctx, p, q, q->header.source, q->header.destination, q->source_port, q->destination_port,
                               p->source, p->destination);
    if (reason != GO_ON)
        return reason;
    reason = send_to_nexthop(ctx, p, nexthop);
    return reason == GO_ON ? REASON_FORWARDED_ERROR : reason;
}

/* The flow of a packet that we sent to a backend, whichever mode made it. */
struct sent {
    struct frontend *frontend;
    struct hop *hop;
    u32 client[4];
    u16 client_port;
};

ALWAYS_INLINE bool sent_lookup(const struct packet *p, const struct quoted *q, struct sent *sent)
{
#if WITH_FULL_NAT
    struct translation t = {.backend_port = q->destination_port,
                            .source_port = q->source_port,
                            .protocol = q->header.protocol,
                            .family = p->family};
    copy_address(t.backend, q->header.destination);
    copy_address(t.source, q->header.source);
    struct nat *nat = nat_lookup(&t);
    if (nat) {
        u32 frontend_id = nat->frontend;
        sent->frontend = frontends.lookup(&frontend_id);
        sent->hop = &nat->client_hop;
        copy_address(sent->client, nat->client);
        sent->client_port = nat->client_port;
        return sent->frontend;
    }
#endif
#if WITH_DNAT
    struct reverse *reverse =
        reverse_lookup(q->header.destination, q->destination_port, q->header.protocol, p->family);
    if (!reverse)
        return false;
    struct client client = {.port = q->source_port, .family = p->family};
    copy_address(client.address, q->header.source);
    for (int i = 0; i < REVERSE_FRONTENDS; i++) {
        if (i >= reverse->count)
            break;
        u32 frontend_id = reverse->frontends[i];
        client.frontend = frontend_id;
        struct flow *flow = flow_lookup(&client);
        if (!flow || !backend_is_at(flow->backend, flow->backend_generation, q->header.destination, q->destination_port))
            continue;
        sent->frontend = frontends.lookup(&frontend_id);
        sent->hop = &flow->client_hop;
        copy_address(sent->client, client.address);
        sent->client_port = client.port;
        return sent->frontend;
    }
#endif
    return false;
}

/* About a packet that we sent to a backend: the client hears of it as if the VIP's own host had met the error. */
ALWAYS_INLINE int error_to_client(context *ctx, struct packet *p, const struct quoted *q,
                                  const struct settings *settings)
{
    u32 bit = 0;
    struct address_filter *filter = filter_word(q->header.destination, p->family, &bit);
    struct sent sent = {};
    struct client_way way = {};
    if (!filter || !(((filter->nat_backends | filter->dnat_backends) >> bit) & 1) || !sent_lookup(p, q, &sent))
        return REASON_NOT_OURS;
    struct frontend *frontend = sent.frontend;
    struct hop *cache = sent.hop;
    if (!frontend || !frontend->family || !cache)
        return REASON_INTERNAL;
    int reason = find_client(ctx, p, frontend->address, sent.client, settings->hop_generation, cache, &way);
    if (reason != GO_ON)
        return reason;
    /* The backend hides behind the VIP; a router in between may be known. */
    bool from_backend = same_address(p->source, q->header.destination);
    reason = error_rewrite(ctx, p, q, sent.client, frontend->address, sent.client_port, frontend->port,
                           from_backend ? frontend->address : p->source, sent.client);
    if (reason != GO_ON)
        return reason;
    reason = send_to_client(ctx, p, &way);
    return reason == GO_ON ? REASON_FORWARDED_ERROR : reason;
}

ALWAYS_INLINE bool is_error(const struct packet *p, u8 type)
{
    if (p->family == FAMILY_IPV6)
        return type >= ICMPV6_DEST_UNREACH && type <= ICMPV6_PARAMPROB;
    return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETERPROB;
}

ALWAYS_INLINE int handle_icmp(context *ctx, struct packet *p)
{
    u32 frontend = 0;
    struct settings *settings = get_settings();
    struct icmp_head icmp;
    if (!settings)
        return REASON_INTERNAL;
    int reason = classify(ctx, p, settings, &frontend);
    if (reason != GO_ICMP)
        return reason == GO_ON ? REASON_NOT_OURS : reason;
    if (p->fragment == FRAGMENT_LATER || ctx_load(ctx, p->transport_offset & MAX_HEADER_OFFSET, &icmp, sizeof(icmp)))
        return is_for_vip(p) ? REASON_OTHER_PROTOCOL : REASON_NOT_OURS;
    if (is_error(p, icmp.type)) {
        struct quoted q = {};
        reason = quoted_load(ctx, p, &q);
        if (reason != GO_ON)
            return reason;
        if (filter_has_vip(q.header.source, p->family)) {
            reason = error_to_backend(ctx, p, &q);
            if (reason != REASON_NOT_OURS)
                return reason;
        }
        return error_to_client(ctx, p, &q, settings);
    }
    if (!is_for_vip(p))
        return REASON_NOT_OURS;
    if (icmp.type == (p->family == FAMILY_IPV4 ? ICMP_ECHO : ICMPV6_ECHO_REQUEST) && !p->fragment)
        return answer_echo(ctx, p, &icmp);
    return REASON_OTHER_PROTOCOL;
}

/* Body of the cold program for ICMP. An error is never answered by an error (RFC 1122, 3.2.2). */
ALWAYS_INLINE int balance_icmp(context *ctx, struct packet *p)
{
    int reason = handle_icmp(ctx, p);
    return reason == GO_TOO_BIG ? REASON_TOO_BIG : reason;
}

#endif
