/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* Which backend gets a new flow. The weights are in the table: a backend holds slots in proportion to its own. */
#ifndef SLUICEGATE_SELECT_H
#define SLUICEGATE_SELECT_H

#include "hash.h"
#include "maps.h"

/* Slots looked at before giving up: a slot can point at a backend that left a moment ago, its table not yet swapped. */
#define SELECT_ATTEMPTS 4

/* Slot of the nth attempt. `hash` is the flow's. */
ALWAYS_INLINE u32 select_slot(const struct frontend *frontend, u32 hash, u32 attempt)
{
    if (frontend->algorithm == ALGORITHM_ROUND_ROBIN) {
        u32 service = frontend->service;
        struct cursor *cursor = cursors.lookup(&service);
        if (cursor)
            return __sync_fetch_and_add(&cursor->next, 1) % frontend->slots;
    }
    return draw(hash, attempt) % frontend->slots;
}

/* The backend in a slot, and its id; null when the slot or the backend cannot take a new flow. */
ALWAYS_INLINE struct backend *select_backend(const struct frontend *frontend, u32 slot, u32 *id)
{
    u32 service = frontend->service;
    void *table = tables.lookup(&service);
    if (!table)
        return 0;
    u32 *entry = bpf_map_lookup_elem_((u64)table, &slot);
    if (!entry)
        return 0;
    *id = *entry;
    struct backend *backend = backends.lookup(id);
    if (!backend || backend->state != BACKEND_ACTIVE)
        return 0;
    return backend;
}

#endif
