/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * Datagrams in fragments. The first fragment goes the way of a whole packet and leaves a note under (source,
 * destination, identification, in IPv4 protocol); the others, which carry no ports, follow it. Where many senders become
 * one source, identifications are made unique per destination: the receiver tells datagrams apart by nothing else.
 */
#ifndef SLUICEGATE_FRAGMENT_H
#define SLUICEGATE_FRAGMENT_H

#include "classify.h"
#include "count.h"
#include "flow.h"
#include "hash.h"
#include "hop.h"
#include "network.h"

ALWAYS_INLINE u32 new_identification(const u32 destination[4], u8 family)
{
    u32 index = address_hash(destination, family) % IDENTIFICATIONS;
    u64 *last = identifications.lookup(&index);
    return last ? (u32)(__sync_fetch_and_add(last, 1) + 1) : 0;
}

ALWAYS_INLINE void fragment4_key_of(const struct packet *p, struct fragment4_key *key)
{
    key->source = p->source[0];
    key->destination = p->destination[0];
    key->identification = p->identification;
    key->protocol = p->protocol;
}

ALWAYS_INLINE void fragment6_key_of(const struct packet *p, struct fragment6_key *key)
{
    key->identification = p->identification;
    copy_address(key->source, p->source);
    copy_address(key->destination, p->destination);
}

ALWAYS_INLINE struct fragment *fragment_lookup(const struct packet *p)
{
#if WITH_IPV4
    if (p->family == FAMILY_IPV4) {
        struct fragment4_key key;
        fragment4_key_of(p, &key);
        return fragments4.lookup(&key);
    }
#endif
#if WITH_IPV6
    struct fragment6_key key;
    fragment6_key_of(p, &key);
    return fragments6.lookup(&key);
#endif
    return 0;
}

ALWAYS_INLINE void fragment_put(const struct packet *p, struct fragment *fragment)
{
#if WITH_IPV4
    if (p->family == FAMILY_IPV4) {
        struct fragment4_key key;
        fragment4_key_of(p, &key);
        fragments4.update(&key, fragment);
        return;
    }
#endif
#if WITH_IPV6
    struct fragment6_key key;
    fragment6_key_of(p, &key);
    fragments6.update(&key, fragment);
#endif
}

/* Note where a first fragment goes, before it is rewritten, and give it its identification. */
ALWAYS_INLINE int fragment_follow(context *ctx, const struct packet *p, u32 frontend, u32 backend, const u32 source[4],
                                  const u32 destination[4], const struct hop *reply_hop, bool keep_identification)
{
    struct scratch *scratch = ctx_scratch();
    if (!scratch)
        return REASON_INTERNAL;
    struct fragment *fragment = &scratch->fragment;
    *fragment = (struct fragment){.frontend = frontend, .backend = backend, .identification = p->identification};
    copy_address(fragment->source, source);
    copy_address(fragment->destination, destination);
    if (reply_hop) {
        fragment->is_reply = 1;
        if (reply_hop->flags & HOP_RESOLVED)
            fragment->hop = *reply_hop;
    }
    if (!keep_identification) {
        fragment->identification = new_identification(destination, p->family);
        if (p->family == FAMILY_IPV4)
            fragment->identification &= 0xffff;
    }
    fragment_put(p, fragment);
    return network_reidentify(ctx, p, fragment->identification);
}

/* A later fragment of a datagram whose first one was forwarded. */
ALWAYS_INLINE int forward_fragment(context *ctx, struct packet *p, struct fragment *fragment,
                                   const struct settings *settings)
{
    struct network_header header = {};
    struct client_way way = {};
    struct nexthop *nexthop = 0;
    u64 sum = 0;
    u32 backend_id = fragment->backend;
    int reason;

    if (fragment->is_reply) {
        reason = find_client(ctx, p, fragment->source, fragment->destination, settings->hop_generation, &fragment->hop,
                             &way);
    } else {
        struct backend *backend = backends.lookup(&backend_id);
        u32 nexthop_id = backend ? backend->nexthop : 0;
        reason = find_nexthop(ctx, p, &nexthop_id, &nexthop);
    }
    if (reason != GO_ON)
        return reason;
    u32 offset = p->network_offset & MAX_HEADER_OFFSET;
    if (network_load(ctx, offset, p->family, &header) != GO_ON ||
        network_readdress(ctx, offset, p->family, &header, fragment->source, fragment->destination, true, &sum) !=
            GO_ON ||
        network_reidentify(ctx, p, fragment->identification) != GO_ON)
        return REASON_INTERNAL;
    if (fragment->is_reply) {
        reason = send_to_client(ctx, p, &way);
        if (reason != GO_ON)
            return reason;
        count_reply(fragment->frontend, backend_id, p->length);
        return REASON_FORWARDED_REPLY;
    }
    if (!nexthop)
        return REASON_INTERNAL;
    reason = send_to_nexthop(ctx, p, nexthop);
    if (reason != GO_ON)
        return reason;
    count_request(fragment->frontend, backend_id, p->length);
    return REASON_FORWARDED_REQUEST;
}

/* In IPv6 a later fragment may begin with the rest of an extension header: then it does not say what it is part of. */
ALWAYS_INLINE bool may_be_balanced(u8 protocol)
{
    return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_DSTOPTS || protocol == IPPROTO_AH;
}

/* Body of the cold program for later fragments. */
ALWAYS_INLINE int balance_fragment(context *ctx, struct packet *p)
{
    u32 frontend = 0;
    struct settings *settings = get_settings();
    if (!settings)
        return REASON_INTERNAL;
    int reason = classify(ctx, p, settings, &frontend);
    if (reason >= 0)
        return reason;
    struct fragment *fragment = fragment_lookup(p);
    if (fragment)
        return forward_fragment(ctx, p, fragment, settings);
    if (!is_for_vip(p))
        return REASON_NO_TRANSLATION;
    return may_be_balanced(p->protocol) ? REASON_FRAG_FIRST_MISSING : REASON_OTHER_PROTOCOL;
}

#endif
