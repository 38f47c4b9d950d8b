/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* A new flow in FullNAT: a source port towards the backend, which is the flow's place in `nat`. */
#ifndef SLUICEGATE_OPEN_NAT_H
#define SLUICEGATE_OPEN_NAT_H

#include "backend.h"
#include "count.h"
#include "flow.h"
#include "hash.h"
#include "measure.h"
#include "request.h"

#define ERROR_EXISTS (-17)

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

#endif
