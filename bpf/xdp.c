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

/* Go on in a cold program where the reason says so; comes back only if there is none. */
ALWAYS_INLINE int go_on(context *ctx, int reason)
{
    if (reason >= 0)
        return reason;
    tails_xdp.call(ctx, FIRST_TAIL - reason);
    return REASON_INTERNAL;
}

int xdp_main(struct xdp_md *ctx)
{
    struct packet p = {};
    return finish(ctx, &p, go_on(ctx, balance(ctx, &p)));
}

int xdp_open_nat(struct xdp_md *ctx)
{
    struct packet p = {};
    return finish(ctx, &p, go_on(ctx, balance_open(ctx, &p, OPEN_NAT)));
}

int xdp_open_kept(struct xdp_md *ctx)
{
    struct packet p = {};
    return finish(ctx, &p, go_on(ctx, balance_open(ctx, &p, OPEN_KEPT)));
}

int xdp_adopt(struct xdp_md *ctx)
{
    struct packet p = {};
    return finish(ctx, &p, go_on(ctx, balance_adopt(ctx, &p)));
}

int xdp_icmp(struct xdp_md *ctx)
{
    struct packet p = {};
    return finish(ctx, &p, go_on(ctx, balance_icmp(ctx, &p)));
}

int xdp_fragment(struct xdp_md *ctx)
{
    struct packet p = {};
    return finish(ctx, &p, go_on(ctx, balance_fragment(ctx, &p)));
}

int xdp_too_big(struct xdp_md *ctx)
{
    struct packet p = {};
    return finish(ctx, &p, go_on(ctx, report_too_big(ctx, &p)));
}

int xdp_open_local(struct xdp_md *ctx)
{
    struct packet p = {};
    return finish(ctx, &p, go_on(ctx, balance_open(ctx, &p, OPEN_LOCAL)));
}
