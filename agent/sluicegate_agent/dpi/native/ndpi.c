/* SPDX-License-Identifier: Apache-2.0
 *
 * nDPI, by the functions that one shared object exports. Nothing of its headers is needed: sizes and offsets come in
 * from Python, which has them from the library's own declarations.
 */
#include <dlfcn.h>
#include <stdio.h>

#include "internal.h"

enum { FROM_CLIENT = 1, FROM_SERVER = 2, FORMAT_JSON = 2 }; /* NDPI_IN_PKT_DIR_*, ndpi_serialization_format_json */

struct input { unsigned char direction, beginning; }; /* struct ndpi_flow_input_info */

int sg_ndpi_open(struct sg_engine *engine, const struct sg_ndpi_setup *setup) {
    struct ndpi *n = &engine->ndpi;
    /* Local: another nDPI in this process must not get these functions. */
    n->library = dlopen(setup->path, RTLD_NOW | RTLD_LOCAL);
    if (!n->library) return fail("%s", dlerror());
    const struct { void *to; const char *name; } symbols[] = {
        {&n->init, "ndpi_init_detection_module"},
        {&n->finalize, "ndpi_finalize_initialization"},
        {&n->exit, "ndpi_exit_detection_module"},
        {&n->set_config, "ndpi_set_config"},
        {&n->packet, "ndpi_detection_process_packet"},
        {&n->giveup, "ndpi_detection_giveup"},
        {&n->free_data, "ndpi_free_flow_data"},
        {&n->to_json, "ndpi_dpi2json"},
        {&n->serializer_init, "ndpi_init_serializer"},
        {&n->serializer_term, "ndpi_term_serializer"},
        {&n->serializer_reset, "ndpi_reset_serializer"},
        {&n->serializer_text, "ndpi_serializer_get_buffer"},
        {&n->protocol_name, "ndpi_get_proto_name"},
        {&n->protocol_category, "get_proto_category"},
        {&n->category_name, "ndpi_category_get_name"},
        {&n->risk_name, "ndpi_risk2str"},
        {&n->risk_score, "ndpi_risk2score"},
        {&n->revision, "ndpi_revision"},
        {&n->protocol_count, "ndpi_get_num_protocols"},
        {&n->flow_bytes, "ndpi_detection_get_sizeof_ndpi_flow_struct"},
    };
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *address = dlsym(n->library, symbols[i].name);
        if (!address) return fail("%s has no function %s", setup->path, symbols[i].name);
        memcpy(symbols[i].to, &address, sizeof address);
    }
    uint32_t bytes = n->flow_bytes();
    if (bytes != setup->flow_size)
        return fail("a flow has %u bytes in the library and %u in its declarations", bytes, setup->flow_size);
    if (setup->state_offset >= bytes || setup->confidence_offset >= bytes || setup->risk_offset + 8 > bytes)
        return fail("offsets lie outside a flow of %u bytes", bytes);
    n->flow_size = bytes;
    n->state_offset = setup->state_offset;
    n->confidence_offset = setup->confidence_offset;
    n->risk_offset = setup->risk_offset;
    n->serializer = calloc(1, setup->serializer_size);
    if (!n->serializer || n->serializer_init(n->serializer, FORMAT_JSON)) return fail("no memory for nDPI's texts");
    n->module = n->init(NULL);
    return n->module ? 0 : fail("nDPI did not start: ndpi_init_detection_module");
}

int sg_ndpi_set(struct sg_engine *engine, const char *protocol, const char *parameter, const char *value) {
    if (!engine->ndpi.module) return fail("nDPI is not open");
    int code = engine->ndpi.set_config(engine->ndpi.module, protocol, parameter, value);
    return code < 0 ? fail("nDPI refuses %s%s%s=%s: %d", protocol ? protocol : "", protocol ? ":" : "", parameter, value,
                           code) : 0;
}

int sg_ndpi_start(struct sg_engine *engine) {
    if (!engine->ndpi.module) return fail("nDPI is not open");
    if (engine->ndpi.finalize(engine->ndpi.module)) return fail("nDPI did not start: ndpi_finalize_initialization");
    engine->ndpi.protocols = engine->ndpi.protocol_count(engine->ndpi.module);
    engine->ndpi.started = true;
    return 0;
}

