/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
#include "feed.h"
#include "floors.h"

/* loader and user space. */
BPF_TABLE("prog", u32, u32, tails_bench_xdp, TARGETS);

int feed_xdp(struct xdp_md *ctx)
{
    u32 index = 0;
    struct feed *f = feeds.lookup(&index);
    if (!f || !feed_packet(f, (void *)(long)ctx->data, (void *)(long)ctx->data_end))
        return XDP_ABORTED;
    tails_bench_xdp.call(ctx, f->target);
    return XDP_ABORTED;
}

int empty_xdp(struct xdp_md *ctx)
{
    return XDP_PASS;
}

int parse_xdp(struct xdp_md *ctx)
{
    return parse_only((void *)(long)ctx->data, (void *)(long)ctx->data_end, XDP_PASS, XDP_ABORTED);
}

int lookup_xdp(struct xdp_md *ctx)
{
    return parse_and_look_up((void *)(long)ctx->data, (void *)(long)ctx->data_end, XDP_PASS, XDP_ABORTED);
}
