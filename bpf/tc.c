/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * tc ingress: XDP's companion for what XDP cannot send, and the only hook where XDP cannot attach. tc egress: clients on
 * this node and forwarded by it, and replies of backends on the node itself.
 */
#include "context_tc.h"

#include "adopt.h"
#include "balance.h"
#include "fragment.h"
#include "icmp.h"
#include "open.h"
#include "too_big.h"

/* Enough for Ethernet, tags, IPv6, extension headers up to MAX_HEADER_OFFSET and a TCP header. */
#define HEADERS_MAX (MAX_HEADER_OFFSET + 20)

/* loader only. The cold programs, in the order of packet.h. */
BPF_TABLE("prog", u32, u32, tails_tc, TAILS);

/* Headers may lie outside the linear part of an skb. A pull that fails leaves the packet to the parser's own checks. */
ALWAYS_INLINE void pull_headers(struct __sk_buff *ctx)
{
    u32 length = ctx->len < HEADERS_MAX ? ctx->len : HEADERS_MAX;
    if ((void *)(long)ctx->data + length > (void *)(long)ctx->data_end)
        bpf_skb_pull_data(ctx, length);
}

/* Go on in another program where the reason says so; comes back only if there is none. */
ALWAYS_INLINE int go_on(context *ctx, int reason)
{
    if (reason >= 0)
        return reason;
    tails_tc.call(ctx, FIRST_TAIL - reason);
    return REASON_INTERNAL;
}

/* The exit of the balancer's programs: the sniffer may want to see what leaves. */
ALWAYS_INLINE int finish(context *ctx, struct packet *p, int reason)
{
    reason = go_on(ctx, reason);
    if (WITH_SNIFF && sniff_departs(ctx, p, reason))
        tails_tc.call(ctx, FIRST_TAIL - GO_SNIFF_OUT);
    return conclude(ctx, p, reason);
}

/* The exit of the sniffer's own. */
ALWAYS_INLINE int finish_sniffed(context *ctx, struct packet *p, int reason)
{
    return conclude(ctx, p, go_on(ctx, reason));
}

int tc_ingress(struct __sk_buff *ctx)
{
    struct packet p = {};
    ctx_note_hook(ctx, HOOK_TC_INGRESS);
    if (ctx->tc_index == SENT_BY_US)
        ctx->tc_index = 0; /* through a veth from another node in the same kernel */
    pull_headers(ctx);
    return finish(ctx, &p, balance(ctx, &p, true));
}

int tc_egress(struct __sk_buff *ctx)
{
    struct packet p = {};
    if (ctx->tc_index == SENT_BY_US)
        return TC_NEXT; /* counted where it was sent */
    ctx_note_hook(ctx, HOOK_TC_EGRESS);
    pull_headers(ctx);
    return finish(ctx, &p, balance(ctx, &p, false));
}

int tc_open_nat(struct __sk_buff *ctx)
{
    struct packet p = {};
    pull_headers(ctx);
    return finish(ctx, &p, balance_open(ctx, &p, OPEN_NAT));
}

int tc_open_kept(struct __sk_buff *ctx)
{
    struct packet p = {};
    pull_headers(ctx);
    return finish(ctx, &p, balance_open(ctx, &p, OPEN_KEPT));
}

int tc_adopt(struct __sk_buff *ctx)
{
    struct packet p = {};
    pull_headers(ctx);
    return finish(ctx, &p, balance_adopt(ctx, &p));
}

int tc_icmp(struct __sk_buff *ctx)
{
    struct packet p = {};
    pull_headers(ctx);
    return finish(ctx, &p, balance_icmp(ctx, &p));
}

int tc_fragment(struct __sk_buff *ctx)
{
    struct packet p = {};
    pull_headers(ctx);
    return finish(ctx, &p, balance_fragment(ctx, &p));
}

int tc_too_big(struct __sk_buff *ctx)
{
    struct packet p = {};
    pull_headers(ctx);
    return finish(ctx, &p, report_too_big(ctx, &p));
}

int tc_open_local(struct __sk_buff *ctx)
{
    struct packet p = {};
    pull_headers(ctx);
    return finish(ctx, &p, balance_open(ctx, &p, OPEN_LOCAL));
}

int tc_sniff(struct __sk_buff *ctx)
{
    struct packet p = {};
    pull_headers(ctx);
    return WITH_SNIFF ? finish_sniffed(ctx, &p, sniff_newcomer(ctx, &p)) : CTX_NEXT;
}

int tc_sniffed(struct __sk_buff *ctx)
{
    struct packet p = {};
    pull_headers(ctx);
    return WITH_SNIFF ? finish(ctx, &p, balance(ctx, &p, false)) : CTX_NEXT;
}

int tc_sniff_out(struct __sk_buff *ctx)
{
    struct packet p = {};
    pull_headers(ctx);
    return WITH_SNIFF ? finish_sniffed(ctx, &p, sniff_departure(ctx, &p)) : CTX_NEXT;
}

int tc_sniff_tunnel(struct __sk_buff *ctx)
{
    struct packet p = {};
    pull_headers(ctx);
    return WITH_SNIFF ? finish_sniffed(ctx, &p, sniff_tunnelled(ctx, &p)) : CTX_NEXT;
}
