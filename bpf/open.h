/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* The cold half of the balancer: a flow's first packet, and packets whose flow the cache has lost. */
#ifndef SLUICEGATE_OPEN_H
#define SLUICEGATE_OPEN_H

#include "balance.h"
#include "select.h"

#define ERROR_EXISTS (-17)

/* Backends tried for a DNAT flow whose client port is taken there. Each is a run of the program of its own: nested loops
 * over draws and frontends would be past what the verifier follows. */
#define CLASH_ATTEMPTS 4

/* Draws for ports are apart from those for slots, so that a port says nothing about a backend. */
#define PORT_DRAWS 0x100

#if WITH_FULL_NAT
/* An expired occupant gives its port up to the CPU that claims it first; then its place is rewritten as a whole. */
ALWAYS_INLINE bool take_over(struct nat *owner, const struct translation *t, struct nat *nat)
{
    u64 state = owner->state;
    u32 backend = present_backend(owner->backend, owner->backend_generation);
    if ((state & FLOW_CLAIMED) || __sync_val_compare_and_swap(&owner->state, state, state | FLOW_CLAIMED) != state)
        return false;
    if (nat_replace(t, nat))
        return false;
    struct backend_load *load = backend_load.lookup(&backend);
    if (load && !(state & FLOW_COUNTED_CLOSED))
        __sync_fetch_and_add(&load->closed, 1);
    if (load && (state & FLOW_WAITING))
        __sync_fetch_and_add(&load->abandoned, 1);
    return true;
}

/*
 * Find the source port of a flow: its own if it has one at this backend already, else, for a packet that may open a
 * flow, a free one. Returns the port in network order, 0 for none. `full` tells why.
 */
ALWAYS_INLINE u16 claim_port(const struct opening *o, const struct backend *backend, const struct settings *settings,
                             bool may_open, u8 protocol, struct nat *nat, u64 *state, bool *opened, bool *full)
{
    struct translation t;
    translation_of(backend, backend->source, 0, &t);
    *nat = (struct nat){.frontend = o->frontend_id,
                        .backend = o->backend_id,
                        .client_port = o->client.port,
                        .backend_generation = backend->generation,
                        .last_seen = o->now,
                        .epoch = o->epoch};
    copy_address(nat->client, o->client.address);
    nat->client_hop = o->client_hop;
    if (may_open && protocol == IPPROTO_TCP)
        nat->state = timed_state(o->hash, &nat->timer);
    u16 resting = 0;

    for (u32 i = 0; i < NAT_CANDIDATES; i++) {
        t.source_port = bpf_htons(settings->nat_port_min + draw(o->hash, PORT_DRAWS + i) % settings->nat_port_count);
        if (may_open) {
            int error = nat_insert(&t, nat);
            if (!error) {
                *opened = true;
                return t.source_port;
            }
            if (error != ERROR_EXISTS)
                *full = true;
        }
        struct nat *owner = nat_lookup(&t);
        if (!owner)
            continue;
        bool expired = state_is_expired(owner->state, owner->last_seen, o->now, protocol, o->idle_timeout, settings);
        if (!expired) {
            if (!nat_belongs_to(owner, &o->client) || owner->backend_generation != backend->generation)
                continue;
            if (!state_is_closed(owner->state)) {
                *state = owner->state;
                return t.source_port;
            }
            /* A closed connection's port rests. Its last packets may still pass, unless a later one is alive. */
            if (!may_open && !resting) {
                *state = owner->state;
                resting = t.source_port;
            }
            continue;
        }
        if (may_open && take_over(owner, &t, nat)) {
            *opened = true;
            return t.source_port;
        }
    }
    return resting;
}

/* A flow that the cache lost may be at any of the backends that LeastLoad compared when it was opened. */
ALWAYS_INLINE int try_next_draw(struct scratch *scratch, u8 algorithm)
{
    if (algorithm != ALGORITHM_LEAST_LOAD || ++scratch->attempt >= LEAST_LOAD_DRAWS)
        return REASON_NO_FLOW;
    return GO_OPEN_NAT;
}

