/* SPDX-License-Identifier: Apache-2.0
 *
 * Vectorscan: blocks, and streams of TCP.
 */
#include "internal.h"

static int on_match(unsigned id, unsigned long long from, unsigned long long to, unsigned flags, void *context) {
    struct sg_engine *engine = context;
    struct unit *unit = &engine->unit;
    (void)from;
    (void)flags;
    engine->stats.hits++;
    if (unit->buffer == SG_BUF_STREAM && unit->flow->broken[unit->direction] && unit->rules->anchored[id]) return 0;
    unit->match_end = to > UINT32_MAX ? UINT32_MAX : (uint32_t)to;
    unit_match(engine, id);
    return 0;
}

void scan_block(struct sg_engine *engine, enum sg_buffer buffer, const uint8_t *data, uint32_t length) {
    struct unit *unit = &engine->unit;
    const hs_database_t *database = unit->rules->database[buffer][unit->direction];
    if (!database) return;
    unit->buffer = (uint8_t)buffer;
    engine->stats.scans++;
    engine->stats.scanned_bytes += length;
    if (hs_scan(database, (const char *)data, length, 0, engine->scratch, on_match, engine)) engine->stats.scan_errors++;
}

void scan_stream(struct sg_engine *engine, const uint8_t *data, uint32_t length) {
    struct unit *unit = &engine->unit;
    const hs_database_t *database = unit->rules->database[SG_BUF_STREAM][unit->direction];
    hs_stream_t **stream = &unit->flow->stream[unit->direction];
    if (!database) return;
    if (!*stream) {
        if (hs_open_stream(database, 0, stream)) {
            *stream = NULL;
            engine->stats.no_memory++;
            return;
        }
        engine->stats.streams_now++;
    }
    unit->buffer = SG_BUF_STREAM;
    engine->stats.scans++;
    engine->stats.scanned_bytes += length;
    if (hs_scan_stream(*stream, (const char *)data, length, 0, engine->scratch, on_match, engine))
        engine->stats.scan_errors++;
}

/* At the end of a flow, patterns that wait for the end of their data ($) come now. */
void scan_close(struct sg_engine *engine, struct flow *flow, bool at_end) {
    if (!flow->stream[0] && !flow->stream[1]) return;
    if (at_end) unit_for(engine, flow, flow->last_ns);
    for (uint8_t direction = TO_SERVER; direction <= TO_CLIENT; direction++) {
        if (!flow->stream[direction]) continue;
        engine->unit.direction = direction;
        engine->unit.buffer = SG_BUF_STREAM;
        hs_close_stream(flow->stream[direction], engine->scratch, at_end ? on_match : NULL, engine);
        flow->stream[direction] = NULL;
        engine->stats.streams_now--;
        if (at_end) unit_evaluate(engine);
    }
}

/* Bytes are missing: nothing matches over the gap. */
void scan_restart(struct sg_engine *engine, struct flow *flow, int direction) {
    flow->broken[direction] = true;
    if (flow->stream[direction] && hs_reset_stream(flow->stream[direction], 0, engine->scratch, NULL, NULL))
        engine->stats.scan_errors++;
}

int scan_prepare(struct sg_engine *engine, const struct sg_compiled *rules) {
    for (int buffer = 0; buffer < SG_BUFFERS; buffer++)
        for (int direction = 0; direction < 2; direction++)
            if (rules->database[buffer][direction] &&
                hs_alloc_scratch(rules->database[buffer][direction], &engine->scratch))
                return fail("no memory to scan with these rules");
    return 0;
}

const char *sg_scanner_version(void) { return hs_version(); }
