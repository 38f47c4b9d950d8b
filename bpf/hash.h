/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* Hashes: of one address for the filter, of a flow for selection. User space computes both too. */
#ifndef SLUICEGATE_HASH_H
#define SLUICEGATE_HASH_H

#include "packet.h"

#define GOLDEN_RATIO 0x9E3779B1u

/* Bit position of an address in the filter, 0..65535. IPv4 hashes word 0 alone, as user space does. */
ALWAYS_INLINE u32 address_hash(const u32 address[4], u8 family)
{
    u32 mixed = address[0];
    if (family == FAMILY_IPV6)
        mixed = ((mixed * 31 + address[1]) * 31 + address[2]) * 31 + address[3];
    return (mixed * GOLDEN_RATIO) >> 16;
}

/* Finalizer of MurmurHash3 (32 bit): every input bit reaches every output bit. */
ALWAYS_INLINE u32 mix(u32 hash)
{
    hash ^= hash >> 16;
    hash *= 0x85ebca6b;
    hash ^= hash >> 13;
    hash *= 0xc2b2ae35;
    hash ^= hash >> 16;
    return hash;
}

/* Of a client's tuple as it came in: holds no local id, so all nodes with the same seed agree. */
ALWAYS_INLINE u32 flow_hash(const struct packet *p, u32 seed)
{
    u32 hash = seed;
    hash = mix(hash ^ p->source[0]) + p->destination[0];
    if (p->family == FAMILY_IPV6) {
        hash = mix(hash ^ p->source[1]) + p->destination[1];
        hash = mix(hash ^ p->source[2]) + p->destination[2];
        hash = mix(hash ^ p->source[3]) + p->destination[3];
    }
    hash = mix(hash ^ (((u32)p->source_port << 16) | p->destination_port));
    return mix(hash + p->protocol);
}

/* The nth independent draw from one hash. */
ALWAYS_INLINE u32 draw(u32 hash, u32 n)
{
    return mix(hash + n * GOLDEN_RATIO);
}

#endif
