/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* The balancer's hot path: packets of flows that are known. New flows go to open.h by tail call. */
#ifndef SLUICEGATE_BALANCE_H
#define SLUICEGATE_BALANCE_H

#include "admission.h"
#include "count.h"
#include "filter.h"
#include "flow.h"
#include "fragment.h"
#include "hop.h"
#include "measure.h"
#include "parse.h"

ALWAYS_INLINE u32 vip_lookup(const struct packet *p, u8 protocol, u16 port)
{
    u32 *id = 0;
#if WITH_IPV4
    if (p->family == FAMILY_IPV4) {
        struct endpoint4 key = {
            .address = p->destination[0], .port = port, .protocol = protocol};
        id = vips4.lookup(&key);
        return id ? *id : 0;
    }
#endif
#if WITH_IPV6
    struct endpoint6 key = {.port = port, .protocol = protocol};
    copy_address(key.address, p->destination);
    id = vips6.lookup(&key);
#endif
    return id ? *id : 0;
}

/* Is the packet's destination a VIP, whatever its ports? The agent enters each under ICMP. */
ALWAYS_INLINE bool is_for_vip(const struct packet *p)
{
    return vip_lookup(p, p->family == FAMILY_IPV4 ? IPPROTO_ICMP : IPPROTO_ICMPV6, 0);
}

ALWAYS_INLINE void client_of_request(const struct packet *p, u32 frontend, struct client *c)
{
    copy_address(c->address, p->source);
    c->port = p->source_port;
    c->frontend = frontend;
    c->family = p->family;
}

ALWAYS_INLINE void translation_of(const struct backend *backend, const u32 source[4], u16 source_port,
                                  struct translation *t)
{
    copy_address(t->backend, backend->address);
    copy_address(t->source, source);
    t->backend_port = backend->port;
    t->source_port = source_port;
    t->protocol = backend->protocol;
    t->family = backend->family;
    t->zero = 0;
}

