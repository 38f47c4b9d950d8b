/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* The cold program for replies in a flood, whose requests were forwarded without an entry. */
#ifndef SLUICEGATE_ADOPT_H
#define SLUICEGATE_ADOPT_H

#include "backend.h"
#include "classify.h"
#include "count.h"
#include "flow.h"
#include "hash.h"
#include "open_kept.h"
#include "reply.h"
#include "request.h"
#include "select.h"

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
