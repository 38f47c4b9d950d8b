/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* Cheap first: most packets on a node are not ours, and one array lookup per address proves it. */
#ifndef SLUICEGATE_FILTER_H
#define SLUICEGATE_FILTER_H

#include "hash.h"
#include "maps.h"

ALWAYS_INLINE bool filter_has_vip(const u32 address[4], u8 family)
{
    u32 hash = address_hash(address, family);
    u32 word = hash >> 6;
    struct address_filter *filter = address_filter.lookup(&word);
    return filter && (filter->vips >> (hash & 63)) & 1;
}

ALWAYS_INLINE struct address_filter *filter_word(const u32 address[4], u8 family, u32 *bit)
{
    u32 hash = address_hash(address, family);
    u32 word = hash >> 6;
    *bit = hash & 63;
    return address_filter.lookup(&word);
}

#endif
