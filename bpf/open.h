/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* The cold half of the balancer: a flow's first packet, and packets whose flow the cache has lost. */
#ifndef SLUICEGATE_OPEN_H
#define SLUICEGATE_OPEN_H

#include "balance.h"
#include "select.h"

#define ERROR_EXISTS (-17)

/* Draws for ports are apart from those for slots, so that a port says nothing about a backend. */
#define PORT_DRAWS 0x100

struct opening {
    struct client client;
    u32 hash;
    u32 now;
    u32 frontend_id;
    u32 backend_id;
    u32 idle_timeout;
};

#if WITH_FULL_NAT
/* An expired occupant gives its port up to the CPU that claims it first; then its place is rewritten as a whole. */
ALWAYS_INLINE bool take_over(struct nat *owner, const struct translation *t, struct nat *nat)
{
    u64 state = owner->state;
    u32 backend = counted_backend(owner->backend, owner->backend_generation);
    if ((state & FLOW_CLAIMED) || __sync_val_compare_and_swap(&owner->state, state, state | FLOW_CLAIMED) != state)
        return false;
    if (nat_replace(t, nat))
        return false;
    if (!(state & FLOW_COUNTED_CLOSED)) {
        struct backend_load *load = backend_load.lookup(&backend);
        if (load)
            __sync_fetch_and_add(&load->closed, 1);
    }
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
                        .last_seen = o->now};
    copy_address(nat->client, o->client.address);

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
            /* A closed connection's port rests; its last packets may still pass, a new connection may not use it. The
             * client's tuple may have a living connection at a later candidate, which comes first. */
            if (state_is_closed(owner->state)) {
                if (!may_open && !resting) {
                    resting = t.source_port;
                    *state = owner->state;
                }
                continue;
            }
            *state = owner->state;
            return t.source_port;
        }
        if (may_open && take_over(owner, &t, nat)) {
            *opened = true;
            return t.source_port;
        }
    }
    return resting;
}

ALWAYS_INLINE int open_full_nat(context *ctx, struct packet *p, const struct opening *o, const struct backend *backend,
                                const struct settings *settings, bool may_open)
{
    struct scratch *scratch = ctx_scratch();
    if (!scratch)
        return REASON_INTERNAL;
    bool opened = false, full = false;
    u64 state = 0;
    u16 port = claim_port(o, backend, settings, may_open, p->protocol, &scratch->nat, &state, &opened, &full);
    if (!port)
        return !may_open ? REASON_NO_FLOW : full ? REASON_NAT_FULL : REASON_NAT_PORTS;
    scratch->flow = (struct flow){.state = state,
                                  .backend = o->backend_id,
                                  .backend_generation = backend->generation,
                                  .nat_port = port,
                                  .last_seen = o->now,
                                  .synced = o->now};
    copy_address(scratch->flow.source, backend->source);
    flow_put(&o->client, &scratch->flow); /* only a cache: without it the next packet comes here again */
    if (opened)
        count_opened(o->frontend_id, o->backend_id);
    return forward_request(ctx, p, o->frontend_id, o->backend_id, backend, scratch->flow.source, port);
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

ALWAYS_INLINE int open_dnat(context *ctx, struct packet *p, const struct opening *o, const struct backend *backend)
{
    struct scratch *scratch = ctx_scratch();
    if (!scratch)
        return REASON_INTERNAL;
    scratch->flow = (struct flow){
        .backend = o->backend_id, .backend_generation = backend->generation, .last_seen = o->now, .synced = o->now};
    if (flow_put(&o->client, &scratch->flow))
        return REASON_INTERNAL;
    count_opened(o->frontend_id, o->backend_id);
    return forward_request(ctx, p, o->frontend_id, o->backend_id, backend, p->source, p->source_port);
}
#endif

ALWAYS_INLINE int open_flow(context *ctx, struct packet *p, u32 frontend_id, const struct settings *settings)
{
    struct frontend *frontend = frontends.lookup(&frontend_id);
    if (!frontend)
        return REASON_INTERNAL;
    /* Only a SYN opens a TCP connection. Anything else may belong to one whose cached flow was evicted. */
    bool may_open = p->protocol == IPPROTO_UDP || is_opening(p);
    if (!may_open && frontend->mode != MODE_FULL_NAT)
        return REASON_NO_FLOW;
    if (!frontend->slots)
        return may_open ? REASON_NO_BACKEND : REASON_NO_FLOW;

    struct opening o = {.frontend_id = frontend_id,
                        .idle_timeout = frontend->idle_timeout,
                        .now = bpf_jiffies64(),
                        .hash = flow_hash(p, settings->seed)};
    client_of_request(p, frontend_id, &o.client);
    struct backend *backend = 0;
    int reason = REASON_NO_BACKEND;
    for (u32 attempt = 0; attempt < SELECT_ATTEMPTS; attempt++) {
        u32 slot = select_slot(frontend, o.hash, attempt);
        backend = select_backend(frontend, slot, &o.backend_id);
#if WITH_DNAT
        if (backend && frontend->mode == MODE_DNAT && dnat_clashes(&o, p, backend, settings)) {
            reason = REASON_DNAT_CLASH;
            backend = 0;
        }
#endif
        if (backend)
            break;
    }
    if (!backend)
        return may_open ? reason : REASON_NO_FLOW;
#if WITH_FULL_NAT
    if (frontend->mode == MODE_FULL_NAT)
        return open_full_nat(ctx, p, &o, backend, settings, may_open);
#endif
#if WITH_DNAT
    if (frontend->mode == MODE_DNAT)
        return open_dnat(ctx, p, &o, backend);
#endif
    return REASON_INTERNAL;
}

/* Body of the cold program: the packet is parsed again, as nothing survives a tail call but the packet. */
ALWAYS_INLINE int balance_cold(context *ctx, struct packet *p)
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
    reason = open_flow(ctx, p, frontend, settings);
    if (kind_of(reason) == KIND_drop)
        count_frontend_drop(frontend);
    return reason;
}

#endif
