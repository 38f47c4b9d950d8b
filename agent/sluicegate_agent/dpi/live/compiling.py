"""Rules are compiled in a thread of their own, so that the ring is read meanwhile."""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from sluicegate_agent.dpi.binding import EngineError
from sluicegate_agent.dpi.engine_rules import CompiledRules, compile_rules
from sluicegate_agent.dpi.live.messages import SignatureName, rules_of


class Outcome(NamedTuple):
    """Rules of a policy that are ready; None with the reason when there was no way."""

    policy: int
    digest: bytes
    rules: CompiledRules | None
    signatures: Mapping[int, SignatureName] = {}
    problem: str = ""


class Compiler:
    """Takes packed rules and hands them back compiled, in order; the descriptor is readable when some are."""

    def __init__(self) -> None:
        """Make what the sandbox does not allow later."""
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._wanted: queue.SimpleQueue[tuple[int, bytes, bytes]] = queue.SimpleQueue()
        self._done: deque[Outcome] = deque()

    def start(self) -> None:
        """Begin: in the sandbox, so that the thread is in it as well."""
        threading.Thread(target=self._run, name="rules", daemon=True).start()

    def compile(self, policy: int, digest: bytes, rules: bytes) -> None:
        """Compile these next."""
        self._wanted.put((policy, digest, rules))

    def outcomes(self) -> Iterator[Outcome]:
        """What is ready."""
        try:
            os.eventfd_read(self.descriptor)
        except BlockingIOError:
            return
        while self._done:
            yield self._done.popleft()

    def _run(self) -> None:
        while True:
            policy, digest, rules = self._wanted.get()
            try:
                tables, seconds, signatures = rules_of(rules)
                outcome = Outcome(policy, digest, compile_rules(tables, seconds), signatures)
            except (EngineError, MemoryError) as error:
                problem = str(error) or "there is not enough memory to compile its rules"
                outcome = Outcome(policy, digest, None, problem=problem)
            self._done.append(outcome)
            os.eventfd_write(self.descriptor, 1)
