"""The process that reads one ring: `python -m sluicegate_agent.dpi.live.worker RING VERDICTS MARK SOCKET`.

The arguments are descriptors that the pool leaves open: the ring, the array of verdicts, the page where the engine
notes which record it looks at, and the socket on which the pool says the rest. Once all is mapped the process gives up
everything else; it ends when the socket closes.
"""

from __future__ import annotations

import gc
import mmap
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from typing import Final

from sluicegate_agent.dpi.binding import EngineError
from sluicegate_agent.dpi.engine import Engine
from sluicegate_agent.dpi.engine_tables import engine_tables
from sluicegate_agent.dpi.live import messages, sandbox
from sluicegate_agent.dpi.live.compiling import Compiler
from sluicegate_agent.dpi.live.messages import Configure, Ended, Report, Start, ToWorker
from sluicegate_agent.dpi.live.outbox import Outbox
from sluicegate_agent.dpi.live.ring import KernelRing, words_of
from sluicegate_agent.dpi.live.sniffers import Sniffers
from sluicegate_agent.dpi.ndpi_provider import NdpiLibrary, NoNdpi, find

RECORDS_PER_CALL: Final = 256
"""Verdicts are written while records are looked at. Then their events become lines, in a millisecond or two at most,
and so long the next records wait."""
ENDS_PER_ROUND: Final = 64
HAND_OVER_SECONDS: Final = 0.02
"""How long lines gather while there is work: each message costs the agent more than a line in it."""
REPORT_SECONDS: Final = 1.0
NAP_SECONDS: Final = 0.001
"""After work was found: the next records come together, and the kernel need not wake anybody for them."""
UNPOLLED_SECONDS: Final = 0.005
"""How long a ring that cannot be polled waits: plain memory, in tests."""
MARK_WORDS: Final = 2

_RECEIVE: Final = 1 << 18


