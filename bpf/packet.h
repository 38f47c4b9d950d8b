/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* What is known of a packet after it was parsed once, and the words in which steps tell each other what to do. */
#ifndef SLUICEGATE_PACKET_H
#define SLUICEGATE_PACKET_H

#include "types.h"

#include <uapi/linux/bpf.h>
#include <uapi/linux/if_ether.h>
#include <uapi/linux/in.h>
#include <uapi/linux/ip.h>
#include <uapi/linux/ipv6.h>
#include <uapi/linux/tcp.h>
#include <uapi/linux/udp.h>

/* A step returns a reason, which ends the packet's way, or one of these: go on, or go on in a cold program. */
#define GO_ON (-1)
#define GO_OPEN_NAT (-2)    /* FullNAT: the flow is not known, or must choose again */
#define GO_OPEN_KEPT (-3)   /* the same in the modes that keep the client's address */
#define GO_ADOPT (-4)       /* DNAT: a reply without a flow, in a flood */
#define GO_ICMP (-5)
#define GO_FRAGMENT (-6)    /* a later fragment: no ports to look at */
#define GO_TOO_BIG (-7)     /* tell the sender; the MTU is in the scratch space */
#define GO_OPEN_LOCAL (-8)  /* FullNAT chose a backend on this node: it is in the scratch space */

#define GO_SNIFF (-9)       /* the sniffer has more to do with it than a look; the balancer comes after that */
#define GO_SNIFFED (-10)    /* the balancer, behind the sniffer */
#define GO_SNIFF_OUT (-11)  /* on its way out of an interface that is sniffed */
#define GO_SNIFF_TUNNEL (-12) /* the sniffer has to look inside; in or out is in the scratch space */

#define GO_OPEN (-13)       /* one of the first two */

#define FIRST_TAIL GO_OPEN_NAT
#define TAILS 11            /* index in the program array: FIRST_TAIL less the number above */

#define ALWAYS_INLINE static __always_inline

#ifndef WITH_IPV4
#define WITH_IPV4 1
#endif
#ifndef WITH_IPV6
#define WITH_IPV6 1
#endif
#ifndef WITH_FULL_NAT
#define WITH_FULL_NAT 1
#endif
#ifndef WITH_DNAT
#define WITH_DNAT 1
#endif
#ifndef WITH_DIRECT_RETURN
#define WITH_DIRECT_RETURN 1
#endif
#ifndef WITH_SNIFF
#define WITH_SNIFF 1
#endif
#ifndef WITH_PARTIAL_CHECKSUMS
#define WITH_PARTIAL_CHECKSUMS 1 /* 0 where all interfaces are hardware */
#endif

#define IPV4_MORE_FRAGMENTS 0x2000
#define IPV4_FRAGMENT_OFFSET 0x1fff

#define TCP_FIN 0x01
#define TCP_SYN 0x02
#define TCP_RST 0x04
#define TCP_ACK 0x10

/* The farthest a transport header may begin: Ethernet, two tags, IPv6 and some extension headers. The bound also lets
 * the verifier (6.1 and later) follow an offset that went through the stack. */
#define MAX_HEADER_OFFSET 255

enum fragment_kind {
    FRAGMENT_NONE = 0,
    FRAGMENT_FIRST = 1,  /* holds the transport header */
    FRAGMENT_LATER = 2,
};

enum tunnel_kind {
    TUNNEL_NONE = 0,
    TUNNEL_SHARED = 1,   /* both directions have the same identifier */
    TUNNEL_ONE_WAY = 2,  /* each direction has one of its own */
};

struct packet {
    u32 source[4];       /* IPv4 in word 0; words 1 to 3 are zero */
    u32 destination[4];
    u16 source_port;     /* network order */
    u16 destination_port;
    u8 family;
    u8 protocol;
    u8 tcp_flags;
    u8 hop_limit;
    u32 network_offset;  /* of the IP header in the frame */
    u32 transport_offset;
    u32 length;          /* of the IP packet, in bytes */
    u32 identification;  /* of a fragment, network order; 16 bits in IPv4 */
    u32 fragment_header; /* IPv6: offset of the fragment header */
    u16 checksum;        /* of the transport header as it came */
    u8 fragment;         /* enum fragment_kind */
    u8 has_data;         /* TCP: bytes behind the header */
    u32 acknowledged;    /* TCP: network order */
    int action;          /* what the hook returns once the packet was forwarded */
    u32 tunnel;          /* identifier of the tunnel that it is in: the sniffer looks inside */
    u32 tunnel_kind;     /* enum tunnel_kind */
    u32 out;             /* the interface that it was sent out of; 0 when the stack goes on with it */
};

/*
 * Make the verifier forget how a number came about. Header offsets that took many ways through the parser (tags,
 * extension headers) would otherwise have it follow each way to the end of the program: 507,000 instructions instead
 * of 21,000, and over the limit of a million for the cold program (seen on 6.18). `zero` is settings.zero.
 */
ALWAYS_INLINE u32 forget(u32 number, u32 zero)
{
    return number ^ zero;
}

/* The same for a whole packet, in cold programs. */
ALWAYS_INLINE void forget_packet(struct packet *p, u32 zero)
{
    for (int i = 1; i < 4; i++) {
        p->source[i] ^= zero;
        p->destination[i] ^= zero;
    }
    p->family ^= zero;
    p->protocol ^= zero;
    p->tcp_flags ^= zero;
    p->fragment ^= zero;
    p->has_data ^= zero;
    p->identification ^= zero;
    p->fragment_header ^= zero;
    p->network_offset ^= zero;
    p->transport_offset ^= zero;
}

ALWAYS_INLINE bool is_opening(const struct packet *p)
{
    return p->protocol == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

ALWAYS_INLINE bool is_icmp(const struct packet *p)
{
    return p->protocol == (p->family == FAMILY_IPV4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

ALWAYS_INLINE bool same_address(const u32 a[4], const u32 b[4])
{
    return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

ALWAYS_INLINE void copy_address(u32 to[4], const u32 from[4])
{
    to[0] = from[0];
    to[1] = from[1];
    to[2] = from[2];
    to[3] = from[3];
}

#endif
