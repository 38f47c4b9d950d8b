/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * Passive measurement: what a backend does, seen from its packets. No clock is read for most of them and nothing is
 * parsed behind the TCP header, so it works for any protocol on TCP, encrypted or not. A request is data of the client
 * after the backend has spoken (or the first); pipelined requests and streams of HTTP/2 count as one, which makes the
 * counts lower bounds. User space gets the mean time of a response from mean counts (Little's law); one flow in
 * TIMED_ONE_IN is timed for histograms.
 */
#ifndef SLUICEGATE_MEASURE_H
#define SLUICEGATE_MEASURE_H

#include "flow.h"

#define TIMED_ONE_IN 8

ALWAYS_INLINE u32 microseconds(void)
{
    return bpf_ktime_get_ns() / 1000;
}

/* State and timer that a new flow begins with. */
ALWAYS_INLINE u64 timed_state(u32 hash, u32 *timer)
{
    if (hash % TIMED_ONE_IN)
        return 0;
    *timer = microseconds();
    return FLOW_TIMED;
}

ALWAYS_INLINE u32 log2_bucket(u32 value)
{
    u32 bucket = 0;
#pragma unroll
    for (u32 shift = 16; shift; shift /= 2) {
        u32 above = value >> shift != 0;
        bucket += above * shift;
        value >>= above * shift;
    }
    return bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1;
}

ALWAYS_INLINE void observe_time(u32 backend, u32 since, bool is_handshake)
{
    struct backend_latency *latency = backend_latency.lookup(&backend);
    if (!latency)
        return;
    u32 bucket = log2_bucket(microseconds() - since);
    if (bucket >= LATENCY_BUCKETS)
        return;
    __sync_fetch_and_add(is_handshake ? &latency->handshake[bucket] : &latency->first_response[bucket], 1);
}

/* Has the backend spoken since the client's last request? The client's acknowledgement tells, without a look at the
 * reply side's state: that is visited only for what this lets through. */
ALWAYS_INLINE bool is_request(const struct packet *p, u32 request_ack)
{
    return p->has_data && (!request_ack || (s32)(bpf_ntohl(p->acknowledged) - request_ack) > 0);
}

ALWAYS_INLINE void observe_request(u64 *state, u32 *timer, u32 backend)
{
    u64 before = __sync_fetch_and_or(state, FLOW_WAITING);
    struct backend_load *load = backend_load.lookup(&backend);
    if (!load || (before & FLOW_WAITING))
        return;
    __sync_fetch_and_add(&load->requests, 1);
    if (before & FLOW_TIMED)
        *timer = microseconds();
}

/* A SYN of a flow that is known: sent again, because nothing came back. Counted once per flow. */
ALWAYS_INLINE void observe_repeated_syn(u64 *state, u32 backend)
{
    if (*state & (FLOW_ANSWERED | FLOW_UNANSWERED))
        return;
    struct backend_load *load = backend_load.lookup(&backend);
    if (load && !(__sync_fetch_and_or(state, FLOW_UNANSWERED) & FLOW_UNANSWERED))
        __sync_fetch_and_add(&load->unanswered, 1);
}

/* Note a reply in its flow's state, and what it says of the backend. */
ALWAYS_INLINE void observe_reply(const struct packet *p, u64 *state, u32 *timer, u32 backend, u32 service, u32 epoch)
{
    u64 before = *state;
    if (p->has_data && (before & FLOW_WAITING)) {
        before = __sync_fetch_and_and(state, ~(u64)FLOW_WAITING);
        struct backend_load *load = backend_load.lookup(&backend);
        if (load && (before & FLOW_WAITING)) {
            __sync_fetch_and_add(&load->responses, 1);
            if (before & FLOW_TIMED)
                observe_time(backend, *timer, false);
        }
    }
    u64 bits = FLOW_ANSWERED | state_from_flags(p, FLOW_BACKEND_FIN) | (p->has_data ? FLOW_SPOKEN : 0);
    if (!(bits & ~before))
        return;
    before = state_add(state, bits, backend, service, epoch);
    if ((before & FLOW_TIMED) && !(before & FLOW_ANSWERED) && (p->tcp_flags & TCP_SYN))
        observe_time(backend, *timer, true);
    bool is_silent = !((before | bits) & FLOW_SPOKEN);
    if (is_silent && (bits & (FLOW_RESET | FLOW_BACKEND_FIN)) && !(before & FLOW_CLOSING)) {
        struct backend_load *load = backend_load.lookup(&backend);
        if (load)
            __sync_fetch_and_add((bits & FLOW_RESET) ? &load->resets : &load->empty_closes, 1);
    }
}

#endif
