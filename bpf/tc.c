/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* tc ingress: XDP's companion for what XDP cannot send, and the only hook where XDP cannot attach. */
#include "context_tc.h"

#include "balance.h"
#include "open.h"

#define TAIL_OPEN 0

/* Enough for Ethernet, tags, IPv6, extension headers up to MAX_HEADER_OFFSET and a TCP header. */
#define HEADERS_MAX (MAX_HEADER_OFFSET + 20)

BPF_TABLE("prog", u32, u32, tails_tc, 1);

/* Headers may lie outside the linear part of an skb. A pull that fails leaves the packet to the parser's own checks. */
ALWAYS_INLINE void pull_headers(struct __sk_buff *ctx)
{
    u32 length = ctx->len < HEADERS_MAX ? ctx->len : HEADERS_MAX;
    if ((void *)(long)ctx->data + length > (void *)(long)ctx->data_end)
        bpf_skb_pull_data(ctx, length);
}

int tc_ingress(struct __sk_buff *ctx)
{
    struct packet p = {};
    pull_headers(ctx);
    int reason = balance(ctx, &p);
    if (reason == OPEN_FLOW) {
        tails_tc.call(ctx, TAIL_OPEN);
        reason = REASON_INTERNAL;
    }
    return finish(ctx, &p, reason);
}

int tc_open(struct __sk_buff *ctx)
{
    struct packet p = {};
    pull_headers(ctx);
    int reason = balance_cold(ctx, &p);
    return finish(ctx, &p, reason);
}