void ndpi_close(struct ndpi *n) {
    if (n->module) n->exit(n->module);
    if (n->serializer && n->serializer_term) n->serializer_term(n->serializer);
    free(n->serializer);
    if (n->library) dlclose(n->library);
    memset(n, 0, sizeof *n);
}

bool ndpi_attach(struct sg_engine *engine, struct flow *flow) {
    flow->ndpi = engine->pool_used ? engine->pool[--engine->pool_used] : malloc(engine->ndpi.flow_size);
    if (!flow->ndpi) engine->stats.no_memory++;
    else memset(flow->ndpi, 0, engine->ndpi.flow_size);
    return flow->ndpi;
}

void ndpi_detach(struct sg_engine *engine, struct flow *flow) {
    if (!flow->ndpi) return;
    engine->ndpi.free_data(flow->ndpi); /* what hangs on it; the state itself goes back to the pool */
    engine->pool[engine->pool_used++] = flow->ndpi; /* as many places as there are undecided flows */
    flow->ndpi = NULL;
}

static struct label label_of(const struct ndpi *n, const uint8_t *state, const ndpi_label *full) {
    return (struct label){full->id.master, full->id.app, state[n->state_offset], state[n->confidence_offset]};
}

struct label ndpi_packet(struct sg_engine *engine, struct flow *flow, const uint8_t *l3, uint32_t length, uint64_t ts_ns,
                         int direction, ndpi_label *full) {
    struct ndpi *n = &engine->ndpi;
    struct input input = {direction == TO_SERVER ? FROM_CLIENT : FROM_SERVER, 0};
    engine->stats.ndpi_calls++;
    *full = n->packet(n->module, flow->ndpi, l3, (unsigned short)length, ts_ns / 1000000, &input);
    return label_of(n, flow->ndpi, full);
}

struct label ndpi_giveup(struct sg_engine *engine, struct flow *flow, ndpi_label *full) {
    struct ndpi *n = &engine->ndpi;
    *full = n->giveup(n->module, flow->ndpi);
    return label_of(n, flow->ndpi, full);
}

const char *ndpi_text(struct sg_engine *engine, struct flow *flow, ndpi_label *full, uint32_t *length) {
    struct ndpi *n = &engine->ndpi;
    n->serializer_reset(n->serializer);
    *length = 0;
    if (n->to_json(n->module, flow->ndpi, *full, n->serializer)) return NULL;
    return n->serializer_text(n->serializer, length);
}

int sg_ndpi_try(struct sg_engine *engine, const uint8_t *there, uint16_t there_len, const uint8_t *back,
                uint16_t back_len) {
    struct ndpi *n = &engine->ndpi;
    if (!n->started) return fail("nDPI is not started");
    void *state = calloc(1, n->flow_size);
    if (!state) return fail("no memory");
    struct input input = {FROM_CLIENT, 0};
    ndpi_label label = n->packet(n->module, state, there, there_len, 1, &input);
    if (!label.id.app && !label.id.master) {
        input.direction = FROM_SERVER;
        label = n->packet(n->module, state, back, back_len, 2, &input);
    }
    int app = label.id.app ? label.id.app : label.id.master;
    n->free_data(state);
    free(state);
    return app ? app : fail("nDPI does not know its test packets");
}

const char *sg_ndpi_revision(struct sg_engine *engine) {
    return engine->ndpi.library ? engine->ndpi.revision() : NULL;
}

uint32_t sg_ndpi_protocols(struct sg_engine *engine) { return engine->ndpi.protocols; }

const char *sg_ndpi_protocol(struct sg_engine *engine, uint16_t id) {
    return id < engine->ndpi.protocols ? engine->ndpi.protocol_name(engine->ndpi.module, id) : NULL;
}

const char *sg_ndpi_category(struct sg_engine *engine, uint16_t app) {
    struct ndpi *n = &engine->ndpi;
    return app < n->protocols ? n->category_name(n->module, n->protocol_category(n->module, app)) : NULL;
}

const char *sg_ndpi_risk(struct sg_engine *engine, uint32_t bit) {
    return engine->ndpi.started && bit < SG_RISKS ? engine->ndpi.risk_name((int)bit) : NULL;
}

uint16_t sg_ndpi_risk_score(struct sg_engine *engine, uint32_t bit) {
    uint16_t client, server;
    return engine->ndpi.started && bit < SG_RISKS ? engine->ndpi.risk_score(1ull << bit, &client, &server) : 0;
}
