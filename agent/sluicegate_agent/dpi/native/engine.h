/* SPDX-License-Identifier: Apache-2.0
 *
 * The engine of the sniffer: ring record -> flow -> nDPI -> patterns -> verdict -> batch of events.
 *
 * This header is the whole binding: build_native.py hands it to cffi with the lines that begin with '#' left out, so
 * constants are enums here. No Python, no policy, no files, no system calls: tables come in, events go out. One engine
 * belongs to one thread; different engines may run in different threads once they are made (nDPI's start is not
 * thread-safe: make them one after the other).
 */
#ifndef SLUICEGATE_DPI_ENGINE_H
#define SLUICEGATE_DPI_ENGINE_H
#include <stddef.h>
#include <stdint.h>

enum {
    SG_APPS = 1024,      /* tables by nDPI protocol id; an id beyond counts as 0, unknown */
    SG_POLICIES = 256,   /* sg_record.policy */
    SG_KINDS = 8,        /* tables by event kind */
    SG_RISKS = 64,       /* bits of nDPI's risk mask */
    SG_CLASSES = 4,      /* timeout classes */
};

/* ---- records: what the kernel (or replay) puts in the ring ---------------------------------------------------- */

enum sg_record_flag {
    SG_REVERSE = 1,      /* against the flow's direction: from server to client */
    SG_IPV6 = 2,
    SG_FRAGMENT = 4,     /* any IP fragment: counted, never parsed beyond the IP header */
    SG_TRUNCATED = 8,    /* fewer bytes captured than the packet had */
    SG_EGRESS = 16,
    SG_TUNNEL = 32,
};

/* 48 bytes, 8-aligned, behind the ring's own 8 bytes; cap_len bytes of L3 data follow, the entry ends 8-aligned. */
struct sg_record {
    uint64_t ts_ns;
    uint64_t flow_id;    /* generation << 32 | slot; the same for both directions */
    uint32_t ifindex;
    uint32_t wire_len;   /* frame length on the wire; above 65535 with GSO */
    uint32_t index;      /* packet number in its flow, from 1 */
    uint16_t cap_len;    /* bytes of L3 data that follow */
    uint16_t l4_off;     /* from the start of the L3 header */
    uint16_t pl_off;     /* equal to cap_len without payload */
    uint16_t pl_len;     /* captured payload bytes */
    uint8_t l4_proto, tcp_flags, flags, policy;
    uint32_t tunnel;     /* VNI, TEID or key of the innermost tunnel */
    uint16_t vlan;
    uint16_t drops;      /* ring reservations that failed on that CPU since its last record, saturating */
};

/* Positions count bytes since the ring was made; entry at data[position & mask], which never wraps within an entry:
 * the kernel's ring is mapped twice, one in memory is linear (mask all ones). */
struct sg_ring {
    uint64_t *consumer;
    const uint64_t *producer;
    const uint8_t *data;
    uint64_t mask;
};

/* ---- events --------------------------------------------------------------------------------------------------- */

enum sg_kind {
    SG_CLASSIFIED = 1,   /* nDPI is done with the flow: the label is final */
    SG_ALERT = 2,        /* rule sg_event.rule matched (once per flow and rule) */
    SG_GAVE_UP = 3,      /* budget or memory ended before nDPI was done: the label is its best guess */
    SG_END = 4,          /* the flow is over: once for every flow */
    SG_STOPPED = 5,      /* verdict stop that came after the label (rules watched on): once per flow, rarely wanted */
};

enum sg_action { SG_NONE = 0, SG_STOP = 1, SG_DROP = 2, SG_WIDEN = 3 };

/* Why a flow got its (last) verdict, or ended; sg_detail.reason. */
enum sg_reason {
    SG_BY_NOTHING = 0,
    SG_BY_LABEL,         /* classified, and no loaded rule can still match */
    SG_BY_ENCRYPTION,    /* encrypted and identified */
    SG_BY_BUDGET,        /* packets or payload bytes of the policy are used up */
    SG_BY_MEMORY,        /* too many undecided flows: the oldest was given up */
    SG_BY_RULE,          /* a matched rule's own action */
    SG_BY_RISK,          /* risk score at or above the policy's */
    SG_BY_PROTOCOL,      /* the policy's action for this protocol */
    SG_BY_REACH,         /* classified, and both directions are beyond what any rule of its group looks at */
};
enum sg_end { SG_END_NONE = 0, SG_END_IDLE, SG_END_CLOSED, SG_END_TOLD, SG_END_EVICTED, SG_END_FLUSHED };