ALWAYS_INLINE int open_full_nat(context *ctx, struct packet *p, const struct opening *o, const struct backend *backend,
                                const struct settings *settings, u8 algorithm, bool may_open)
{
    struct scratch *scratch = ctx_scratch();
    if (!scratch)
        return REASON_INTERNAL;
    bool opened = false, full = false;
    u64 state = 0;
    u16 port = claim_port(o, backend, settings, may_open, p->protocol, &scratch->nat, &state, &opened, &full);
    if (!port && !may_open)
        return try_next_draw(scratch, algorithm);
    if (!port)
        return full ? REASON_NAT_FULL : REASON_NAT_PORTS;
    scratch->flow = (struct flow){.state = state,
                                  .backend = o->backend_id,
                                  .backend_generation = backend->generation,
                                  .nat_port = port,
                                  .last_seen = o->now,
                                  .synced = o->now,
                                  .epoch = o->epoch};
    copy_address(scratch->flow.source, backend->source);
    flow_put(&o->client, &scratch->flow); /* only a cache: without it the next packet comes here again */
    if (opened)
        count_opened(o->frontend_id, o->backend_id);
    return forward_request(ctx, p, o->frontend_id, o->backend_id, backend, MODE_FULL_NAT, scratch->flow.source, port);
}
#endif

#if WITH_DNAT
/* The backend tells connections apart by the client's address and port alone: is it taken through another VIP? */
ALWAYS_INLINE bool dnat_clashes(const struct opening *o, const struct packet *p, const struct backend *backend,
                                const struct settings *settings)
{
    struct reverse *reverse = reverse_lookup(backend->address, backend->port, p->protocol, p->family);
    if (!reverse || reverse->count < 2)
        return false;
    struct client client = o->client;
    for (int i = 0; i < REVERSE_FRONTENDS; i++) {
        if (i >= reverse->count)
            break;
        if (reverse->frontends[i] == o->frontend_id)
            continue;
        client.frontend = reverse->frontends[i];
        struct flow *flow = flow_lookup(&client);
        if (flow && !state_is_closed(flow->state) &&
            !state_is_expired(flow->state, flow->last_seen, o->now, p->protocol, o->idle_timeout, settings) &&
            backend_is_at(flow->backend, flow->backend_generation, backend->address, backend->port))
            return true;
    }
    return false;
}

#endif

#if WITH_DNAT || WITH_DIRECT_RETURN
/* Modes that leave the client's address alone have one entry per flow; `state` is what is known of it already. `times`:
 * its times may be taken, because its replies come through here and its first packet was seen. */
ALWAYS_INLINE int put_flow(const struct opening *o, const struct backend *backend, u64 state, bool times)
{
    struct scratch *scratch = ctx_scratch();
    if (!scratch)
        return REASON_INTERNAL;
    scratch->flow = (struct flow){.state = state,
                                  .backend = o->backend_id,
                                  .backend_generation = backend->generation,
                                  .last_seen = o->now,
                                  .synced = o->now,
                                  .client_hop = o->client_hop,
                                  .epoch = o->epoch};
    if (times)
        scratch->flow.state |= timed_state(o->hash, &scratch->flow.timer);
    return flow_put(&o->client, &scratch->flow) ? REASON_INTERNAL : GO_ON;
}
#endif

/*
 * Choose a backend for a new flow. `hash_only` leaves out affinity, load and turns: the choice must be one that a later
 * packet without an entry finds again. `scratch` has the number of the attempt: flows can come back here whose first choices could not take them.
 */
ALWAYS_INLINE struct backend *choose(const struct packet *p, struct opening *o, const struct frontend *frontend,
                                     const struct scratch *scratch, bool hash_only, bool at_egress)
{
    struct backend *best = 0;
    u64 best_flows = 0;
    bool affine = !hash_only && (frontend->flags & FRONTEND_AFFINITY);
    u32 draws = !hash_only && frontend->algorithm == ALGORITHM_LEAST_LOAD ? LEAST_LOAD_DRAWS : 1;
    if (affine && !scratch->attempt) {
        best = affine_backend(p, frontend, o->now, &o->backend_id);
        if (best)
            return best;
    }
    u32 service = frontend->service;
    void *table = tables.lookup(&service);
    if (!table)
        return 0;
    for (u32 n = 0; n < DRAWS; n++) {
        if (best && n >= draws)
            break;
        u32 id = 0;
        struct backend *candidate = backend_in_slot(table, nth_slot(frontend, o->hash, scratch->attempt + n, hash_only), &id);
        if (!candidate)
            continue;
        if (at_egress && (candidate->flags & BACKEND_LOCAL)) /* the stack takes no packet from itself to itself */
            continue;
        u64 flows = flows_of(id);
        if (best && !is_less_loaded(candidate, flows, best, best_flows))
            continue;
        best = candidate;
        best_flows = flows;
        o->backend_id = id;
    }
    if (best && affine)
        remember_affinity(p, frontend->service, o->backend_id, best, o->now);
    return best;
}

