/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * Every value that kernel and user space share. The loader reads the layouts from the compiled object and hands
 * them on in its manifest, so this file is the only place where they are written down.
 *
 * Conventions: addresses are 16 bytes as they lie in a packet (IPv4 in word 0, the rest zero) and ports are in
 * network order. Times are jiffies, cut to 32 bits and compared by difference. Ids of frontends, services,
 * backends and next hops are indices of arrays, given out by user space from 1; 0 means none.
 */
#ifndef SLUICEGATE_TYPES_H
#define SLUICEGATE_TYPES_H

#define ADDRESS_FILTER_WORDS 1024   /* x 64 bits: 65,536 bits per kind, under 1 % false hits at 600 addresses */
#define IDENTIFICATIONS 1024        /* counters for fragmented datagrams, by destination */
#define REVERSE_FRONTENDS 8         /* DNAT frontends that may share one backend address and port */
#define NAT_CANDIDATES 8            /* source ports tried for a new FullNAT flow, all derived from its tuple */

enum family { FAMILY_IPV4 = 4, FAMILY_IPV6 = 6 };

#define LEAST_LOAD_DRAWS 4          /* candidates compared by load: two leave the tail to chance */
#define DRAWS 8                     /* at most: a slot can point at a backend that left a moment ago */
#define HALF_OPEN_EPOCHS 4          /* parts of the half-open timeout in which half-open flows are counted */

enum forwarding_mode { MODE_FULL_NAT = 1, MODE_DNAT = 2, MODE_DIRECT_RETURN = 3 };

enum algorithm { ALGORITHM_MAGLEV = 1, ALGORITHM_ROUND_ROBIN = 2, ALGORITHM_LEAST_LOAD = 3 };

enum frontend_flag {
    FRONTEND_RESTRICTED = 1,  /* only clients in `sources` may open flows */
    FRONTEND_AFFINITY = 2,    /* a client's flows go to one backend */
};

enum backend_state {
    BACKEND_FREE = 0,      /* no backend; its flows are gone */
    BACKEND_ACTIVE = 1,    /* takes new flows */
    BACKEND_DRAINING = 2,  /* keeps the flows it has, TCP and UDP, takes no new one */
    BACKEND_DOWN = 3,      /* failed its checks: UDP flows and new connections move away, TCP flows may recover */
};

enum backend_flag {
    BACKEND_LOCAL = 1,     /* on this node itself: reached in DNAT whatever its service's mode, so that the node's stack
                              takes the packets and its replies can be told apart on their way out */
};

enum hop_flag {
    HOP_RESOLVED = 1,      /* the MAC addresses are valid */
    HOP_XDP = 2,           /* and the device takes frames redirected by XDP */
    HOP_LOCAL = 4,         /* this node itself: tc puts the packet to the device's ingress, as if it came from outside */
};

enum interface_flag {
    INTERFACE_TAKES_REDIRECT = 1,  /* the device implements ndo_xdp_xmit right now (netdev xdp-features, NDO_XMIT) */
    INTERFACE_PARTIAL_CHECKSUMS = 2, /* its frames may come with an unfinished checksum (veth and other virtual devices) */
    INTERFACE_L3 = 4,              /* frames on it carry no Ethernet header */
};

/* State of a flow. In FullNAT the `nat` entry holds the truth and the `flows` entry a copy. */
enum flow_state {
    FLOW_ESTABLISHED = 1,     /* the client answered the backend; until then the flow is half-open */
    FLOW_ANSWERED = 2,        /* the backend answered */
    FLOW_CLIENT_FIN = 4,
    FLOW_BACKEND_FIN = 8,
    FLOW_RESET = 16,
    FLOW_COUNTED_CLOSED = 32, /* already added to backend_load.closed */
    FLOW_CLAIMED = 64,        /* an expired entry that one CPU is taking over */
    FLOW_SPOKEN = 128,        /* the backend sent data */
    FLOW_WAITING = 256,       /* a request is under way that has no byte of a response yet */
    FLOW_UNANSWERED = 512,    /* its SYN came again before any answer; counted */
    FLOW_TIMED = 1024,        /* one of those whose times are taken */
};