struct sg_event {        /* 88 bytes */
    uint64_t flow_id, ts_ns;
    uint16_t kind;       /* enum sg_kind */
    uint16_t action;     /* the flow's verdict so far, enum sg_action */
    uint16_t master, app; /* nDPI protocol ids; 0 unknown */
    uint32_t rule;       /* sg_rule.id of an alert */
    uint32_t packets;    /* records of the flow so far, both directions */
    uint32_t blob_off;   /* struct sg_detail, then blob_len - sizeof(struct sg_detail) bytes of nDPI's JSON */
    uint32_t blob_len;
    uint8_t client[16], server[16]; /* IPv4 in the first 4 bytes; client sent the first packet */
    uint16_t client_port, server_port; /* host order; ICMP: type and code of the first packet */
    uint8_t l4_proto, flags; /* flags of the flow's first record (SG_IPV6, SG_EGRESS, SG_TUNNEL) */
    uint8_t confidence, state; /* nDPI's; state 0 inspecting, 1 partial, 2 monitoring, 3 classified */
    uint32_t ifindex;
    uint32_t direction;  /* of the packet that completed an alert: 0 to the server, 1 to the client */
};

struct sg_detail {       /* 80 bytes, in front of each event's text */
    uint64_t first_ns, last_ns;
    uint64_t bytes[2];   /* wire bytes of the records seen, by direction */
    uint64_t risk;       /* nDPI's risk mask */
    uint32_t packets[2]; /* records seen, by direction */
    uint32_t payload[2]; /* captured payload bytes, by direction */
    uint32_t tunnel;
    uint16_t vlan, score; /* score: sum of sg_tables.risk_score over the mask */
    uint8_t tcp_flags[2]; /* ORed, by direction */
    uint8_t reason, end; /* enum sg_reason, enum sg_end */
    uint8_t policy, layer; /* layer: enum sg_app */
    uint16_t reserved;
    uint32_t match_end;  /* alert: offset in its buffer where the last matching pattern ended */
    uint32_t start_index; /* sg_record.index of the flow's first record: above 1 the beginning was not seen */
};

/* ---- tables that Python fills --------------------------------------------------------------------------------- */

enum sg_want { SG_WANT_EVENT = 1, SG_WANT_TEXT = 2 };
/* Timeout classes: TCP without an answer, TCP, everything else, flows with a verdict or closed (late packets only). */
enum sg_class { SG_TCP_NEW = 0, SG_TCP_OPEN = 1, SG_DATAGRAM = 2, SG_DECIDED = 3 };

struct sg_limits {
    uint32_t max_flows;      /* table; the least recently used flow makes room */
    uint32_t max_undecided;  /* flows that hold nDPI state (about 1.2 kB and its heap) */
    uint32_t max_events;     /* of one batch, at least 256 */
    uint32_t blob_bytes;     /* of one batch, at least 1 MiB */
    uint64_t max_held_bytes; /* out-of-order segments, unfinished heads and kept texts of all flows */
    uint32_t held_bytes;     /* the same, of one flow and direction */
    uint32_t idle_seconds[4]; /* by enum sg_class */
};

struct sg_tables {
    uint8_t want[8][1024];   /* [kind][app]: enum sg_want bits; END with TEXT keeps the text until the end */
    uint8_t encrypted[1024]; /* [app or master]: 1 when there is nothing left to scan once identified */
    uint8_t app[1024];       /* [app or master]: enum sg_app; 0 none of them */
    uint16_t risk_score[64];
};

struct sg_policy {           /* one per sniffer, sg_record.policy */
    uint32_t max_packets;    /* records of both directions; 0 is no limit, also below */
    uint32_t payload_packets;
    uint32_t payload_bytes;
    uint32_t drop_seconds;   /* how long risk_action and on_app drop; below 2^24, 0: as the kernel's side likes */
    uint16_t min_risk;       /* 0: risk decides nothing */
    uint8_t risk_action;     /* enum sg_action */
    uint8_t classify;        /* 0: no nDPI for this policy */
    uint8_t on_app[1024];    /* action when the label is final: SG_NONE leaves it to the rules (the usual), else done */
};

