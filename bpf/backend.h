/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* Backends by id and by endpoint. An id is given to another backend one day; its generation tells. */
#ifndef SLUICEGATE_BACKEND_H
#define SLUICEGATE_BACKEND_H

#include "maps.h"
#include "packet.h"

/* How packets get to this backend. */
ALWAYS_INLINE u8 mode_of(const struct frontend *frontend, const struct backend *backend)
{
    return frontend->mode == MODE_FULL_NAT && (backend->flags & BACKEND_LOCAL) ? MODE_DNAT : frontend->mode;
}

/* The id for counting: 0, which stands for none, when the id was given to another backend since. */
ALWAYS_INLINE u32 present_backend(u32 id, u16 generation)
{
    struct backend *backend = backends.lookup(&id);
    return backend && backend->generation == generation ? id : 0;
}

#if WITH_DNAT
ALWAYS_INLINE struct reverse *reverse_lookup(const u32 address[4], u16 port, u8 protocol, u8 family)
{
#if WITH_IPV4
    if (family == FAMILY_IPV4) {
        struct endpoint4 key = {.address = address[0], .port = port, .protocol = protocol};
        return reverse4.lookup(&key);
    }
#endif
#if WITH_IPV6
    struct endpoint6 key = {.port = port, .protocol = protocol};
    copy_address(key.address, address);
    return reverse6.lookup(&key);
#endif
    return 0;
}

/* Does this backend id stand for this endpoint? One endpoint has an id per service that uses it. */
ALWAYS_INLINE bool backend_is_at(u32 id, u16 generation, const u32 address[4], u16 port)
{
    struct backend *backend = backends.lookup(&id);
    return backend && backend->state != BACKEND_FREE && backend->generation == generation && backend->port == port &&
           same_address(backend->address, address);
}
#endif

#endif
