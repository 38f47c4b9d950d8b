/* SPDX-License-Identifier: Apache-2.0
 *
 * What the engine's files share. engine.h is what the outside sees.
 */
#ifndef SLUICEGATE_DPI_INTERNAL_H
#define SLUICEGATE_DPI_INTERNAL_H
#include <hs/hs.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "engine.h"

enum {
    TO_SERVER = 0,
    TO_CLIENT = 1,
    PROTO_ICMP = 1,
    PROTO_TCP = 6,
    PROTO_UDP = 17,
    PROTO_ICMPV6 = 58,
    TCP_FIN = 1,
    TCP_SYN = 2,
    TCP_RST = 4,
    TCP_ACK = 16,
    SEEN_PAIRS = 16,      /* rules that wait for more bits, of one flow */
    FIRED_RULES = 32,     /* alerts of one flow */
    TOUCHED_RULES = 256,  /* rules that one record may touch */
    HEAD_BYTES = 16384,   /* an HTTP request head or ClientHello that is longer is not waited for */
    EVENT_ROOM = 4 * FIRED_RULES, /* events that one record may make, with the flows that make room for its own */
    LATER_GENERATIONS = 64, /* of a slot, that may have come up while the engine looked at an old flow */
    MAX_SECONDS = (1 << 24) - 1, /* in a verdict's word */
    BLOB_ROOM = 1 << 17,  /* and their bytes; nDPI's longest texts are certificates' names */
};

/* nDPI returns its 56-byte ndpi_protocol by value; a bigger type is returned through the same hidden pointer, and its
 * first two fields are all we look at. */
typedef union {
    struct { uint16_t master, app; } id;
    uint64_t room[32];
} ndpi_label;

struct label { uint16_t master, app; uint8_t state, confidence; };

struct ndpi {
    void *library, *module, *serializer;
    uint32_t flow_size, state_offset, confidence_offset, risk_offset, protocols;
    bool started;
    void *(*init)(void *);
    int (*finalize)(void *);
    void (*exit)(void *);
    int (*set_config)(void *, const char *, const char *, const char *);
    ndpi_label (*packet)(void *, void *, const unsigned char *, unsigned short, uint64_t, void *);
    ndpi_label (*giveup)(void *, void *);
    void (*free_data)(void *);
    int (*to_json)(void *, void *, ndpi_label, void *);
    int (*serializer_init)(void *, int);
    void (*serializer_term)(void *);
    void (*serializer_reset)(void *);
    char *(*serializer_text)(void *, uint32_t *);
    char *(*protocol_name)(void *, uint16_t);
    int (*protocol_category)(void *, uint16_t);
    const char *(*category_name)(void *, int);
    const char *(*risk_name)(int);
    uint16_t (*risk_score)(uint64_t, uint16_t *, uint16_t *);
    char *(*revision)(void);
    unsigned int (*protocol_count)(void *);
    uint32_t (*flow_bytes)(void);
};

/* Rules of a flow that want more bits, and those that have fired: made at a flow's first match. */
struct pair { uint32_t rule, bits; uint8_t direction; };
struct memory {
    uint8_t pairs, fired;
    struct pair pair[SEEN_PAIRS];
    uint32_t sid[FIRED_RULES];
};

struct segment { struct segment *next; uint32_t sequence; uint16_t length; uint32_t wire; uint8_t data[]; };
struct head { uint32_t length, room, wanted; uint8_t data[]; };
struct text { uint32_t length; char data[]; };

struct flow {
    uint64_t id, first_ns, last_ns;
    uint64_t bytes[2], risk;
    void *ndpi;                       /* nDPI's state while the flow is undecided */
    hs_stream_t *stream[2];
    struct segment *held[2];          /* segments ahead of their turn, sorted */
    struct head *head;                /* beginning of a request or ClientHello that is not complete */
    struct memory *memory;
    struct text *text;                /* nDPI's JSON, kept for the END event */
    uint32_t lru_prev, lru_next, open_prev, open_next;
    uint32_t packets[2], payload[2], payload_packets;
    uint32_t next_sequence[2], offset[2], held_bytes[2];
    uint32_t ifindex, tunnel, start_index, drop_seconds;
    uint16_t master, app, client_port, server_port, vlan, score, heads_seen;
    uint8_t l4_proto, flags, policy, layer, state, confidence, action, reason, class, tcp_flags[2];
    bool undecided : 1;               /* in the list of flows with nDPI state */
    bool labelled : 1;                /* label final */
    bool done : 1;                    /* verdict reached: nothing is looked at any more */
    bool told : 1;                    /* an event said so */
    bool began_with_syn : 1, closed : 1;
    bool in_step[2];                  /* next_sequence is known */
    bool broken[2];                   /* what is scanned as a stream does not begin with the first byte */
    uint8_t client[16], server[16];
};

struct rule_facts { uint32_t packet_bits; uint16_t heads; bool patternless; };

struct sg_compiled {
    hs_database_t *database[SG_BUFFERS][2];
    struct sg_pattern *patterns;      /* expressions are not kept */
    bool *anchored;
    uint32_t *first_term;
    struct sg_term *terms;
    struct sg_rule *rules;
    struct rule_facts *facts;
    uint32_t *bare;
    struct sg_set *address_sets, *port_sets;
    struct sg_range *ranges;
    struct sg_ports *ports;
    uint32_t pattern_count, rule_count, bare_count, address_set_count, port_set_count;
    uint32_t reach[2];
    bool heads;                       /* some pattern looks into a head of TCP */
    uint8_t keep_for_app[256];
};

