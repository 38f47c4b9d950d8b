"""Keeps one ring read: starts its worker, starts another when it ends, and takes the record away that ended it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from sluicegate_agent.dpi.live import messages
from sluicegate_agent.dpi.live.messages import Configure, Ended, FromWorker, NonsenseError, Start
from sluicegate_agent.dpi.live.model import RunState, WorkerState
from sluicegate_agent.dpi.live.process import WorkerProcess, died_of_itself, end_words
from sluicegate_agent.dpi.live.quarantine import Quarantine
from sluicegate_agent.dpi.live.site import Mark, Place, Site

log = logging.getLogger(__name__)

WATCH_SECONDS: Final = 1.0
STUCK_SECONDS: Final = 5.0
"""One record takes microseconds."""
SILENT_SECONDS: Final = 15.0
"""A worker reports each second."""
STEADY_SECONDS: Final = 30.0
"""A worker that ran so long begins with a clean slate when it ends."""
FIRST_PAUSE, LONGEST_PAUSE, PAUSE_OF_FAILED = 0.1, 5.0, 30.0
FAILURES: Final = 5
"""Starts in a row that came to nothing, after which a worker counts as failed."""
STOP_SECONDS: Final = 2.0
MAX_QUEUED_ENDS: Final = 65_536
"""Ended flows that wait while there is no worker."""

OnLines = Callable[[int, str, list[bytes]], None]


@dataclass(slots=True)
class Task:
    """What all workers do. ``frame`` of ``configure``, with all rules."""

    start: Start
    configure: Configure
    frame: bytes


@dataclass(slots=True)
class _Counts:
    restarts: int = 0
    ends_dropped: int = 0
    forgotten: int = 0
    lines: int = 0
    lines_dropped: int = 0
    events_failed: int = 0
    cpu_seconds: float = 0.0
    engine: dict[str, int] = field(default_factory=dict)


class Keeper:
    """One worker, whatever process it is at the time."""

    def __init__(self, number: int, place: Place, quarantine: Quarantine, on_lines: OnLines) -> None:
        """Raises OSError or ValueError when the ring cannot be mapped."""
        self.number = number
        self._site = Site(number, place, quarantine)
        self._on_lines = on_lines
        self._task: Task | None = None
        self._changed = asyncio.Event()
        self._process: WorkerProcess | None = None
        self._known: set[bytes] = set()
        self._state = RunState.IDLE
        self._reason = ""
        self._counts = _Counts()
        self._waiting: deque[Ended] = deque()
        self._last_record: Mark | None = None
        self._failures = 0
        self._stopping = False
        self._stuck = ""

    # ---- what the pool says

    def give(self, task: Task | None) -> None:
        """Do this from now on; None: nothing, without a process."""
        self._task = task
        self._changed.set()
        if self._process is not None:
            self._tell(self._process)

    def _tell(self, process: WorkerProcess) -> None:
        """What it is to do, or to end when it began otherwise."""
        task = self._task
        if task is None or task.start != process.began:
            process.stop()
            return
        # Rules that this process has are left out.
        digests = {orders.digest for orders in task.configure.orders.values() if orders.rules is not None}
        if digests & self._known:
            process.send(messages.objects(messages.without_rules(task.configure, self._known)))
        else:
            process.send(task.frame)
        self._known = digests

    def end_flows(self, flows: Sequence[Ended]) -> None:
        """Pass on, keep for the next worker, or count."""
        if self._process is not None and not self._waiting:
            if not self._process.end_flows(flows):
                self._counts.ends_dropped += len(flows)
            return
        room = MAX_QUEUED_ENDS - len(self._waiting)
        self._waiting.extend(flows[:room])
        self._counts.ends_dropped += max(len(flows) - room, 0)

    def state(self) -> WorkerState:
        """As of now."""
        counts, process = self._counts, self._process
        said = messages.Report() if process is None else process.said
        cpu, memory = (0.0, 0) if process is None else process.usage()
        engine = {name: value + said.engine.get(name, 0) for name, value in counts.engine.items()}
        return WorkerState(
            number=self.number,
            state=self._state,
            reason=self._reason,
            pid=None if process is None else process.pid,
            restarts=counts.restarts,
            quarantined=self._site.quarantined,
            unsaved=self._site.unsaved,
            skipped_bytes=self._site.skipped_bytes,
            classification=said.classification,
            no_classification=said.no_classification,
            sandbox=said.sandbox,
            problems=said.problems,
            engine={**said.engine, **engine},
            cpu_seconds=counts.cpu_seconds + cpu,
            memory_bytes=memory,
            ring_used=self._site.ring.used,
            lines=counts.lines,
            lines_dropped=counts.lines_dropped + said.dropped,
            events_failed=counts.events_failed + said.failed,
            failure=said.failure,
            ends_dropped=counts.ends_dropped,
            forgotten=counts.forgotten,
            config=said.config,
        )

    def stop(self) -> None:
        """Let the worker hand over what it knows, for a while."""
        self._stopping = True
        self.give(None)

    def close(self) -> None:
        """Unmap; when nothing runs any more."""
        self._site.close()

    # ---- its life

    async def run(self) -> None:
        """Until `stop`, or the task is cancelled."""
        while not self._stopping:
            task = self._task
            if task is None:
                self._state = RunState.IDLE
                self._changed.clear()
                await self._changed.wait()
                continue
            began = asyncio.get_running_loop().time()
            ended_well = False
            try:
                ended_well = await self._live(task)
            except OSError as error:
                self._reason, self._state = f"it cannot be started: {error}", RunState.RESTARTING
                self._failures += 1
            except Exception as error:
                log.exception("worker %d of the sniffer could not be served", self.number)
                self._reason, self._state = f"the agent could not serve it: {error!r}", RunState.RESTARTING
                self._failures += 1
            lived = asyncio.get_running_loop().time() - began
            if ended_well:
                continue
            self._counts.restarts += 1
            await self._pause(lived)

    async def _pause(self, lived: float) -> None:
        """Nothing after the first end, then longer and longer."""
        if lived >= STEADY_SECONDS:
            self._failures = 0
        if self._failures >= FAILURES and self._state is RunState.FAILED:
            seconds = PAUSE_OF_FAILED
        elif self._failures <= 1:
            return
        else:
            seconds = min(FIRST_PAUSE * 2 ** (self._failures - 2), LONGEST_PAUSE)
        self._changed.clear()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)

    async def _live(self, task: Task) -> bool:
        """One process from its start to its end; whether it ended because it was asked to."""
        self._state = RunState.STARTING if self._counts.restarts == 0 else RunState.RESTARTING
        self._site.clear()
        self._stuck = ""
        process = await WorkerProcess.start(*self._site.descriptors)
        self._known = set()
        watch = asyncio.create_task(self._watch(process))
        try:
            process.begin(task.start)
            self._process = process
            self._tell(process)
            self._pass_on(process)
            await self._read(process)
        except asyncio.CancelledError:
            process.kill()
            raise
        finally:
            watch.cancel()
            self._process = None
            code = await process.end(STOP_SECONDS)
            self._take_stock(process)
        if code == 0 and process.asked_to_stop and not process.nonsense:
            return True
        self._account(process, code)
        return False

    def _pass_on(self, process: WorkerProcess) -> None:
        if self._waiting:
            process.end_flows(self._waiting)
            self._waiting.clear()

    async def _read(self, process: WorkerProcess) -> None:
        """All that it says, until it closes."""
        try:
            while (found := await process.frame()) is not None:
                kind, body = found
                if kind == FromWorker.LINES:
                    self._take_lines(*messages.lines_of(body))
                elif kind == FromWorker.REPORT:
                    self._heard(process)
                else:
                    msg = f"a frame of kind {kind}"
                    raise NonsenseError(msg)
        except NonsenseError as error:
            process.nonsense = f"it sent nonsense: {error}"
            process.kill()

    def _heard(self, process: WorkerProcess) -> None:
        if process.said.config and self._state is not RunState.RUNNING:
            self._state = RunState.RUNNING

    def _take_lines(self, sniffer: int, event_type: str, lines: list[bytes]) -> None:
        task = self._task
        if task is not None and sniffer not in task.configure.orders:
            return  # that one is gone
        self._counts.lines += len(lines)
        self._on_lines(sniffer, event_type, lines)

    async def _watch(self, process: WorkerProcess) -> None:
        """End one that takes forever over a record, or does not say anything."""
        # Time counts while this loop runs: a worker is not to blame for an agent that had no time to listen.
        stuck = silent = 0.0
        before, heard = self._site.progress, process.heard
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            process.usage()
            now = self._site.progress
            stuck = stuck + WATCH_SECONDS if now == before and self._site.at_record else 0.0
            silent = silent + WATCH_SECONDS if process.heard == heard else 0.0
            before, heard = now, process.heard
            if stuck >= STUCK_SECONDS:
                self._stuck = f"it looked at one record for {STUCK_SECONDS:.0f} s"
            elif silent >= SILENT_SECONDS:
                self._stuck = f"it said nothing for {SILENT_SECONDS:.0f} s"
            else:
                continue
            process.kill()
            return

    # ---- its end

    def _take_stock(self, process: WorkerProcess) -> None:
        """Counters go on from here."""
        cpu, _ = process.usage()
        counts, said = self._counts, process.said
        counts.cpu_seconds += cpu
        counts.lines_dropped += said.dropped
        counts.events_failed += said.failed
        if not process.asked_to_stop:
            counts.ends_dropped += max(process.ends - said.ends, 0)
            counts.forgotten += said.engine.get("flows_now", 0)
        for name, value in said.engine.items():
            if not name.endswith("_now"):
                counts.engine[name] = counts.engine.get(name, 0) + value

    def _account(self, process: WorkerProcess, code: int) -> None:
        """What is to be learned from an end that nobody asked for."""
        self._reason = process.nonsense or self._stuck or end_words(code, process.last_words)
        self._failures += 1
        worked = process.said.config > 0
        failed = not worked and self._failures >= FAILURES
        self._state = RunState.FAILED if failed else RunState.RESTARTING
        record = self._site.at_record
        if record is not None:
            # Somebody's SIGKILL is nobody's fault; twice at the same record it is that of the record.
            if died_of_itself(code) or self._stuck or record == self._last_record:
                self._reason += self._site.remove(record)
            self._last_record = record
        log.warning("worker %d of the sniffer (pid %d) ended: %s", self.number, process.pid, self._reason)
