/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* What happens to a client's packet: its flow, the backend of that, and the way there. */
#ifndef SLUICEGATE_REQUEST_H
#define SLUICEGATE_REQUEST_H

#include "backend.h"
#include "count.h"
#include "flow.h"
#include "fragment.h"
#include "hop.h"
#include "measure.h"

ALWAYS_INLINE void client_of_request(const struct packet *p, u32 frontend, struct client *c)
{
    copy_address(c->address, p->source);
    c->port = p->source_port;
    c->frontend = frontend;
    c->family = p->family;
}

/* Rewrite a request towards its backend and send it. `source` and its port are what the backend will see. */
ALWAYS_INLINE int forward_request(context *ctx, struct packet *p, u32 frontend_id, u32 backend_id,
                                  const struct backend *backend, u8 mode, const u32 source[4], u16 source_port)
{
    u32 nexthop_id = backend->nexthop;
    struct nexthop *nexthop = 0;
    int reason = find_nexthop(ctx, p, &nexthop_id, &nexthop);
    if (reason != GO_ON)
        return reason;
    /* With direct return the backend owns the VIP: only the hop changes. */
    bool direct = WITH_DIRECT_RETURN && mode == MODE_DIRECT_RETURN;
    const u32 *destination = direct ? p->destination : backend->address;
    u16 destination_port = direct ? p->destination_port : backend->port;
    if (p->fragment) {
        reason = fragment_follow(ctx, p, frontend_id, backend_id, source, destination, 0, mode != MODE_FULL_NAT);
        if (reason != GO_ON)
            return reason;
    }
    reason = ctx_rewrite(ctx, p, source, destination, source_port, destination_port);
    if (reason != GO_ON)
        return reason;
    reason = send_to_nexthop(ctx, p, nexthop);
    if (reason != GO_ON)
        return reason;
    count_request(frontend_id, backend_id, p->length);
    return REASON_FORWARDED_REQUEST;
}

/*
 * The request side's view of a FullNAT flow is a cache: on the events that matter, and once per sync interval, it
 * visits the nat entry, which holds the truth. False when the flow is not ours any more.
 */
ALWAYS_INLINE bool nat_visit(struct flow *flow, const struct client *c, const struct backend *backend, u64 bits,
                             bool opening, bool request, u32 now, u32 idle_timeout, const struct settings *settings)
{
    struct translation t;
    translation_of(backend, flow->source, flow->nat_port, &t);
    struct nat *nat = nat_lookup(&t);
    if (!nat || !nat_belongs_to(nat, c) ||
        state_is_expired(nat->state, nat->last_seen, now, backend->protocol, idle_timeout, settings))
        return false;
    if (opening && state_is_closed(nat->state))
        return false; /* a new connection: this one's port goes on resting, not a moment longer */
    if (!opening && (nat->state & FLOW_ANSWERED))
        bits |= FLOW_ESTABLISHED;
    if (bits & ~nat->state)
        state_add(&nat->state, bits, nat->backend, backend->service, nat->epoch);
    if (opening)
        observe_repeated_syn(&nat->state, nat->backend);
    if (request)
        observe_request(&nat->state, &nat->timer, nat->backend);
    nat->last_seen = now;
    flow->state = nat->state;
    flow->synced = now;
    return true;
}

ALWAYS_INLINE int handle_request(context *ctx, struct packet *p, u32 frontend_id, const struct settings *settings)
{
    struct frontend *frontend = frontends.lookup(&frontend_id);
    if (!frontend)
        return REASON_INTERNAL;
    struct client client;
    client_of_request(p, frontend_id, &client);
    struct flow *flow = flow_lookup(&client);
    if (!flow)
        return GO_OPEN;

    u32 backend_id = flow->backend;
    struct backend *backend = backends.lookup(&backend_id);
    if (!backend)
        return REASON_INTERNAL;
    bool opening = is_opening(p);
    bool may_move = opening || p->protocol == IPPROTO_UDP;
    if (backend->state == BACKEND_FREE || backend->generation != flow->backend_generation)
        return may_move ? GO_OPEN : REASON_BACKEND_GONE;
    if (may_move && backend->state == BACKEND_DOWN)
        return GO_OPEN;
    if (opening && backend->state != BACKEND_ACTIVE)
        return GO_OPEN;

    u32 now = bpf_jiffies64();
    u64 bits = state_from_flags(p, FLOW_CLIENT_FIN);
    bool request = is_request(p, flow->request_ack);
    if (request)
        flow->request_ack = bpf_ntohl(p->acknowledged);
    u8 mode = mode_of(frontend, backend);
#if WITH_FULL_NAT
    if (mode == MODE_FULL_NAT) {
        bool unsettled = p->protocol == IPPROTO_TCP && !(flow->state & FLOW_ESTABLISHED);
        if (unsettled || opening || request || (bits & ~flow->state) ||
            now - flow->synced >= settings->sync_interval) {
            if (!nat_visit(flow, &client, backend, bits, opening, request, now, frontend->idle_timeout, settings))
                return GO_OPEN;
        }
        if (flow->last_seen != now)
            flow->last_seen = now;
        return forward_request(ctx, p, frontend_id, backend_id, backend, MODE_FULL_NAT, flow->source, flow->nat_port);
    }
#endif
    if (state_is_expired(flow->state, flow->last_seen, now, p->protocol, frontend->idle_timeout, settings))
        return GO_OPEN;
    if (opening && state_is_closed(flow->state))
        return GO_OPEN;
    if (mode == MODE_DIRECT_RETURN) {
        /* Replies are not seen here: the client's word must do for both sides. */
        if (p->protocol == IPPROTO_TCP && !opening)
            bits |= FLOW_ESTABLISHED;
        if (bits & FLOW_CLIENT_FIN)
            bits |= FLOW_BACKEND_FIN;
    } else {
        if (!opening && (flow->state & FLOW_ANSWERED))
            bits |= FLOW_ESTABLISHED;
        if (opening)
            observe_repeated_syn(&flow->state, backend_id);
        if (request)
            observe_request(&flow->state, &flow->timer, backend_id);
    }
    if (bits & ~flow->state)
        state_add(&flow->state, bits, backend_id, frontend->service, flow->epoch);
    if (flow->last_seen != now)
        flow->last_seen = now;
    return forward_request(ctx, p, frontend_id, backend_id, backend, mode, p->source, p->source_port);
}

#endif