/* How to reach a neighbour without asking the routing table again. */
struct hop {
    u32 ifindex;
    u16 mtu;
    u16 generation;           /* of settings.hop_generation when it was resolved; another one means resolve again */
    u8 destination_mac[6];
    u8 source_mac[6];
    u32 flags;
};

struct settings {
    u32 nat_port_min;         /* FullNAT source ports, host order */
    u32 nat_port_count;
    u32 hop_generation;       /* 1..65535; moves when a route, link or neighbour changed: cached client hops are
                                 resolved anew */
    u32 half_open_timeout;    /* jiffies */
    u32 closed_rest;          /* jiffies a closed FullNAT entry keeps its port (TIME_WAIT at the backend) */
    u32 sync_interval;        /* jiffies between two visits of the request side to the nat entry */
    u32 seed;                 /* of the flow hash; equal on all nodes */
    u32 half_open_limit;      /* half-open TCP flows of one service; above it no more of them get an entry */
    u32 hertz;                /* jiffies per second */
    u32 zero;                 /* always 0, which the verifier cannot know: see forget() */
};

/* Bits by address_hash(): cheap proof that an address is nothing to us. */
struct address_filter {
    u64 vips;
    u64 nat_backends;
    u64 dnat_backends;
};

struct endpoint4 {            /* key of vips4 and reverse4 */
    u32 address;
    u16 port;
    u8 protocol;
    u8 zero;
};

struct endpoint6 {
    u32 address[4];
    u16 port;
    u8 protocol;
    u8 zero;
};

struct frontend {             /* one VIP, protocol and port */
    u32 address[4];
    u16 port;
    u8 protocol;
    u8 family;
    u32 service;              /* index of tables and cursors; VIPs of one family share it */
    u32 slots;                /* length of the service's table */
    u32 idle_timeout;         /* jiffies */
    u32 affinity_timeout;     /* jiffies */
    u32 rate;                 /* new flows per second of the service on this node; 0 means no limit */
    u8 algorithm;
    u8 mode;
    u16 flags;
};

struct backend {
    u32 address[4];
    u32 source[4];            /* FullNAT: our address towards it, the preferred source of its route */
    u32 service;
    u32 nexthop;
    u32 weight;               /* effective weight in thousandths; for selection by load */
    u16 port;
    u16 generation;           /* moves when the id is given to another backend */
    u8 family;
    u8 protocol;
    u8 state;
    u8 flags;                 /* enum backend_flag */
};

struct nexthop {
    struct hop hop;
    u32 gateway[4];           /* the neighbour to resolve, itself the backend when on-link */
    u32 family;
};

struct interface {
    u32 flags;
    u32 mtu;
    u8 mac[6];
    u16 zero;
};

struct reverse {              /* DNAT: which frontends a backend's endpoint may answer for */
    u32 count;
    u32 frontends[REVERSE_FRONTENDS];
};

struct flow4_key {            /* the protocol is the frontend's */
    u32 client;
    u16 client_port;
    u16 frontend;
};

struct flow6_key {
    u32 client[4];
    u16 client_port;
    u16 frontend;
};

/* Members in flow and nat are in the order of their use: with many flows each cache line more is a miss more. */
struct flow {                 /* a client's flow as the request side sees it */
    u64 state;                /* enum flow_state; 64 bits: LLVM's BPF v2 has no narrower atomics with a result */
    u32 backend;
    u16 backend_generation;
    u16 nat_port;             /* FullNAT: our source port, network order */
    u32 last_seen;
    u32 synced;               /* FullNAT: when the nat entry was last visited from here */
    u32 request_ack;          /* what the client had received when it sent its last request; 0 before the first */
    u32 source[4];            /* FullNAT: our source address when the flow was opened */
    u32 timer;                /* DNAT: microseconds at the SYN, later at the open request; see measure.h */
    struct hop client_hop;    /* DNAT: the way back */
    u32 epoch;                /* of its opening, while it is half-open; see admission.h */
    u32 zero;
};

struct nat4_key {             /* as the reply's own header has it */
    u32 backend;
    u32 source;
    u16 backend_port;
    u16 source_port;
    u32 protocol;
};

struct nat6_key {
    u32 backend[4];
    u32 source[4];
    u16 backend_port;
    u16 source_port;
    u32 protocol;
};

