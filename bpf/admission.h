/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* Who may open a flow: allowed sources, the rate of new flows, and how many may be half-open. */
#ifndef SLUICEGATE_ADMISSION_H
#define SLUICEGATE_ADMISSION_H

#include "flow.h"

/* Tries to change a word that other CPUs change too. Losing them all lets one flow pass uncounted, never blocks. */
#define SWAP_ATTEMPTS 4

#define SERVICE_PREFIX_BITS 32

ALWAYS_INLINE bool source_is_allowed(const struct packet *p, u32 service)
{
#if WITH_IPV4
    if (p->family == FAMILY_IPV4) {
        struct source4_key key = {
            .prefix_length = SERVICE_PREFIX_BITS + 32, .service = service, .address = p->source[0]};
        return sources4.lookup(&key) != 0;
    }
#endif
#if WITH_IPV6
    struct source6_key key = {.prefix_length = SERVICE_PREFIX_BITS + 128, .service = service};
    copy_address(key.address, p->source);
    return sources6.lookup(&key) != 0;
#endif
    return false;
}

/*
 * Token bucket in one word, so that one compare-and-swap takes a token. A flow costs `hertz` tokens and each jiffy
 * brings `rate` of them; the bucket holds a tenth of a second's worth, at least one flow.
 */
ALWAYS_INLINE bool rate_allows(struct admission *admission, u32 rate, u32 now, u32 hertz)
{
    u64 capacity = (u64)rate * hertz / 10;
    if (capacity < hertz)
        capacity = hertz;
    if (capacity > 0xffffffff) /* the word's lower half */
        capacity = 0xffffffff;
    for (int i = 0; i < SWAP_ATTEMPTS; i++) {
        u64 bucket = admission->bucket;
        u32 elapsed = now - (u32)(bucket >> 32);
        u32 is_behind = ((u64)elapsed + hertz) >> 32; /* of another CPU, which is a tick ahead */
        elapsed &= is_behind - 1;
        u64 tokens = (u32)bucket + (u64)elapsed * rate;
        if (tokens > capacity)
            tokens = capacity;
        if (tokens < hertz)
            return false;
        u64 left = ((u64)((u32)(bucket >> 32) + elapsed) << 32) | (u32)(tokens - hertz);
        if (__sync_val_compare_and_swap(&admission->bucket, bucket, left) == bucket)
            return true;
    }
    return true;
}

/*
 * Half-open flows are counted in the epoch in which they were opened and taken out of it when they are established or
 * closed. An epoch is a quarter of the half-open timeout; whoever meets a new one first clears its counter, whose flows
 * have timed out: the count heals itself, whatever was evicted or forgotten.
 */
ALWAYS_INLINE u64 half_open_epoch(const struct settings *settings, u32 now)
{
    u32 length = settings->half_open_timeout / HALF_OPEN_EPOCHS;
    return length ? now / length + 1 : 1;
}

ALWAYS_INLINE void half_open_advance(struct admission *admission, u64 epoch)
{
    u64 before = admission->epoch;
    if (before == epoch || before == epoch + 1) /* another CPU is a tick ahead */
        return;
    if (__sync_val_compare_and_swap(&admission->epoch, before, epoch) != before)
        return;
    if (epoch - before > 1) { /* quiet for longer than an epoch: forget more than needed rather than branch for each */
        __builtin_memset(admission->half_open, 0, sizeof(admission->half_open));
        return;
    }
    admission->half_open[epoch % HALF_OPEN_EPOCHS] = 0;
}

ALWAYS_INLINE u64 half_open_count(const struct admission *admission)
{
    s64 count = 0;
    for (int i = 0; i < HALF_OPEN_EPOCHS; i++)
        count += (s64)admission->half_open[i];
    return count > 0 ? count : 0;
}

ALWAYS_INLINE bool is_flooded(u32 service, const struct settings *settings, u32 now)
{
    struct admission *admission = admissions.lookup(&service);
    if (!admission)
        return false;
    half_open_advance(admission, half_open_epoch(settings, now));
    return half_open_count(admission) >= settings->half_open_limit;
}

/* Count a flow in; the result belongs into its entry. */
ALWAYS_INLINE u32 half_open_enter(u32 service, const struct settings *settings, u32 now)
{
    struct admission *admission = admissions.lookup(&service);
    u64 epoch = half_open_epoch(settings, now);
    if (!admission)
        return 0;
    half_open_advance(admission, epoch);
    __sync_fetch_and_add(&admission->half_open[epoch % HALF_OPEN_EPOCHS], 1);
    return epoch;
}

/* May this client open a flow of the frontend now? */
ALWAYS_INLINE int admit(const struct packet *p, const struct frontend *frontend, const struct settings *settings, u32 now)
{
    if ((frontend->flags & FRONTEND_RESTRICTED) && !source_is_allowed(p, frontend->service))
        return REASON_SOURCE_DENIED;
    if (frontend->rate) {
        u32 service = frontend->service;
        struct admission *admission = admissions.lookup(&service);
        if (admission && !rate_allows(admission, frontend->rate, now, settings->hertz))
            return REASON_RATE_LIMITED;
    }
    return GO_ON;
}

#endif
