/* SPDX-License-Identifier: Apache-2.0
 *
 * The batch of events: fixed entries, and a blob with what belongs to them.
 */
#include "internal.h"

_Static_assert(sizeof(struct sg_event) == 88, "readers count on it");
_Static_assert(sizeof(struct sg_detail) == 80, "readers count on it");
_Static_assert(sizeof(struct sg_record) == 48, "the kernel counts on it");

size_t sg_sizeof_record(void) { return sizeof(struct sg_record); }
size_t sg_sizeof_event(void) { return sizeof(struct sg_event); }
size_t sg_sizeof_detail(void) { return sizeof(struct sg_detail); }

bool events_full(const struct sg_engine *engine) {
    return engine->event_count + EVENT_ROOM > engine->limits.max_events ||
           engine->blob_used + BLOB_ROOM > engine->limits.blob_bytes;
}

/* The table is by application; a flow that is known by its master alone counts as that. */
uint8_t event_wanted(const struct sg_engine *engine, const struct flow *flow, enum sg_kind kind) {
    return engine->tables.want[kind][app_index(flow->app ? flow->app : flow->master)];
}

struct sg_event *event_add(struct sg_engine *engine, const struct flow *flow, enum sg_kind kind, uint64_t ts_ns,
                           enum sg_end end) {
    uint32_t at = (engine->blob_used + 7u) & ~7u;
    if (!(event_wanted(engine, flow, kind) & SG_WANT_EVENT)) {
        engine->stats.filtered++;
        return NULL;
    }
    if (engine->event_count == engine->limits.max_events || at + sizeof(struct sg_detail) > engine->limits.blob_bytes) {
        engine->stats.events_lost++;
        return NULL;
    }
    struct sg_event *event = &engine->events[engine->event_count++];
    *event = (struct sg_event){
        .flow_id = flow->id, .ts_ns = ts_ns, .kind = (uint16_t)kind, .action = flow->action,
        .master = flow->master, .app = flow->app, .packets = flow->packets[0] + flow->packets[1],
        .blob_off = at, .blob_len = sizeof(struct sg_detail),
        .client_port = flow->client_port, .server_port = flow->server_port, .l4_proto = flow->l4_proto,
        .flags = flow->flags, .confidence = flow->confidence, .state = flow->state, .ifindex = flow->ifindex,
    };
    memcpy(event->client, flow->client, sizeof event->client);
    memcpy(event->server, flow->server, sizeof event->server);
    struct sg_detail detail = {
        .first_ns = flow->first_ns, .last_ns = flow->last_ns,
        .bytes = {flow->bytes[0], flow->bytes[1]}, .risk = flow->risk,
        .packets = {flow->packets[0], flow->packets[1]}, .payload = {flow->payload[0], flow->payload[1]},
        .tunnel = flow->tunnel, .vlan = flow->vlan, .score = flow->score,
        .tcp_flags = {flow->tcp_flags[0], flow->tcp_flags[1]}, .reason = flow->reason, .end = (uint8_t)end,
        .policy = flow->policy, .layer = flow->layer, .start_index = flow->start_index,
    };
    memset(engine->blob + engine->blob_used, 0, at - engine->blob_used);
    memcpy(engine->blob + at, &detail, sizeof detail);
    engine->blob_used = at + (uint32_t)sizeof detail;
    engine->stats.events++;
    return event;
}

/* Must follow the event_add of its event. */
void event_text(struct sg_engine *engine, struct sg_event *event, const char *text, uint32_t length) {
    if (engine->limits.blob_bytes - engine->blob_used < length) {
        engine->stats.text_dropped++;
        return;
    }
    memcpy(engine->blob + engine->blob_used, text, length);
    engine->blob_used += length;
    event->blob_len += length;
}

uint32_t sg_events(struct sg_engine *engine, const struct sg_event **events, const uint8_t **blob, uint32_t *blob_len) {
    uint32_t count = engine->event_count;
    *events = engine->events;
    *blob = engine->blob;
    *blob_len = engine->blob_used;
    engine->event_count = engine->blob_used = 0;
    return count;
}
