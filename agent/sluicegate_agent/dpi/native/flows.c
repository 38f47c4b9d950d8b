/* SPDX-License-Identifier: Apache-2.0
 *
 * The flow table: a hash by flow id, one list by last use per timeout class, one by age of the undecided flows.
 */
#include "internal.h"

static uint32_t hash(uint64_t id) {
    id ^= id >> 32;
    id *= 0x9E3779B97F4A7C15ull; /* 2^64 / golden ratio: spreads consecutive slots */
    return (uint32_t)(id >> 32);
}

int flows_init(struct sg_engine *engine) {
    uint32_t count = engine->limits.max_flows, buckets = 16;
    while (buckets < count * 2) buckets *= 2;
    engine->bucket_mask = buckets - 1;
    engine->bucket = calloc(buckets, sizeof *engine->bucket);
    engine->flows = calloc((size_t)count + 1, sizeof *engine->flows);
    engine->pool = calloc(engine->limits.max_undecided, sizeof *engine->pool);
    if (!engine->bucket || !engine->flows || !engine->pool) return fail("no memory for %u flows", count);
    return 0;
}

static uint32_t index_of(const struct sg_engine *engine, const struct flow *flow) {
    return (uint32_t)(flow - engine->flows);
}

struct flow *flow_find(struct sg_engine *engine, uint64_t id) {
    for (uint32_t at = hash(id) & engine->bucket_mask;; at = (at + 1) & engine->bucket_mask) {
        uint32_t index = engine->bucket[at];
        if (!index) return NULL;
        if (engine->flows[index].id == id) return &engine->flows[index];
    }
}

static void bucket_remove(struct sg_engine *engine, uint32_t index) {
    uint32_t mask = engine->bucket_mask, hole = hash(engine->flows[index].id) & mask;
    while (engine->bucket[hole] != index) hole = (hole + 1) & mask;
    /* Close the hole with what follows it, as far as that may move: no marks of deleted entries are left. */
    for (uint32_t at = (hole + 1) & mask; engine->bucket[at]; at = (at + 1) & mask) {
        uint32_t home = hash(engine->flows[engine->bucket[at]].id) & mask;
        if (((at - home) & mask) < ((at - hole) & mask)) continue;
        engine->bucket[hole] = engine->bucket[at];
        hole = at;
    }
    engine->bucket[hole] = 0;
}

static void lru_remove(struct sg_engine *engine, struct flow *flow) {
    struct list *list = &engine->lru[flow->class];
    if (flow->lru_prev) engine->flows[flow->lru_prev].lru_next = flow->lru_next;
    else list->head = flow->lru_next;
    if (flow->lru_next) engine->flows[flow->lru_next].lru_prev = flow->lru_prev;
    else list->tail = flow->lru_prev;
}

static void lru_append(struct sg_engine *engine, struct flow *flow, uint8_t class) {
    struct list *list = &engine->lru[class];
    uint32_t index = index_of(engine, flow);
    flow->class = class;
    flow->lru_next = 0;
    flow->lru_prev = list->tail;
    if (list->tail) engine->flows[list->tail].lru_next = index;
    else list->head = index;
    list->tail = index;
}

void flow_touch(struct sg_engine *engine, struct flow *flow, uint8_t class) {
    if (flow->class == class && engine->lru[class].tail == index_of(engine, flow)) return;
    lru_remove(engine, flow);
    lru_append(engine, flow, class);
}

static void open_append(struct sg_engine *engine, struct flow *flow) {
    uint32_t index = index_of(engine, flow);
    flow->undecided = true;
    flow->open_next = 0;
    flow->open_prev = engine->open.tail;
    if (engine->open.tail) engine->flows[engine->open.tail].open_next = index;
    else engine->open.head = index;
    engine->open.tail = index;
    engine->stats.undecided_now++;
}

void flow_decided(struct sg_engine *engine, struct flow *flow) {
    ndpi_detach(engine, flow);
    if (!flow->undecided) return;
    flow->undecided = false;
    if (flow->open_prev) engine->flows[flow->open_prev].open_next = flow->open_next;
    else engine->open.head = flow->open_next;
    if (flow->open_next) engine->flows[flow->open_next].open_prev = flow->open_prev;
    else engine->open.tail = flow->open_prev;
    engine->stats.undecided_now--;
}

/* Longest unused flow of all classes, those with a verdict first: they are kept for late packets only. */
static struct flow *oldest(struct sg_engine *engine) {
    if (engine->lru[SG_DECIDED].head) return &engine->flows[engine->lru[SG_DECIDED].head];
    struct flow *found = NULL;
    for (int class = 0; class < SG_CLASSES; class++) {
        struct flow *flow = &engine->flows[engine->lru[class].head];
        if (engine->lru[class].head && (!found || flow->last_ns < found->last_ns)) found = flow;
    }
    return found;
}

