/* SPDX-License-Identifier: Apache-2.0
 *
 * The loop: entries of a ring, each checked against its packet, then flow, scan, nDPI, rules, verdict.
 */
#include <stdarg.h>
#include <stdio.h>

#include "internal.h"

enum { ENTRY = 8, RELEASE_EVERY = 32 };
static const uint32_t BUSY = 1u << 31, DISCARD = 1u << 30;

static __thread char error_text[512];
const char *sg_error(void) { return error_text; }

int fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error_text, sizeof error_text, format, arguments);
    va_end(arguments);
    return -1;
}

void *hold(struct sg_engine *engine, size_t bytes) {
    if (engine->stats.held_now + bytes > engine->limits.max_held_bytes) {
        engine->stats.held_refused++;
        return NULL;
    }
    void *memory = malloc(bytes);
    if (memory) engine->stats.held_now += bytes;
    else engine->stats.no_memory++;
    return memory;
}

void release(struct sg_engine *engine, void *memory, size_t bytes) {
    engine->stats.held_now -= bytes;
    free(memory);
}

/* ---- one record ---- */

/* Where IPv6's extension headers end: the offset of the transport header, its protocol; 0 when they do not parse. */
static uint32_t after_extensions(const uint8_t *l3, uint32_t length, uint8_t *protocol, bool *plain, bool *fragment) {
    uint32_t at = 40;
    *protocol = l3[6];
    for (int headers = 0; headers < 8; headers++) {
        switch (*protocol) {
        case 51: /* authentication header: in units of 4 bytes; nDPI does not look behind it */
            *plain = false;
            if (at + 8 > length) return 0;
            *protocol = l3[at];
            at += (l3[at + 1] + 2u) * 4;
            break;
        case 44:
            *fragment = true;
            return at;
        case 0: case 43: case 60: case 135:
            if (at + 8 > length) return 0;
            *protocol = l3[at];
            at += (l3[at + 1] + 1u) * 8;
            break;
        default:
            return at;
        }
    }
    return 0;
}

struct facts { uint32_t sequence, wire; bool fragment, plain; };

/* What the record says about its packet must be what the packet says: nDPI parses the packet, we go by the record, and
 * a flow that is TCP for one and UDP for the other ends in memory that is not what it seems. */
static bool agree(const struct sg_record *record, const uint8_t *l3, struct facts *facts) {
    uint8_t protocol;
    uint32_t total;
    facts->plain = true;
    facts->fragment = record->flags & SG_FRAGMENT;
    if (record->flags & SG_IPV6) {
        if (record->cap_len < 40 || l3[0] >> 4 != 6) return false;
        bool fragment = false;
        uint32_t l4 = after_extensions(l3, record->cap_len, &protocol, &facts->plain, &fragment);
        if (fragment) facts->fragment = true;
        else if (l4 != record->l4_off || protocol != record->l4_proto) return false;
        total = be16(l3 + 4) ? be16(l3 + 4) + 40u : 0;
    } else {
        if (record->cap_len < 20 || l3[0] >> 4 != 4) return false;
        if ((l3[0] & 15) < 5 || record->l4_off != (l3[0] & 15) * 4 || l3[9] != record->l4_proto) return false;
        if (be16(l3 + 6) & 0x3fff) facts->fragment = true; /* more fragments, or not the first */
        total = be16(l3 + 2);
    }
    if (facts->fragment) return true;
    uint32_t header = record->l4_off;
    facts->wire = record->pl_len;
    if (record->l4_proto == PROTO_TCP) {
        if (record->l4_off + 20u > record->cap_len) return !record->pl_len;
        header += (l3[record->l4_off + 12] >> 4) * 4u;
        facts->sequence = be32(l3 + record->l4_off + 4);
    } else if (record->l4_proto == PROTO_UDP) {
        header += 8;
    } else return true;
    if (record->pl_len && record->pl_off != header) return false;
    /* 0 is a packet of more than 64 KiB before segmentation; what was captured is all we know then. */
    if (total >= header && total - header > facts->wire) facts->wire = total - header;
    return true;
}

