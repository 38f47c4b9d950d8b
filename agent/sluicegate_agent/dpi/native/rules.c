/* SPDX-License-Identifier: Apache-2.0
 *
 * From pattern matches to alerts: bits per rule, conditions of its header, what a flow remembers.
 */
#include "internal.h"

enum answer { NEVER, WAITS, MATCHES };

void unit_for(struct sg_engine *engine, struct flow *flow, uint64_t ts_ns) {
    struct unit *unit = &engine->unit;
    unit->flow = flow;
    unit->rules = engine->rules[flow->policy];
    unit->ts_ns = ts_ns;
    unit->dsize = unit->count = unit->match_end = 0;
    unit->direction = TO_SERVER;
    unit->payload = flow->payload_packets > 0;
}

static void touch(struct sg_engine *engine, uint32_t rule, uint32_t bits, uint8_t direction) {
    struct unit *unit = &engine->unit;
    for (uint32_t i = 0; i < unit->count; i++) {
        if (unit->touched[i].rule != rule || unit->touched[i].direction != direction) continue;
        unit->touched[i].bits |= bits;
        return;
    }
    if (unit->count == TOUCHED_RULES) {
        engine->stats.hits_dropped++;
        return;
    }
    unit->touched[unit->count++] = (struct pair){rule, bits, direction};
}

/* Called from inside a scan: only notes bits. */
void unit_match(struct sg_engine *engine, uint32_t pattern) {
    const struct sg_compiled *rules = engine->unit.rules;
    for (uint32_t i = rules->first_term[pattern]; i < rules->first_term[pattern + 1]; i++)
        touch(engine, rules->terms[i].rule, rules->terms[i].bits, engine->unit.direction);
}

void rules_pending(struct sg_engine *engine) {
    const struct memory *memory = engine->unit.flow->memory;
    if (!engine->unit.rules) return;
    for (uint32_t i = 0; memory && i < memory->pairs; i++)
        touch(engine, memory->pair[i].rule, 0, memory->pair[i].direction);
}

void rules_new_request(struct sg_engine *engine, struct flow *flow) {
    const struct sg_compiled *rules = engine->rules[flow->policy];
    for (uint32_t i = 0; flow->memory && i < flow->memory->pairs; i++) {
        struct pair *pair = &flow->memory->pair[i];
        if (pair->direction == TO_SERVER) pair->bits &= ~rules->rules[pair->rule].request_bits;
    }
}

/* ---- header ---- */

static bool in_addresses(const struct sg_compiled *rules, uint32_t set, const uint8_t address[16]) {
    if (!set) return true;
    uint32_t low = rules->address_sets[set].first, high = low + rules->address_sets[set].count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (memcmp(address, rules->ranges[middle].low, 16) < 0) high = middle;
        else if (memcmp(address, rules->ranges[middle].high, 16) > 0) low = middle + 1;
        else return true;
    }
    return false;
}

static bool in_ports(const struct sg_compiled *rules, uint32_t set, uint16_t port) {
    if (!set) return true;
    uint32_t low = rules->port_sets[set].first, high = low + rules->port_sets[set].count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (port < rules->ports[middle].low) high = middle;
        else if (port > rules->ports[middle].high) low = middle + 1;
        else return true;
    }
    return false;
}

static void mapped(const struct flow *flow, const uint8_t from[16], uint8_t to[16]) {
    if (flow->flags & SG_IPV6) {
        memcpy(to, from, 16);
        return;
    }
    memset(to, 0, 10);
    to[10] = to[11] = 0xff;
    memcpy(to + 12, from, 4);
}

static bool ends_fit(const struct sg_compiled *rules, const struct sg_rule *rule, const struct flow *flow, bool swap) {
    uint8_t source[16], destination[16];
    if (rule->source || rule->destination) {
        mapped(flow, swap ? flow->server : flow->client, source);
        mapped(flow, swap ? flow->client : flow->server, destination);
        if (!in_addresses(rules, rule->source, source) || !in_addresses(rules, rule->destination, destination))
            return false;
    }
    return in_ports(rules, rule->source_port, swap ? flow->server_port : flow->client_port) &&
           in_ports(rules, rule->destination_port, swap ? flow->client_port : flow->server_port);
}

static bool header_fits(const struct sg_compiled *rules, const struct sg_rule *rule, const struct flow *flow,
                        uint8_t direction) {
    if (rule->l4 && rule->l4 != flow->l4_proto && !(rule->l4 == PROTO_ICMP && flow->l4_proto == PROTO_ICMPV6))
        return false;
    if (rule->flags & (flow->flags & SG_IPV6 ? SG_RULE_IPV4 : SG_RULE_IPV6)) return false;
    if (rule->flags & (direction == TO_SERVER ? SG_RULE_TO_CLIENT : SG_RULE_TO_SERVER)) return false;
    return ends_fit(rules, rule, flow, direction == TO_CLIENT) ||
           (rule->flags & SG_RULE_BOTH_WAYS && ends_fit(rules, rule, flow, direction == TO_SERVER));
}

