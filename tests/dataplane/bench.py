"""A bench for the programs: real maps, real programs, packets by test-run, in a namespace of its own.

The bench stands for a node with two networks: clients behind ``c0`` (10.1.0.0/24, fd01::/64), backends behind ``b0``
(10.2.0.0/24, fd02::/64). All neighbours are permanent, so that every next hop is known.
"""

from __future__ import annotations

import struct
import subprocess
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scapy.layers.inet import TCP, UDP
from scapy.layers.l2 import Ether

from sluicegate_agent.datapath.kernel import HOOKS, KernelDatapath
from sluicegate_agent.datapath.model import Operation
from sluicegate_agent.datapath.tables import KernelTables
from sluicegate_agent.kernel.clock import hertz, jiffies
from sluicegate_agent.kernel.libbpf import Program
from sluicegate_agent.kernel.native import possible_cpus
from sluicegate_agent.kernel.programs import RunFlag, TestRun
from sluicegate_agent.loader.manifest import Manifest

XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT = 1, 2, 3, 4
TC_NEXT, TC_SHOT, TC_REDIRECT = 0xFFFFFFFF, 2, 7

CLIENT_MAC = "02:00:00:00:01:02"
BACKEND_MAC = "02:00:00:00:02:02"
C0_MAC = "02:00:00:00:01:01"
B0_MAC = "02:00:00:00:02:01"

VIP = {4: "203.0.113.10", 6: "2001:db8::10"}
OTHER_VIP = {4: "203.0.113.20", 6: "2001:db8::20"}
CLIENT = {4: "10.1.0.2", 6: "fd01::2"}
SOURCE = {4: "10.2.0.1", 6: "fd02::1"}
BACKENDS = {4: ["10.2.0.11", "10.2.0.12", "10.2.0.13"], 6: ["fd02::11", "fd02::12", "fd02::13"]}
VIP_PORT, BACKEND_PORT = 80, 8080


class Hook(StrEnum):
    """Where a packet meets the programs."""

    XDP = "xdp"
    TC = "tc_ingress"


EGRESS = "tc_egress"
"""Where packets meet the programs on their way out; most tests are about what comes in."""


REDIRECT = {Hook.XDP: XDP_REDIRECT, Hook.TC: TC_REDIRECT}
_TC_ACTIONS = {"pass": {TC_NEXT}, "punt": {TC_NEXT}, "drop": {TC_SHOT}, "forward": {TC_REDIRECT}}
ACTIONS: dict[str, dict[str, set[int]]] = {
    Hook.XDP: {"pass": {XDP_PASS}, "punt": {XDP_PASS}, "drop": {XDP_DROP}, "forward": {XDP_REDIRECT, XDP_TX}},
    Hook.TC: _TC_ACTIONS,
    EGRESS: _TC_ACTIONS,
}
"""What a hook returns for each kind of reason."""
TO_STACK = {EGRESS: {TC_NEXT}, Hook.TC: {TC_NEXT}}
"""And for what it forwards to the node's own stack, or what the stack is about to send."""


def ip(*commands: str) -> None:
    """Run commands of ip(8) in the present namespace."""
    subprocess.run(
        ("ip", "-batch", "-"), input="\n".join(commands), text=True, check=True, capture_output=True, timeout=30
    )


def set_forwarding(*, on: bool) -> None:
    """IP forwarding of the present namespace, both families."""
    for path in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        Path("/proc/sys/net", path).write_text(str(int(on)), encoding="ascii")


def lay_out_network() -> None:
    """Set up the two networks in the present, empty namespace."""
    ip(
        "link set lo up",
        f"link add c0 address {C0_MAC} type veth peer name c1",
        f"link add b0 address {B0_MAC} type veth peer name b1",
    )
    set_forwarding(on=True)
    ip(
        *(f"link set {name} up" for name in ("c0", "c1", "b0", "b1")),
        "addr add 10.1.0.1/24 dev c0",
        "addr add 10.2.0.1/24 dev b0",
        "addr add fd01::1/64 dev c0 nodad",
        "addr add fd02::1/64 dev b0 nodad",
        *(f"neigh replace {address} lladdr {CLIENT_MAC} dev c0 nud permanent" for address in CLIENT.values()),
        *(
            f"neigh replace {address} lladdr {BACKEND_MAC} dev b0 nud permanent"
            for address in (*BACKENDS[4], *BACKENDS[6])
        ),
    )


