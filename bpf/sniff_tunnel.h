/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * The packet inside a tunnel: VXLAN (RFC 7348), Geneve (RFC 8926), GRE (RFC 2784, 2890), IP in IP and 6in4 (RFC 2003,
 * 4213), GTP-U (3GPP TS 29.281); one level. What does not decode to a whole IP packet stays what it is: a port number
 * alone proves nothing.
 */
#ifndef SLUICEGATE_SNIFF_TUNNEL_H
#define SLUICEGATE_SNIFF_TUNNEL_H

#include "sniff_look.h"

#define PORT_GTP_U 2152
#define PORT_VXLAN 4789
#define PORT_VXLAN_LINUX 8472     /* Linux took it before there was one */
#define PORT_GENEVE 6081
#define GTP_USER_PACKET 0xff
#define GTP_EXTENSIONS 1           /* what a 5G core sends; more are not looked behind */
#define GRE_CHECKSUM 0x8000
#define GRE_KEY 0x2000
#define GRE_SEQUENCE 0x1000
#define GRE_OTHER 0x4007          /* source routing (out of use) and versions, PPTP's among them */

struct inside {
    u32 at;                       /* in the frame */
    u32 tunnel;                   /* VNI, key or TEID */
    u16 type;                     /* EtherType, host order; ETH_P_TEB: an Ethernet frame */
    u8 kind;                      /* enum tunnel_kind */
};

ALWAYS_INLINE bool sniff_is_tunnel(const struct packet *p)
{
    u16 port = bpf_ntohs(p->destination_port);
    if (p->protocol == IPPROTO_UDP)
        return port == PORT_VXLAN || port == PORT_VXLAN_LINUX || port == PORT_GENEVE || port == PORT_GTP_U;
    return p->protocol == IPPROTO_IPIP || p->protocol == IPPROTO_IPV6 || p->protocol == IPPROTO_GRE;
}

ALWAYS_INLINE bool inside_gre(context *ctx, struct inside *in)
{
    u16 head[2] = {};
    if (ctx_load(ctx, in->at, head, sizeof(head)) || (head[0] & bpf_htons(GRE_OTHER)))
        return false;
    in->type = bpf_ntohs(head[1]);
    in->at += 4;
    if (head[0] & bpf_htons(GRE_CHECKSUM))
        in->at += 4;
    if (head[0] & bpf_htons(GRE_KEY)) {
        if (ctx_load(ctx, in->at, &in->tunnel, 4))
            return false;
        in->tunnel = bpf_ntohl(in->tunnel);
        in->at += 4;
    }
    if (head[0] & bpf_htons(GRE_SEQUENCE))
        in->at += 4;
    return true;
}

ALWAYS_INLINE bool inside_gtp(context *ctx, const u8 head[8], struct inside *in)
{
    u8 next = 0;
    if ((head[0] & 0xf0) != 0x30 || head[1] != GTP_USER_PACKET)
        return false;
    __builtin_memcpy(&in->tunnel, head + 4, 4);
    in->tunnel = bpf_ntohl(in->tunnel);
    in->kind = TUNNEL_ONE_WAY;
    in->at += 8;
    if (head[0] & 7) {
        in->at += 4;
        if ((head[0] & 4) && ctx_load(ctx, in->at - 1, &next, 1))
            return false;
        for (int i = 0; i < GTP_EXTENSIONS && next; i++) {
            u8 units = 0;
            if (ctx_load(ctx, in->at, &units, 1) || !units || ctx_load(ctx, in->at + units * 4 - 1, &next, 1))
                return false;
            in->at += units * 4;
        }
    }
    if (next || ctx_load(ctx, in->at, &next, 1))
        return false;
    in->type = next >> 4 == 4 ? ETH_P_IP : ETH_P_IPV6;
    return next >> 4 == 4 || next >> 4 == 6;
}

