/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* Counters. Every packet is counted once per hook under its reason, in finish() of the entry file. */
#ifndef SLUICEGATE_COUNT_H
#define SLUICEGATE_COUNT_H

#include "maps.h"
#include "packet.h"

ALWAYS_INLINE void count_verdict(u32 hook, u32 reason, u32 bytes)
{
    u32 index = hook * REASON_STRIDE + reason;
    struct verdict_counter *counter = verdicts.lookup(&index);
    if (counter) {
        counter->packets++;
        counter->bytes += bytes;
    }
}

ALWAYS_INLINE void count_request(u32 frontend, u32 backend, u32 bytes)
{
    struct traffic *t = frontend_traffic.lookup(&frontend);
    if (t) {
        t->request_packets++;
        t->request_bytes += bytes;
    }
    t = backend_traffic.lookup(&backend);
    if (t) {
        t->request_packets++;
        t->request_bytes += bytes;
    }
}

ALWAYS_INLINE void count_reply(u32 frontend, u32 backend, u32 bytes)
{
    struct traffic *t = frontend_traffic.lookup(&frontend);
    if (t) {
        t->reply_packets++;
        t->reply_bytes += bytes;
    }
    t = backend_traffic.lookup(&backend);
    if (t) {
        t->reply_packets++;
        t->reply_bytes += bytes;
    }
}

ALWAYS_INLINE void count_opened(u32 frontend, u32 backend)
{
    struct traffic *t = frontend_traffic.lookup(&frontend);
    if (t)
        t->opened++;
    t = backend_traffic.lookup(&backend);
    if (t)
        t->opened++;
    struct backend_load *load = backend_load.lookup(&backend);
    if (load)
        __sync_fetch_and_add(&load->opened, 1);
}

/* A drop that belongs to a frontend; the reason itself is counted by finish(). */
ALWAYS_INLINE void count_frontend_drop(u32 frontend)
{
    struct traffic *t = frontend_traffic.lookup(&frontend);
    if (t)
        t->dropped++;
}

#endif