def shortest(hook: Hook, frame: bytes) -> int:
    """The least length at which the kernel takes the head of this frame for a test-run."""
    if hook is Hook.XDP:
        return 14
    return {b"\x08\x00": 34, b"\x86\xdd": 54}.get(frame[12:14], 14)  # an skb has its whole IP header


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one packet: return value, frame afterwards, the one reason under which it was counted."""

    action: int
    frame: bytes
    reason: str

    @property
    def source_port(self) -> int:
        """Of the frame as it left."""
        packet = Ether(self.frame)
        return int((packet[TCP] if TCP in packet else packet[UDP]).sport)

    @property
    def destination(self) -> str:
        """Address to which the frame left."""
        return str(Ether(self.frame).payload.dst)


@dataclass
class Bench:
    """One configured data path and both hooks."""

    manifest: Manifest
    datapath: KernelDatapath
    tables: KernelTables
    ifindex: dict[str, int]
    programs: dict[str, Program] = field(default_factory=dict)

    def apply(self, *operations: Operation) -> None:
        """Write rows."""
        for operation in operations:
            self.datapath.apply(operation)

    def run(
        self,
        hook: str,
        frame: bytes,
        device: str = "c0",
        *,
        cpu: int | None = None,
        gso_size: int = 0,
        flags: RunFlag = RunFlag.NONE,
    ) -> TestRun:
        """Run one packet as if it came in on ``device``, without looking at the counters."""
        if hook == Hook.XDP:
            context = struct.pack("<6I", 0, len(frame), 0, self.ifindex[device], 0, 0)
        else:
            words = [0] * 48  # struct __sk_buff
            words[10], words[44] = self.ifindex[device], gso_size
            context = struct.pack("<48I", *words)
        return self.programs[hook].test_run(frame, ctx=context, cpu=cpu, flags=flags)

    def send(self, hook: str, frame: bytes, device: str = "c0", *, gso_size: int = 0) -> Outcome:
        """Run one packet and find the reason that was counted.

        Whatever the packet: it is counted once, the action fits the reason, and only a forwarded frame is changed.
        """
        before = self.verdicts(hook)
        run = self.run(hook, frame, device, gso_size=gso_size)
        moved = {name: count - before[name] for name, count in self.verdicts(hook).items() if count != before[name]}
        assert list(moved.values()) == [1], f"counted under {moved}, not under exactly one reason"
        (reason,) = moved
        kind = self._kinds[reason]
        expected = ACTIONS[hook][kind] | (TO_STACK.get(hook, set()) if kind == "forward" else set())
        assert run.retval in expected, f"action {run.retval} for {reason}, which is a {kind}"
        assert kind == "forward" or run.data == frame, f"{reason}, but the frame was changed"
        return Outcome(run.retval, run.data, reason)

    def verdicts(self, hook: str) -> dict[str, int]:
        """Packets by reason."""
        rows = np.concatenate(
            [np.frombuffer(values, dtype="<u8") for _, values, _ in self.tables["verdicts"].map.items_batch()]
        ).reshape(len(HOOKS), -1, possible_cpus(), 2)
        packets = rows[HOOKS.index(hook), : len(self.manifest.reasons), :, 0].sum(axis=1)
        return dict(zip(self._kinds, packets.tolist(), strict=True))

    @cached_property
    def _kinds(self) -> dict[str, str]:
        return {reason.name.lower(): reason.kind for reason in self.manifest.reasons}

    def rows(self, name: str, family: int) -> tuple[npt.NDArray[np.void], npt.NDArray[np.void]]:
        """All keys and values of ``flows`` or ``nat``."""
        table = self.tables.by_family(name, family)
        keys, values = [np.empty(0, table.key)], [np.empty(0, table.value)]
        for some_keys, some_values in table.batches():
            keys.append(some_keys)
            values.append(some_values)
        return np.concatenate(keys), np.concatenate(values)

    def age(self, name: str, family: int, seconds: float) -> None:
        """Make all entries of ``flows`` or ``nat`` look as if their last packet came ``seconds`` ago."""
        then = (jiffies() - round(seconds * hertz())) & 0xFFFFFFFF
        keys, values = self.rows(name, family)
        values = values.copy()
        for member in ("last_seen", "synced"):
            if member in (values.dtype.names or ()):
                values[member] = then
        for key, value in zip(keys, values, strict=True):
            self.tables.by_family(name, family).map.update(key.tobytes(), value.tobytes())

    def age_flows(self, family: int, seconds: float) -> None:
        """Let time pass for everything that is known of flows."""
        self.age("flows", family, seconds)
        self.age("nat", family, seconds)

    def evict_flows(self, family: int) -> None:
        """Empty ``flows``, as the LRU does under pressure."""
        keys, _ = self.rows("flows", family)
        for key in keys:
            self.tables.by_family("flows", family).map.delete(key.tobytes())

    def load(self, backend: int) -> tuple[int, int]:
        """(opened, closed) of a backend."""
        row = self.tables["backend_load"].get(backend)
        assert row is not None
        return int(row["opened"]), int(row["closed"])
