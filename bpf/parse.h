/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* From a frame to `struct packet`. What cannot be read in full is not ours and goes to the stack untouched. */
#ifndef SLUICEGATE_PARSE_H
#define SLUICEGATE_PARSE_H

#include "packet.h"
#include "reasons.h"

#define MAX_VLAN_TAGS 2
#define MAX_EXTENSION_HEADERS 6

struct vlan_tag {
    u16 control;
    u16 protocol;
};

struct extension_header {
    u8 next;
    u8 length;           /* in 8 bytes, without the first 8 (RFC 8200); in 4 bytes less 2 for AH (RFC 4302) */
    u16 offset;          /* these two of a fragment header */
    u32 identification;
};

#define IPV6_FRAGMENT_OFFSET 0xfff8
#define IPV6_MORE_FRAGMENTS 0x0001

/* Is the packet all there? Only frames in several buffers need the helper call to tell. */
ALWAYS_INLINE bool frame_holds(context *ctx, void *data, void *end, u32 length)
{
    return length <= end - data || length <= ctx_length(ctx);
}

ALWAYS_INLINE int parse_ipv4(context *ctx, void *data, void *end, struct packet *p)
{
    struct iphdr *ip = data + (p->network_offset & MAX_HEADER_OFFSET);
    if ((void *)(ip + 1) > end)
        return REASON_MALFORMED;
    u32 header = ip->ihl * 4;
    u32 total = bpf_ntohs(ip->tot_len);
    if (ip->version != 4 || header < sizeof(*ip) || total < header || !frame_holds(ctx, data, end, p->network_offset + total))
        return REASON_MALFORMED;
    p->family = FAMILY_IPV4;
    p->protocol = ip->protocol;
    p->hop_limit = ip->ttl;
    p->source[0] = ip->saddr;
    p->destination[0] = ip->daddr;
    p->length = total;
    p->transport_offset = p->network_offset + header;
    if (ip->frag_off & bpf_htons(IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET)) {
        p->fragment = (ip->frag_off & bpf_htons(IPV4_FRAGMENT_OFFSET)) ? FRAGMENT_LATER : FRAGMENT_FIRST;
        p->identification = ip->id;
    }
    return GO_ON;
}

ALWAYS_INLINE int parse_ipv6(context *ctx, void *data, void *end, u32 zero, struct packet *p)
{
    struct ipv6hdr *ip = data + (p->network_offset & MAX_HEADER_OFFSET);
    if ((void *)(ip + 1) > end)
        return REASON_MALFORMED;
    u32 payload = bpf_ntohs(ip->payload_len);
    if (ip->version != 6 || !payload || !frame_holds(ctx, data, end, p->network_offset + sizeof(*ip) + payload))
        return REASON_MALFORMED;
    p->family = FAMILY_IPV6;
    p->hop_limit = ip->hop_limit;
    __builtin_memcpy(p->source, &ip->saddr, sizeof(p->source));
    __builtin_memcpy(p->destination, &ip->daddr, sizeof(p->destination));
    p->length = sizeof(*ip) + payload;

    u8 next = ip->nexthdr;
    u32 offset = p->network_offset + sizeof(*ip);
#pragma unroll
    for (int i = 0; i < MAX_EXTENSION_HEADERS; i++) {
        if (next != IPPROTO_HOPOPTS && next != IPPROTO_ROUTING && next != IPPROTO_DSTOPTS &&
            next != IPPROTO_FRAGMENT && next != IPPROTO_AH)
            break;
        struct extension_header *extension = data + (offset & MAX_HEADER_OFFSET);
        if (offset > MAX_HEADER_OFFSET)
            return REASON_EXTENSION;
        if ((void *)extension + 8 > end)
            return REASON_MALFORMED;
        u32 length = (extension->length + 1) * 8;
        if (next == IPPROTO_FRAGMENT) {
            /* An "atomic fragment" (RFC 6946) is a whole packet: neither offset nor more-fragments set. */
            if (extension->offset & bpf_htons(IPV6_FRAGMENT_OFFSET | IPV6_MORE_FRAGMENTS)) {
                p->fragment = (extension->offset & bpf_htons(IPV6_FRAGMENT_OFFSET)) ? FRAGMENT_LATER : FRAGMENT_FIRST;
                p->identification = extension->identification;
                p->fragment_header = forget(offset, zero);
            }
            length = 8;
        } else if (next == IPPROTO_AH) {
            length = (extension->length + 2) * 4;
        } else if (next == IPPROTO_ROUTING && *((u8 *)extension + 3)) {
            return REASON_EXTENSION; /* segments left: the checksum belongs to another destination */
        }
        next = extension->next;
        offset += length;
        if (p->fragment == FRAGMENT_LATER)
            break; /* what follows is data, whatever it looks like */
    }
    if (p->fragment == FRAGMENT_LATER) {
        p->protocol = next;
        return GO_ON;
    }
    if (next == IPPROTO_HOPOPTS || next == IPPROTO_ROUTING || next == IPPROTO_DSTOPTS || next == IPPROTO_FRAGMENT ||
        next == IPPROTO_AH || offset > MAX_HEADER_OFFSET)
        return REASON_EXTENSION;
    p->protocol = next;
    p->transport_offset = forget(offset, zero);
    return GO_ON;
}

