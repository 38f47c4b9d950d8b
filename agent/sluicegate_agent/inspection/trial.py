"""The loaded programs run on one made-up packet, by the kernel's test-run: nothing is sent anywhere.

The run does all that a real packet would do to the tables. A SYN or a datagram opens a flow; what it opened is closed
by an RST through the same program, so that all counts of open flows stay right, and removed. What remains are a few
packets in the counters, a token less in the bucket of new flows, a turn of RoundRobin, and a fresh last-seen time of a
flow that was there before. A sniffer of its interface sees the packet, too: were it left out, the run would not show
that a sniffer drops the flow.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from sluicegate_agent.control.questions import PacketQuestion
from sluicegate_agent.datapath.codec import address_words, port_of, record
from sluicegate_agent.datapath.flowquery import FlowState
from sluicegate_agent.datapath.kernel import HOOKS
from sluicegate_agent.datapath.model import Frontend, FrontendId, InterfaceIndex, IPAddress, Protocol
from sluicegate_agent.datapath.tables import KernelTables
from sluicegate_agent.inspection.frames import Kind, Tuple, frame_of
from sluicegate_agent.kernel.programs import Program
from sluicegate_agent.loader.manifest import Manifest
from sluicegate_agent.loader.sources import Reason

ENTRIES = {"xdp": "xdp_main", "tc_ingress": "tc_ingress", "tc_egress": "tc_egress"}

# Actions that stand for each kind of reason: <linux/bpf.h>, <linux/pkt_cls.h>.
_XDP_KINDS = {1: {"drop"}, 2: {"pass", "punt"}, 3: {"forward"}, 4: {"forward"}}
# tc also lets a packet go on that it forwarded to the node's own stack.
_TC_KINDS = {2: {"drop"}, 7: {"forward"}, 0xFFFFFFFF: {"pass", "punt", "forward"}}
_KINDS = {"xdp": _XDP_KINDS, "tc_ingress": _TC_KINDS, "tc_egress": _TC_KINDS}

_ANSWERED = 2  # enum flow_state
_CPU_STRIDE = 16  # struct verdict_counter
_XDP_MD = struct.Struct("<6I")
_SK_BUFF_WORDS, _SK_BUFF_IFINDEX = 48, 10


@dataclass(frozen=True, slots=True)
class Step:
    """One program's verdict. ``reasons`` are several only when other packets were counted at the same moment."""

    hook: str
    reasons: tuple[Reason, ...]

    @property
    def kind(self) -> str:
        """pass, punt, forward or drop."""
        return self.reasons[0].kind if self.reasons else "unknown"


@dataclass(frozen=True, slots=True)
class Trial:
    """What became of the packet. ``sent`` is its header as it left, None when it was not forwarded.

    ``opened`` tells that it opened a flow, which was removed again.
    """

    packet: Kind
    steps: tuple[Step, ...]
    sent: Tuple | None
    opened: bool

    @property
    def last(self) -> Step:
        """The verdict that counts: tc's when XDP left the packet to it."""
        return self.steps[-1]


def packet_for(protocol: Protocol, flow: FlowState | None) -> Kind:
    """What a client would send next: a half-open flow's SYN again, for an ACK could establish it."""
    if protocol is Protocol.UDP:
        return Kind.DATAGRAM
    return Kind.SYN if flow in {None, FlowState.HALF_OPEN} else Kind.ACK