ALWAYS_INLINE bool inside_udp(context *ctx, u16 port, struct inside *in)
{
    u8 head[8] = {};
    in->at += sizeof(struct udphdr);
    if (ctx_load(ctx, in->at, head, sizeof(head)))
        return false;
    if (port == PORT_GTP_U)
        return inside_gtp(ctx, head, in);
    in->tunnel = (u32)head[4] << 16 | (u32)head[5] << 8 | head[6];
    in->at += 8;
    if (port == PORT_GENEVE) {
        in->type = (u16)head[2] << 8 | head[3];
        in->at += (head[0] & 0x3f) * 4;
        return !(head[0] >> 6);
    }
    in->type = ETH_P_TEB;
    return head[0] & 8;
}

/* Behind an Ethernet header, with a tag or without. */
ALWAYS_INLINE bool inside_ethernet(context *ctx, struct inside *in)
{
    u16 type = 0;
    if (ctx_load(ctx, in->at + offsetof(struct ethhdr, h_proto), &type, 2))
        return false;
    in->at += sizeof(struct ethhdr);
    if (type == bpf_htons(ETH_P_8021Q)) {
        if (ctx_load(ctx, in->at + 2, &type, 2))
            return false;
        in->at += sizeof(struct vlan_tag);
    }
    in->type = bpf_ntohs(type);
    return true;
}

/* Put the packet in the tunnel in the place of the one around it. When that fails, `p` has to be read again. */
ALWAYS_INLINE bool sniff_unwrap(context *ctx, struct packet *p, u32 zero, struct sight *sight)
{
    struct inside in = {.at = p->transport_offset, .kind = TUNNEL_SHARED};
    bool found = true;
    if (p->protocol == IPPROTO_UDP)
        found = inside_udp(ctx, bpf_ntohs(p->destination_port), &in);
    else if (p->protocol == IPPROTO_GRE)
        found = inside_gre(ctx, &in);
    else
        in.type = p->protocol == IPPROTO_IPIP ? ETH_P_IP : ETH_P_IPV6;
    if (found && in.type == ETH_P_TEB)
        found = inside_ethernet(ctx, &in);
    found = forget(found, zero);
    in.type = forget(in.type, zero);
    in.kind = forget(in.kind, zero);
    in.tunnel = forget(in.tunnel, zero);
    in.at = forget(in.at, zero);
    if (!found || in.at > MAX_HEADER_OFFSET)
        return false;
    void *data = (void *)(long)ctx->data;
    void *end = (void *)(long)ctx->data_end;
    u32 outer_end = p->network_offset + p->length;
    *p = (struct packet){.network_offset = forget(in.at, zero), .tunnel = in.tunnel, .tunnel_kind = in.kind, .action = p->action};
    int parsed = REASON_NOT_IP;
#if WITH_IPV4
    if (in.type == ETH_P_IP)
        parsed = parse_ipv4(ctx, data, end, p);
#endif
#if WITH_IPV6
    if (in.type == ETH_P_IPV6)
        parsed = parse_ipv6(ctx, data, end, zero, p);
#endif
    forget_packet(p, zero);
    if (parsed != GO_ON || p->network_offset + p->length > outer_end)
        return false;
    if (p->fragment || sniff_ports_of(ctx, p) != GO_ON)
        return false;
    sight->sender = sniff_sender(p, zero);
    return true;
}

/* Look at what is in a tunnel, if this is one that can be read, else at the packet itself. */
ALWAYS_INLINE bool sniff_enter(context *ctx, struct packet *p, u32 zero, struct sight *sight)
{
    bool readable = true;
    if (!sniff_unwrap(ctx, p, zero, sight)) {
        *p = (struct packet){.action = p->action};
        int parsed = read_packet(ctx, p, zero);
        forget_packet(p, zero);
        readable = sniff_sight(ctx, p, sight->tap, parsed, zero, false, sight);
    }
    /* One way on for both, in the verifier's eyes. */
    p->tunnel = forget(p->tunnel, zero);
    p->tunnel_kind = forget(p->tunnel_kind, zero);
    p->length = forget(p->length, zero);
    return readable;
}

#endif