/* ---- rules ----------------------------------------------------------------------------------------------------
 *
 * A rule is a header (protocol, addresses, ports), a few conditions, and up to 32 terms, one bit each. It matches in
 * one direction of one flow when all bits of `need` and none of `forbid` were seen. Bits come from patterns: one
 * Vectorscan expression on one buffer. A chain of relative contents (distance, within) is one expression "A.{d,w}B",
 * offset and depth are min_offset and max_offset, so Vectorscan checks positions itself and none are kept.
 *
 * The unit of evaluation is a record with all it completes: its payload alone, the stream bytes it makes available,
 * the heads (HTTP request, ClientHello, DNS question) that it ends. Bits of PACKET patterns live for one unit, all
 * others as long as the flow; request_bits are cleared where a new HTTP request begins.
 *
 * A rule with patterns in buffers of a head waits until that buffer was seen, a rule for an application until the flow
 * has that label (an HTTP request line counts as HTTP at once, a ClientHello as TLS).
 */

enum sg_buffer {
    SG_BUF_STREAM = 0,     /* TCP only, in order, one direction; a match may span packets. Truncated bytes are a gap */
    SG_BUF_PACKET = 1,     /* payload of one packet of any protocol */
    SG_BUF_HTTP_URI = 2,   /* request target, %XX decoded once */
    SG_BUF_HTTP_URI_RAW = 3,
    SG_BUF_HTTP_HOST = 4,  /* Host, lower case, without port */
    SG_BUF_HTTP_AGENT = 5, /* User-Agent without surrounding blanks */
    SG_BUF_HTTP_METHOD = 6,
    SG_BUF_TLS_SNI = 7,    /* server_name of a ClientHello over TCP, as sent */
    SG_BUF_DNS_QUERY = 8,  /* name of the first question, with dots, lower case; DNS over UDP */
    SG_BUF_HTTP_HEADER = 9, /* all header lines of a request as sent, each with its line end; not the request line */
    SG_BUFFERS = 10,
};

struct sg_pattern {
    const char *expression;
    uint32_t flags;          /* HS_FLAG_*: 1 caseless, 2 dotall, 4 multiline, 8 single match, ... as in hs_compile.h */
    uint8_t buffer;          /* enum sg_buffer */
    uint8_t directions;      /* bits: 1 to the server, 2 to the client */
    uint16_t reserved;
    uint64_t min_offset;     /* of the match's end; 0 is none */
    uint64_t max_offset;     /* of the match's end; all ones is none */
};

struct sg_term { uint32_t rule, bits; };     /* rule: index into sg_ruleset.rules */

/* Numbers of sg_rule.app and of sg_tables.app; above these Python may make its own. */
enum sg_app { SG_ANY = 0, SG_HTTP = 1, SG_TLS = 2, SG_DNS = 3, SG_SSH = 4, SG_SMTP = 5, SG_FTP = 6, SG_QUIC = 7 };

enum sg_rule_flag {
    SG_RULE_BOTH_WAYS = 1,   /* header "<>": also with source and destination exchanged */
    SG_RULE_TO_SERVER = 2,
    SG_RULE_TO_CLIENT = 4,
    SG_RULE_ESTABLISHED = 8, /* handshake seen, or first record was no SYN; not TCP: both directions seen */
    SG_RULE_NOT_ESTABLISHED = 16,
    SG_RULE_IPV4 = 32,
    SG_RULE_IPV6 = 64,
};

struct sg_rule {
    uint32_t need, forbid, request_bits;
    uint32_t sid;            /* comes back as sg_event.rule; alerts are one per flow and sid, over reloads as well */
    uint32_t source, destination;           /* address sets; 0 is any */
    uint32_t source_port, destination_port; /* port sets; 0 is any */
    uint16_t dsize_low, dsize_high; /* payload length on the wire of the completing packet; 0 and 65535 is any */
    uint8_t l4;              /* 0 any, 1 ICMP and ICMPv6, 6, 17, ... */
    uint8_t app;             /* enum sg_app */
    uint8_t flags;           /* enum sg_rule_flag */
    uint8_t action;          /* SG_NONE: alert only; SG_DROP: that flow; SG_STOP: look no further */
    uint32_t drop_seconds;   /* with SG_DROP: how long, as in sg_policy */
};

