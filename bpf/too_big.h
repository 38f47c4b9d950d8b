/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * Packets above the next hop's MTU: the sender is told (RFC 1191, RFC 4443), in the name of the address it wrote to.
 * IPv4 packets that may be fragmented are answered too: neither hook can fragment, and most senders then do.
 */
#ifndef SLUICEGATE_TOO_BIG_H
#define SLUICEGATE_TOO_BIG_H

#include "answer.h"
#include "checksum.h"
#include "classify.h"
#include "flow.h"

#define MAX_LINK_HEADER 32
#define QUOTED_TRANSPORT 20  /* bytes: ports, sequence number and the rest of a TCP header */
#define MAX_QUOTE_WORDS ((MAX_HEADER_OFFSET + QUOTED_TRANSPORT) / 4)

struct too_big4 {
    struct iphdr ip;
    struct icmp_head icmp;
    u16 unused;
    u16 mtu;
};

struct too_big6 {
    struct ipv6hdr ip;
    struct icmp_head icmp;
    u32 mtu;
};

/* Of any structure: copied word by word, as the compiler may not see a store to a member as one to a word. */
ALWAYS_INLINE u64 sum_words(const void *bytes, u32 count)
{
    u64 sum = 0;
#pragma unroll
    for (u32 i = 0; i < count; i++) {
        u32 word;
        __builtin_memcpy(&word, bytes + i * sizeof(word), sizeof(word));
        sum += word;
    }
    return sum;
}

/* Sum over the first `length` bytes of the IP packet, which are to be quoted. */
ALWAYS_INLINE int sum_quote(context *ctx, u32 offset, u32 length, u64 *sum)
{
    for (u32 i = 0; i < MAX_QUOTE_WORDS; i++) {
        u32 word;
        if (i * 4 >= length)
            break;
        if (ctx_load(ctx, offset + i * 4, &word, sizeof(word)))
            return REASON_TOO_BIG;
        *sum += word;
    }
    return GO_ON;
}

/* Cut the frame behind the quote, make room for new headers, and turn the link header round, tags and all. */
ALWAYS_INLINE int reshape(context *ctx, u32 link_length, u32 quote, u32 room)
{
    u8 link[MAX_LINK_HEADER], macs[2 * ETH_ALEN];
    u32 length = link_length & (MAX_LINK_HEADER - 1);
    if (length < sizeof(struct ethhdr) || ctx_load(ctx, 0, link, sizeof(link)))
        return REASON_TOO_BIG;
    if (ctx_cut(ctx, link_length + quote) || ctx_extend(ctx, room))
        return REASON_TOO_BIG;
    __builtin_memcpy(macs, link, sizeof(macs));
    __builtin_memcpy(link, macs + ETH_ALEN, ETH_ALEN);
    __builtin_memcpy(link + ETH_ALEN, macs, ETH_ALEN);
    return ctx_store(ctx, 0, link, length) ? REASON_TOO_BIG : GO_ON;
}

/* Body of the cold program for packets that are too big. */
ALWAYS_INLINE int report_too_big(context *ctx, struct packet *p)
{
    u32 frontend = 0;
    u64 sum = 0;
    struct settings *settings = get_settings();
    struct scratch *scratch = ctx_scratch();
    if (!settings || !scratch)
        return REASON_INTERNAL;
    u32 mtu = scratch->mtu;
    int reason = classify(ctx, p, settings, &frontend);
    if (reason >= 0 && reason != REASON_OTHER_PORT)
        return reason;
    reason = can_send_back(ctx);
    if (reason != GO_ON)
        return reason;
#if !ON_XDP
    /* The kernel would finish the checksum in the quote, after we have summed it up. */
    if (!p->fragment && parse_transport((void *)(long)ctx->data, (void *)(long)ctx->data_end, p) == GO_ON &&
        checksum_is_partial(p))
        return REASON_TOO_BIG;
#endif
    u32 network = p->network_offset & MAX_HEADER_OFFSET;
    u32 header = p->fragment == FRAGMENT_LATER ? sizeof(struct ipv6hdr) : (p->transport_offset - p->network_offset);
    u32 quote = (header & MAX_HEADER_OFFSET & ~3) + QUOTED_TRANSPORT;
    if (sum_quote(ctx, network, quote, &sum) != GO_ON)
        return REASON_TOO_BIG;

    if (p->family == FAMILY_IPV4) {
        struct too_big4 report = {
            .ip = {.version = 4,
                   .ihl = 5,
                   .tot_len = bpf_htons(sizeof(report) + quote),
                   .ttl = HOP_LIMIT_OF_OURS,
                   .protocol = IPPROTO_ICMP,
                   .saddr = p->destination[0],
                   .daddr = p->source[0]},
            .icmp = {.type = ICMP_DEST_UNREACH, .code = ICMP_FRAG_NEEDED},
            .mtu = bpf_htons((u16)mtu),
        };
        report.ip.check = ~checksum_fold(sum_words(&report.ip, sizeof(report.ip) / 4));
        report.icmp.checksum = ~checksum_fold(sum + sum_words(&report.icmp, 2));
        if (reshape(ctx, network, quote, sizeof(report)) != GO_ON ||
            ctx_store(ctx, network, &report, sizeof(report)))
            return REASON_TOO_BIG;
    } else {
        struct too_big6 report = {
            .ip = {.version = 6,
                   .payload_len = bpf_htons(sizeof(report) - sizeof(report.ip) + quote),
                   .nexthdr = IPPROTO_ICMPV6,
                   .hop_limit = HOP_LIMIT_OF_OURS},
            .icmp = {.type = ICMPV6_PKT_TOOBIG},
            .mtu = bpf_htonl(mtu),
        };
        __builtin_memcpy(&report.ip.saddr, p->destination, sizeof(report.ip.saddr));
        __builtin_memcpy(&report.ip.daddr, p->source, sizeof(report.ip.daddr));
        sum += sum_words(p->source, 4) + sum_words(p->destination, 4) + sum_words(&report.icmp, 2) +
               report.ip.payload_len + bpf_htons(IPPROTO_ICMPV6);
        report.icmp.checksum = ~checksum_fold(sum);
        if (reshape(ctx, network, quote, sizeof(report)) != GO_ON ||
            ctx_store(ctx, network, &report, sizeof(report)))
            return REASON_TOO_BIG;
    }
    p->action = ctx_bounce(ctx);
    p->out = ctx_at_egress(ctx) ? 0 : ctx_ifindex(ctx);
    return REASON_REPORTED_TOO_BIG;
}

#endif
