/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* The context API over an skb; see context_xdp.h. Checksums go through the kernel's helpers: they may be unfinished. */
#ifndef SLUICEGATE_CONTEXT_H
#define SLUICEGATE_CONTEXT_H

#include "checksum.h"
#include "packet.h"
#include "reasons.h"

#include <uapi/linux/if_packet.h>
#include <uapi/linux/pkt_cls.h>

#define ON_XDP 0

#define AF_INET 2
#define AF_INET6 10

/* In the frame (parse.h) and one that the card took out of it. */
#define MAX_TAGS 3

/* "Go on with the next program": TCX_NEXT for tcx links, TC_ACT_UNSPEC for clsact. */
#define TC_NEXT (-1)
#define CTX_NEXT TC_NEXT

typedef struct __sk_buff context;

/* In skb->tc_index: sent by this program already, so that it is left alone when it meets the device's egress. */
#define SENT_BY_US 0x5347

/* One program run only: entries under construction, too large for the stack beside the rest. Each hook has its own, as
 * one can interrupt the other. Index 0. */
BPF_TABLE("percpu_array", u32, struct scratch, scratch_tc, 1);

ALWAYS_INLINE struct scratch *ctx_scratch(void)
{
    u32 index = 0;
    return scratch_tc.lookup(&index);
}

/* One set of cold programs serves both hooks: the entry notes for them which one it is. */
ALWAYS_INLINE void ctx_note_hook(context *ctx, u32 hook)
{
    ctx->cb[0] = hook;
}

ALWAYS_INLINE u32 ctx_hook(context *ctx)
{
    return ctx->cb[0] == HOOK_TC_EGRESS ? HOOK_TC_EGRESS : HOOK_TC_INGRESS;
}

/* On its way out: sent by this node itself, or forwarded by its stack. */
ALWAYS_INLINE bool ctx_at_egress(context *ctx)
{
    return ctx_hook(ctx) == HOOK_TC_EGRESS;
}

ALWAYS_INLINE u32 ctx_ifindex(context *ctx)
{
    return ctx->ifindex;
}

ALWAYS_INLINE u32 ctx_length(context *ctx)
{
    return ctx->len;
}

ALWAYS_INLINE int ctx_is_for_us(context *ctx)
{
    return ctx->pkt_type == PACKET_HOST || ctx_at_egress(ctx);
}

/* Any place in the packet; for cold paths. What changes stays in line with a checksum that the card computed. */
ALWAYS_INLINE int ctx_load(context *ctx, u32 offset, void *to, u32 length)
{
    return bpf_skb_load_bytes(ctx, offset, to, length);
}

ALWAYS_INLINE int ctx_store(context *ctx, u32 offset, void *from, u32 length)
{
    return bpf_skb_store_bytes(ctx, offset, from, length, BPF_F_RECOMPUTE_CSUM);
}

/* The tag that the card took out of the frame. */
ALWAYS_INLINE u16 ctx_vlan(context *ctx)
{
    return ctx->vlan_present ? ctx->vlan_tci & 0xfff : 0;
}

/* A batch of segments (GRO) is cut again on its way out. */
ALWAYS_INLINE u32 ctx_packet_size(context *ctx, const struct packet *p)
{
    return ctx->gso_size ? 0 : p->length;
}

ALWAYS_INLINE int ctx_rewrite_addresses(context *ctx, const struct packet *p, const u32 source[4],
                                        const u32 destination[4])
{
    if (p->family == FAMILY_IPV4) {
        u32 offset = p->network_offset;
        u64 change = checksum_change(p->source[0], source[0]) + checksum_change(p->destination[0], destination[0]);
        u8 hop_limit = p->hop_limit - 1;
        change += checksum_change(p->hop_limit, hop_limit);
        if (bpf_l3_csum_replace(ctx, offset + offsetof(struct iphdr, check), 0, checksum_fold(change), 0) ||
            bpf_skb_store_bytes(ctx, offset + offsetof(struct iphdr, saddr), (void *)source, 4, 0) ||
            bpf_skb_store_bytes(ctx, offset + offsetof(struct iphdr, daddr), (void *)destination, 4, 0) ||
            bpf_skb_store_bytes(ctx, offset + offsetof(struct iphdr, ttl), &hop_limit, 1, 0))
            return REASON_INTERNAL;
        return GO_ON;
    }
    /* IPv6 has no header checksum that would take these changes back out of a CHECKSUM_COMPLETE sum. */
    u32 offset = p->network_offset;
    u8 hop_limit = p->hop_limit - 1;
    if (bpf_skb_store_bytes(ctx, offset + offsetof(struct ipv6hdr, saddr), (void *)source, 16, BPF_F_RECOMPUTE_CSUM) ||
        bpf_skb_store_bytes(ctx, offset + offsetof(struct ipv6hdr, daddr), (void *)destination, 16, BPF_F_RECOMPUTE_CSUM) ||
        bpf_skb_store_bytes(ctx, offset + offsetof(struct ipv6hdr, hop_limit), &hop_limit, 1, BPF_F_RECOMPUTE_CSUM))
        return REASON_INTERNAL;
    return GO_ON;
}

