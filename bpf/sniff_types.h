/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * Values of the sniffer that kernel and user space share; conventions as in types.h. A sniffer is a number from 1: the
 * index of its row, and the policy in its records.
 */
#ifndef SLUICEGATE_SNIFF_TYPES_H
#define SLUICEGATE_SNIFF_TYPES_H

#define TAPS 4096               /* interfaces, by the low bits of their index: two of one remainder cannot both be sniffed */
#define SNIFFERS 64
#define SNIFF_WORKERS 64
#define SNIFF_RULES 1024        /* of one sniffer; bits of a set */
#define SNIFF_RULE_NONE 1023    /* counts flows that no rule takes */
#define SNIFF_SETS 8192
#define SNIFF_SET_WORDS 16
#define SNIFF_PROTOCOLS 6

enum tap_flag {
    TAP_XDP = 1,                /* XDP sees what comes in here, so tc ingress must not look again */
};

struct tap {                    /* an interface that is sniffed; no one when ifindex is another */
    u32 ifindex;
    u16 sniffer;
    u16 flags;                  /* enum tap_flag */
};

enum sniffer_flag {
    SNIFFER_ADAPTIVE = 1,       /* flows lose budget when the ring fills */
    SNIFFER_SEND_EMPTY = 2,     /* TCP segments without data go up too: a rule looks at them */
};

enum sniff_protocol { SNIFF_TCP = 0, SNIFF_UDP = 1, SNIFF_SCTP = 2, SNIFF_ICMP = 3, SNIFF_ICMPV6 = 4, SNIFF_OTHER = 5 };

struct sniffer {
    u32 table;                  /* of rules, in the keys of sniff_nets and sniff_ports; 0: no rules, all flows are sniffed */
    u32 ignored;                /* index of sniff_sets: rules that exclude what they take */
    u32 protocols[SNIFF_PROTOCOLS]; /* index of sniff_sets by enum sniff_protocol */
    u32 max_packets;            /* of one flow, both directions; each at least 1 */
    u32 payload_packets;
    u32 payload_bytes;
    u32 tcp_idle;               /* jiffies */
    u32 other_idle;             /* jiffies */
    u32 flags;                  /* enum sniffer_flag */
};

struct sniff_settings {
    u64 clock_offset;           /* nanoseconds: wall clock less monotonic clock */
    u32 workers;                /* rings in use, from 0; 0: no one reads, nothing is sent up */
    u32 ring_bytes;
    u32 cpus;                   /* possible ones */
    u32 hertz;
};

/* Rules by bit; the lowest set bit of all that a flow's fields name is the rule that takes it. */
struct sniff_set {
    u64 words[SNIFF_SET_WORDS];
};

enum sniff_side { SNIFF_SOURCE = 0, SNIFF_DESTINATION = 1 };

struct sniff_net4_key {         /* longest prefix match; table and side are always part of it: 64 bits */
    u32 prefix_length;
    u32 table;
    u32 side;
    u32 address;
};

struct sniff_net6_key {
    u32 prefix_length;
    u32 table;
    u32 side;
    u32 address[4];
};

struct sniff_port_key {
    u32 prefix_length;
    u32 table;
    u32 side;
    u16 port;                   /* network order */
    u16 zero;
};

/* Both directions of a flow have one key: its ends are in the order of their numbers. */
struct sniff4_key {
    u32 address[2];
    u16 port[2];
    u32 ifindex;
    u32 tunnel;
    u32 protocol;
};

struct sniff6_key {
    u32 low[4];
    u32 high[4];
    u16 port[2];
    u32 ifindex;
    u32 tunnel;
    u32 protocol;
};

enum sniff_state {
    SNIFF_IGNORE = 0,           /* no rule wants it */
    SNIFF_SNIFF = 1,            /* goes up while the budget lasts */
    SNIFF_STOP = 2,
    SNIFF_DROP = 3,             /* until `until` */
};

enum sniff_why { SNIFF_WHY_OPEN = 0, SNIFF_WHY_RULES = 1, SNIFF_WHY_BUDGET = 2, SNIFF_WHY_VERDICT = 3, SNIFF_WHY_PRESSURE = 4 };

enum sniff_flag {
    SNIFF_FROM_SECOND = 1,      /* the side that opened the flow is the second in the key */
    SNIFF_FIN_OPENER = 2,
    SNIFF_FIN_OTHER = 4,
    SNIFF_RESET = 8,
};

struct sniff {                  /* a flow on one interface; index 0 of a pair counts what its opener sent */
    u64 id;                     /* generation << 32 | slot */
    u32 last_seen;
    u32 until;                  /* drop: its end. stop: until then a late verdict to drop is looked for. Jiffies */
    u32 packets[2];
    u64 octets[2];              /* of frames */
    u8 state;                   /* enum sniff_state */
    u8 why;                     /* enum sniff_why */
    u8 sniffer;
    u8 flags;                   /* enum sniff_flag */
    u8 tcp_flags[2];            /* ORed */
    u16 rule;                   /* that took it; SNIFF_RULE_NONE */
    u64 first_ns;               /* wall clock; from here on what a packet of a stopped flow does not touch */
    u32 payload_bytes;          /* that went up */
    u16 payload_packets;
    u16 sent;
};

/* By CPU and sniffer: packets by what became of them, flows by how they were decided. */
struct sniff_counter {
    u64 packets;                /* that came by, and their bytes */
    u64 octets;
    u64 sent;
    u64 sent_octets;            /* captured bytes */
    u64 empty;                  /* of a flow that is sniffed, with nothing in them to look at */
    u64 stopped;
    u64 dropped;
    u64 ignored;
    u64 fragments;
    u64 unreadable;
    u64 lost;                   /* the ring was full */
    u64 no_worker;
    u64 no_room;                /* the table of flows took no entry */
    u64 opened;
    u64 stopped_by_budget;
    u64 stopped_by_verdict;
    u64 stopped_by_pressure;
    u64 dropped_by_verdict;
};

struct sniff_loss {             /* by CPU and worker */
    u64 total;
    u64 unsaid;                 /* not yet told in a record */
};

/* Of a record, as the engine's header has it (native/engine.h, struct sg_record): 48 bytes. */
struct sniff_record {
    u64 ts_ns;
    u64 flow_id;
    u32 ifindex;
    u32 wire_len;
    u32 index;
    u16 cap_len;
    u16 l4_off;
    u16 pl_off;
    u16 pl_len;
    u8 l4_proto;
    u8 tcp_flags;
    u8 flags;
    u8 policy;
    u32 tunnel;
    u16 vlan;
    u16 drops;
};

#endif