struct sg_set { uint32_t first, count; };       /* sorted, disjoint */
struct sg_range { uint8_t low[16], high[16]; }; /* inclusive; IPv4 as ::ffff:a.b.c.d */
struct sg_ports { uint16_t low, high; };        /* inclusive, host order */

struct sg_ruleset {           /* copied; nothing needs to outlive the call */
    const struct sg_pattern *patterns;
    const uint32_t *first_term; /* [pattern_count + 1]: terms[first_term[id]] up to first_term[id + 1] */
    const struct sg_term *terms;
    const struct sg_rule *rules;
    const uint32_t *bare;       /* rules that need no bit: tried on each packet with payload until they fired, and on */
    const struct sg_set *address_sets; /* packets without payload when they have no pattern at all; entry 0 unused */
    const struct sg_range *ranges;
    const struct sg_set *port_sets;
    const struct sg_ports *ports;
    uint32_t pattern_count, term_count, rule_count, bare_count;
    uint32_t address_set_count, range_count, port_set_count, port_count;
    uint32_t reach[2];        /* stream bytes of each direction beyond which no rule matches any more; 0 is no limit */
    uint8_t keep_for_app[256]; /* [sg_tables.app]: 1 when a rule can still match a flow with that label */
};

/* ---- nDPI: found and checked by ndpi_provider.py, offsets from the wheel's own cffi ---------------------------- */

struct sg_ndpi_setup {
    const char *path;
    uint32_t flow_size;      /* ffi.sizeof; must equal what the library's function says */
    uint32_t serializer_size;
    uint32_t state_offset, confidence_offset, risk_offset; /* in struct ndpi_flow_struct */
};

/* ---- counters ------------------------------------------------------------------------------------------------- */

struct sg_stats {
    uint64_t records, bytes;     /* taken and understood; captured L3 bytes */
    uint64_t bad_entry;          /* ring entries whose lengths contradict each other */
    uint64_t bad_packet;         /* records whose header says other things than their packet */
    uint64_t other_protocol;     /* records of another protocol or family than their flow: never given to nDPI */
    uint64_t fragments, truncated;
    uint64_t kernel_drops;       /* sum of sg_record.drops */
    uint64_t flows, ended, evicted; /* evicted: ended because the table was full */
    uint64_t gave_up_budget, gave_up_memory;
    uint64_t classified;
    uint64_t ndpi_calls, scans, scanned_bytes;
    uint64_t hits;               /* pattern matches, before rules */
    uint64_t alerts;
    uint64_t hits_dropped;       /* matches not remembered: more than a flow may hold; that flow's rules may be missed */
    uint64_t retransmitted;      /* payload bytes seen before, not scanned again */
    uint64_t reordered;          /* segments held back until the ones before them came */
    uint64_t gaps;               /* bytes missing in a stream: a pattern over the gap is missed */
    uint64_t held_refused;       /* segments, heads or texts that found no memory to wait in */
    uint64_t restarted;          /* streams begun anew by a reload of rules */
    uint64_t scan_errors;
    uint64_t events;             /* handed out */
    uint64_t filtered;           /* not wanted by the table */
    uint64_t events_lost;        /* no room although room was left for the worst case; never expected */
    uint64_t text_dropped;       /* texts that did not fit in the blob */
    uint64_t full;               /* calls that stopped because the event area was full; nothing is lost by that */
    uint64_t verdicts_stop, verdicts_drop;
    uint64_t no_memory;          /* allocations that failed */
    uint64_t flows_now, undecided_now, streams_now, held_now; /* gauges; held_now in bytes */
};

/* ---- calls ----------------------------------------------------------------------------------------------------
 * int: 0 fine, negative failed and sg_error() says why (text of this thread, until its next failure).
 */

struct sg_engine;
struct sg_compiled;          /* a rule set, ready to be swapped in */

const char *sg_error(void);
size_t sg_sizeof_record(void);
size_t sg_sizeof_event(void);
size_t sg_sizeof_detail(void);

struct sg_engine *sg_new(const struct sg_limits *limits); /* NULL: out of memory or limits that make no sense */
void sg_free(struct sg_engine *engine);