static void payload(struct sg_engine *engine, const struct sg_record *record, const uint8_t *data,
                    const struct facts *facts) {
    struct unit *unit = &engine->unit;
    const struct sg_compiled *rules = unit->rules;
    if (!rules || !record->pl_len) return;
    scan_block(engine, SG_BUF_PACKET, data, record->pl_len);
    if (record->l4_proto == PROTO_TCP) {
        uint32_t sequence = facts->sequence + (record->tcp_flags & TCP_SYN ? 1 : 0);
        stream_payload(engine, sequence, data, record->pl_len, facts->wire);
    } else if (record->l4_proto == PROTO_UDP && (unit->flow->layer == SG_DNS || unit->flow->server_port == 53)) {
        heads_datagram(engine, data, record->pl_len);
    }
}

static uint8_t class_of(const struct flow *flow) {
    if (flow->done || flow->closed) return SG_DECIDED;
    if (flow->l4_proto != PROTO_TCP) return SG_DATAGRAM;
    return flow->packets[TO_SERVER] && flow->packets[TO_CLIENT] ? SG_TCP_OPEN : SG_TCP_NEW;
}

static void count(struct flow *flow, const struct sg_record *record, int direction) {
    if (record->ts_ns > flow->last_ns) flow->last_ns = record->ts_ns;
    flow->packets[direction]++;
    flow->bytes[direction] += record->wire_len;
    flow->payload[direction] += record->pl_len;
    flow->payload_packets += record->pl_len > 0;
    if (flow->l4_proto != PROTO_TCP) return;
    flow->tcp_flags[direction] |= record->tcp_flags;
    if ((flow->tcp_flags[0] | flow->tcp_flags[1]) & TCP_RST || (flow->tcp_flags[0] & flow->tcp_flags[1] & TCP_FIN))
        flow->closed = true;
}

static void take(struct sg_engine *engine, const struct sg_record *record, const uint8_t *l3) {
    struct facts facts = {0};
    engine->stats.kernel_drops += record->drops;
    if (!agree(record, l3, &facts)) {
        engine->stats.bad_packet++;
        return;
    }
    engine->stats.records++;
    engine->stats.bytes += record->cap_len;
    engine->stats.truncated += (record->flags & SG_TRUNCATED) != 0;
    engine->stats.fragments += facts.fragment;
    struct flow *flow = flow_find(engine, record->flow_id);
    if (!flow) flow = flow_new(engine, record, l3);
    else if (flow->l4_proto != record->l4_proto || ((flow->flags ^ record->flags) & SG_IPV6)) {
        engine->stats.other_protocol++;
        return;
    }
    uint8_t direction = record->flags & SG_REVERSE ? TO_CLIENT : TO_SERVER;
    count(flow, record, direction);
    if (!flow->done) {
        unit_for(engine, flow, record->ts_ns);
        engine->unit.direction = direction;
        engine->unit.payload = record->pl_len > 0;
        engine->unit.dsize = facts.wire > UINT16_MAX ? UINT16_MAX : facts.wire;
        if (!facts.fragment) {
            if (record->tcp_flags & TCP_SYN && record->l4_proto == PROTO_TCP) stream_syn(engine, facts.sequence);
            payload(engine, record, l3 + record->pl_off, &facts);
            if (flow->ndpi && facts.plain) {
                ndpi_label full;
                struct label label =
                    ndpi_packet(engine, flow, l3, record->cap_len, record->ts_ns, direction, &full);
                /* 0 inspecting, 1 partial: more may come. */
                if (label.state >= 2) label_final(engine, flow, label, &full, SG_CLASSIFIED, false, record->ts_ns);
            }
            unit_evaluate(engine);
        }
        decide(engine, flow, record->ts_ns);
        engine->unit.flow = NULL; /* a unit is of one record: flows and rules may be others by the next */
    }
    flow_touch(engine, flow, class_of(flow));
}

/* Lengths of the record, against each other and its entry. */
static bool sound(const struct sg_record *record, uint32_t body) {
    return body - sizeof *record >= record->cap_len && record->l4_off <= record->cap_len &&
           record->pl_off <= record->cap_len && record->pl_len <= record->cap_len - record->pl_off;
}

