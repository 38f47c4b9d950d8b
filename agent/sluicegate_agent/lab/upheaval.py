"""Random changes of a configuration, and what they may cost: the script of the soak test. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

ALGORITHMS = ("Maglev", "LeastLoad", "RoundRobin")
WEIGHTS = (0, 1, 50, 100, 250)
EXTRA_PORTS = range(8001, 8005)
FEWEST_BACKENDS = 2

NOTICE_SECONDS = 5.0
"""A client notices that its connection is broken within this time, and has said so."""


class Move(Enum):
    """What happens next."""

    ADD_BACKEND = "a backend is added"
    REMOVE_BACKEND = "a backend is removed"
    REWEIGHT = "a backend gets another weight"
    ADD_PORT = "a port is added"
    REMOVE_PORT = "a port is removed"
    ALGORITHM = "another algorithm is chosen"
    KILL_AGENT = "the agent is killed"
    START_AGENT = "the agent is started"


@dataclass(frozen=True, slots=True)
class Situation:
    """What is configured: weights by backend, ports besides the one under load, the algorithm; and the agent."""

    weights: Mapping[str, int]
    ports: frozenset[int] = frozenset()
    algorithm: str = ALGORITHMS[0]
    agent_runs: bool = True


def possible(now: Situation, backends: Sequence[str]) -> tuple[Move, ...]:
    """Moves that make sense: at least two backends with a weight stay, and a killed agent comes back."""
    moves = [Move.ALGORITHM, Move.REWEIGHT, Move.KILL_AGENT if now.agent_runs else Move.START_AGENT]
    if not now.agent_runs:
        moves += [Move.START_AGENT] * 2
    if len(now.weights) < len(backends):
        moves.append(Move.ADD_BACKEND)
    if len(now.weights) > FEWEST_BACKENDS:
        moves.append(Move.REMOVE_BACKEND)
    moves.append(Move.REMOVE_PORT if now.ports else Move.ADD_PORT)
    if 0 < len(now.ports) < len(EXTRA_PORTS):
        moves.append(Move.ADD_PORT)
    return tuple(moves)


def after(now: Situation, move: Move, backends: Sequence[str], chance: random.Random) -> Situation:
    """The situation after a move."""
    weights, ports = dict(now.weights), now.ports
    match move:
        case Move.ADD_BACKEND:
            weights[chance.choice([name for name in backends if name not in weights])] = 100
        case Move.REMOVE_BACKEND:
            del weights[chance.choice(sorted(weights))]
        case Move.REWEIGHT:
            weights[chance.choice(sorted(weights))] = chance.choice(WEIGHTS)
        case Move.ADD_PORT:
            ports |= {chance.choice([port for port in EXTRA_PORTS if port not in ports])}
        case Move.REMOVE_PORT:
            ports -= {chance.choice(sorted(ports))}
        case Move.ALGORITHM:
            return replace(now, algorithm=chance.choice([name for name in ALGORITHMS if name != now.algorithm]))
        case Move.KILL_AGENT | Move.START_AGENT:
            return replace(now, agent_runs=move is Move.START_AGENT)
    if not any(weights.values()):
        weights[min(weights)] = 100
    return replace(now, weights=weights, ports=ports)


@dataclass(slots=True)
class Presence:
    """When each backend was last not configured: a connection to it may break up to :data:`NOTICE_SECONDS` later."""

    absent: dict[str, float] = field(default_factory=dict)

    def note(self, now: float, backends: Sequence[str], configured: Mapping[str, int]) -> None:
        """Take down who is missing at this moment."""
        self.absent.update({name: now for name in backends if name not in configured})

    def excused(self, now: float) -> frozenset[str]:
        """Backends whose connections may have broken for lack of configuration."""
        return frozenset(name for name, last in self.absent.items() if now - last <= NOTICE_SECONDS)