/* `nat`: this program opens FullNAT flows, else those that keep the client's address. */
ALWAYS_INLINE int open_flow(context *ctx, struct packet *p, u32 frontend_id, const struct settings *settings, bool nat)
{
    struct frontend *frontend = frontends.lookup(&frontend_id);
    struct scratch *scratch = ctx_scratch();
    if (!scratch)
        return REASON_INTERNAL;
    if (!frontend || nat != (frontend->mode == MODE_FULL_NAT))
        return REASON_INTERNAL;
    struct opening *o = &scratch->opening;
    *o = (struct opening){.frontend_id = frontend_id,
                          .idle_timeout = frontend->idle_timeout,
                          .now = bpf_jiffies64(),
                          .hash = flow_hash(p, settings->seed)};
    client_of_request(p, frontend_id, &o->client);
    if (ctx_at_egress(ctx) && local_hop(ctx, &o->client_hop) != GO_ON)
        return REASON_INTERNAL;

    /*
     * Only a SYN opens a TCP connection. Anything else may belong to one whose cached flow was evicted (FullNAT), that
     * began on another node (direct return), or that is forwarded without an entry because of a flood (both but
     * FullNAT).
     */
    bool tcp = p->protocol == IPPROTO_TCP;
    bool may_open = forget(!tcp || is_opening(p) || frontend->mode == MODE_DIRECT_RETURN, settings->zero);
    bool is_new = nat ? may_open : forget(!tcp || is_opening(p), settings->zero);
    bool flooded = forget(tcp && is_flooded(frontend->service, settings, o->now), settings->zero);
    if (!may_open && !nat && !flooded)
        return REASON_NO_FLOW;
    if (!frontend->slots)
        return may_open ? REASON_NO_BACKEND : REASON_NO_FLOW;
    int reason = may_open ? admit(p, frontend, settings, o->now) : GO_ON;
    if (reason != GO_ON)
        return reason;
    if (flooded && may_open && nat)
        return REASON_FLOOD;
    bool hash_only = flooded || !is_new;
    struct backend *backend = choose(p, o, frontend, scratch, hash_only, ctx_at_egress(ctx));
    if (!backend && !may_open)
        return REASON_NO_FLOW;
    if (!backend) /* there are some: at egress those that are left are on this node */
        return ctx_at_egress(ctx) ? REASON_LOCAL_LOOP : REASON_NO_BACKEND;
#if WITH_FULL_NAT && WITH_DNAT
    if (nat && (backend->flags & BACKEND_LOCAL)) {
        if (!may_open)
            return try_next_draw(scratch, frontend->algorithm);
        scratch->chosen = o->backend_id;
        return GO_OPEN_LOCAL;
    }
#endif
#if WITH_DNAT
    if (!nat && frontend->mode == MODE_DNAT && dnat_clashes(o, p, backend, settings))
        return ++scratch->attempt < CLASH_ATTEMPTS ? GO_OPEN_KEPT : REASON_DNAT_CLASH;
#endif
    if (tcp && is_new && !flooded)
        o->epoch = half_open_enter(frontend->service, settings, o->now);
#if WITH_FULL_NAT
    if (nat)
        return open_full_nat(ctx, p, o, backend, settings, frontend->algorithm, may_open);
#endif
#if WITH_DNAT || WITH_DIRECT_RETURN
    /* The last packets of a connection that is not known leave no entry: nothing would close it. */
    if (!flooded && (is_new || !(p->tcp_flags & (TCP_FIN | TCP_RST)))) {
        reason = put_flow(o, backend, is_new ? 0 : FLOW_ESTABLISHED, is_new && tcp && frontend->mode == MODE_DNAT);
        if (reason != GO_ON)
            return reason;
        count_opened(frontend_id, o->backend_id);
    }
    return forward_request(ctx, p, frontend_id, o->backend_id, backend, frontend->mode, p->source, p->source_port);
#endif
    return REASON_INTERNAL;
}