int sg_run(struct sg_engine *engine, struct sg_ring *ring, uint32_t max_records) {
    uint64_t at = *ring->consumer, end = __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE);
    uint32_t taken = 0;
    while (at < end && taken < max_records) {
        if (events_full(engine)) {
            engine->stats.full++;
            break;
        }
        const uint8_t *entry = ring->data + (at & ring->mask);
        uint32_t word = __atomic_load_n((const uint32_t *)(const void *)entry, __ATOMIC_ACQUIRE);
        if (word & BUSY) break; /* still being written */
        uint32_t body = word & ~DISCARD;
        if (end - at < ENTRY || body > end - at - ENTRY) { /* not a ring any more: nothing behind it can be found */
            engine->stats.bad_entry++;
            at = end;
            break;
        }
        if (!(word & DISCARD)) {
            const struct sg_record *record = (const void *)(entry + ENTRY);
            if (body < sizeof *record || !sound(record, body)) engine->stats.bad_entry++;
            else {
                if (engine->mark) {
                    __atomic_store_n(&engine->mark[0], at, __ATOMIC_RELAXED);
                    __atomic_store_n(&engine->mark[1], record->flow_id, __ATOMIC_RELAXED);
                }
                take(engine, record, (const uint8_t *)(record + 1));
            }
        }
        at += (ENTRY + (uint64_t)body + 7) & ~7ull;
        /* Room for the kernel as early as possible, without a store per record. */
        if (!(++taken % RELEASE_EVERY)) __atomic_store_n(ring->consumer, at, __ATOMIC_RELEASE);
    }
    __atomic_store_n(ring->consumer, at, __ATOMIC_RELEASE);
    return (int)taken;
}

/* ---- ends ---- */

static enum sg_end how(const struct flow *flow, enum sg_end otherwise) { return flow->closed ? SG_END_CLOSED : otherwise; }

int sg_expire(struct sg_engine *engine, uint64_t now_ns, uint32_t max_flows) {
    uint32_t ended = 0;
    for (int class = 0; class < SG_CLASSES; class++) {
        while (engine->lru[class].head && ended < max_flows) {
            struct flow *flow = &engine->flows[engine->lru[class].head];
            if (now_ns < flow->last_ns || now_ns - flow->last_ns < engine->idle_ns[class]) break;
            if (events_full(engine)) {
                engine->stats.full++;
                return (int)ended;
            }
            flow_end(engine, flow, how(flow, SG_END_IDLE), now_ns);
            ended++;
        }
    }
    return (int)ended;
}

int sg_end(struct sg_engine *engine, uint64_t flow_id, uint64_t now_ns) {
    struct flow *flow = flow_find(engine, flow_id);
    if (!flow) return 0;
    if (events_full(engine)) return fail("the event area is full: take the batch first");
    flow_end(engine, flow, how(flow, SG_END_TOLD), now_ns);
    return 1;
}

int sg_drop(struct sg_engine *engine, uint64_t flow_id, uint32_t seconds, uint8_t reason, uint64_t now_ns) {
    struct flow *flow = flow_find(engine, flow_id);
    if (!flow) {
        engine->stats.verdicts_drop++;
        verdict_word(engine, flow_id, SG_DROP, seconds);
        return 0;
    }
    if (events_full(engine)) return fail("the event area is full: take the batch first");
    verdict(engine, flow, SG_DROP, reason, seconds);
    decide(engine, flow, now_ns);
    engine->unit.flow = NULL;
    flow_touch(engine, flow, class_of(flow));
    return 1;
}

int sg_flush(struct sg_engine *engine, uint64_t now_ns, uint32_t max_flows) {
    uint32_t ended = 0;
    for (int class = 0; class < SG_CLASSES; class++) {
        while (engine->lru[class].head && ended < max_flows && !events_full(engine)) {
            struct flow *flow = &engine->flows[engine->lru[class].head];
            flow_end(engine, flow, how(flow, SG_END_FLUSHED), now_ns);
            ended++;
        }
    }
    return (int)ended;
}

