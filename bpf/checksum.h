/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * Internet checksums, updated incrementally (RFC 1624). Sums of 32-bit words fold to the same one's complement value
 * as sums of 16-bit words, and byte order does not matter as long as reading and writing agree.
 */
#ifndef SLUICEGATE_CHECKSUM_H
#define SLUICEGATE_CHECKSUM_H

#include "packet.h"

ALWAYS_INLINE u16 checksum_fold(u64 sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return sum;
}

/* What replacing `from` by `to` adds to a sum. */
ALWAYS_INLINE u64 checksum_change(u32 from, u32 to)
{
    return (u64)(~from) + to;
}

ALWAYS_INLINE u64 checksum_change_address(const u32 from[4], const u32 to[4], u8 family)
{
    u64 sum = checksum_change(from[0], to[0]);
    if (family == FAMILY_IPV6)
        sum += checksum_change(from[1], to[1]) + checksum_change(from[2], to[2]) + checksum_change(from[3], to[3]);
    return sum;
}

ALWAYS_INLINE u16 checksum_apply(u16 checksum, u64 change)
{
    return ~checksum_fold((u64)(u16)~checksum + change);
}

/*
 * Did the sender leave the checksum to its network card? Then the field holds the folded sum of the pseudo header
 * (not its complement), and incremental updates would end in a wrong checksum on the wire. veth and virtio hand such
 * frames to XDP. One finished checksum in 65,536 looks the same; that packet only takes the slower hook.
 */
ALWAYS_INLINE bool checksum_is_partial(const struct packet *p)
{
    u32 transport_length = p->length - (p->transport_offset - p->network_offset);
    u64 sum = (u64)p->source[0] + p->destination[0] + bpf_htons((u16)transport_length) + ((u32)p->protocol << 8);
    if (p->family == FAMILY_IPV6)
        sum += (u64)p->source[1] + p->source[2] + p->source[3] + p->destination[1] + p->destination[2] +
               p->destination[3];
    return checksum_fold(sum) == p->checksum;
}

#endif