struct nat {                  /* owner of a FullNAT port */
    u64 state;                /* enum flow_state */
    u32 frontend;
    u32 backend;
    u16 client_port;
    u16 backend_generation;
    u32 last_seen;
    struct hop client_hop;
    u32 client[4];
    u32 timer;                /* as in struct flow */
    u32 epoch;                /* of its opening */
};

struct affinity4_key {
    u32 client;
    u32 service;
};

struct affinity6_key {
    u32 client[4];
    u32 service;
};

struct affinity {             /* the backend that a client's flows go to */
    u32 backend;
    u16 backend_generation;
    u16 zero;
    u32 last_used;
};

struct source4_key {          /* longest prefix match; the service counts as the first 32 bits of the prefix */
    u32 prefix_length;
    u32 service;
    u32 address;
};

struct source6_key {
    u32 prefix_length;
    u32 service;
    u32 address[4];
};

/* What a service let in: token bucket and half-open flows. A cache line per service, written by new flows alone. */
struct admission {
    u64 bucket;               /* jiffies of the last refill << 32 | tokens, one of which is 1 / hertz flows */
    u64 epoch;                /* the newest of half_open */
    u64 half_open[HALF_OPEN_EPOCHS];
    u64 zero[2];
};

struct fragment4_key {
    u32 source;
    u32 destination;
    u32 identification;
    u32 protocol;
};

struct fragment6_key {        /* the protocol may differ between fragments of one datagram (RFC 8200, 4.5) */
    u32 source[4];
    u32 destination[4];
    u32 identification;
};

struct fragment {             /* where the rest of a datagram goes: what became of its first fragment */
    u32 source[4];
    u32 destination[4];
    u32 identification;       /* the new one, network order */
    u32 frontend;
    u32 backend;
    u32 is_reply;
    struct hop hop;           /* of a reply */
};

/* A client's end of a flow. */
struct client {
    u32 address[4];
    u16 port;
    u16 frontend;
    u32 family;
};

/* A new flow on its way. */
struct opening {
    struct client client;
    u32 hash;
    u32 now;
    u32 frontend_id;
    u32 backend_id;
    u32 idle_timeout;
    u32 epoch;
    struct hop client_hop;    /* of a client on this node; else empty until the first reply */
};

/* Of one program run, by CPU: what is under construction, too large for the stack beside the rest. */
struct scratch {
    struct nat nat;
    struct flow flow;
    struct fragment fragment;
    struct opening opening;
    u32 mtu;                  /* of the hop for which a packet was too big: for the cold program that reports it */
    u32 attempt;              /* at a backend for a new flow */
    u32 chosen;               /* backend that one cold program leaves to the other to open a flow to */
    u32 out;                  /* of a packet that the sniffer is to see on its way out: the interface, what became of it, */
    u32 reason;               /* and what the hook is to return */
    int action;
};


/* Counters by CPU. */
struct verdict_counter {
    u64 packets;
    u64 bytes;
};

struct traffic {              /* of a frontend and of a backend: request and reply side of what was forwarded */
    u64 request_packets;
    u64 request_bytes;
    u64 reply_packets;
    u64 reply_bytes;
    u64 opened;
    u64 dropped;
};

/* Shared by all CPUs, one cache line each: what selection by load and passive measurement read. See measure.h. */
struct backend_load {
    u64 opened;
    u64 closed;
    u64 requests;             /* data of the client after data of the backend, or the first */
    u64 responses;            /* first data of the backend after a request */
    u64 resets;               /* connections that the backend reset before it sent any data, or refused */
    u64 unanswered;           /* connections whose SYN had to be sent again */
    u64 empty_closes;         /* connections that the backend was the first to close, without any data */
    u64 abandoned;            /* requests whose connection ended before their response */
};

#define LATENCY_BUCKETS 24    /* powers of two of microseconds: up to 8 s, the last has all above */

/* Shared by all CPUs; written for the flows that are FLOW_TIMED. */
struct backend_latency {
    u64 handshake[LATENCY_BUCKETS];      /* SYN to SYN-ACK: the way to the backend and its accept queue */
    u64 first_response[LATENCY_BUCKETS]; /* request to the first byte of its response */
};

struct cursor {               /* round robin: next slot; a cache line of its own */
    u64 next;
    u64 zero[7];
};

#endif