int sg_ndpi_open(struct sg_engine *engine, const struct sg_ndpi_setup *setup);
int sg_ndpi_set(struct sg_engine *engine, const char *protocol, const char *parameter, const char *value);
int sg_ndpi_start(struct sg_engine *engine);
/* Label of a flow of its own with these two packets, there and back; negative when nDPI says nothing. A self-test. */
int sg_ndpi_try(struct sg_engine *engine, const uint8_t *there, uint16_t there_len, const uint8_t *back,
                uint16_t back_len);
const char *sg_ndpi_revision(struct sg_engine *engine);
const char *sg_ndpi_protocol(struct sg_engine *engine, uint16_t id); /* NULL without nDPI or for an unknown id */
uint32_t sg_ndpi_protocols(struct sg_engine *engine);                /* how many ids there are */
const char *sg_ndpi_category(struct sg_engine *engine, uint16_t app); /* name of that protocol's category */
const char *sg_ndpi_risk(struct sg_engine *engine, uint32_t bit);    /* "Known Proto on Non Std Port", ... */
uint16_t sg_ndpi_risk_score(struct sg_engine *engine, uint32_t bit);

void sg_tables_set(struct sg_engine *engine, const struct sg_tables *tables);
int sg_policy_set(struct sg_engine *engine, uint32_t number, const struct sg_policy *policy);
/* words[slot & mask] = generation << 32 | seconds << 8 | action; seconds of a drop, 24 bits. A word is never replaced by
 * one of an older generation, nor that of a flow by a lesser one (none < stop < drop, a shorter drop < a longer).
 * NULL: verdicts only in events. */
void sg_verdict_words(struct sg_engine *engine, uint64_t *words, uint64_t mask);

/* Before each record: words[0] its position in the ring, words[1] its flow. In memory that a supervisor shares, they say
 * after a crash which record it was about. NULL: not wanted. */
void sg_mark_words(struct sg_engine *engine, uint64_t *words);

/* Compiling needs no engine and may happen in another thread; *bad is the pattern that was refused. */
struct sg_compiled *sg_compile(const struct sg_ruleset *rules, int64_t *bad); /* *bad -1: not a pattern's fault */
size_t sg_compiled_bytes(const struct sg_compiled *compiled);
void sg_compiled_free(struct sg_compiled *compiled);
/* Takes over `compiled` (NULL: no rules) for flows of that policy. Between batches; flows stay, open streams begin anew
 * under the new rules, so that patterns over that point and patterns at the stream's start are missed. */
int sg_rules_swap(struct sg_engine *engine, uint32_t policy, struct sg_compiled *compiled);
/* Time of one pattern over a sample, in stream mode as the engine scans: nanoseconds, or negative with sg_error(). */
int64_t sg_time_pattern(const struct sg_pattern *pattern, const uint8_t *sample, size_t length, uint32_t chunk,
                        uint64_t *matches);
const char *sg_scanner_version(void);

/* Takes up to max_records from the ring; fewer when it is empty or the event area is full. The number taken. */
int sg_run(struct sg_engine *engine, struct sg_ring *ring, uint32_t max_records);
/* Ends idle flows (up to max_flows); stops early when the event area is full. The number ended. */
int sg_expire(struct sg_engine *engine, uint64_t now_ns, uint32_t max_flows);
/* Ends one flow at once because the kernel did: 1 ended, 0 not known, -1 events are full. */
int sg_end(struct sg_engine *engine, uint64_t flow_id, uint64_t now_ns);
/* Drops a flow for what the caller found in its events; reason as in sg_detail. Classification ends with it. 1: done,
 * 0: the flow is not known here and the word was written all the same, -1: events are full. */
int sg_drop(struct sg_engine *engine, uint64_t flow_id, uint32_t seconds, uint8_t reason, uint64_t now_ns);
/* Ends up to max_flows of all flows, idle or not. */
int sg_flush(struct sg_engine *engine, uint64_t now_ns, uint32_t max_flows);
/* The batch since the last call; valid until the next sg_run, sg_expire, sg_end or sg_flush. */
uint32_t sg_events(struct sg_engine *engine, const struct sg_event **events, const uint8_t **blob, uint32_t *blob_len);
void sg_stats_get(struct sg_engine *engine, struct sg_stats *stats);

#endif
