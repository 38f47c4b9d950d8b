/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* What every packet on a sniffed interface costs: whose it is, and one look at its flow. */
#ifndef SLUICEGATE_SNIFF_LOOK_H
#define SLUICEGATE_SNIFF_LOOK_H

#include "parse.h"
#include "sniff_flow.h"

#define VERDICT_STOP 1
#define VERDICT_DROP 2

struct sight {                      /* of one packet */
    struct tap *tap;
    struct sniffer *sniffer;
    struct sniff_counter *counter;
    u32 sender;                     /* end of the key */
    u32 octets;
};

/* Ports where there are any. */
ALWAYS_INLINE int sniff_ports_of(context *ctx, struct packet *p)
{
    void *data = (void *)(long)ctx->data;
    void *end = (void *)(long)ctx->data_end;
    if (p->protocol == IPPROTO_SCTP) {
        u16 *ports = data + (p->transport_offset & MAX_HEADER_OFFSET);
        if ((void *)ports + SCTP_HEADER > end ||
            p->transport_offset - p->network_offset + SCTP_HEADER > p->length)
            return REASON_MALFORMED;
        p->source_port = ports[0];
        p->destination_port = ports[1];
        return GO_ON;
    }
    int reason = parse_transport(data, end, p);
    return reason == REASON_OTHER_PROTOCOL ? GO_ON : reason;
}

/* What is known of a packet before its flow is; false when there is nothing to look for. `count`: it is the first time. */
ALWAYS_INLINE bool sniff_sight(context *ctx, struct packet *p, struct tap *tap, int parsed, u32 zero, bool count,
                               struct sight *sight)
{
    u32 number = tap->sniffer;
    struct sniffer *sniffer = sniffers.lookup(&number);
    struct sniff_counter *counter = sniff_counters.lookup(&number);
    if (!sniffer || !counter || parsed == REASON_NOT_IP)
        return false;
    *sight = (struct sight){.tap = tap, .sniffer = sniffer, .counter = counter, .octets = p->network_offset + p->length};
    if (count) {
        counter->packets++;
        counter->octets += sight->octets;
        counter->fragments += p->fragment != FRAGMENT_NONE;
    }
    if (p->fragment)
        return false;
    if (parsed != GO_ON || sniff_ports_of(ctx, p) != GO_ON) {
        counter->unreadable += count;
        return false;
    }
    sight->sender = sniff_sender(p, zero);
    return true;
}

/* GO_ON, a reason to drop, or GO_SNIFF: there is more to do than a look. */
ALWAYS_INLINE int sniff_look(struct packet *p, const struct sight *sight)
{
    struct sniff *flow = sniff_lookup(p, sight->tap->ifindex, sight->sender);
    u32 now = bpf_jiffies64();
    if (!flow || flow->state == SNIFF_SNIFF || sniff_is_over(flow, p, sight->sniffer, now))
        return GO_SNIFF;
    bool runs = (s32)(flow->until - now) > 0;
    if (flow->state == SNIFF_DROP && !runs)
        return GO_SNIFF;
    u64 *word = runs ? sniff_word(flow) : 0;
    if (word && (u8)*word == VERDICT_DROP)
        return GO_SNIFF;
    sniff_count(flow, p, sniff_is_reverse(flow, sight->sender), sight->octets, now);
    if (flow->state == SNIFF_DROP) {
        sight->counter->dropped++;
        return REASON_SNIFF_DROPPED;
    }
    if (flow->state == SNIFF_STOP)
        sight->counter->stopped++;
    else
        sight->counter->ignored++;
    return GO_ON;
}

#endif