/* ---- making and setting ---- */

struct sg_engine *sg_new(const struct sg_limits *limits) {
    if (!limits->max_flows || limits->max_flows > 1u << 28 || !limits->max_undecided ||
        limits->max_events < 2 * EVENT_ROOM || limits->blob_bytes < 2 * BLOB_ROOM || limits->blob_bytes > 1u << 30) {
        fail("limits: flows 1 to 2^28, undecided 1 or more, events %d or more, blob %d bytes to 1 GiB", 2 * EVENT_ROOM,
             2 * BLOB_ROOM);
        return NULL;
    }
    struct sg_engine *engine = calloc(1, sizeof *engine);
    if (!engine) {
        fail("no memory");
        return NULL;
    }
    engine->limits = *limits;
    for (int class = 0; class < SG_CLASSES; class++) engine->idle_ns[class] = limits->idle_seconds[class] * 1000000000ull;
    for (int kind = 0; kind < SG_KINDS; kind++) memset(engine->tables.want[kind], SG_WANT_EVENT, SG_APPS);
    engine->events = calloc(limits->max_events, sizeof *engine->events);
    engine->blob = malloc(limits->blob_bytes);
    if (!engine->events || !engine->blob || flows_init(engine)) {
        fail("no memory for %u flows and %u events", limits->max_flows, limits->max_events);
        sg_free(engine);
        return NULL;
    }
    return engine;
}

void sg_free(struct sg_engine *engine) {
    if (!engine) return;
    engine->verdicts = NULL;
    if (engine->events && engine->blob) memset(engine->tables.want, 0, sizeof engine->tables.want);
    flows_free(engine);
    for (int policy = 0; policy < SG_POLICIES; policy++) {
        sg_compiled_free(engine->rules[policy]);
        free(engine->policies[policy]);
    }
    hs_free_scratch(engine->scratch);
    ndpi_close(&engine->ndpi);
    free(engine->events);
    free(engine->blob);
    free(engine);
}

void sg_tables_set(struct sg_engine *engine, const struct sg_tables *tables) { engine->tables = *tables; }

int sg_policy_set(struct sg_engine *engine, uint32_t number, const struct sg_policy *policy) {
    if (number >= SG_POLICIES) return fail("there are policies 0 to %d, not %u", SG_POLICIES - 1, number);
    if (policy->risk_action > SG_DROP) return fail("risk action %u is not none, stop or drop", policy->risk_action);
    if (!engine->policies[number] && !(engine->policies[number] = malloc(sizeof *policy))) return fail("no memory");
    *engine->policies[number] = *policy;
    return 0;
}

void sg_verdict_words(struct sg_engine *engine, uint64_t *words, uint64_t mask) {
    engine->verdicts = words;
    engine->verdict_mask = mask;
}

void sg_mark_words(struct sg_engine *engine, uint64_t *words) { engine->mark = words; }

int sg_rules_swap(struct sg_engine *engine, uint32_t policy, struct sg_compiled *compiled) {
    if (policy >= SG_POLICIES) return fail("there are policies 0 to %d, not %u", SG_POLICIES - 1, policy);
    if (compiled && scan_prepare(engine, compiled)) return -1;
    for (int class = 0; class < SG_CLASSES; class++) {
        for (uint32_t index = engine->lru[class].head; index; index = engine->flows[index].lru_next) {
            struct flow *flow = &engine->flows[index];
            if (flow->policy != policy) continue;
            for (int direction = 0; direction < 2; direction++) {
                engine->stats.restarted += flow->stream[direction] != NULL;
                if (flow->offset[direction]) flow->broken[direction] = true;
            }
            scan_close(engine, flow, false);
            /* Which alerts it had is kept; what waited for more bits waited for rules that are gone. */
            if (flow->memory) flow->memory->pairs = 0;
        }
    }
    sg_compiled_free(engine->rules[policy]);
    engine->rules[policy] = compiled;
    return 0;
}

void sg_stats_get(struct sg_engine *engine, struct sg_stats *stats) { *stats = engine->stats; }