static bool established(const struct flow *flow) {
    if (!flow->began_with_syn && flow->l4_proto == PROTO_TCP) return true;
    return flow->packets[TO_SERVER] && flow->packets[TO_CLIENT];
}

/* ---- evaluation ---- */

static enum answer ask(const struct unit *unit, uint32_t index, uint32_t seen, uint8_t direction) {
    const struct sg_compiled *rules = unit->rules;
    const struct sg_rule *rule = &rules->rules[index];
    const struct flow *flow = unit->flow;
    if (!header_fits(rules, rule, flow, direction)) return NEVER;
    if (rule->app && rule->app != flow->layer) return flow->layer || flow->labelled ? NEVER : WAITS;
    if (rule->flags & SG_RULE_NOT_ESTABLISHED && established(flow)) return NEVER;
    if (rule->flags & SG_RULE_ESTABLISHED && !established(flow)) return WAITS;
    if (rules->facts[index].heads & ~flow->heads_seen) return WAITS;
    if ((seen & rule->need) != rule->need || seen & rule->forbid) return WAITS;
    if (unit->dsize < rule->dsize_low || unit->dsize > rule->dsize_high) return WAITS;
    return MATCHES;
}

static struct memory *memory_of(struct sg_engine *engine, struct flow *flow) {
    if (!flow->memory && (flow->memory = hold(engine, sizeof *flow->memory)))
        flow->memory->pairs = flow->memory->fired = 0;
    return flow->memory;
}

static struct pair *pair_of(const struct flow *flow, uint32_t rule, uint8_t direction) {
    for (uint32_t i = 0; flow->memory && i < flow->memory->pairs; i++)
        if (flow->memory->pair[i].rule == rule && flow->memory->pair[i].direction == direction)
            return &flow->memory->pair[i];
    return NULL;
}

static bool has_fired(const struct flow *flow, uint32_t sid) {
    for (uint32_t i = 0; flow->memory && i < flow->memory->fired; i++)
        if (flow->memory->sid[i] == sid) return true;
    return false;
}

static void remember(struct sg_engine *engine, struct flow *flow, uint32_t rule, uint32_t bits, uint8_t direction) {
    if (!bits) return;
    struct pair *pair = pair_of(flow, rule, direction);
    if (pair) {
        pair->bits |= bits;
        return;
    }
    struct memory *memory = memory_of(engine, flow);
    if (!memory || memory->pairs == SEEN_PAIRS) engine->stats.hits_dropped++;
    else memory->pair[memory->pairs++] = (struct pair){rule, bits, direction};
}

static void fire(struct sg_engine *engine, uint32_t index, uint8_t direction) {
    struct unit *unit = &engine->unit;
    struct flow *flow = unit->flow;
    const struct sg_rule *rule = &unit->rules->rules[index];
    struct memory *memory = memory_of(engine, flow);
    if (!memory || memory->fired == FIRED_RULES) {
        engine->stats.hits_dropped++;
        return;
    }
    memory->sid[memory->fired++] = rule->sid;
    struct pair *pair = pair_of(flow, index, direction);
    if (pair) *pair = memory->pair[--memory->pairs];
    engine->stats.alerts++;
    verdict(engine, flow, rule->action, SG_BY_RULE, rule->drop_seconds);
    struct sg_event *event = event_add(engine, flow, SG_ALERT, unit->ts_ns, SG_END_NONE);
    if (!event) return;
    event->rule = rule->sid;
    event->direction = direction;
    struct sg_detail *detail = (struct sg_detail *)(engine->blob + event->blob_off);
    detail->match_end = unit->match_end;
}

static void try_rule(struct sg_engine *engine, uint32_t index, uint32_t bits, uint8_t direction) {
    struct flow *flow = engine->unit.flow;
    if (has_fired(flow, engine->unit.rules->rules[index].sid)) return;
    const struct pair *pair = pair_of(flow, index, direction);
    switch (ask(&engine->unit, index, bits | (pair ? pair->bits : 0), direction)) {
    case MATCHES:
        fire(engine, index, direction);
        break;
    case WAITS:
        remember(engine, flow, index, bits & ~engine->unit.rules->facts[index].packet_bits, direction);
        break;
    case NEVER:
        break;
    }
}

void unit_evaluate(struct sg_engine *engine) {
    struct unit *unit = &engine->unit;
    const struct sg_compiled *rules = unit->rules;
    if (!rules) return;
    /* Bare rules first, while the bits that forbid them are still in touched. */
    for (uint32_t i = 0; i < rules->bare_count; i++) {
        uint32_t rule = rules->bare[i], bits = 0;
        if (!unit->payload && !rules->facts[rule].patternless) continue;
        for (uint32_t j = 0; j < unit->count; j++)
            if (unit->touched[j].rule == rule && unit->touched[j].direction == unit->direction)
                bits = unit->touched[j].bits;
        try_rule(engine, rule, bits, unit->direction);
    }
    for (uint32_t i = 0; i < unit->count; i++)
        try_rule(engine, unit->touched[i].rule, unit->touched[i].bits, unit->touched[i].direction);
    unit->count = 0;
}
