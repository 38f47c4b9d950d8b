/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/*
 * Why a packet went where it went. Each packet that a program sees is counted under exactly one of these, per hook
 * and CPU. Kinds: pass (not ours, or not here: the stack goes on), punt (ours, left to the tc program), forward, drop.
 * User space reads this list too: REASON(name, kind, text for people). New ones go to its end: counters are kept by
 * position, and outlive an upgrade.
 */
#ifndef SLUICEGATE_REASONS_H
#define SLUICEGATE_REASONS_H

#define REASONS(REASON)                                                                                                \
    REASON(NOT_OURS, pass, "neither a VIP nor one of our backends")                                                    \
    REASON(NOT_IP, pass, "no IPv4 or IPv6 packet")                                                                     \
    REASON(OTHER_HOST, pass, "broadcast, or the frame of another host")                                                \
    REASON(MALFORMED, pass, "truncated, or its header contradicts itself")                                             \
    REASON(EXTENSION, pass, "an IPv6 extension header that we do not look behind")                                     \
    REASON(OTHER_PROTOCOL, pass, "for a VIP, but neither TCP nor UDP")                                                 \
    REASON(OTHER_PORT, pass, "for a VIP, on a port that nothing balances")                                             \
    REASON(NO_TRANSLATION, pass, "from a backend, but part of no balanced flow")                                       \
    REASON(NEIGHBOUR_UNRESOLVED, punt, "the next hop's MAC address is not known yet")                                  \
    REASON(NO_REDIRECT, punt, "the outgoing device takes no redirected frames")                                        \
    REASON(PARTIAL_CHECKSUM, punt, "the sender left the checksum to the network card")                                 \
    REASON(FORWARDED_REQUEST, forward, "sent to a backend")                                                            \
    REASON(FORWARDED_REPLY, forward, "sent back to a client")                                                          \
    REASON(ANSWERED_ECHO, forward, "ping to a VIP, answered here")                                                     \
    REASON(REPORTED_TOO_BIG, forward, "larger than the next hop's MTU: the sender was told")                           \
    REASON(FORWARDED_ERROR, forward, "ICMP error about a balanced flow, sent to its other end")                        \
    REASON(NO_BACKEND, drop, "no usable backend")                                                                      \
    REASON(NO_FLOW, drop, "TCP packet of a connection that is not known here")                                         \
    REASON(NAT_PORTS, drop, "all candidate source ports towards the backend are taken")                                \
    REASON(NAT_FULL, drop, "the NAT table is full")                                                                    \
    REASON(DNAT_CLASH, drop, "the client's port is in use towards the same backend through another VIP")               \
    REASON(BACKEND_GONE, drop, "the flow's backend was removed and has drained")                                       \
    REASON(TTL_EXCEEDED, drop, "hop limit used up")                                                                    \
    REASON(TOO_BIG, drop, "larger than the next hop's MTU")                                                            \
    REASON(NO_ROUTE, drop, "no route to the next hop")                                                                 \
    REASON(FORWARDING_OFF, drop, "IP forwarding is off on this node")                                                  \
    REASON(FRAG_FIRST_MISSING, drop, "fragment of a datagram whose first fragment was not seen")                       \
    REASON(SOURCE_DENIED, drop, "the client is not among the allowed sources")                                         \
    REASON(RATE_LIMITED, drop, "more new flows per second than allowed")                                               \
    REASON(FLOOD, drop, "too many half-open connections")                                                              \
    REASON(INTERNAL, drop, "a table of ours lacks an entry that it must have")                                         \
    REASON(LOCAL, punt, "for this node itself: the tc program hands it to the node's own stack")                       \
    REASON(LOCAL_LOOP, drop, "from this node, and the only usable backends are on this node too")                      \
    REASON(SNIFF_DROPPED, drop, "of a flow that a sniffer's action drops")

#define REASON_ENUM(name, kind, text) REASON_##name,
enum reason { REASONS(REASON_ENUM) REASON_COUNT };
#undef REASON_ENUM

#define REASON_STRIDE 64 /* counters per hook: room for reasons to come */

enum reason_kind { KIND_pass, KIND_punt, KIND_forward, KIND_drop };

static __always_inline enum reason_kind kind_of(u32 reason)
{
#define REASON_CASE(name, kind, text)                                                                                  \
    case REASON_##name:                                                                                                \
        return KIND_##kind;
    switch (reason) {
        REASONS(REASON_CASE)
    }
#undef REASON_CASE
    return KIND_drop;
}

enum hook { HOOK_XDP = 0, HOOK_TC_INGRESS = 1, HOOK_TC_EGRESS = 2, HOOK_COUNT };

#endif