class Worker:
    """The loop. ``no_classification``: why flows are not classified; empty when they are."""

    def __init__(
        self,
        engine: Engine,
        ring: KernelRing,
        connection: socket.socket,
        ring_descriptor: int,
        no_classification: str,
    ) -> None:
        self._engine = engine
        self._ring = ring
        self._connection = connection
        self._ring_descriptor = ring_descriptor
        self._compiler = Compiler()
        self._sniffers = Sniffers(engine, self._compiler)
        self._outbox = Outbox(connection)
        self._frames = messages.Frames()
        self._ends: deque[tuple[int, Ended]] = deque()
        self._epoll = select.epoll()
        self._epoll.register(connection, select.EPOLLIN)
        self._epoll.register(self._compiler.descriptor, select.EPOLLIN)
        self._watched = select.EPOLLIN
        self._ready = False
        self._waiting_seconds = REPORT_SECONDS
        self._stopping = False
        self._next_report = self._next_hand_over = 0.0
        self._sandbox = ""
        self._no_classification = no_classification

    def run(self, problems: list[str]) -> None:
        """Until the pool says so, or is gone. ``problems``: what of the sandbox is missing."""
        self._sandbox = "; ".join(problems)
        self._compiler.start()
        while not self._stopping:
            taken = self._work()
            if taken < RECORDS_PER_CALL and taken:
                time.sleep(NAP_SECONDS)
            self._listen(0 if taken or self._ends else self._waiting_seconds)
        self._finish()

    def _work(self) -> int:
        """Records, ends, lines, report. How many records there were."""
        taken = 0
        if self._ready:
            batch = self._engine.run(self._ring, RECORDS_PER_CALL)
            self._sniffers.take(batch)
            taken = batch.taken
            self._end_flows(ENDS_PER_ROUND)
        now = time.monotonic()
        if not taken or now >= self._next_hand_over:
            self._next_hand_over = now + HAND_OVER_SECONDS
            self._hand_over()
        if now >= self._next_report:
            self._next_report = now + REPORT_SECONDS
            self._report()
        self._send()
        return taken

    def _end_flows(self, most: int) -> None:
        """Those whose records were all taken."""
        ends, consumed = self._ends, self._ring.consumed
        while ends and most and ends[0][0] <= consumed:
            self._sniffers.end(ends.popleft()[1])
            most -= 1

    def _hand_over(self) -> None:
        for number, event_type, lines in self._sniffers.lines():
            self._outbox.lines(number, event_type, lines)

    def _report(self) -> None:
        self._outbox.report(
            Report(
                config=self._sniffers.config,
                classification=self._engine.classification or "",
                no_classification=self._no_classification,
                sandbox=self._sandbox,
                lines=self._outbox.made,
                dropped=self._outbox.dropped,
                ends=self._sniffers.ended,
                failed=self._sniffers.failed,
                failure=self._sniffers.failure,
                problems=self._sniffers.problems,
                engine=self._engine.stats(),
            )
        )

    def _send(self) -> None:
        self._outbox.send()
        wanted = select.EPOLLIN if self._outbox.empty else select.EPOLLIN | select.EPOLLOUT
        if wanted != self._watched:
            self._watched = wanted
            self._epoll.modify(self._connection, wanted)

    def _listen(self, seconds: float) -> None:
        timeout = min(seconds, max(self._next_report - time.monotonic(), 0.0))
        for descriptor, events in self._epoll.poll(timeout):
            if descriptor == self._compiler.descriptor:
                for outcome in self._compiler.outcomes():
                    self._sniffers.loaded(outcome)
                self._begin()
            elif descriptor == self._connection.fileno() and events & ~select.EPOLLOUT:
                self._receive()

    def _receive(self) -> None:
        try:
            data = self._connection.recv(_RECEIVE)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionResetError
        for kind, body in self._frames.feed(data):
            if kind == ToWorker.CONFIGURE:
                new = messages.opened(body)
                assert isinstance(new, Configure)  # noqa: S101  # what the pool sends
                self._sniffers.configure(new)
                self._begin()
                gc.freeze()
            elif kind == ToWorker.ENDED:
                produced = self._ring.produced
                self._ends.extend((produced, flow) for flow in messages.ended_flows(body))
            elif kind == ToWorker.STOP:
                self._stopping = True

    def _begin(self) -> None:
        """Look at the ring once the first rules are there: a flow that is seen without them is stopped too early."""
        if self._sniffers.config == 0:
            return
        self._next_report = 0.0
        if self._ready:
            return
        self._ready = True
        try:
            self._epoll.register(self._ring_descriptor, select.EPOLLIN)
        except PermissionError:
            self._waiting_seconds = UNPOLLED_SECONDS

    def _finish(self) -> None:
        """Take what is in the ring now, end all flows, and hand everything over."""
        until = self._ring.produced
        while self._ready and self._ring.consumed < until:
            batch = self._engine.run(self._ring, RECORDS_PER_CALL)
            if not batch.taken:
                break
            self._sniffers.take(batch)
            self._hand_over()
        self._end_flows(len(self._ends))
        while (batch := self._engine.flush(time.time_ns(), RECORDS_PER_CALL)).taken:
            self._sniffers.take(batch)
            self._hand_over()
        self._sniffers.close()
        self._hand_over()
        self._report()
        self._send()
        while not self._outbox.empty:  # the pool reads to the end, or ends this process
            self._epoll.poll()
            self._send()


def main(arguments: list[str]) -> int:
    """Map, give up rights, read."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # a terminal's, for the agent
    ring_descriptor, verdicts, mark, pool = map(int, arguments)
    connection = socket.socket(fileno=pool)
    try:
        start = _start(connection)
        with KernelRing(ring_descriptor, start.ring_bytes) as ring:
            library = find() if start.classify else NoNdpi("classify.depth is Off")
            engine = Engine(start.limits, library if isinstance(library, NdpiLibrary) else None, start.settings)
            reason = library.reason if isinstance(library, NoNdpi) else engine.no_classification or ""
            engine.set_tables(engine_tables(engine))
            engine.use_verdicts(words_of(verdicts))
            engine.use_mark(mmap.mmap(mark, MARK_WORDS * 8))
            os.close(verdicts)
            os.close(mark)
            connection.setblocking(False)
            worker = Worker(engine, ring, connection, ring_descriptor, reason)
            worker.run(sandbox.enter(start.parent, sandbox.MAX_ADDRESS_SPACE + 3 * start.ring_bytes))
    except (ConnectionError, ProcessLookupError):
        return 0  # the pool is gone
    except EngineError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _start(connection: socket.socket) -> Start:
    """The first frame, and no byte of the next."""
    head = connection.recv(messages.HEADER.size, socket.MSG_WAITALL)
    if len(head) < messages.HEADER.size:
        raise ConnectionResetError
    length, _ = messages.HEADER.unpack(head)
    body = connection.recv(length, socket.MSG_WAITALL)
    if len(body) < length:
        raise ConnectionResetError
    start = messages.opened(body)
    assert isinstance(start, Start)  # noqa: S101  # what the pool sends
    return start


if __name__ == "__main__":
    # Nothing of the interpreter is taken apart at the end: files that it would want are out of reach.
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)