/* Rewrite a request towards its backend and send it. `source` and its port are what the backend will see. */
ALWAYS_INLINE int forward_request(context *ctx, struct packet *p, u32 frontend_id, u32 backend_id,
                                  const struct backend *backend, u8 mode, const u32 source[4], u16 source_port)
{
    u32 nexthop_id = backend->nexthop;
    struct nexthop *nexthop = nexthops.lookup(&nexthop_id);
    if (!nexthop)
        return REASON_INTERNAL;
    int reason = hop_check(ctx, p, &nexthop->hop);
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

/* How packets get to this backend. */
ALWAYS_INLINE u8 mode_of(const struct frontend *frontend, const struct backend *backend)
{
    return frontend->mode == MODE_FULL_NAT && (backend->flags & BACKEND_LOCAL) ? MODE_DNAT : frontend->mode;
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

/* Rewrite a reply towards its client and send it: it comes from the VIP, whatever the backend's own address. */
ALWAYS_INLINE int forward_reply(context *ctx, struct packet *p, u32 frontend_id, const struct frontend *frontend,
                                u32 backend_id, const u32 client[4], u16 client_port, struct hop *cache,
                                const struct settings *settings)
{
    struct client_way way = {};
    int reason = find_client(ctx, p, frontend->address, client, settings->hop_generation, cache, &way);
    if (reason != GO_ON)
        return reason;
    if (p->fragment) {
        reason = fragment_follow(ctx, p, frontend_id, backend_id, frontend->address, client, &way.hop, false);
        if (reason != GO_ON)
            return reason;
    }
    reason = ctx_rewrite(ctx, p, frontend->address, client, frontend->port, client_port);
    if (reason != GO_ON)
        return reason;
    reason = send_to_client(ctx, p, &way);
    if (reason != GO_ON)
        return reason;
    count_reply(frontend_id, backend_id, p->length);
    return REASON_FORWARDED_REPLY;
}

/* The id for counting: 0, which stands for none, when the id was given to another backend since. */
ALWAYS_INLINE u32 present_backend(u32 id, u16 generation)
{
    struct backend *backend = backends.lookup(&id);
    return backend && backend->generation == generation ? id : 0;
}

#if WITH_FULL_NAT
ALWAYS_INLINE int handle_nat_reply(context *ctx, struct packet *p, const struct settings *settings)
{
    u32 port = bpf_ntohs(p->destination_port);
    if (port - settings->nat_port_min >= settings->nat_port_count)
        return REASON_NO_TRANSLATION;
    struct translation t = {.backend_port = p->source_port,
                            .source_port = p->destination_port,
                            .protocol = p->protocol,
                            .family = p->family};
    copy_address(t.backend, p->source);
    copy_address(t.source, p->destination);
    struct nat *nat = nat_lookup(&t);
    if (!nat)
        return REASON_NO_TRANSLATION;
    u32 frontend_id = nat->frontend;
    struct frontend *frontend = frontends.lookup(&frontend_id);
    u32 now = bpf_jiffies64();
    if (!frontend || !frontend->family ||
        state_is_expired(nat->state, nat->last_seen, now, p->protocol, frontend->idle_timeout, settings))
        return REASON_NO_TRANSLATION;
    u32 backend_id = present_backend(nat->backend, nat->backend_generation);
    observe_reply(p, &nat->state, &nat->timer, backend_id, frontend->service, nat->epoch);
    if (nat->last_seen != now)
        nat->last_seen = now;
    return forward_reply(ctx, p, frontend_id, frontend, backend_id, nat->client, nat->client_port, &nat->client_hop,
                         settings);
}
#endif

#if WITH_DNAT
ALWAYS_INLINE struct reverse *reverse_lookup(const u32 address[4], u16 port, u8 protocol, u8 family)
{
#if WITH_IPV4
    if (family == FAMILY_IPV4) {
        struct endpoint4 key = {.address = address[0], .port = port, .protocol = protocol};
        return reverse4.lookup(&key);
    }
#endif
#if WITH_IPV6
    struct endpoint6 key = {.port = port, .protocol = protocol};
    copy_address(key.address, address);
    return reverse6.lookup(&key);
#endif
    return 0;
}

/* Does this backend id stand for this endpoint? One endpoint has an id per service that uses it. */
ALWAYS_INLINE bool backend_is_at(u32 id, u16 generation, const u32 address[4], u16 port)
{
    struct backend *backend = backends.lookup(&id);
    return backend && backend->state != BACKEND_FREE && backend->generation == generation && backend->port == port &&
           same_address(backend->address, address);
}

ALWAYS_INLINE int handle_dnat_reply(context *ctx, struct packet *p, const struct settings *settings)
{
    struct reverse *reverse = reverse_lookup(p->source, p->source_port, p->protocol, p->family);
    if (!reverse)
        return REASON_NO_TRANSLATION;
    struct client client = {.port = p->destination_port, .family = p->family};
    copy_address(client.address, p->destination);
    u32 now = bpf_jiffies64();

    struct flow *flow = 0;
    u32 frontend_id = 0;
    for (int i = 0; i < REVERSE_FRONTENDS; i++) {
        if (i >= reverse->count)
            break;
        frontend_id = reverse->frontends[i];
        client.frontend = frontend_id;
        flow = flow_lookup(&client);
        if (flow && backend_is_at(flow->backend, flow->backend_generation, p->source, p->source_port))
            break;
        flow = 0;
    }
    struct frontend *frontend = frontends.lookup(&frontend_id);
    if (!flow) {
        /* In a flood requests are forwarded without an entry, and their replies must be told without one. */
        if (reverse->count == 1 && frontend && frontend->mode == MODE_DNAT && is_flooded(frontend->service, settings, now))
            return GO_ADOPT;
        return REASON_NO_TRANSLATION;
    }
    if (!frontend || !frontend->family ||
        state_is_expired(flow->state, flow->last_seen, now, p->protocol, frontend->idle_timeout, settings))
        return REASON_NO_TRANSLATION;
    u32 backend_id = flow->backend;
    observe_reply(p, &flow->state, &flow->timer, backend_id, frontend->service, flow->epoch);
    if (flow->last_seen != now)
        flow->last_seen = now;
    return forward_reply(ctx, p, frontend_id, frontend, backend_id, p->destination, p->destination_port,
                         &flow->client_hop, settings);
}
#endif

/* Is this a reply of one of our backends? */
ALWAYS_INLINE int handle_reply(context *ctx, struct packet *p, const struct settings *settings)
{
    u32 bit = 0;
    struct address_filter *filter = filter_word(p->source, p->family, &bit);
    if (!filter)
        return REASON_INTERNAL;
    bool by_nat = (filter->nat_backends >> bit) & 1;
    bool by_dnat = (filter->dnat_backends >> bit) & 1;
    if (!by_nat && !by_dnat)
        return REASON_NOT_OURS;
    if (p->fragment == FRAGMENT_LATER)
        return GO_FRAGMENT;
    void *data = (void *)(long)ctx->data;
    void *end = (void *)(long)ctx->data_end;
    if (parse_transport(data, end, p) != GO_ON)
        return REASON_NO_TRANSLATION;
    int reason = REASON_NO_TRANSLATION;
#if WITH_FULL_NAT
    if (by_nat && !ctx_at_egress(ctx))
        reason = handle_nat_reply(ctx, p, settings);
#endif
#if WITH_DNAT
    if (by_dnat && reason == REASON_NO_TRANSLATION)
        reason = handle_dnat_reply(ctx, p, settings);
#endif
    return reason;
}

/* What all programs, hot and cold, do first. Leaves the frontend of a VIP in `frontend`, else 0. */
ALWAYS_INLINE int classify_hot(context *ctx, struct packet *p, const struct settings *settings, u32 *frontend)
{
    void *data = (void *)(long)ctx->data;
    void *end = (void *)(long)ctx->data_end;
    int reason = parse_network(ctx, data, end, settings->zero, p);
    if (reason != GO_ON)
        return reason;
    if (!ctx_is_for_us(ctx))
        return REASON_OTHER_HOST;
    /* Any router may report an error about a balanced flow: the addresses that count are in the packet it quotes. */
    if (is_icmp(p))
        return GO_ICMP;
    if (!filter_has_vip(p->destination, p->family))
        return GO_ON;
    if (p->fragment == FRAGMENT_LATER)
        return GO_FRAGMENT;
    reason = parse_transport(data, end, p);
    if (reason != GO_ON)
        return reason;
    *frontend = vip_lookup(p, p->protocol, p->destination_port);
    return *frontend ? GO_ON : REASON_OTHER_PORT;
}

/* The same for cold programs, which have more ways behind them than the verifier could follow one by one. */
ALWAYS_INLINE int classify(context *ctx, struct packet *p, const struct settings *settings, u32 *frontend)
{
    int reason = classify_hot(ctx, p, settings, frontend);
    forget_packet(p, settings->zero);
    return reason;
}

/* Which cold program opens flows of this frontend? */
ALWAYS_INLINE int open_how(u32 frontend_id)
{
    struct frontend *frontend = frontends.lookup(&frontend_id);
    struct scratch *scratch = ctx_scratch();
    if (!frontend || !scratch)
        return REASON_INTERNAL;
    scratch->attempt = 0;
    scratch->chosen = 0;
    return frontend->mode == MODE_FULL_NAT ? GO_OPEN_NAT : GO_OPEN_KEPT;
}

ALWAYS_INLINE int balance(context *ctx, struct packet *p)
{
    u32 frontend = 0;
    struct settings *settings = get_settings();
    if (!settings)
        return REASON_INTERNAL;
    int reason = classify_hot(ctx, p, settings, &frontend);
    if (reason != GO_ON && reason != REASON_OTHER_PORT)
        return reason;
    if (frontend) {
        reason = handle_request(ctx, p, frontend, settings);
        if (reason >= 0 && kind_of(reason) == KIND_drop)
            count_frontend_drop(frontend);
        return reason == GO_OPEN ? open_how(frontend) : reason;
    }
    /* The filter may have taken a backend's client for a VIP: its hash is small. */
    int reply = handle_reply(ctx, p, settings);
    return reply == REASON_NOT_OURS && reason == REASON_OTHER_PORT ? reason : reply;
}

/* In IPv6 a later fragment may begin with the rest of an extension header: then it does not say what it is part of. */
ALWAYS_INLINE bool may_be_balanced(u8 protocol)
{
    return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_DSTOPTS || protocol == IPPROTO_AH;
}

/* Body of the cold program for later fragments. */
ALWAYS_INLINE int balance_fragment(context *ctx, struct packet *p)
{
    u32 frontend = 0;
    struct settings *settings = get_settings();
    if (!settings)
        return REASON_INTERNAL;
    int reason = classify(ctx, p, settings, &frontend);
    if (reason >= 0)
        return reason;
    struct fragment *fragment = fragment_lookup(p);
    if (fragment)
        return forward_fragment(ctx, p, fragment, settings);
    if (!is_for_vip(p))
        return REASON_NO_TRANSLATION;
    return may_be_balanced(p->protocol) ? REASON_FRAG_FIRST_MISSING : REASON_OTHER_PROTOCOL;
}

/* The one exit: count, and translate the reason into what this hook returns. */
ALWAYS_INLINE int finish(context *ctx, struct packet *p, int reason)
{
    enum reason_kind kind = kind_of(reason);
    count_verdict(ctx_hook(ctx), reason, p->length ? p->length : ctx_length(ctx));
    return ctx_verdict(kind, p);
}

#endif