/* A new flow of a FullNAT service to a backend on this node, which the program for FullNAT has let in and chosen. */
ALWAYS_INLINE int open_local(context *ctx, struct packet *p, u32 frontend_id, const struct settings *settings)
{
#if WITH_FULL_NAT && WITH_DNAT
    struct frontend *frontend = frontends.lookup(&frontend_id);
    struct scratch *scratch = ctx_scratch();
    if (!frontend || !scratch)
        return REASON_INTERNAL;
    struct opening *o = &scratch->opening;
    *o = (struct opening){.frontend_id = frontend_id,
                          .backend_id = scratch->chosen,
                          .idle_timeout = frontend->idle_timeout,
                          .now = bpf_jiffies64(),
                          .hash = flow_hash(p, settings->seed)};
    client_of_request(p, frontend_id, &o->client);
    struct backend *backend = backends.lookup(&o->backend_id);
    if (!backend)
        return REASON_INTERNAL;
    if (dnat_clashes(o, p, backend, settings))
        return REASON_DNAT_CLASH;
    bool tcp = p->protocol == IPPROTO_TCP;
    if (tcp)
        o->epoch = half_open_enter(frontend->service, settings, o->now);
    int reason = put_flow(o, backend, 0, tcp);
    if (reason != GO_ON)
        return reason;
    count_opened(frontend_id, o->backend_id);
    return forward_request(ctx, p, frontend_id, o->backend_id, backend, MODE_DNAT, p->source, p->source_port);
#else
    return REASON_INTERNAL;
#endif
}

#if WITH_DNAT
/*
 * A reply to a request that a flood made us forward without an entry. The backend that the client's tuple hashes to is
 * the one that answers; once it answers with more than a SYN, the client is real and its flow gets an entry.
 */
ALWAYS_INLINE int adopt_reply(context *ctx, struct packet *p, const struct settings *settings)
{
    struct reverse *reverse = reverse_lookup(p->source, p->source_port, p->protocol, p->family);
    if (!reverse || reverse->count != 1)
        return REASON_NO_TRANSLATION;
    u32 frontend_id = reverse->frontends[0];
    struct frontend *frontend = frontends.lookup(&frontend_id);
    if (!frontend || !frontend->slots || p->protocol != IPPROTO_TCP)
        return REASON_NO_TRANSLATION;
    struct packet request = {.source_port = p->destination_port,
                             .destination_port = frontend->port,
                             .family = p->family,
                             .protocol = p->protocol};
    copy_address(request.source, p->destination);
    copy_address(request.destination, frontend->address);
    struct scratch *scratch = ctx_scratch();
    if (!scratch)
        return REASON_INTERNAL;
    struct opening *o = &scratch->opening;
    *o = (struct opening){
        .frontend_id = frontend_id, .now = bpf_jiffies64(), .hash = flow_hash(&request, settings->seed)};
    client_of_request(&request, frontend_id, &o->client);
    scratch->attempt = 0;
    struct backend *backend = choose(&request, o, frontend, scratch, true, false);
    if (!backend || backend->port != p->source_port || !same_address(backend->address, p->source))
        return REASON_NO_TRANSLATION;
    if (!(p->tcp_flags & (TCP_SYN | TCP_RST))) {
        put_flow(o, backend, FLOW_ANSWERED | FLOW_ESTABLISHED, false);
        count_opened(frontend_id, o->backend_id);
    }
    struct hop none = {};
    return forward_reply(ctx, p, frontend_id, frontend, o->backend_id, request.source, request.source_port, &none,
                         settings);
}
#endif

enum opener { OPEN_NAT, OPEN_KEPT, OPEN_LOCAL };

/* Body of the cold programs that open flows: nothing survives a tail call but the packet, which is parsed again. */
ALWAYS_INLINE int balance_open(context *ctx, struct packet *p, enum opener opener)
{
    u32 frontend = 0;
    struct settings *settings = get_settings();
    if (!settings)
        return REASON_INTERNAL;
    int reason = classify(ctx, p, settings, &frontend);
    if (reason != GO_ON)
        return reason;
    if (!frontend)
        return REASON_INTERNAL;
    reason = opener == OPEN_LOCAL ? open_local(ctx, p, frontend, settings)
                                  : open_flow(ctx, p, frontend, settings, opener == OPEN_NAT);
    if (reason >= 0 && kind_of(reason) == KIND_drop)
        count_frontend_drop(frontend);
    return reason;
}

/* Body of the cold program for replies in a flood. */
ALWAYS_INLINE int balance_adopt(context *ctx, struct packet *p)
{
#if WITH_DNAT
    u32 frontend = 0;
    struct settings *settings = get_settings();
    if (!settings)
        return REASON_INTERNAL;
    int reason = classify(ctx, p, settings, &frontend);
    if (reason != GO_ON && reason != REASON_OTHER_PORT)
        return reason;
    if (parse_transport((void *)(long)ctx->data, (void *)(long)ctx->data_end, p) == GO_ON)
        return adopt_reply(ctx, p, settings);
#endif
    return REASON_NO_TRANSLATION;
}

#endif
