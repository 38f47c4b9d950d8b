/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* The cold half of the balancer: a flow's first packet, and packets whose flow the cache has lost. */
#ifndef SLUICEGATE_OPEN_H
#define SLUICEGATE_OPEN_H

#include "admission.h"
#include "backend.h"
#include "classify.h"
#include "count.h"
#include "hash.h"
#include "hop.h"
#include "open_kept.h"
#include "open_nat.h"
#include "request.h"
#include "select.h"

/* Backends tried for a DNAT flow whose client port is taken there. Each is a run of the program of its own: nested loops
 * over draws and frontends would be past what the verifier follows. */
#define CLASH_ATTEMPTS 4

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

#endif
