/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* XDP: the first look at every frame. What it cannot send itself goes to the tc program, unmodified. */
#include "context_xdp.h"

#include "adopt.h"
#include "balance.h"
#include "fragment.h"
#include "icmp.h"
#include "open.h"
#include "too_big.h"

/* loader only. The cold programs, in the order of packet.h. */
BPF_TABLE("prog", u32, u32, tails_xdp, TAILS);

/* Go on in another program where the reason says so; comes back only if there is none. */
ALWAYS_INLINE int go_on(context *ctx, int reason)
{
    if (reason >= 0)
        return reason;
    tails_xdp.call(ctx, FIRST_TAIL - reason);
    return REASON_INTERNAL;
}

/* The exit of the balancer's programs: the sniffer may want to see what leaves. */
ALWAYS_INLINE int finish(context *ctx, struct packet *p, int reason)
{
    reason = go_on(ctx, reason);
    if (WITH_SNIFF && sniff_departs(ctx, p, reason))
        tails_xdp.call(ctx, FIRST_TAIL - GO_SNIFF_OUT);
    return conclude(ctx, p, reason);
}

/* The exit of the sniffer's own. */
ALWAYS_INLINE int finish_sniffed(context *ctx, struct packet *p, int reason)
{
    return conclude(ctx, p, go_on(ctx, reason));
}

int xdp_main(struct xdp_md *ctx)
{
    struct packet p = {};
    return finish(ctx, &p, balance(ctx, &p, true));
}

int xdp_open_nat(struct xdp_md *ctx)
{
    struct packet p = {};
    return finish(ctx, &p, balance_open(ctx, &p, OPEN_NAT));
}

int xdp_open_kept(struct xdp_md *ctx)
{
    struct packet p = {};
    return finish(ctx, &p, balance_open(ctx, &p, OPEN_KEPT));
}

int xdp_adopt(struct xdp_md *ctx)
{
    struct packet p = {};
    return finish(ctx, &p, balance_adopt(ctx, &p));
}

int xdp_icmp(struct xdp_md *ctx)
{
    struct packet p = {};
    return finish(ctx, &p, balance_icmp(ctx, &p));
}

int xdp_fragment(struct xdp_md *ctx)
{
    struct packet p = {};
    return finish(ctx, &p, balance_fragment(ctx, &p));
}

int xdp_too_big(struct xdp_md *ctx)
{
    struct packet p = {};
    return finish(ctx, &p, report_too_big(ctx, &p));
}

int xdp_open_local(struct xdp_md *ctx)
{
    struct packet p = {};
    return finish(ctx, &p, balance_open(ctx, &p, OPEN_LOCAL));
}

int xdp_sniff(struct xdp_md *ctx)
{
    struct packet p = {};
    return WITH_SNIFF ? finish_sniffed(ctx, &p, sniff_newcomer(ctx, &p)) : CTX_NEXT;
}

int xdp_sniffed(struct xdp_md *ctx)
{
    struct packet p = {};
    return WITH_SNIFF ? finish(ctx, &p, balance(ctx, &p, false)) : CTX_NEXT;
}

int xdp_sniff_out(struct xdp_md *ctx)
{
    struct packet p = {};
    return WITH_SNIFF ? finish_sniffed(ctx, &p, sniff_departure(ctx, &p)) : CTX_NEXT;
}

int xdp_sniff_tunnel(struct xdp_md *ctx)
{
    struct packet p = {};
    return WITH_SNIFF ? finish_sniffed(ctx, &p, sniff_tunnelled(ctx, &p)) : CTX_NEXT;
}
