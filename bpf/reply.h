/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* What happens to a backend's packet: the flow that it answers, and the way back to the client. */
#ifndef SLUICEGATE_REPLY_H
#define SLUICEGATE_REPLY_H

#include "admission.h"
#include "backend.h"
#include "count.h"
#include "filter.h"
#include "flow.h"
#include "fragment.h"
#include "hop.h"
#include "measure.h"
#include "parse.h"

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

#endif
