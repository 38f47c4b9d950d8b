/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* Both ends of a path: a generator of live frames, and where they arrive. */
#define EXACT_CHECKSUMS 1
#include "feed.h"
#include "forward.h"

/* Live frames come back used: the feeder writes every header anew. `target` is the interface to send from. */
int generate(struct xdp_md *ctx)
{
    u32 index = 0;
    struct feed *f = feeds.lookup(&index);
    if (!f || !feed_packet(f, (void *)(long)ctx->data, (void *)(long)ctx->data_end))
        return XDP_DROP;
    return bpf_redirect(f->target, 0);
}

int sink_xdp(struct xdp_md *ctx)
{
    arrive();
    return XDP_DROP;
}
