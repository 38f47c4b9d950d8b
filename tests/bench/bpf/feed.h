/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * A test-run with many repetitions gives the program its own output back: whatever it rewrote stays rewritten. So a
 * small program goes before the one that is measured, puts every field back that may have been rewritten, takes the
 * next flow, and tail-calls. What it costs itself is measured with an empty program behind it, and taken off.
 *
 * Each field is written in its own width. The measured program reads it in that width a few nanoseconds later; a wider
 * or narrower store would stall such a load, which a packet from a network card never does.
 */
#ifndef BENCH_FEED_H
#define BENCH_FEED_H

#include <uapi/linux/bpf.h>
#include <uapi/linux/if_ether.h>
#include <uapi/linux/in.h>
#include <uapi/linux/ip.h>
#include <uapi/linux/ipv6.h>
#include <uapi/linux/tcp.h>
#include <uapi/linux/udp.h>

#define TARGETS 8

#ifndef EXACT_CHECKSUMS
#define EXACT_CHECKSUMS 0 /* 1: packets that the kernel's own stack must take for good ones */
#endif

/*
 * What goes in. Flow number i, from 0 to `mask`, has the ports' bases plus the low half of i and the addresses' last
 * words plus the high half; a step of 0 leaves that field as it is.
 */
struct feed {
    u32 target;             /* index of the program to go on with */
    u32 next;
    u32 mask;
    u32 low_bits;
    u32 mac[3];             /* both addresses as they lie in the frame */
    u32 source[4];          /* network order but for the last word, which is in host order */
    u32 destination[4];
    u32 source_step;
    u32 destination_step;
    u32 acknowledged;
    u32 acknowledged_step;  /* per packet: data that acknowledges something new is a new request */
    u16 source_port;        /* host order */
    u16 destination_port;
    u16 source_port_step;
    u16 destination_port_step;
    u16 network_checksum;   /* IPv4, of the template: whether it is right is nothing to the program */
    u16 transport_checksum;
    u8 is_ipv6;
    u8 protocol;
    u8 hop_limit;
    u8 zero;
};

/* user space -> feed. Index: 0 for XDP, 1 for tc. */
BPF_TABLE("array", u32, struct feed, feeds, 2);

/* The template's checksum, with other ports under it (RFC 1624). */
static __always_inline u16 feed_checksum(const struct feed *f, u16 source_port, u16 destination_port)
{
    if (!EXACT_CHECKSUMS)
        return f->transport_checksum;
    u32 sum = (u16)~f->transport_checksum + (u16)~bpf_htons(f->source_port) + source_port +
              (u16)~bpf_htons(f->destination_port) + destination_port;
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return ~sum;
}

static __always_inline int feed_transport(const struct feed *f, void *header, void *end, u32 low, u32 i)
{
    u16 source_port = bpf_htons(f->source_port + low * f->source_port_step);
    u16 destination_port = bpf_htons(f->destination_port + low * f->destination_port_step);
    if (f->protocol == IPPROTO_TCP) {
        struct tcphdr *tcp = header;
        if ((void *)(tcp + 1) > end)
            return 0;
        tcp->source = source_port;
        tcp->dest = destination_port;
        tcp->ack_seq = bpf_htonl(f->acknowledged + i * f->acknowledged_step);
        tcp->check = feed_checksum(f, source_port, destination_port);
        return 1;
    }
    struct udphdr *udp = header;
    if ((void *)(udp + 1) > end)
        return 0;
    udp->source = source_port;
    udp->dest = destination_port;
    udp->check = feed_checksum(f, source_port, destination_port);
    return 1;
}

/* Write the next packet; 0 when the frame is too short. */
static __always_inline int feed_packet(struct feed *f, void *data, void *end)
{
    u32 number = f->next++;
    u32 i = number & f->mask;
    u32 low = i & ((1u << (f->low_bits & 31)) - 1), high = i >> (f->low_bits & 31);
    u32 source = bpf_htonl(f->source[3] + high * f->source_step);
    u32 destination = bpf_htonl(f->destination[3] + high * f->destination_step);
    u32 *mac = data;
    if ((void *)(mac + 3) > end)
        return 0;
    mac[0] = f->mac[0];
    mac[1] = f->mac[1];
    mac[2] = f->mac[2];
    if (f->is_ipv6) {
        struct ipv6hdr *ip = data + sizeof(struct ethhdr);
        if ((void *)(ip + 1) > end)
            return 0;
        ip->hop_limit = f->hop_limit;
        ip->saddr.in6_u.u6_addr32[0] = f->source[0];
        ip->saddr.in6_u.u6_addr32[1] = f->source[1];
        ip->saddr.in6_u.u6_addr32[2] = f->source[2];
        ip->saddr.in6_u.u6_addr32[3] = source;
        ip->daddr.in6_u.u6_addr32[0] = f->destination[0];
        ip->daddr.in6_u.u6_addr32[1] = f->destination[1];
        ip->daddr.in6_u.u6_addr32[2] = f->destination[2];
        ip->daddr.in6_u.u6_addr32[3] = destination;
        return feed_transport(f, ip + 1, end, low, number);
    }
    struct iphdr *ip = data + sizeof(struct ethhdr);
    if ((void *)(ip + 1) > end)
        return 0;
    ip->ttl = f->hop_limit;
    ip->check = f->network_checksum;
    ip->saddr = source;
    ip->daddr = destination;
    return feed_transport(f, ip + 1, end, low, number);
}

#endif
