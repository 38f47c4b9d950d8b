"""Failures: a backend that refuses, resets or stays silent gets less, and none at all when it goes on.

Ejection. More than half of the new flows failed in each of three ticks with new flows: the backend takes no new flows.
It returns when its health check has failed and passed again. Not every backend has a check that sees what clients see,
so it also returns on probation: after 30 s it starts at the floor (5 % of its weight) and grows by the step limits. Two
bad ticks in a row then eject it again, for twice as long, at most 5 minutes; a minute without that ends the probation.
So a backend that stays broken costs at most a few flows per pause, and one that was mended needs no operator.
"""

from __future__ import annotations

from typing import Final, NamedTuple

ALPHA: Final = 0.6
"""Weight of a new share of failures."""
FADE: Final = 0.2
"""What is forgotten per tick without new flows."""
ENOUGH: Final = 4.0
"""New flows that make a full sample; fewer count in proportion."""
BAD: Final = 0.5
"""Share of failures above which a tick is bad."""
GOOD: Final = 0.25
"""Share of failures below which an ejected backend that still gets flows, as in panic, is taken back."""
BAD_TICKS: Final = 3
BAD_TICKS_ON_PROBATION: Final = 2
PAUSE: Final = 30.0
LONGEST_PAUSE: Final = 300.0
PROBATION: Final = 60.0
"""Seconds."""


class Errors(NamedTuple):
    """What is known of a backend's failures.

    ``share`` is the smoothed share of failures, ``bad`` the bad ticks in a row, ``ejections`` those since it last kept
    a probation. ``seconds`` count since the ejection, or since the begin of the probation.
    """

    share: float = 0.0
    bad: int = 0
    ejected: bool = False
    probation: bool = False
    ejections: int = 0
    seconds: float = 0.0

    @property
    def factor(self) -> float:
        """What failures leave of the weight. The square, as half of the flows failing is worse than half a backend."""
        return (1.0 - self.share) ** 2

    @property
    def pause(self) -> float:
        """Seconds that the present ejection lasts."""
        return min(LONGEST_PAUSE, PAUSE * 2.0 ** min(10, self.ejections - 1))


UNKNOWN: Final = Errors()


def followed(known: Errors, failures: float, flows: float, elapsed: float) -> Errors:
    """What is known after one more tick of ``elapsed`` seconds, with ``failures`` among ``flows`` new ones."""
    flows = max(flows, failures)
    if flows <= 0.0:
        if known == UNKNOWN:
            return known
        if not known.ejected:
            share = _small(known.share * (1.0 - FADE))
            known = known._replace(share=share, bad=known.bad if share > BAD else 0)
        return _in_time(known, elapsed)
    believed = min(1.0, flows / ENOUGH)
    share = known.share + ALPHA * believed * (min(1.0, max(0.0, failures / flows)) - known.share)
    if share < 1e-4 and known.bad == 0 and not known.ejected and not known.probation:
        return UNKNOWN
    known = known._replace(share=_small(share), bad=known.bad + 1 if share > BAD else 0)
    if known.ejected and known.share < GOOD:
        return _on_probation(known)
    if not known.ejected and known.bad >= (BAD_TICKS_ON_PROBATION if known.probation else BAD_TICKS):
        return Errors(known.share, 0, ejected=True, ejections=known.ejections + 1)
    return _in_time(known, elapsed)


def _small(share: float) -> float:
    """Nothing is left of what is too small to matter, so that a weight comes back to exactly what it was."""
    return share if share > 1e-4 else 0.0


def _in_time(known: Errors, elapsed: float) -> Errors:
    if not known.ejected and not known.probation:
        return known
    known = known._replace(seconds=known.seconds + elapsed)
    if known.ejected and known.seconds >= known.pause:
        return _on_probation(known._replace(share=BAD))
    if known.probation and known.seconds >= PROBATION:
        return Errors(known.share, known.bad)
    return known


def _on_probation(known: Errors) -> Errors:
    return Errors(known.share, 0, probation=True, ejections=known.ejections)
