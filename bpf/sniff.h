/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * Dynamic sniffing: a flow's packets go up to the engine until it has seen enough, or says so, or says that the flow is
 * to be dropped. They are seen where they come in, before the balancer, and where they go out, behind it. Nothing here
 * changes a packet, and what goes wrong here lets it pass.
 */
#ifndef SLUICEGATE_SNIFF_H
#define SLUICEGATE_SNIFF_H

#include "classify.h"
#include "flow.h"
#include "sniff_look.h"
#include "sniff_tunnel.h"
#include "sniff_work.h"

/* A packet that comes in, before anything else is made of it; `parsed` is what the parser said. */
ALWAYS_INLINE int sniff_arrival(context *ctx, struct packet *p, int parsed, u32 zero)
{
    struct sight sight = {};
    struct tap *tap = tap_of(ctx_ifindex(ctx));
    if (!tap || (!ON_XDP && (tap->flags & TAP_XDP)) || !sniff_sight(ctx, p, tap, parsed, zero, true, &sight))
        return GO_ON;
    if (!sniff_is_tunnel(p))
        return sniff_look(p, &sight);
    struct scratch *scratch = ctx_scratch();
    if (!scratch)
        return GO_ON;
    scratch->out = 0;
    return GO_SNIFF_TUNNEL;
}

/* Body of the cold program that does what is left of it, and hands on to the balancer. */
ALWAYS_INLINE int sniff_newcomer(context *ctx, struct packet *p)
{
    struct sight sight = {};
    struct settings *settings = get_settings();
    struct tap *tap = tap_of(ctx_ifindex(ctx));
    if (!settings || !tap)
        return GO_SNIFFED;
    int parsed = read_packet(ctx, p, settings->zero);
    forget_packet(p, settings->zero);
    if (!sniff_sight(ctx, p, tap, parsed, settings->zero, false, &sight))
        return GO_SNIFFED;
    int reason = sniff_work(ctx, p, &sight, false);
    return reason == GO_ON ? GO_SNIFFED : reason;
}

/* Is this packet on its way out of an interface that is sniffed? Then notes for the program that looks at it. */
ALWAYS_INLINE bool sniff_departs(context *ctx, const struct packet *p, int reason)
{
    enum reason_kind kind = kind_of(reason);
    int action = ctx_verdict(kind, p);
    u32 out = kind == KIND_forward ? p->out : 0;
    if (!ON_XDP && ctx_at_egress(ctx) && action == CTX_NEXT)
        out = ctx_ifindex(ctx);
    struct scratch *scratch = ctx_scratch();
    if (!out || !scratch || !tap_of(out))
        return false;
    scratch->out = out;
    scratch->reason = reason;
    scratch->action = action;
    return true;
}

/* Body of the program that looks at it: as it will be on the wire. Ends with what the notes say, or drops it. */
ALWAYS_INLINE int sniff_departure(context *ctx, struct packet *p)
{
    struct sight sight = {};
    struct settings *settings = get_settings();
    struct scratch *scratch = ctx_scratch();
    if (!settings || !scratch)
        return REASON_INTERNAL;
    p->action = scratch->action;
    struct tap *tap = tap_of(scratch->out);
    int parsed = read_packet(ctx, p, settings->zero);
    forget_packet(p, settings->zero);
    if (!tap || !sniff_sight(ctx, p, tap, parsed, settings->zero, true, &sight))
        return scratch->reason;
    if (sniff_is_tunnel(p))
        return GO_SNIFF_TUNNEL;
    int reason = sniff_look(p, &sight);
    if (reason == GO_SNIFF)
        reason = sniff_work(ctx, p, &sight, true);
    return reason == GO_ON ? scratch->reason : reason;
}

/* Body of the program for tunnels, on their way in or out. */
ALWAYS_INLINE int sniff_tunnelled(context *ctx, struct packet *p)
{
    struct sight sight = {};
    struct settings *settings = get_settings();
    struct scratch *scratch = ctx_scratch();
    if (!settings || !scratch)
        return GO_SNIFFED;
    u32 out = scratch->out;
    int otherwise = out ? (int)scratch->reason : GO_SNIFFED;
    struct tap *tap = tap_of(out ? out : ctx_ifindex(ctx));
    int parsed = read_packet(ctx, p, settings->zero);
    forget_packet(p, settings->zero);
    p->action = scratch->action;
    u32 length = forget(p->length, settings->zero);
    if (!tap || !sniff_sight(ctx, p, tap, parsed, settings->zero, false, &sight) ||
        !sniff_enter(ctx, p, settings->zero, &sight))
        return otherwise;
    int reason = sniff_look(p, &sight);
    if (reason == GO_SNIFF)
        reason = sniff_work(ctx, p, &sight, out != 0);
    p->length = length; /* counted is the packet outside */
    return reason == GO_ON ? otherwise : reason;
}

#endif
