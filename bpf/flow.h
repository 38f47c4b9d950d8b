/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* The `flows` and `nat` tables behind one face for both address families, and the rules of a flow's life. */
#ifndef SLUICEGATE_FLOW_H
#define SLUICEGATE_FLOW_H

#include "maps.h"
#include "packet.h"

ALWAYS_INLINE void flow4_key_of(const struct client *c, struct flow4_key *key)
{
    key->client = c->address[0];
    key->client_port = c->port;
    key->frontend = c->frontend;
}

ALWAYS_INLINE void flow6_key_of(const struct client *c, struct flow6_key *key)
{
    key->client_port = c->port;
    key->frontend = c->frontend;
    copy_address(key->client, c->address);
}

ALWAYS_INLINE struct flow *flow_lookup(const struct client *c)
{
#if WITH_IPV4
    if (c->family == FAMILY_IPV4) {
        struct flow4_key key;
        flow4_key_of(c, &key);
        return flows4.lookup(&key);
    }
#endif
#if WITH_IPV6
    struct flow6_key key;
    flow6_key_of(c, &key);
    return flows6.lookup(&key);
#endif
    return 0;
}

ALWAYS_INLINE int flow_put(const struct client *c, struct flow *flow)
{
#if WITH_IPV4
    if (c->family == FAMILY_IPV4) {
        struct flow4_key key;
        flow4_key_of(c, &key);
        return flows4.update(&key, flow);
    }
#endif
#if WITH_IPV6
    struct flow6_key key;
    flow6_key_of(c, &key);
    return flows6.update(&key, flow);
#endif
    return -1;
}

/* The header of a FullNAT reply: the backend's end and ours. */
struct translation {
    u32 backend[4];
    u32 source[4];
    u16 backend_port;
    u16 source_port;
    u8 protocol;
    u8 family;
    u16 zero;
};

ALWAYS_INLINE void translation_of(const struct backend *backend, const u32 source[4], u16 source_port,
                                  struct translation *t)
{
    copy_address(t->backend, backend->address);
    copy_address(t->source, source);
    t->backend_port = backend->port;
    t->source_port = source_port;
    t->protocol = backend->protocol;
    t->family = backend->family;
    t->zero = 0;
}

ALWAYS_INLINE void nat4_key_of(const struct translation *t, struct nat4_key *key)
{
    key->backend = t->backend[0];
    key->source = t->source[0];
    key->backend_port = t->backend_port;
    key->source_port = t->source_port;
    key->protocol = t->protocol;
}

ALWAYS_INLINE void nat6_key_of(const struct translation *t, struct nat6_key *key)
{
    key->backend_port = t->backend_port;
    key->source_port = t->source_port;
    key->protocol = t->protocol;
    copy_address(key->backend, t->backend);
    copy_address(key->source, t->source);
}

ALWAYS_INLINE struct nat *nat_lookup(const struct translation *t)
{
#if WITH_IPV4
    if (t->family == FAMILY_IPV4) {
        struct nat4_key key;
        nat4_key_of(t, &key);
        return nat4.lookup(&key);
    }
#endif
#if WITH_IPV6
    struct nat6_key key;
    nat6_key_of(t, &key);
    return nat6.lookup(&key);
#endif
    return 0;
}

/* Claim a free port; fails when it has an owner (atomic across CPUs) or the table is full. */
ALWAYS_INLINE int nat_insert(const struct translation *t, struct nat *nat)
{
#if WITH_IPV4
    if (t->family == FAMILY_IPV4) {
        struct nat4_key key;
        nat4_key_of(t, &key);
        return nat4.insert(&key, nat);
    }
#endif
#if WITH_IPV6
    struct nat6_key key;
    nat6_key_of(t, &key);
    return nat6.insert(&key, nat);
#endif
    return -1;
}