ALWAYS_INLINE int ctx_rewrite(context *ctx, struct packet *p, const u32 source[4], const u32 destination[4],
                              u16 source_port, u16 destination_port)
{
    bool tcp = p->protocol == IPPROTO_TCP;
    u32 checksum = p->transport_offset + (tcp ? offsetof(struct tcphdr, check) : offsetof(struct udphdr, check));
    /* A UDP packet without a checksum keeps having none; one whose sum comes out as zero is sent as all ones. */
    u64 mangled = tcp ? 0 : BPF_F_MARK_MANGLED_0;
    u64 addresses = checksum_change_address(p->source, source, p->family) +
                    checksum_change_address(p->destination, destination, p->family);
    u64 port_change = checksum_change(p->source_port, source_port) +
                      checksum_change(p->destination_port, destination_port);
    u16 ports[2] = {source_port, destination_port};

    if (bpf_l4_csum_replace(ctx, checksum, 0, checksum_fold(addresses), BPF_F_PSEUDO_HDR | mangled) ||
        bpf_l4_csum_replace(ctx, checksum, 0, checksum_fold(port_change), mangled) ||
        bpf_skb_store_bytes(ctx, p->transport_offset, ports, sizeof(ports), 0))
        return REASON_INTERNAL;
    return ctx_rewrite_addresses(ctx, p, source, destination);
}

/* Tags of the incoming frame belong to the incoming network. */
ALWAYS_INLINE int ctx_strip_tags(context *ctx, const struct packet *p)
{
    u32 tags = (p->network_offset - sizeof(struct ethhdr)) / 4 + (ctx->vlan_present ? 1 : 0);
    for (int i = 0; i < MAX_TAGS; i++) {
        if (i >= tags)
            break;
        if (bpf_skb_vlan_pop(ctx))
            return REASON_INTERNAL;
    }
    return GO_ON;
}

ALWAYS_INLINE int ctx_redirect(context *ctx, u32 ifindex, bool to_ingress)
{
    ctx->tc_index = SENT_BY_US;
    return bpf_redirect(ifindex, to_ingress ? BPF_F_INGRESS : 0);
}

/* Leave the packet to whatever the stack was about to do with it. */
ALWAYS_INLINE int ctx_leave_to_stack(struct packet *p)
{
    p->action = TC_NEXT;
    return GO_ON;
}

/* Send to a hop whose MAC addresses are known. */
ALWAYS_INLINE int ctx_send(context *ctx, struct packet *p, const struct hop *hop)
{
    struct ethhdr ethernet = {.h_proto = p->family == FAMILY_IPV4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6)};
    __builtin_memcpy(ethernet.h_dest, hop->destination_mac, ETH_ALEN);
    __builtin_memcpy(ethernet.h_source, hop->source_mac, ETH_ALEN);
    int reason = ctx_strip_tags(ctx, p);
    if (reason != GO_ON)
        return reason;
    if (bpf_skb_store_bytes(ctx, 0, &ethernet, sizeof(ethernet), 0))
        return REASON_INTERNAL;
    p->action = ctx_redirect(ctx, hop->ifindex, hop->flags & HOP_LOCAL);
    p->out = hop->flags & HOP_LOCAL ? 0 : hop->ifindex;
    return GO_ON;
}

static long (*redirect_to_neighbour)(u32 ifindex, struct bpf_redir_neigh *params, int length, u64 flags) =
    (void *)BPF_FUNC_redirect_neigh;

/* Send to a neighbour by address: the kernel resolves it and holds the packet until then. */
ALWAYS_INLINE int ctx_send_to_neighbour(context *ctx, struct packet *p, u32 ifindex, const u32 gateway[4], u32 family)
{
    struct bpf_redir_neigh neighbour = {.nh_family = family == FAMILY_IPV4 ? AF_INET : AF_INET6};
    __builtin_memcpy(neighbour.ipv6_nh, gateway, sizeof(neighbour.ipv6_nh));
    int reason = ctx_strip_tags(ctx, p);
    if (reason != GO_ON)
        return reason;
    ctx->tc_index = SENT_BY_US;
    p->action = redirect_to_neighbour(ifindex, &neighbour, sizeof(neighbour), 0);
    p->out = ifindex;
    return GO_ON;
}

/* Cut the packet to `length` bytes. */
ALWAYS_INLINE int ctx_cut(context *ctx, u32 length)
{
    return bpf_skb_change_tail(ctx, length, 0);
}

/* Make room for `room` bytes at the front. */
ALWAYS_INLINE int ctx_extend(context *ctx, u32 room)
{
    return bpf_skb_change_head(ctx, room, 0);
}

/* Back to where the packet came from: out of its interface, or at egress into it, to a sender on this node. */
ALWAYS_INLINE int ctx_bounce(context *ctx)
{
    return ctx_redirect(ctx, ctx->ifindex, ctx_at_egress(ctx));
}

ALWAYS_INLINE int ctx_verdict(enum reason_kind kind, const struct packet *p)
{
    if (kind == KIND_forward)
        return p->action;
    return kind == KIND_drop ? TC_ACT_SHOT : TC_NEXT;
}

#endif
