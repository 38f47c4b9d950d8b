"""Records as the kernel writes them into the ring, and a ring of plain memory for tests and replay."""

import struct
from typing import Final

# struct sg_record of native/engine.h.
RECORD: Final = struct.Struct("<QQIIIHHHHBBBBIHH")
# The BPF ring buffer's own header: length with its busy and discard bits, page offset.
ENTRY: Final = struct.Struct("<II")
BUSY: Final = 1 << 31
DISCARD: Final = 1 << 30

REVERSE: Final = 1
IPV6: Final = 2
FRAGMENT: Final = 4
TRUNCATED: Final = 8
EGRESS: Final = 16
TUNNEL: Final = 32

U16: Final = 0xFFFF
U32: Final = 0xFFFFFFFF


def flow_id(slot: int, generation: int) -> int:
    """The id of a flow: its slot in the verdict array and the generation that tells its users apart."""
    return (generation & U32) << 32 | (slot & U32)


class MemoryRing:
    """What a BPF ring buffer holds, in a bytearray: written from the start until the reader has taken everything.

    Unlike the kernel's it does not wrap: `put` says no until the engine has emptied it.
    """

    def __init__(self, size: int = 1 << 20) -> None:
        """Hold up to `size` bytes of entries."""
        self.memory = bytearray(size)
        self.consumed = 0  # up to here the engine has taken
        self.produced = 0  # up to here it is written

    def put(
        self,
        l3: bytes | memoryview,
        *,
        ts_ns: int,
        flow_id: int,
        l4_off: int,
        pl_off: int,
        pl_len: int,
        l4_proto: int,
        tcp_flags: int = 0,
        flags: int = 0,
        policy: int = 0,
        ifindex: int = 0,
        wire_len: int | None = None,
        index: int = 1,
        tunnel: int = 0,
        vlan: int = 0,
        drops: int = 0,
    ) -> bool:
        """Append one record; false when it does not fit now. Times are ns, lengths and offsets bytes from L3."""
        header = RECORD.pack(
            ts_ns,
            flow_id,
            ifindex,
            min(len(l3) if wire_len is None else wire_len, U32),
            index,
            len(l3),
            l4_off,
            pl_off,
            pl_len,
            l4_proto,
            tcp_flags,
            flags,
            policy,
            tunnel,
            vlan,
            min(drops, U16),
        )
        return self.put_raw(header, l3)

    def put_raw(self, header: bytes, l3: bytes | memoryview = b"") -> bool:
        """Append one entry of any content; false when it does not fit now."""
        length = len(header) + len(l3)
        end = self.produced + ENTRY.size + length
        padded = (end + 7) & ~7
        if padded > len(self.memory):
            return False
        ENTRY.pack_into(self.memory, self.produced, length, 0)
        start = self.produced + ENTRY.size
        self.memory[start : start + len(header)] = header
        self.memory[start + len(header) : end] = l3
        self.produced = padded
        return True
