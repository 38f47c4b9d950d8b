/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* What only a flow's first packets cost: an entry for it, the engine's word, a record for the engine. */
#ifndef SLUICEGATE_SNIFF_WORK_H
#define SLUICEGATE_SNIFF_WORK_H

#include "hash.h"
#include "sniff_look.h"
#include "sniff_record.h"
#include "sniff_rules.h"

#define SNIFF_GRACE_SECONDS 2       /* how long after a stop a record still under way may ask for a drop */
#define SNIFF_DROP_SECONDS_MAX (1 << 20)

/* A slot and a generation: a number that no CPU gives out twice, cut in two. Generations begin at 1. */
ALWAYS_INLINE u64 sniff_id(const struct sniff_settings *settings)
{
    u32 index = 0;
    u64 *opened = sniff_slots.lookup(&index);
    if (!opened)
        return 0;
    u64 number = *opened * settings->cpus + bpf_get_smp_processor_id();
    (*opened)++;
    return (number / SNIFF_SLOTS + 1) << 32 | number % SNIFF_SLOTS;
}

ALWAYS_INLINE struct sniff *sniff_open(const struct packet *p, const struct sight *sight,
                                       const struct sniff_settings *settings, u32 now)
{
    /* The answer to a SYN that was not seen: the other side opened the connection. */
    bool turned = p->protocol == IPPROTO_TCP && (p->tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK);
    bool ignored = false;
    u32 number = sight->tap->sniffer;
    struct sniff fresh = {.state = SNIFF_SNIFF, .rule = SNIFF_RULE_NONE, .sniffer = number, .last_seen = now};
    if (sight->sniffer->table) {
        u32 rule = sniff_match(p, sight->sniffer, turned, &ignored);
        u32 index = number * SNIFF_RULES + (rule & (SNIFF_RULES - 1));
        u64 *taken = sniff_rule_flows.lookup(&index);
        if (taken)
            __sync_fetch_and_add(taken, 1);
        fresh.rule = rule;
        if (ignored || rule == SNIFF_RULE_NONE) {
            fresh.state = SNIFF_IGNORE;
            fresh.why = SNIFF_WHY_RULES;
        }
    }
    if (sight->sender ^ turned)
        fresh.flags = SNIFF_FROM_SECOND;
    fresh.id = sniff_id(settings);
    fresh.first_ns = bpf_ktime_get_ns() + settings->clock_offset;
    fresh.until = now;
    struct sniff *flow = sniff_put(p, sight->tap->ifindex, sight->sender, &fresh);
    if (flow)
        sight->counter->opened++;
    else
        sight->counter->no_room++;
    return flow;
}

/* Has a flow used up its budget, halved `shift` times? */
ALWAYS_INLINE bool sniff_is_spent(const struct sniff *flow, const struct sniffer *sniffer, u32 shift)
{
    return flow->sent >= sniffer->max_packets >> shift || flow->payload_packets >= sniffer->payload_packets >> shift ||
           flow->payload_bytes >= sniffer->payload_bytes >> shift;
}

ALWAYS_INLINE void sniff_stop(struct sniff *flow, u8 why, u32 until)
{
    flow->state = SNIFF_STOP;
    flow->why = why;
    flow->until = until;
}

/* Copy the engine's word into the flow: a slot given to another flow never takes it back. */
ALWAYS_INLINE void sniff_obey(struct sniff *flow, const struct sight *sight, u32 now, u32 hertz)
{
    if (flow->state == SNIFF_DROP && (s32)(flow->until - now) <= 0) {
        bool spent = sniff_is_spent(flow, sight->sniffer, 0);
        flow->state = spent ? SNIFF_STOP : SNIFF_SNIFF;
        flow->why = spent ? SNIFF_WHY_BUDGET : SNIFF_WHY_OPEN;
    }
    u64 *word = sniff_word(flow);
    if (!word)
        return;
    u64 said = *word;
    if ((u8)said == VERDICT_STOP && flow->state == SNIFF_SNIFF) {
        sniff_stop(flow, SNIFF_WHY_VERDICT, now + SNIFF_GRACE_SECONDS * hertz);
        sight->counter->stopped_by_verdict++;
    }
    if ((u8)said == VERDICT_DROP) {
        u32 seconds = (u32)said >> 8;
        if (seconds > SNIFF_DROP_SECONDS_MAX)
            seconds = SNIFF_DROP_SECONDS_MAX;
        u32 until = now + seconds * hertz;
        if (flow->state != SNIFF_DROP)
            sight->counter->dropped_by_verdict++;
        if (flow->state != SNIFF_DROP || (s32)(until - flow->until) > 0)
            flow->until = until;
        flow->state = SNIFF_DROP;
        flow->why = SNIFF_WHY_VERDICT;
        __sync_val_compare_and_swap(word, said, 0); /* taken: it holds for its time, not for ever */
    }
}

/* Slots of one CPU are a fixed step apart: the hash keeps that from sending all its flows to one worker. */
ALWAYS_INLINE u32 sniff_worker(u64 id, u32 workers)
{
    return (((u32)id * GOLDEN_RATIO) >> 16) % workers;
}

