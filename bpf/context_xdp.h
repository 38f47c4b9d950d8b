/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* The context API over XDP. context_tc.h has the same functions over an skb, so that one data path serves both. */
#ifndef SLUICEGATE_CONTEXT_H
#define SLUICEGATE_CONTEXT_H

#include "checksum.h"
#include "packet.h"
#include "reasons.h"

#define ON_XDP 1
#define CTX_NEXT XDP_PASS /* leaves a packet to whatever comes next */

typedef struct xdp_md context;

/* One program run only: entries under construction, too large for the stack beside the rest. Each hook has its own, as
 * one can interrupt the other. Index 0. */
BPF_TABLE("percpu_array", u32, struct scratch, scratch_xdp, 1);

ALWAYS_INLINE struct scratch *ctx_scratch(void)
{
    u32 index = 0;
    return scratch_xdp.lookup(&index);
}

/* Helpers that are younger than bcc's list; all since 5.18. */
static u64 (*frame_length_with_fragments)(struct xdp_md *ctx) = (void *)188; /* bpf_xdp_get_buff_len */
static long (*load_bytes)(struct xdp_md *ctx, u32 offset, void *to, u32 length) = (void *)189;
static long (*store_bytes)(struct xdp_md *ctx, u32 offset, void *from, u32 length) = (void *)190;

ALWAYS_INLINE u32 ctx_hook(context *ctx)
{
    return HOOK_XDP;
}

/* On its way out? XDP sees what comes in. */
ALWAYS_INLINE bool ctx_at_egress(context *ctx)
{
    return false;
}

ALWAYS_INLINE u32 ctx_ifindex(context *ctx)
{
    return ctx->ingress_ifindex;
}

ALWAYS_INLINE u32 ctx_length(context *ctx)
{
    return frame_length_with_fragments(ctx);
}

ALWAYS_INLINE int ctx_is_for_us(context *ctx)
{
    return true; /* the card filters by MAC; broadcast is sorted out by the parser */
}

/* Any place in the frame, also in its fragments; for cold paths. */
ALWAYS_INLINE int ctx_load(context *ctx, u32 offset, void *to, u32 length)
{
    return load_bytes(ctx, offset, to, length);
}

ALWAYS_INLINE int ctx_store(context *ctx, u32 offset, void *from, u32 length)
{
    return store_bytes(ctx, offset, from, length);
}

/* The card leaves tags in the frame. */
ALWAYS_INLINE u16 ctx_vlan(context *ctx)
{
    return 0;
}

/* XDP sees frames as they came: nothing is segmented later on. */
ALWAYS_INLINE u32 ctx_packet_size(context *ctx, const struct packet *p)
{
    return p->length;
}

/*
 * Give the packet new addresses and ports, and take one hop off. `change` is what the new addresses add to a checksum.
 * Everything is checked before the first byte is written: a packet is rewritten whole or not at all.
 */
ALWAYS_INLINE int ctx_rewrite(context *ctx, struct packet *p, const u32 source[4], const u32 destination[4],
                              u16 source_port, u16 destination_port)
{
    void *data = (void *)(long)ctx->data;
    void *end = (void *)(long)ctx->data_end;
    void *network = data + (p->network_offset & MAX_HEADER_OFFSET);
    void *transport = data + (p->transport_offset & MAX_HEADER_OFFSET);
    u64 change = checksum_change_address(p->source, source, p->family) +
                 checksum_change_address(p->destination, destination, p->family);
    u64 port_change = checksum_change(p->source_port, source_port) +
                      checksum_change(p->destination_port, destination_port);

    if (p->protocol == IPPROTO_TCP) {
        struct tcphdr *tcp = transport;
        if ((void *)(tcp + 1) > end)
            return REASON_INTERNAL;
    } else {
        struct udphdr *udp = transport;
        if ((void *)(udp + 1) > end)
            return REASON_INTERNAL;
    }
    if (p->family == FAMILY_IPV4) {
        struct iphdr *ip = network;
        if ((void *)(ip + 1) > end)
            return REASON_INTERNAL;
        ip->saddr = source[0];
        ip->daddr = destination[0];
        ip->check = checksum_apply(ip->check, change + checksum_change(ip->ttl, ip->ttl - 1));
        ip->ttl--;
    } else {
        struct ipv6hdr *ip = network;
        if ((void *)(ip + 1) > end)
            return REASON_INTERNAL;
        __builtin_memcpy(&ip->saddr, source, sizeof(ip->saddr));
        __builtin_memcpy(&ip->daddr, destination, sizeof(ip->daddr));
        ip->hop_limit--;
    }
    if (p->protocol == IPPROTO_TCP) {
        struct tcphdr *tcp = transport;
        if ((void *)(tcp + 1) > end)
            return REASON_INTERNAL;
        tcp->source = source_port;
        tcp->dest = destination_port;
        tcp->check = checksum_apply(tcp->check, change + port_change);
    } else {
        struct udphdr *udp = transport;
        if ((void *)(udp + 1) > end)
            return REASON_INTERNAL;
        udp->source = source_port;
        udp->dest = destination_port;
        if (udp->check) { /* zero: the sender made none (RFC 768) */
            u16 checksum = checksum_apply(udp->check, change + port_change);
            udp->check = checksum ? checksum : 0xffff;
        }
    }
    return GO_ON;
}

/*
 * Out of the interface that the frame came in on. A veth flushes what XDP_TX queued only when its peer runs an XDP
 * program itself, and frames wait for the next interrupt (0.3 s, seen on 6.18); redirected ones it flushes at once.
 */
ALWAYS_INLINE int ctx_bounce(context *ctx)
{
#if WITH_PARTIAL_CHECKSUMS
    return bpf_redirect(ctx->ingress_ifindex, 0);
#else
    return XDP_TX;
#endif
}

/* Send the rewritten packet to a resolved hop. Tags of the incoming frame belong to the incoming network: they go. */
ALWAYS_INLINE int ctx_send(context *ctx, struct packet *p, const struct hop *hop)
{
    void *data = (void *)(long)ctx->data;
    void *end = (void *)(long)ctx->data_end;
    u32 surplus = (p->network_offset & MAX_HEADER_OFFSET) - sizeof(struct ethhdr);
    struct ethhdr *ethernet = data + (surplus & 0xf);
    if ((void *)(ethernet + 1) > end)
        return REASON_INTERNAL;
    __builtin_memcpy(ethernet->h_dest, hop->destination_mac, ETH_ALEN);
    __builtin_memcpy(ethernet->h_source, hop->source_mac, ETH_ALEN);
    ethernet->h_proto = p->family == FAMILY_IPV4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
    if (surplus && bpf_xdp_adjust_head(ctx, surplus & 0xf))
        return REASON_INTERNAL;
    p->out = hop->ifindex;
    p->action = hop->ifindex == ctx->ingress_ifindex ? ctx_bounce(ctx) : bpf_redirect(hop->ifindex, 0);
    return GO_ON;
}

/* Cut the frame to `length` bytes. */
ALWAYS_INLINE int ctx_cut(context *ctx, u32 length)
{
    return bpf_xdp_adjust_tail(ctx, (int)length - (int)ctx_length(ctx));
}

/* Make room for `room` bytes at the front. */
ALWAYS_INLINE int ctx_extend(context *ctx, u32 room)
{
    return bpf_xdp_adjust_head(ctx, -(int)room);
}

ALWAYS_INLINE int ctx_verdict(enum reason_kind kind, const struct packet *p)
{
    if (kind == KIND_forward)
        return p->action;
    return kind == KIND_drop ? XDP_DROP : XDP_PASS;
}

#endif