/* What the record at hand has touched; cleared per record. */
struct unit {
    struct flow *flow;
    const struct sg_compiled *rules;
    uint64_t ts_ns;
    uint32_t dsize, count, match_end;
    uint8_t direction, buffer;
    bool payload;                     /* the record has some */
    struct pair touched[TOUCHED_RULES];
};

struct list { uint32_t head, tail; };

struct sg_engine {
    struct sg_limits limits;
    struct sg_tables tables;
    struct sg_policy *policies[SG_POLICIES];
    struct sg_compiled *rules[SG_POLICIES];
    struct ndpi ndpi;
    hs_scratch_t *scratch;
    struct flow *flows;               /* [max_flows + 1]; 0 is none */
    uint32_t *bucket, bucket_mask, free_flow, used_flows; /* 1 to used_flows were in use at some time */
    struct list lru[SG_CLASSES], open;
    uint64_t idle_ns[SG_CLASSES];
    void **pool;                      /* nDPI states to use again */
    uint32_t pool_used;
    uint64_t *verdicts, verdict_mask, *mark;
    struct sg_event *events;
    uint8_t *blob;
    uint32_t event_count, blob_used;
    struct unit unit;
    struct sg_stats stats;
};

int fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Memory of the shared budget; NULL (counted) when there is none. */
void *hold(struct sg_engine *engine, size_t bytes);
void release(struct sg_engine *engine, void *memory, size_t bytes);

/* flows.c */
int flows_init(struct sg_engine *engine);
void flows_free(struct sg_engine *engine);
struct flow *flow_find(struct sg_engine *engine, uint64_t id);
struct flow *flow_new(struct sg_engine *engine, const struct sg_record *record, const uint8_t *l3);
void flow_touch(struct sg_engine *engine, struct flow *flow, uint8_t class);
void flow_decided(struct sg_engine *engine, struct flow *flow); /* leaves the list of undecided flows */
void flow_end(struct sg_engine *engine, struct flow *flow, enum sg_end why, uint64_t ts_ns);

/* ndpi.c */
void ndpi_close(struct ndpi *ndpi);
struct label ndpi_packet(struct sg_engine *engine, struct flow *flow, const uint8_t *l3, uint32_t length, uint64_t ts_ns,
                         int direction, ndpi_label *full);
struct label ndpi_giveup(struct sg_engine *engine, struct flow *flow, ndpi_label *full);
const char *ndpi_text(struct sg_engine *engine, struct flow *flow, ndpi_label *full, uint32_t *length);
bool ndpi_attach(struct sg_engine *engine, struct flow *flow);
void ndpi_detach(struct sg_engine *engine, struct flow *flow);

/* events.c */
bool events_full(const struct sg_engine *engine);
struct sg_event *event_add(struct sg_engine *engine, const struct flow *flow, enum sg_kind kind, uint64_t ts_ns,
                           enum sg_end end);
void event_text(struct sg_engine *engine, struct sg_event *event, const char *text, uint32_t length);
uint8_t event_wanted(const struct sg_engine *engine, const struct flow *flow, enum sg_kind kind);

/* verdict.c */
void verdict(struct sg_engine *engine, struct flow *flow, uint8_t action, enum sg_reason reason, uint32_t seconds);
void verdict_word(struct sg_engine *engine, uint64_t flow_id, uint8_t action, uint32_t seconds);
void label_final(struct sg_engine *engine, struct flow *flow, struct label label, ndpi_label *full, enum sg_kind kind,
                 bool over, uint64_t ts_ns); /* over: no verdict is to be made any more */
void give_up(struct sg_engine *engine, struct flow *flow, enum sg_reason reason, uint64_t ts_ns);
void decide(struct sg_engine *engine, struct flow *flow, uint64_t ts_ns);

/* rules.c */
void unit_for(struct sg_engine *engine, struct flow *flow, uint64_t ts_ns); /* an empty unit for that flow */
void unit_match(struct sg_engine *engine, uint32_t pattern);
void unit_evaluate(struct sg_engine *engine);
void rules_pending(struct sg_engine *engine); /* touches what the flow remembers: its label or a head is known now */
void rules_new_request(struct sg_engine *engine, struct flow *flow);

/* scan.c */
void scan_block(struct sg_engine *engine, enum sg_buffer buffer, const uint8_t *data, uint32_t length);
void scan_stream(struct sg_engine *engine, const uint8_t *data, uint32_t length);
void scan_close(struct sg_engine *engine, struct flow *flow, bool at_end);
void scan_restart(struct sg_engine *engine, struct flow *flow, int direction);
int scan_prepare(struct sg_engine *engine, const struct sg_compiled *rules);

/* stream.c */
void stream_payload(struct sg_engine *engine, uint32_t sequence, const uint8_t *data, uint32_t length, uint32_t wire);
void stream_finish(struct sg_engine *engine, struct flow *flow); /* scans what waits, gaps or not */
void stream_syn(struct sg_engine *engine, uint32_t sequence);
void stream_free(struct sg_engine *engine, struct flow *flow);

/* heads.c */
void heads_bytes(struct sg_engine *engine, const uint8_t *data, uint32_t length);
void heads_datagram(struct sg_engine *engine, const uint8_t *data, uint32_t length);
void heads_free(struct sg_engine *engine, struct flow *flow);

static inline uint16_t be16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static inline uint32_t be32(const uint8_t *p) { return (uint32_t)be16(p) << 16 | be16(p + 2); }
static inline uint32_t app_index(uint16_t app) { return app < SG_APPS ? app : 0; }

#endif