/* Link and network header. */
ALWAYS_INLINE int parse_network(context *ctx, void *data, void *end, u32 zero, struct packet *p)
{
    struct ethhdr *ethernet = data;
    if ((void *)(ethernet + 1) > end)
        return REASON_MALFORMED;
    if (!WITH_SNIFF && (ethernet->h_dest[0] & 1)) /* the sniffer looks at those too */
        return REASON_OTHER_HOST;
    u16 protocol = ethernet->h_proto;
    u32 offset = sizeof(*ethernet);
#pragma unroll
    for (int i = 0; i < MAX_VLAN_TAGS; i++) {
        if (protocol != bpf_htons(ETH_P_8021Q) && protocol != bpf_htons(ETH_P_8021AD))
            break;
        struct vlan_tag *tag = data + offset;
        if ((void *)(tag + 1) > end)
            return REASON_MALFORMED;
        protocol = tag->protocol;
        offset += sizeof(*tag);
    }
    p->network_offset = offset == sizeof(*ethernet) ? offset : forget(offset, zero);
#if WITH_IPV4
    if (protocol == bpf_htons(ETH_P_IP))
        return parse_ipv4(ctx, data, end, p);
#endif
#if WITH_IPV6
    if (protocol == bpf_htons(ETH_P_IPV6))
        return parse_ipv6(ctx, data, end, zero, p);
#endif
    return REASON_NOT_IP;
}

/* For one host: the balancer has nothing to do with others. */
ALWAYS_INLINE bool is_unicast(void *data, void *end)
{
    struct ethhdr *ethernet = data;
    return (void *)(ethernet + 1) <= end && !(ethernet->h_dest[0] & 1);
}

ALWAYS_INLINE int parse_transport(void *data, void *end, struct packet *p)
{
    void *header = data + (p->transport_offset & MAX_HEADER_OFFSET);
    u32 remaining = p->length - (p->transport_offset - p->network_offset);

    if (p->protocol == IPPROTO_TCP) {
        struct tcphdr *tcp = header;
        if ((void *)(tcp + 1) > end || remaining < sizeof(*tcp) || remaining > p->length || tcp->doff < 5 ||
            tcp->doff * 4 > remaining)
            return REASON_MALFORMED;
        p->source_port = tcp->source;
        p->destination_port = tcp->dest;
        p->tcp_flags = ((u8 *)tcp)[13];
        p->acknowledged = tcp->ack_seq;
        p->has_data = remaining > tcp->doff * 4;
        p->checksum = tcp->check;
        return GO_ON;
    }
    if (p->protocol == IPPROTO_UDP) {
        struct udphdr *udp = header;
        if ((void *)(udp + 1) > end || remaining < sizeof(*udp) || remaining > p->length ||
            bpf_ntohs(udp->len) < sizeof(*udp) || (!p->fragment && bpf_ntohs(udp->len) > remaining))
            return REASON_MALFORMED;
        p->source_port = udp->source;
        p->destination_port = udp->dest;
        p->checksum = udp->check;
        return GO_ON;
    }
    return REASON_OTHER_PROTOCOL;
}

#endif
