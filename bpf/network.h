/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* Rewriting of IP headers alone, at any offset: for fragments, and for packets quoted in ICMP errors. Cold. */
#ifndef SLUICEGATE_NETWORK_H
#define SLUICEGATE_NETWORK_H

#include "maps.h"
#include "packet.h"

/* What a quoted or outer IP header says. */
struct network_header {
    u32 source[4];
    u32 destination[4];
    u16 checksum; /* IPv4 */
    u8 protocol;
    u8 hop_limit;
    bool is_later_fragment; /* IPv4 */
    u32 length;   /* of the header */
};

ALWAYS_INLINE int network_load(context *ctx, u32 offset, u8 family, struct network_header *header)
{
    if (family == FAMILY_IPV4) {
        struct iphdr ip;
        if (ctx_load(ctx, offset, &ip, sizeof(ip)))
            return REASON_MALFORMED;
        header->source[0] = ip.saddr;
        header->destination[0] = ip.daddr;
        header->checksum = ip.check;
        header->protocol = ip.protocol;
        header->hop_limit = ip.ttl;
        header->length = ip.ihl * 4;
        header->is_later_fragment = ip.frag_off & bpf_htons(IPV4_FRAGMENT_OFFSET);
        return ip.version == 4 && ip.ihl >= 5 ? GO_ON : REASON_MALFORMED;
    }
    struct ipv6hdr ip;
    if (ctx_load(ctx, offset, &ip, sizeof(ip)))
        return REASON_MALFORMED;
    __builtin_memcpy(header->source, &ip.saddr, sizeof(header->source));
    __builtin_memcpy(header->destination, &ip.daddr, sizeof(header->destination));
    header->protocol = ip.nexthdr;
    header->hop_limit = ip.hop_limit;
    header->length = sizeof(ip);
    return ip.version == 6 ? GO_ON : REASON_MALFORMED;
}

/* New addresses. Returns in `sum` what the header's own bytes, checksum included, add to a sum over them. */
ALWAYS_INLINE int network_readdress(context *ctx, u32 offset, u8 family, const struct network_header *header,
                                    const u32 source[4], const u32 destination[4], bool take_hop, u64 *sum)
{
    u64 change = checksum_change_address(header->source, source, family) +
                 checksum_change_address(header->destination, destination, family);
    u8 hop_limit = header->hop_limit - (take_hop ? 1 : 0);
    *sum += change;
    if (family == FAMILY_IPV4) {
        change += checksum_change(header->hop_limit, hop_limit);
        u16 checksum = checksum_apply(header->checksum, change);
        *sum += checksum_change(header->hop_limit, hop_limit) + checksum_change(header->checksum, checksum);
        if (ctx_store(ctx, offset + offsetof(struct iphdr, check), &checksum, sizeof(checksum)) ||
            ctx_store(ctx, offset + offsetof(struct iphdr, saddr), (void *)source, 4) ||
            ctx_store(ctx, offset + offsetof(struct iphdr, daddr), (void *)destination, 4) ||
            ctx_store(ctx, offset + offsetof(struct iphdr, ttl), &hop_limit, 1))
            return REASON_INTERNAL;
        return GO_ON;
    }
    if (ctx_store(ctx, offset + offsetof(struct ipv6hdr, saddr), (void *)source, 16) ||
        ctx_store(ctx, offset + offsetof(struct ipv6hdr, daddr), (void *)destination, 16) ||
        ctx_store(ctx, offset + offsetof(struct ipv6hdr, hop_limit), &hop_limit, 1))
        return REASON_INTERNAL;
    return GO_ON;
}

/* Give the packet's fragment header another identification. */
ALWAYS_INLINE int network_reidentify(context *ctx, const struct packet *p, u32 identification)
{
    if (p->family == FAMILY_IPV6)
        return ctx_store(ctx, (p->fragment_header & MAX_HEADER_OFFSET) + 4, &identification, 4) ? REASON_INTERNAL : GO_ON;
    u32 offset = p->network_offset & MAX_HEADER_OFFSET;
    u16 checksum, new = identification;
    if (ctx_load(ctx, offset + offsetof(struct iphdr, check), &checksum, sizeof(checksum)))
        return REASON_INTERNAL;
    checksum = checksum_apply(checksum, checksum_change(p->identification, new));
    if (ctx_store(ctx, offset + offsetof(struct iphdr, check), &checksum, sizeof(checksum)) ||
        ctx_store(ctx, offset + offsetof(struct iphdr, id), &new, sizeof(new)))
        return REASON_INTERNAL;
    return GO_ON;
}

#endif
