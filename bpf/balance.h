/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* The balancer's hot path, and what all programs end with. New flows go to open.h by tail call. */
#ifndef SLUICEGATE_BALANCE_H
#define SLUICEGATE_BALANCE_H

#include "classify.h"
#include "count.h"
#include "flow.h"
#include "reply.h"
#include "request.h"
#include "sniff.h"

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

/* `arriving`: it comes in, and the sniffer has not seen it yet. */
ALWAYS_INLINE int balance(context *ctx, struct packet *p, bool arriving)
{
    u32 frontend = 0;
    struct settings *settings = get_settings();
    if (!settings)
        return REASON_INTERNAL;
    int reason = read_packet(ctx, p, settings->zero);
    if (WITH_SNIFF && arriving) {
        int verdict = sniff_arrival(ctx, p, reason, settings->zero);
        if (verdict != GO_ON)
            return verdict;
    }
    if (reason == GO_ON)
        reason = classify_hot(ctx, p, &frontend);
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

/* Count, and translate the reason into what this hook returns. */
ALWAYS_INLINE int conclude(context *ctx, struct packet *p, int reason)
{
    enum reason_kind kind = kind_of(reason);
    count_verdict(ctx_hook(ctx), reason, p->length ? p->length : ctx_length(ctx));
    return ctx_verdict(kind, p);
}

#endif