ALWAYS_INLINE int nat_replace(const struct translation *t, struct nat *nat)
{
#if WITH_IPV4
    if (t->family == FAMILY_IPV4) {
        struct nat4_key key;
        nat4_key_of(t, &key);
        return nat4.update(&key, nat);
    }
#endif
#if WITH_IPV6
    struct nat6_key key;
    nat6_key_of(t, &key);
    return nat6.update(&key, nat);
#endif
    return -1;
}

ALWAYS_INLINE bool nat_belongs_to(const struct nat *nat, const struct client *c)
{
    return nat->frontend == c->frontend && nat->client_port == c->port && same_address(nat->client, c->address);
}

ALWAYS_INLINE bool state_is_closed(u64 state)
{
    return (state & FLOW_RESET) || (state & (FLOW_CLIENT_FIN | FLOW_BACKEND_FIN)) == (FLOW_CLIENT_FIN | FLOW_BACKEND_FIN);
}

/* Has a flow in this state been silent for too long? A wrapped difference of jiffies stays right for 99 days at HZ 250. */
ALWAYS_INLINE bool state_is_expired(u64 state, u32 last_seen, u32 now, u8 protocol, u32 idle_timeout,
                                    const struct settings *settings)
{
    u32 limit = idle_timeout;
    if (protocol == IPPROTO_TCP) {
        if (state_is_closed(state))
            limit = settings->closed_rest;
        else if (!(state & FLOW_ESTABLISHED))
            limit = settings->half_open_timeout;
    }
    return now - last_seen > limit;
}

/* What a packet's flags say about the sender's side. */
ALWAYS_INLINE u64 state_from_flags(const struct packet *p, u64 fin)
{
    if (p->protocol != IPPROTO_TCP)
        return 0;
    return ((p->tcp_flags & TCP_FIN) ? fin : 0) | ((p->tcp_flags & TCP_RST) ? FLOW_RESET : 0);
}

#define FLOW_CLOSING (FLOW_CLIENT_FIN | FLOW_BACKEND_FIN | FLOW_RESET)

/* A flow is half-open until one of these. */
#define FLOW_SETTLED (FLOW_ESTABLISHED | FLOW_CLOSING)

/* Take a flow out of the count of half-open ones, unless its epoch is over and forgotten; see admission.h. */
ALWAYS_INLINE void half_open_leave(u32 service, u32 epoch)
{
    struct admission *admission = admissions.lookup(&service);
    if (admission && epoch && admission->epoch - epoch < HALF_OPEN_EPOCHS)
        __sync_fetch_and_add(&admission->half_open[epoch % HALF_OPEN_EPOCHS], -1);
}

/*
 * Add bits to a flow's state; returns the state before. `backend_load.closed` counts a flow once, at the first FIN or
 * RST of either side: the result of the atomic tells which CPU was first.
 */
ALWAYS_INLINE u64 state_add(u64 *state, u64 bits, u32 backend, u32 service, u32 epoch)
{
    if (bits & FLOW_CLOSING)
        bits |= FLOW_COUNTED_CLOSED;
    u64 before = __sync_fetch_and_or(state, bits);
    if (bits & FLOW_CLOSING) {
        struct backend_load *load = backend_load.lookup(&backend);
        if (load && !(before & FLOW_COUNTED_CLOSED))
            __sync_fetch_and_add(&load->closed, 1);
        /* The client may close its side and wait; whoever resets or the backend's close leave a request unanswered. */
        if (load && (before & FLOW_WAITING) && (bits & (FLOW_RESET | FLOW_BACKEND_FIN)) &&
            (__sync_fetch_and_and(state, ~(u64)FLOW_WAITING) & FLOW_WAITING))
            __sync_fetch_and_add(&load->abandoned, 1);
    }
    if ((bits & FLOW_SETTLED) && !(before & FLOW_SETTLED))
        half_open_leave(service, epoch);
    return before;
}

ALWAYS_INLINE struct settings *get_settings(void)
{
    u32 index = 0;
    return settings.lookup(&index);
}

#endif
