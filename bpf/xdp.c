/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* XDP: the first look at every frame. What it cannot send itself goes to the tc program, unmodified. */
#include "context_xdp.h"

#include "balance.h"
#include "open.h"

#define TAIL_OPEN 0

BPF_TABLE("prog", u32, u32, tails_xdp, 1);

int xdp_main(struct xdp_md *ctx)
{
    struct packet p = {};
    int reason = balance(ctx, &p);
    if (reason == OPEN_FLOW) {
        tails_xdp.call(ctx, TAIL_OPEN);
        reason = REASON_INTERNAL;
    }
    return finish(ctx, &p, reason);
}

int xdp_open(struct xdp_md *ctx)
{
    struct packet p = {};
    int reason = balance_cold(ctx, &p);
    return finish(ctx, &p, reason);
}