static void addresses(struct flow *flow, const struct sg_record *record, const uint8_t *l3) {
    bool six = record->flags & SG_IPV6, reverse = record->flags & SG_REVERSE;
    size_t size = six ? 16 : 4;
    const uint8_t *source = l3 + (six ? 8 : 12), *destination = source + size;
    memcpy(flow->client, reverse ? destination : source, size);
    memcpy(flow->server, reverse ? source : destination, size);
    if (record->flags & SG_FRAGMENT || record->l4_off + 4u > record->cap_len) return;
    const uint8_t *l4 = l3 + record->l4_off;
    uint16_t first = be16(l4), second = be16(l4 + 2);
    switch (record->l4_proto) {
    case PROTO_ICMP:
    case PROTO_ICMPV6:
        flow->client_port = l4[0];
        flow->server_port = l4[1];
        break;
    case PROTO_TCP:
    case PROTO_UDP:
    case 132: /* SCTP and UDP-Lite have ports in the same place */
    case 136:
        flow->client_port = reverse ? second : first;
        flow->server_port = reverse ? first : second;
        break;
    default:
        break;
    }
}

struct flow *flow_new(struct sg_engine *engine, const struct sg_record *record, const uint8_t *l3) {
    if (!engine->free_flow && engine->used_flows == engine->limits.max_flows) {
        struct flow *old = oldest(engine);
        engine->stats.evicted++;
        flow_end(engine, old, SG_END_EVICTED, record->ts_ns);
    }
    /* Those that were never used come last: their memory is not touched until it is needed. */
    uint32_t index = engine->free_flow ? engine->free_flow : ++engine->used_flows;
    struct flow *flow = &engine->flows[index];
    if (engine->free_flow) engine->free_flow = flow->lru_next;
    memset(flow, 0, sizeof *flow);
    flow->id = record->flow_id;
    flow->first_ns = record->ts_ns;
    flow->l4_proto = record->l4_proto;
    flow->flags = record->flags & (SG_IPV6 | SG_EGRESS | SG_TUNNEL);
    flow->policy = record->policy;
    flow->ifindex = record->ifindex;
    flow->tunnel = record->tunnel;
    flow->vlan = record->vlan;
    flow->start_index = record->index;
    flow->began_with_syn = record->l4_proto == PROTO_TCP && (record->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
    addresses(flow, record, l3);
    uint32_t at = hash(flow->id) & engine->bucket_mask;
    while (engine->bucket[at]) at = (at + 1) & engine->bucket_mask;
    engine->bucket[at] = index;
    lru_append(engine, flow, record->l4_proto == PROTO_TCP ? SG_TCP_NEW : SG_DATAGRAM);
    engine->stats.flows++;
    engine->stats.flows_now++;
    const struct sg_policy *policy = engine->policies[flow->policy];
    if (engine->ndpi.started && (!policy || policy->classify)) {
        if (engine->stats.undecided_now >= engine->limits.max_undecided) {
            struct flow *old = &engine->flows[engine->open.head];
            give_up(engine, old, SG_BY_MEMORY, record->ts_ns);
            decide(engine, old, record->ts_ns);
            engine->unit.flow = NULL;
        }
        if (ndpi_attach(engine, flow)) open_append(engine, flow);
    }
    return flow;
}

void flow_end(struct sg_engine *engine, struct flow *flow, enum sg_end why, uint64_t ts_ns) {
    uint32_t index = index_of(engine, flow);
    engine->unit.flow = NULL;
    if (!flow->done) stream_finish(engine, flow);
    if (flow->ndpi) give_up(engine, flow, SG_BY_NOTHING, ts_ns);
    scan_close(engine, flow, true);
    struct sg_event *event = event_add(engine, flow, SG_END, ts_ns, why);
    if (event && flow->text) event_text(engine, event, flow->text->data, flow->text->length);
    flow_decided(engine, flow);
    stream_free(engine, flow);
    heads_free(engine, flow);
    if (flow->text) release(engine, flow->text, sizeof *flow->text + flow->text->length);
    if (flow->memory) release(engine, flow->memory, sizeof *flow->memory);
    bucket_remove(engine, index);
    lru_remove(engine, flow);
    flow->lru_next = engine->free_flow;
    engine->free_flow = index;
    engine->stats.ended++;
    engine->stats.flows_now--;
    engine->unit.flow = NULL;
}

void flows_free(struct sg_engine *engine) {
    for (int class = 0; engine->flows && class < SG_CLASSES; class++)
        while (engine->lru[class].head) flow_end(engine, &engine->flows[engine->lru[class].head], SG_END_FLUSHED, 0);
    for (uint32_t i = 0; i < engine->pool_used; i++) free(engine->pool[i]);
    free(engine->pool);
    free(engine->bucket);
    free(engine->flows);
}
