"""Whatever comes in: nothing outside the rules is modified, nothing is dropped without a reason, all is counted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from itertools import product

import pytest

from bench import ACTIONS, OTHER_VIP, VIP, Bench, Hook, shortest
from frames import locate, without_rewritten_fields
from fuzzing import Fuzzer, valid_frames
from services import setup_service
from sluicegate_agent.datapath.model import Algorithm, ForwardingMode, Protocol

pytestmark = pytest.mark.kernel

FRAMES = int(os.environ.get("SLUICEGATE_FUZZ_FRAMES", "100000"))
SEED = int(os.environ.get("SLUICEGATE_FUZZ_SEED", "20240229"))
SHARE = 8
"""The frames are sent in so many tests, each with tables that start empty."""
ICMP = {1, 58}
ICMP_REASONS = {"answered_echo", "reported_too_big", "forwarded_error"}


def hops(frame: bytes) -> int:
    place = locate(frame)
    return frame[place.network + (8 if place.family == 4 else 7)]


def check(hook: Hook, frame: bytes, action: int, after: bytes) -> str:
    """One frame's fate; returns the kind of the action, or "icmp" for what the node itself says."""
    if action in ACTIONS[hook]["forward"]:
        if locate(after).protocol in ICMP:
            return "icmp"
        assert without_rewritten_fields(after) == without_rewritten_fields(frame), frame.hex()
        assert hops(after) == hops(frame) - 1, frame.hex()
        assert locate(after).network == 14, frame.hex()
        return "forward"
    assert after == frame, frame.hex()
    if action in ACTIONS[hook]["drop"]:
        return "drop"
    assert action in ACTIONS[hook]["pass"], frame.hex()
    return "pass"


def send_all(bench: Bench, hook: Hook, frames: Iterable[bytes]) -> Counter[str]:
    """Send frames from either side in turn; how many were forwarded, dropped and passed."""
    kinds: Counter[str] = Counter()
    for index, frame in enumerate(frames):
        if len(frame) >= shortest(hook, frame):
            run = bench.run(hook, frame, ("c0", "b0")[index % 2])
            kinds[check(hook, frame, run.retval, run.data)] += 1
    return kinds


@pytest.mark.timeout(60 + FRAMES // 100)
@pytest.mark.parametrize("part", range(SHARE))
def test_no_frame_is_changed_or_dropped_outside_the_rules(bench: Bench, part: int) -> None:
    services = product((4, 6), Protocol, ((VIP, ForwardingMode.FULL_NAT), (OTHER_VIP, ForwardingMode.DNAT)))
    for service, (family, protocol, (vip, mode)) in enumerate(services, start=1):
        algorithm = Algorithm.MAGLEV if part % 2 else Algorithm.ROUND_ROBIN
        setup_service(
            bench,
            family=family,
            protocol=protocol,
            mode=mode,
            algorithm=algorithm,
            backends=2,
            service=service,
            vip=vip[family],
        )
    valid = valid_frames()
    before = {hook: bench.verdicts(hook) for hook in Hook}
    kind_of = {reason.name.lower(): reason.kind for reason in bench.manifest.reasons}

    for hook in Hook:
        seen = send_all(bench, hook, Fuzzer(SEED + part, valid).frames(FRAMES // SHARE))

        counted = {name: count - before[hook][name] for name, count in bench.verdicts(hook).items()}
        by_kind: Counter[str] = Counter()
        for name, count in counted.items():
            by_kind["icmp" if name in ICMP_REASONS else kind_of[name].replace("punt", "pass")] += count
        assert by_kind == seen
        assert counted["internal"] == 0
        assert min(seen[kind] for kind in ("forward", "drop", "pass")) > FRAMES / SHARE / 100, (
            "hardly any frame of one kind: the frames have lost their aim"
        )
