"""What a load generator saw: counts that can be added, and their form on the wire between the processes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Requests and long connections, counted when they ended.

    ``answers`` counts by (family, backend), ``failures`` by (family, kind). ``broken`` counts long connections that
    ended before the client wanted, by the backend they were connected to. ``slowest`` is in seconds.
    ``skipped`` requests were not sent because too many were waiting for an answer.
    """

    answers: Counter[tuple[int, str]] = field(default_factory=Counter)
    failures: Counter[tuple[int, str]] = field(default_factory=Counter)
    exchanges: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    skipped: int = 0

    @property
    def answered(self) -> int:
        """Requests with a right answer."""
        return self.answers.total()

    @property
    def failed(self) -> int:
        """Requests without one."""
        return self.failures.total()

    def by_backend(self) -> Counter[str]:
        """Answers per backend, of both families."""
        total: Counter[str] = Counter()
        for (_, name), count in self.answers.items():
            total[name] += count
        return total

    def add(self, other: Tally) -> None:
        """Count what ``other`` counted as well."""
        self.answers.update(other.answers)
        self.failures.update(other.failures)
        self.exchanges += other.exchanges
        self.broken.update(other.broken)
        self.slowest = max(self.slowest, other.slowest)
        self.skipped += other.skipped

    def to_json(self) -> str:
        """One line."""
        return json.dumps(
            {
                "answers": [[*key, count] for key, count in self.answers.items()],
                "failures": [[*key, count] for key, count in self.failures.items()],
                "exchanges": self.exchanges,
                "broken": self.broken,
                "slowest": self.slowest,
                "skipped": self.skipped,
            }
        )

    @classmethod
    def from_json(cls, line: str) -> Tally:
        """Read what :meth:`to_json` wrote."""
        row = json.loads(line)
        return cls(
            answers=Counter({(family, name): count for family, name, count in row["answers"]}),
            failures=Counter({(family, kind): count for family, kind, count in row["failures"]}),
            exchanges=row["exchanges"],
            broken=Counter(row["broken"]),
            slowest=row["slowest"],
            skipped=row["skipped"],
        )
