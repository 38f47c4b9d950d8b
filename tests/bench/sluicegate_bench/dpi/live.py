"""The replay over veth pairs: towards nothing, towards an empty XDP program, and towards the real agent that sniffs.

The sender's CPU time holds the kernel's part (see ``load/cpu.py``); what it takes towards nothing is taken off. Agent
and worker are counted apart, less what they take while nothing comes. Flows that are still open when a round ends have
their events when the agent ends: that is taken there, and divided among the rounds.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sluicegate_agent.cli.document import Sniffer, Status
from sluicegate_agent.lab.agent import AgentProcess
from sluicegate_agent.lab.namespace import LabError, Namespace
from sluicegate_bench.common.rig import FLOORS, PREFIX, load_own, pin_directory
from sluicegate_bench.common.series import Series, gather
from sluicegate_bench.dpi.mix import Mix
from sluicegate_bench.dpi.sending import document
from sluicegate_bench.load.cpu import seconds_of, softirq_threads
from sluicegate_bench.load.native import tool
from sluicegate_bench.load.site import LOAD_CPU, pinned

OFF, EMPTY, SNIFFING = "off", "empty XDP program", "sniffing"
KERNEL, WORKER, AGENT, SHARE = "kernel", "worker", "agent", "share"
_ROUNDS = 3
_SETTLE_SECONDS, _TINY_SETTLE_SECONDS = 2.0, 0.5
_IDLE_SECONDS, _TINY_IDLE_SECONDS = 4.0, 1.0
_REPLAY_SECONDS = 60.0
_ENVIRONMENT = {"SLUICEGATE_DPI_WORKERS": "1"}


@dataclass(frozen=True, slots=True)
class Live:
    """CPU seconds by round, of one replay each: the sender's ``OFF`` and ``EMPTY``, and when sniffed.

    ``KERNEL`` is the sender's when sniffed, less ``OFF``. ``ending``: of agent and worker, for events of flows still
    open at the end, of one replay. ``idle``: of both, per second without traffic, taken off already. ``lost`` records.
    """

    found: Mapping[str, Series]
    ending: float
    idle: float
    lost: int
    latest_ms: float
    rounds: int

    def total(self) -> Series:
        """All that sniffing one replay takes."""
        values = (self.found[name].values for name in (KERNEL, WORKER, AGENT))
        return Series(tuple(sum(row) + self.ending for row in zip(*values, strict=True)))


@dataclass(frozen=True, slots=True)
class _Spent:
    worker: float
    agent: float


class _Ways:
    """Three wires from one sender."""

    def __init__(self, sender: Namespace, mix: Mix) -> None:
        self._sender = sender
        self._mix = mix
        self.latest_ms = 0.0
        self._shift = 0

    def new_flows(self) -> None:
        """The next replays have other addresses than all before."""
        self._shift = (self._shift + 1) % 16

    def replay(self, interface: str) -> float:
        """Send all of it there; CPU seconds of the sender and of softirq threads."""
        softirqs = softirq_threads()
        before = seconds_of(softirqs)
        command = pinned([str(tool("replay")), interface, str(self._mix.path), str(self._shift)], LOAD_CPU)
        said = self._sender.run(command, seconds=_REPLAY_SECONDS).split()
        sent, refused, spent, _, latest = int(said[0]), int(said[1]), *map(float, said[2:])
        if refused or sent != self._mix.packets:
            raise LabError(f"{refused} of {self._mix.packets} frames were not taken by {interface}")
        self.latest_ms = max(self.latest_ms, latest)
        return spent + seconds_of(softirqs) - before


class _Agent:
    """The agent, and its CPU time."""

    def __init__(self, process: AgentProcess) -> None:
        self._process = process

    def sniffer(self) -> Sniffer:
        """What it says of its sniffer now."""
        status = self._process.status()
        if status is None or not status.sniffers:
            raise LabError(f"the agent does not answer. Its log ends with:\n{self._process.log_end()}")
        return status.sniffers[0]

    def spent(self) -> _Spent:
        """So far."""
        return _Spent(seconds_of(self._workers()), seconds_of([self._pid()]))

    def end(self) -> float:
        """Tell it to end; the CPU seconds that agent and worker take for it."""
        fields = Path(f"/proc/{self._pid()}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        so_far = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")  # its own, and of children that ended
        so_far += seconds_of(self._workers())
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._process.stop()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime - so_far

    def _pid(self) -> int:
        if self._process.pid is None:
            raise LabError(f"the agent ended. Its log ends with:\n{self._process.log_end()}")
        return self._process.pid

    def _workers(self) -> list[int]:
        return [worker.pid for worker in self.sniffer().workers if worker.pid is not None]


def measure(mix: Mix, directory: Path, *, tiny: bool, say: Callable[[str], None]) -> Live:
    """Rounds of all three. Raises LabError or RuntimeError when something does not work."""
    settle, idle = (_TINY_SETTLE_SECONDS, _TINY_IDLE_SECONDS) if tiny else (_SETTLE_SECONDS, _IDLE_SECONDS)
    with ExitStack() as stack:
        sender, nodes = stack.enter_context(_network())
        ways = _Ways(sender, mix)
        with _agent(nodes[SNIFFING], directory / "idle") as unused:
            ending_anyway = unused.end()
        stack.enter_context(_empty_program(nodes[EMPTY]))
        agent = stack.enter_context(_agent(nodes[SNIFFING], directory / "live"))
        before = agent.spent()
        time.sleep(idle)
        after = agent.spent()
        idle_worker, idle_agent = (after.worker - before.worker) / idle, (after.agent - before.agent) / idle

        def off() -> dict[str, float]:
            return {OFF: ways.replay(OFF_INTERFACE)}

        def empty() -> dict[str, float]:
            return {EMPTY: ways.replay(EMPTY_INTERFACE)}

        def sniffing() -> dict[str, float]:
            ways.new_flows()
            before, seen = agent.spent(), agent.sniffer()
            started = time.monotonic()
            sender_seconds = ways.replay(SNIFFING_INTERFACE)
            time.sleep(settle)
            seconds = time.monotonic() - started
            after, now = agent.spent(), agent.sniffer()
            return {
                SNIFFING: sender_seconds,
                WORKER: after.worker - before.worker - seconds * idle_worker,
                AGENT: after.agent - before.agent - seconds * idle_agent,
                SHARE: (now.sent - seen.sent) / (now.packets - seen.packets),
            }

        rounds = 1 if tiny else _ROUNDS
        found = gather([off, empty, sniffing], rounds, warm_up=0, progress=say)
        lost = agent.sniffer().lost
        ending = (agent.end() - ending_anyway) / rounds
    found[KERNEL] = found[SNIFFING] - found[OFF]
    return Live(found, ending, idle_worker + idle_agent, lost, ways.latest_ms, rounds)


OFF_INTERFACE, EMPTY_INTERFACE, SNIFFING_INTERFACE = "off", "empty", "sniffing"
_INTERFACES = {OFF: OFF_INTERFACE, EMPTY: EMPTY_INTERFACE, SNIFFING: SNIFFING_INTERFACE}
_PORT = "port"
"""The other end of each wire, in its node."""


@contextmanager
def _network() -> Iterator[tuple[Namespace, Mapping[str, Namespace]]]:
    """A sender with a wire to each node."""
    sender = Namespace(f"{PREFIX}-sender")
    nodes = {way: Namespace(f"{PREFIX}-{interface}") for way, interface in _INTERFACES.items()}
    with ExitStack() as stack:
        for namespace in (sender, *nodes.values()):
            stack.callback(namespace.delete)
            namespace.create()
            namespace.sysctl(["net.ipv6.conf.default.disable_ipv6=1"])
        for way, node in nodes.items():
            interface = _INTERFACES[way]
            sender.ip([f"link add {interface} type veth peer name {_PORT} netns {node.name}"])
            sender.ip([f"link set {interface} up"])
            node.ip([f"link set {_PORT} up"])
            sender.ethtool(interface, gro=True, tx=False)
            node.ethtool(_PORT, gro=True, tx=False)
        yield sender, nodes


@contextmanager
def _empty_program(node: Namespace) -> Iterator[None]:
    with pin_directory() as pins:
        program = load_own(pins, FLOORS[:1]).programs["empty_xdp"].path
        node.run(["ip", "link", "set", "dev", _PORT, "xdpdrv", "pinned", str(program)])
        try:
            yield
        finally:
            node.run(["ip", "link", "set", "dev", _PORT, "xdpdrv", "off"])


@contextmanager
def _agent(node: Namespace, directory: Path) -> Iterator[_Agent]:
    """With one sniffer, ready."""
    directory.mkdir(parents=True, exist_ok=True)
    process = AgentProcess(node, directory, _ENVIRONMENT)
    wanted = document(directory)
    spec = wanted["spec"]
    assert isinstance(spec, dict)
    spec["attach"] = {"interfaces": [_PORT]}
    process.configure(wanted)
    try:
        process.start()
        process.wait_until("the sniffer is ready", _ready)
        yield _Agent(process)
    finally:
        process.remove()


def _ready(status: Status) -> bool:
    return (
        bool(status.sniffers)
        and status.sniffers[0].ready
        and all(worker.state == "running" for worker in status.sniffers[0].workers)
    )
