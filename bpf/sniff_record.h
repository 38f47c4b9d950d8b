/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* From a packet to a record in its worker's ring. */
#ifndef SLUICEGATE_SNIFF_RECORD_H
#define SLUICEGATE_SNIFF_RECORD_H

#include "sniff_flow.h"

/* Flags of a record; native/engine.h, enum sg_record_flag. */
#define RECORD_REVERSE 1
#define RECORD_IPV6 2
#define RECORD_TRUNCATED 8
#define RECORD_EGRESS 16
#define RECORD_TUNNEL 32

#define RECORD_MAX 16640 /* the largest entry; more of a packet is never looked at in one piece */
#define RECORD_DATA_MAX (RECORD_MAX - sizeof(struct sniff_record))

/* A helper wants sizes that are known when it is compiled: an entry is of the smallest class that holds it. */
#define RECORD_CLASSES(CLASS) CLASS(128) CLASS(320) CLASS(704) CLASS(1600) CLASS(4352) CLASS(RECORD_MAX)

ALWAYS_INLINE int record_put_sized(context *ctx, void *ring, const struct sniff_record *record, u32 offset, u32 length,
                                   const u32 bytes)
{
    struct sniff_record *entry = bpf_ringbuf_reserve(ring, bytes, 0);
    if (!entry)
        return -1;
    *entry = *record;
    u64 size = length; /* 64 bits: a shorter one is compared in a copy, of which the verifier learns nothing */
    asm volatile("%0 &= 0xffff" : "+r"(size));
    if (size) {
        asm volatile("" : "+r"(size)); /* two comparisons, that prove two bounds, instead of a clever one */
        if (size <= bytes - sizeof(*entry) && !ctx_load(ctx, offset, entry + 1, size)) {
            bpf_ringbuf_submit(entry, 0);
            return 0;
        }
    }
    bpf_ringbuf_discard(entry, 0);
    return -2;
}

/* 0 it is in the ring; -1 no room; -2 the packet could not be read. */
ALWAYS_INLINE int record_put(context *ctx, void *ring, const struct sniff_record *record, u32 offset, u32 length)
{
#define RECORD_CLASS(bytes)                                                                                            \
    if (length <= (bytes) - sizeof(*record))                                                                           \
        return record_put_sized(ctx, ring, record, offset, length, bytes);
    RECORD_CLASSES(RECORD_CLASS)
#undef RECORD_CLASS
    return -2;
}

/* Bytes of the transport header, as far as it has a length of its own. */
ALWAYS_INLINE u32 transport_header(context *ctx, const struct packet *p)
{
    u8 offset = 0;
    if (p->protocol == IPPROTO_UDP)
        return sizeof(struct udphdr);
    if (p->protocol == IPPROTO_SCTP)
        return SCTP_HEADER;
    if (p->protocol != IPPROTO_TCP || ctx_load(ctx, p->transport_offset + 12, &offset, 1))
        return 0;
    return (offset >> 4) * 4;
}

/* The outer tag of the frame, 0 without: before tc the kernel takes that one out. */
ALWAYS_INLINE u16 frame_vlan(context *ctx)
{
    u16 field[2] = {}; /* EtherType, tag */
    u16 outer = ctx_vlan(ctx);
    if (outer || ctx_load(ctx, offsetof(struct ethhdr, h_proto), field, sizeof(field)))
        return outer;
    bool tagged = field[0] == bpf_htons(ETH_P_8021Q) || field[0] == bpf_htons(ETH_P_8021AD);
    return tagged ? bpf_ntohs(field[1]) & 0xfff : 0;
}

#endif