class Bench:
    """The programs on one interface, and the tables they work on. ``mac`` is the interface's own."""

    def __init__(
        self, manifest: Manifest, tables: KernelTables, ifindex: InterfaceIndex, mac: bytes, hooks: tuple[str, ...]
    ) -> None:
        self._manifest = manifest
        self._tables = tables
        self._ifindex = ifindex
        self._mac = mac
        self._hooks = hooks
        self._cpu = min(os.sched_getaffinity(0))

    def send(self, question: PacketQuestion, kind: Kind) -> Trial:
        """Run a packet through the hooks, as long as one leaves it to the next. ``opened`` is False."""
        frame = frame_of(question, kind, self._mac)
        steps: list[Step] = []
        sent: Tuple | None = None
        for hook in self._hooks:
            step, out = self._run(hook, frame)
            steps.append(step)
            if step.kind == "forward":
                sent = Tuple.of(out)
            if step.kind != "punt":
                break
        return Trial(kind, tuple(steps), sent, opened=False)

    def _run(self, hook: str, frame: bytes) -> tuple[Step, bytes]:
        if hook == "xdp":
            context = _XDP_MD.pack(0, len(frame), 0, self._ifindex, 0, 0)
        else:
            words = [0] * _SK_BUFF_WORDS
            words[_SK_BUFF_IFINDEX] = self._ifindex
            context = struct.pack(f"<{_SK_BUFF_WORDS}I", *words)
        with _opened(self._manifest, hook) as program:
            before = self._counted(hook)
            run = program.test_run(frame, ctx=context, cpu=self._cpu)
            moved = self._counted(hook) != before
        kinds = _KINDS[hook].get(run.retval, set())
        reasons = [self._manifest.reasons[index] for index in np.flatnonzero(moved)]
        return Step(hook, tuple(reason for reason in reasons if reason.kind in kinds)), run.data

    def _counted(self, hook: str) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
        """Packets by reason on the CPU that the programs are run on: few others are counted there meanwhile."""
        first = HOOKS.index(hook) * (self._manifest.maps["verdicts"].max_entries // len(HOOKS))
        verdicts = self._tables["verdicts"].map
        counts = np.zeros(len(self._manifest.reasons), dtype=np.uint64)
        for index in range(len(counts)):
            raw = verdicts.lookup((first + index).to_bytes(4, "little")) or b""
            counts[index] = np.frombuffer(raw, dtype="<u8", count=1, offset=self._cpu * _CPU_STRIDE)[0]
        return counts


def try_new_flow(
    bench: Bench, tables: KernelTables, question: PacketQuestion, frontend: FrontendId, row: Frontend
) -> Trial:
    """Run the packet that opens a flow, and take back what it opened.

    There must be no such flow yet; the row of one that expired may be there.
    """
    kind = packet_for(question.vip.protocol, None)
    traces = _Traces(tables, question, frontend, row)
    stuck_before = traces.has_affinity()
    leftover = traces.flow()
    trial = bench.send(question, kind)
    opened = traces.flow() != leftover
    if opened:
        if kind is Kind.SYN:
            bench.send(question, Kind.RST)
        traces.remove_flow()
    if not stuck_before:
        traces.remove_affinity()
    return Trial(trial.packet, trial.steps, trial.sent, opened)


class _Traces:
    """The rows that a client's first packet leaves."""

    def __init__(self, tables: KernelTables, question: PacketQuestion, frontend: FrontendId, row: Frontend) -> None:
        family = question.client.version
        self._tables = tables
        self._protocol = question.vip.protocol
        self._family = family
        self._flows = tables.by_family("flows", family)
        self._affinity = tables.by_family("affinity", family)
        flow = record(self._flows.key)
        flow["client"] = _words(question.client)
        flow["client_port"] = port_of(question.client_port)
        flow["frontend"] = frontend
        self._flow_key = flow.tobytes()
        affinity = record(self._affinity.key)
        affinity["client"] = _words(question.client)
        affinity["service"] = row.service
        self._affinity_key = affinity.tobytes()

    def flow(self) -> bytes | None:
        return self._flows.map.lookup(self._flow_key)

    def has_affinity(self) -> bool:
        return self._affinity.map.lookup(self._affinity_key) is not None

    def remove_affinity(self) -> None:
        self._affinity.map.delete(self._affinity_key)

    def remove_flow(self) -> None:
        """The cache first: a real packet between the two steps then finds its port again."""
        raw = self.flow()
        if raw is None:
            return
        flow = np.frombuffer(raw, dtype=self._flows.value)[0]
        if int(flow["state"]) & _ANSWERED:  # a backend answers only packets of a real client
            return
        self._flows.map.delete(self._flow_key)
        if flow["nat_port"]:
            self._remove_port(flow)

    def _remove_port(self, flow: np.void) -> None:
        nat = self._tables.by_family("nat", self._family)
        raw = self._tables["backends"].get(int(flow["backend"]))
        if raw is None:
            return
        words = 1 if self._family == 4 else 4
        key = record(nat.key)
        key["backend"] = raw["address"][0] if words == 1 else raw["address"]
        key["source"] = flow["source"][0] if words == 1 else flow["source"]
        key["backend_port"] = raw["port"]
        key["source_port"] = flow["nat_port"]
        key["protocol"] = self._protocol
        owner = nat.map.lookup(key.tobytes())
        if owner is None:
            return
        value = np.frombuffer(owner, dtype=nat.value)[0]
        if not int(value["state"]) & _ANSWERED:
            nat.map.delete(key.tobytes())


def _words(address: IPAddress) -> np.ndarray[tuple[int], np.dtype[np.uint32]] | np.uint32:
    words = address_words(address)
    return words[0] if address.version == 4 else words


@contextmanager
def _opened(manifest: Manifest, hook: str) -> Iterator[Program]:
    program = Program.open(manifest.programs[ENTRIES[hook]].path)
    try:
        yield program
    finally:
        program.close()
