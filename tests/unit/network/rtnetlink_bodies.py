"""Bodies of rtnetlink messages as the kernel writes them, built by hand for tests."""

import struct
from ipaddress import ip_address, ip_network

ETHERNET, LOOPBACK = 1, 772
REACHABLE, STALE, FAILED, PERMANENT = 0x02, 0x04, 0x20, 0x80


def attribute(kind, payload):
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def u32(value):
    return struct.pack("=I", value)


def family_of(address):
    return 2 if address.version == 4 else 10


def link(index=2, name="eth0", *, up=True, kind="", mtu=1500, mac="020000000002", hardware=ETHERNET, family=0):
    flags = (0x10001 if up else 0) | (8 if hardware == LOOPBACK else 0)
    body = struct.pack("=BxHiII", family, hardware, index, flags, 0)
    body += attribute(3, name.encode() + b"\0") + attribute(4, u32(mtu)) + attribute(1, bytes.fromhex(mac))
    if kind:
        body += attribute(18 | 0x8000, attribute(1, kind.encode() + b"\0"))
    return body


def address(text, index=2, *, flags=0, scope=0, peer=None):
    own = ip_address(text)
    body = struct.pack("=BBBBi", family_of(own), own.max_prefixlen, flags & 0xFF, scope, index)
    body += attribute(1, ip_address(peer or text).packed) + attribute(8, u32(flags))
    return body + (attribute(2, own.packed) if peer or own.version == 4 else b"")


def neighbour(text, mac="0200000000aa", index=2, *, state=REACHABLE, flags=0, family=None):
    own = ip_address(text)
    body = struct.pack("=BxxxiHBB", family or family_of(own), index, state, flags, 1) + attribute(1, own.packed)
    return body + (attribute(2, bytes.fromhex(mac)) if mac else b"")


def route(prefix, *, kind=1, oif=2, gateway=None, via=None, source=None, mtu=None, table=254, flags=0, hops=()):
    network = ip_network(prefix)
    body = struct.pack("=BBBBBBBBI", family_of(network), network.prefixlen, 0, 0, min(table, 252), 3, 0, kind, flags)
    body += attribute(15, u32(table))
    if network.prefixlen:
        body += attribute(1, network.network_address.packed)
    if oif:
        body += attribute(4, u32(oif))
    if gateway:
        body += attribute(5, ip_address(gateway).packed)
    if via:
        body += attribute(18, struct.pack("=H", family_of(ip_address(via))) + ip_address(via).packed)
    if source:
        body += attribute(7, ip_address(source).packed)
    if mtu:
        body += attribute(8 | 0x8000, attribute(2, u32(mtu)))
    if hops:
        body += attribute(9, b"".join(struct.pack("=HBBi", 8, 0, 0, hop) for hop in hops))
    return body


def forwarding(version, value, index=-1):
    family = 2 if version == 4 else 10
    return bytes([family, 0, 0, 0]) + attribute(1, struct.pack("=i", index)) + attribute(2, struct.pack("=i", value))