/* Under pressure a flow may use less of its budget, the fuller the ring the less: new flows are the last to suffer. */
ALWAYS_INLINE u32 sniff_pressure(void *ring, const struct sniff_settings *settings)
{
    u64 used = bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA) * 8;
    u64 size = settings->ring_bytes;
    return used < size * 4 ? 0 : used < size * 6 ? 1 : used < size * 7 ? 2 : 3;
}

ALWAYS_INLINE void sniff_send(context *ctx, const struct packet *p, struct sniff *flow, const struct sight *sight,
                              const struct sniff_settings *settings, u32 now, bool egress)
{
    struct sniff_counter *counter = sight->counter;
    struct sniffer *sniffer = sight->sniffer;
    u32 l4_offset = p->transport_offset - p->network_offset;
    u32 header = transport_header(ctx, p);
    u32 payload = l4_offset + header;
    u32 wanted = p->length;
    u32 reverse = sniff_is_reverse(flow, sight->sender);
    /* A side's first segment goes up whatever it holds: the engine learns that the flow, or the other side, is there. */
    if (p->protocol == IPPROTO_TCP && payload >= wanted && !(p->tcp_flags & (TCP_SYN | TCP_RST)) &&
        !(sniffer->flags & SNIFFER_SEND_EMPTY) && (reverse ? flow->packets[1] : flow->packets[0]) > 1) {
        counter->empty++;
        return;
    }
    u32 workers = settings->workers;
    u32 worker = workers ? sniff_worker(flow->id, workers) : 0;
    void *ring = sniff_rings.lookup(&worker);
    struct sniff_loss *loss = sniff_lost.lookup(&worker);
    if (!workers || !ring || !loss) {
        counter->no_worker++;
        return;
    }
    if (sniffer->flags & SNIFFER_ADAPTIVE) {
        u32 shift = sniff_pressure(ring, settings);
        if (shift && flow->sent >= 2 && sniff_is_spent(flow, sniffer, shift)) {
            sniff_stop(flow, SNIFF_WHY_PRESSURE, now + SNIFF_GRACE_SECONDS * settings->hertz);
            counter->stopped_by_pressure++;
            counter->stopped++;
            return;
        }
    }
    u32 length = wanted > RECORD_DATA_MAX ? RECORD_DATA_MAX : wanted;
    bool has_payload = header && payload < length;
    struct sniff_record record = {
        .ts_ns = bpf_ktime_get_ns() + settings->clock_offset,
        .flow_id = flow->id,
        .ifindex = sight->tap->ifindex,
        .wire_len = ctx_length(ctx),
        .index = flow->packets[0] + flow->packets[1],
        .cap_len = length,
        .l4_off = l4_offset,
        .pl_off = has_payload ? payload : length,
        .pl_len = has_payload ? length - payload : 0,
        .l4_proto = p->protocol,
        .tcp_flags = p->tcp_flags,
        .flags = (reverse ? RECORD_REVERSE : 0) |
                 (p->family == FAMILY_IPV6 ? RECORD_IPV6 : 0) | (length < wanted ? RECORD_TRUNCATED : 0) |
                 (egress ? RECORD_EGRESS : 0) | (p->tunnel_kind ? RECORD_TUNNEL : 0),
        .policy = flow->sniffer,
        .tunnel = p->tunnel,
        .vlan = frame_vlan(ctx),
        .drops = loss->unsaid > 0xffff ? 0xffff : loss->unsaid,
    };
    int failed = record_put(ctx, ring, &record, p->network_offset, length);
    if (failed) {
        if (failed == -1) {
            counter->lost++;
            loss->total++;
            loss->unsaid++;
        } else {
            counter->unreadable++;
        }
        return;
    }
    loss->unsaid -= record.drops;
    counter->sent++;
    counter->sent_octets += length;
    flow->sent++;
    if (has_payload) {
        flow->payload_packets++;
        flow->payload_bytes += length - payload;
    }
    if (sniff_is_spent(flow, sniffer, 0)) {
        sniff_stop(flow, SNIFF_WHY_BUDGET, now + SNIFF_GRACE_SECONDS * settings->hertz);
        counter->stopped_by_budget++;
    }
}

/* What the look left: a new flow, a verdict, a record. */
ALWAYS_INLINE int sniff_work(context *ctx, struct packet *p, const struct sight *sight, bool egress)
{
    struct sniff_settings *settings = get_sniff_settings();
    if (!settings)
        return GO_ON;
    u32 now = bpf_jiffies64();
    struct sniff *flow = sniff_lookup(p, sight->tap->ifindex, sight->sender);
    if (!flow || sniff_is_over(flow, p, sight->sniffer, now))
        flow = sniff_open(p, sight, settings, now);
    if (!flow)
        return GO_ON;
    sniff_obey(flow, sight, now, settings->hertz);
    sniff_count(flow, p, sniff_is_reverse(flow, sight->sender), sight->octets, now);
    if (flow->state == SNIFF_DROP) {
        sight->counter->dropped++;
        return REASON_SNIFF_DROPPED;
    }
    if (flow->state == SNIFF_STOP)
        sight->counter->stopped++;
    else if (flow->state == SNIFF_IGNORE)
        sight->counter->ignored++;
    else
        sniff_send(ctx, p, flow, sight, settings, now, egress);
    return GO_ON;
}

#endif
