/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* Which backend gets a new flow. The weights are in the table: a backend holds slots in proportion to its own. */
#ifndef SLUICEGATE_SELECT_H
#define SLUICEGATE_SELECT_H

#include "hash.h"
#include "maps.h"

/* The backend in a slot, and its id; null when the slot or the backend cannot take a new flow. */
ALWAYS_INLINE struct backend *backend_in_slot(void *table, u32 slot, u32 *id)
{
    u32 *entry = bpf_map_lookup_elem_((u64)table, &slot);
    if (!entry)
        return 0;
    *id = *entry;
    struct backend *backend = backends.lookup(id);
    if (!backend || backend->state != BACKEND_ACTIVE)
        return 0;
    return backend;
}

/* Flows that a backend holds, as far as this node knows: what was opened and closed here, corrected by the agent's sweep. */
ALWAYS_INLINE u64 flows_of(u32 id)
{
    struct backend_load *load = backend_load.lookup(&id);
    s64 *fix = backend_fix.lookup(&id);
    if (!load || !fix)
        return 0;
    s64 flows = (s64)(load->opened - load->closed) + *fix;
    return flows > 0 ? flows : 0;
}

/*
 * (2n + 1) / w, half a flow more than a backend holds by its weight: is the candidate better? Ties go to the first draw,
 * and so does the choice among idle ones, so that the same tuple meets the same backend on every node as long as nothing
 * speaks against it.
 */
ALWAYS_INLINE bool is_less_loaded(const struct backend *candidate, u64 flows, const struct backend *best, u64 best_flows)
{
    return (flows || best_flows) && (2 * flows + 1) * best->weight < (2 * best_flows + 1) * candidate->weight;
}

/* Slot of the nth draw, by a product instead of a remainder, which is a division. A heavy backend holds more slots and so
 * stands for election more often. */
ALWAYS_INLINE u32 nth_slot(const struct frontend *frontend, u32 hash, u32 n, bool hash_only)
{
    if (!hash_only && frontend->algorithm == ALGORITHM_ROUND_ROBIN) {
        u32 service = frontend->service;
        struct cursor *cursor = cursors.lookup(&service);
        if (cursor)
            return __sync_fetch_and_add(&cursor->next, 1) % frontend->slots;
    }
    return (u64)draw(hash, n) * frontend->slots >> 32;
}

ALWAYS_INLINE struct affinity *affinity_lookup(const struct packet *p, u32 service)
{
#if WITH_IPV4
    if (p->family == FAMILY_IPV4) {
        struct affinity4_key key = {.client = p->source[0], .service = service};
        return affinity4.lookup(&key);
    }
#endif
#if WITH_IPV6
    struct affinity6_key key = {.service = service};
    copy_address(key.client, p->source);
    return affinity6.lookup(&key);
#endif
    return 0;
}

/* The backend that this client's flows go to, if it may still take new ones. */
ALWAYS_INLINE struct backend *affine_backend(const struct packet *p, const struct frontend *frontend, u32 now, u32 *id)
{
    struct affinity *affinity = affinity_lookup(p, frontend->service);
    if (!affinity || now - affinity->last_used > frontend->affinity_timeout)
        return 0;
    u32 backend_id = affinity->backend;
    struct backend *backend = backends.lookup(&backend_id);
    if (!backend || backend->state != BACKEND_ACTIVE || backend->generation != affinity->backend_generation)
        return 0;
    affinity->last_used = now;
    *id = backend_id;
    return backend;
}

ALWAYS_INLINE void remember_affinity(const struct packet *p, u32 service, u32 id, const struct backend *backend, u32 now)
{
    struct affinity affinity = {.backend = id, .backend_generation = backend->generation, .last_used = now};
#if WITH_IPV4
    if (p->family == FAMILY_IPV4) {
        struct affinity4_key key = {.client = p->source[0], .service = service};
        affinity4.update(&key, &affinity);
        return;
    }
#endif
#if WITH_IPV6
    struct affinity6_key key = {.service = service};
    copy_address(key.client, p->source);
    affinity6.update(&key, &affinity);
#endif
}

/*
 * Choose a backend for a new flow. `hash_only` leaves out affinity, load and turns: the choice must be one that a later
 * packet without an entry finds again. `scratch` has the number of the attempt: flows can come back here whose first
 * choices could not take them.
 */
ALWAYS_INLINE struct backend *choose(const struct packet *p, struct opening *o, const struct frontend *frontend,
                                     const struct scratch *scratch, bool hash_only, bool at_egress)
{
    struct backend *best = 0;
    u64 best_flows = 0;
    bool affine = !hash_only && (frontend->flags & FRONTEND_AFFINITY);
    u32 draws = !hash_only && frontend->algorithm == ALGORITHM_LEAST_LOAD ? LEAST_LOAD_DRAWS : 1;
    if (affine && !scratch->attempt) {
        best = affine_backend(p, frontend, o->now, &o->backend_id);
        if (best)
            return best;
    }
    u32 service = frontend->service;
    void *table = tables.lookup(&service);
    if (!table)
        return 0;
    for (u32 n = 0; n < DRAWS; n++) {
        if (best && n >= draws)
            break;
        u32 id = 0;
        struct backend *candidate = backend_in_slot(table, nth_slot(frontend, o->hash, scratch->attempt + n, hash_only), &id);
        if (!candidate)
            continue;
        if (at_egress && (candidate->flags & BACKEND_LOCAL)) /* the stack takes no packet from itself to itself */
            continue;
        u64 flows = flows_of(id);
        if (best && !is_less_loaded(candidate, flows, best, best_flows))
            continue;
        best = candidate;
        best_flows = flows;
        o->backend_id = id;
    }
    if (best && affine)
        remember_affinity(p, frontend->service, o->backend_id, best, o->now);
    return best;
}

#endif
