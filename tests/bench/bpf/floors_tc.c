/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
#include "feed.h"
#include "floors.h"

#include <uapi/linux/pkt_cls.h>

/* loader and user space. */
BPF_TABLE("prog", u32, u32, tails_bench_tc, TARGETS);

#define TC_NEXT (-1)

int feed_tc(struct __sk_buff *ctx)
{
    u32 index = 1;
    struct feed *f = feeds.lookup(&index);
    if (!f || !feed_packet(f, (void *)(long)ctx->data, (void *)(long)ctx->data_end))
        return TC_ACT_SHOT;
    tails_bench_tc.call(ctx, f->target);
    return TC_ACT_SHOT;
}

int empty_tc(struct __sk_buff *ctx)
{
    return TC_NEXT;
}

int parse_tc(struct __sk_buff *ctx)
{
    return parse_only((void *)(long)ctx->data, (void *)(long)ctx->data_end, TC_NEXT, TC_ACT_SHOT);
}

int lookup_tc(struct __sk_buff *ctx)
{
    return parse_and_look_up((void *)(long)ctx->data, (void *)(long)ctx->data_end, TC_NEXT, TC_ACT_SHOT);
}
