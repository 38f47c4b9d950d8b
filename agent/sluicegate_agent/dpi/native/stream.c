/* SPDX-License-Identifier: Apache-2.0
 *
 * One direction of a TCP flow in order: what came before is not scanned again, what comes early waits within bounds,
 * what does not come is a gap.
 */
#include "internal.h"

static int32_t ahead(uint32_t sequence, uint32_t of) { return (int32_t)(sequence - of); }

static void deliver(struct sg_engine *engine, const uint8_t *data, uint32_t length) {
    struct flow *flow = engine->unit.flow;
    uint8_t direction = engine->unit.direction;
    if (engine->unit.rules->heads && direction == TO_SERVER) heads_bytes(engine, data, length);
    scan_stream(engine, data, length);
    flow->offset[direction] += length;
}

static void gap(struct sg_engine *engine, struct flow *flow, uint8_t direction, uint32_t bytes) {
    engine->stats.gaps += bytes;
    flow->next_sequence[direction] += bytes;
    scan_restart(engine, flow, direction);
    if (direction == TO_SERVER) heads_free(engine, flow);
}

/* A segment that begins at or before the next byte. */
static void take(struct sg_engine *engine, uint32_t sequence, const uint8_t *data, uint32_t length, uint32_t wire) {
    struct flow *flow = engine->unit.flow;
    uint8_t direction = engine->unit.direction;
    uint32_t old = (uint32_t)-ahead(sequence, flow->next_sequence[direction]);
    uint32_t skip = old < length ? old : length;
    engine->stats.retransmitted += skip;
    if (old >= wire) return;
    if (length > skip) deliver(engine, data + skip, length - skip);
    flow->next_sequence[direction] += length - skip;
    if (wire > length && old < wire) gap(engine, flow, direction, wire - (old > length ? old : length));
}

static void drain(struct sg_engine *engine, struct flow *flow, uint8_t direction) {
    struct segment *segment;
    while ((segment = flow->held[direction]) && ahead(segment->sequence, flow->next_sequence[direction]) <= 0) {
        flow->held[direction] = segment->next;
        flow->held_bytes[direction] -= segment->length;
        take(engine, segment->sequence, segment->data, segment->length, segment->wire);
        release(engine, segment, sizeof *segment + segment->length);
    }
}

static bool wait(struct sg_engine *engine, struct flow *flow, uint8_t direction, uint32_t sequence, const uint8_t *data,
                 uint32_t length, uint32_t wire) {
    struct segment **at = &flow->held[direction];
    while (*at && ahead((*at)->sequence, sequence) < 0) at = &(*at)->next;
    if (*at && (*at)->sequence == sequence && (*at)->length >= length) {
        engine->stats.retransmitted += length;
        return true;
    }
    struct segment *segment = NULL;
    if (flow->held_bytes[direction] + length <= engine->limits.held_bytes)
        segment = hold(engine, sizeof *segment + length);
    if (!segment) return false;
    segment->sequence = sequence;
    segment->length = (uint16_t)length;
    segment->wire = wire;
    memcpy(segment->data, data, length);
    segment->next = *at;
    *at = segment;
    flow->held_bytes[direction] += length;
    engine->stats.reordered++;
    return true;
}

/* Gives up waiting for what is missing before the first segment held. */
static void skip_to_held(struct sg_engine *engine, struct flow *flow, uint8_t direction) {
    gap(engine, flow, direction, flow->held[direction]->sequence - flow->next_sequence[direction]);
    drain(engine, flow, direction);
}

void stream_syn(struct sg_engine *engine, uint32_t sequence) {
    struct flow *flow = engine->unit.flow;
    uint8_t direction = engine->unit.direction;
    if (flow->in_step[direction]) return;
    flow->next_sequence[direction] = sequence + 1;
    flow->in_step[direction] = true;
}

void stream_payload(struct sg_engine *engine, uint32_t sequence, const uint8_t *data, uint32_t length, uint32_t wire) {
    struct flow *flow = engine->unit.flow;
    uint8_t direction = engine->unit.direction;
    if (!flow->in_step[direction]) { /* begins in the middle: this is our first byte */
        flow->next_sequence[direction] = sequence;
        flow->in_step[direction] = true;
    }
    if (ahead(sequence, flow->next_sequence[direction]) > 0) {
        if (wait(engine, flow, direction, sequence, data, length, wire)) return;
        while (flow->held[direction] && ahead(flow->held[direction]->sequence, sequence) < 0)
            skip_to_held(engine, flow, direction);
        if (ahead(sequence, flow->next_sequence[direction]) > 0)
            gap(engine, flow, direction, sequence - flow->next_sequence[direction]);
    }
    take(engine, sequence, data, length, wire);
    drain(engine, flow, direction);
}

void stream_finish(struct sg_engine *engine, struct flow *flow) {
    if (!flow->held[0] && !flow->held[1]) return;
    unit_for(engine, flow, flow->last_ns);
    for (uint8_t direction = TO_SERVER; direction <= TO_CLIENT; direction++) {
        engine->unit.direction = direction;
        while (engine->unit.rules && flow->held[direction]) skip_to_held(engine, flow, direction);
        unit_evaluate(engine);
    }
}

void stream_free(struct sg_engine *engine, struct flow *flow) {
    for (int direction = TO_SERVER; direction <= TO_CLIENT; direction++) {
        struct segment *segment;
        while ((segment = flow->held[direction])) {
            flow->held[direction] = segment->next;
            release(engine, segment, sizeof *segment + segment->length);
        }
        flow->held_bytes[direction] = 0;
    }
}
