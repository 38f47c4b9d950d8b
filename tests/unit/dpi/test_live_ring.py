"""A ring through its pages, as the kernel lays it out."""

from __future__ import annotations

import mmap
import os
import random
import struct
from collections.abc import Iterator

import pytest
from engine_rig import SECOND, SMALL, datagram, facts_of
from live_rig import PAGE, SIZE, SharedRing

from sluicegate_agent.dpi.engine import Engine, Policy, available
from sluicegate_agent.dpi.live.ring import KernelRing, words_of
from sluicegate_agent.dpi.records import BUSY, DISCARD, RECORD


@pytest.fixture
def shared() -> Iterator[SharedRing]:
    ring = SharedRing(1 << 14)
    yield ring
    ring.close()


def put(ring: SharedRing, size: int, flow: int = 1) -> bool:
    packet = datagram(bytes(size))
    return ring.put(bytes(packet), **(facts_of(packet, flow) | {"ts_ns": SECOND}))


@pytest.mark.skipif(available() is not None, reason=str(available()))
def test_records_are_read_over_the_end_of_the_ring_many_times(shared: SharedRing) -> None:
    dice = random.Random(3)  # noqa: S311
    with KernelRing(shared.descriptor, shared.size) as ring, Engine(SMALL) as engine:
        engine.set_policy(0, Policy(max_packets=0, payload_packets=0, payload_bytes=0))
        written = 0
        while shared.produced < 20 * shared.size:
            while put(shared, dice.randrange(1400), written % 50 + 1):
                written += 1
            while engine.run(ring, dice.randrange(1, 40)).taken:
                pass
            assert ring.consumed == shared.produced == shared.position
        counted = engine.stats()
        assert counted["records"] == written
        assert counted["bad_entry"] == counted["bad_packet"] == 0


@pytest.mark.skipif(available() is not None, reason=str(available()))
def test_a_record_that_is_still_written_is_waited_for(shared: SharedRing) -> None:
    with KernelRing(shared.descriptor, shared.size) as ring, Engine(SMALL) as engine:
        put(shared, 100)
        length = struct.unpack_from("<I", shared.pages, 2 * PAGE)[0]
        struct.pack_into("<I", shared.pages, 2 * PAGE, length | BUSY)
        assert engine.run(ring).taken == 0
        assert ring.entry(0) is None
        struct.pack_into("<I", shared.pages, 2 * PAGE, length | DISCARD)
        assert engine.run(ring).taken == 1
        assert engine.stats()["records"] == 0


def test_an_entry_is_there_as_long_as_it_waits(shared: SharedRing) -> None:
    with KernelRing(shared.descriptor, shared.size) as ring:
        put(shared, 100)
        second = shared.produced
        put(shared, 200)
        first = ring.entry(0)
        assert first is not None
        assert len(first) == RECORD.size + 128
        assert ring.used == shared.produced
        for wrong in (shared.produced, shared.produced + 8, 4, 1 << 63):
            assert ring.entry(wrong) is None
        ring.consumed = second
        assert ring.entry(0) is None
        assert ring.entry(second) is not None
        assert shared.position == second


@pytest.mark.parametrize("length", [0, RECORD.size - 1, 1 << 20])
def test_an_entry_whose_length_is_wrong_is_none(shared: SharedRing, length: int) -> None:
    with KernelRing(shared.descriptor, shared.size) as ring:
        put(shared, 100)
        struct.pack_into("<I", shared.pages, 2 * PAGE, length)
        assert ring.entry(0) is None


def test_positions_that_contradict_each_other_wait_for_nothing(shared: SharedRing) -> None:
    with KernelRing(shared.descriptor, shared.size) as ring:
        ring.consumed = 1 << 60
        assert ring.used == 0
        assert ring.entry(0) is None


@pytest.mark.parametrize("size", [0, 1000, 3 * PAGE])
def test_a_ring_has_a_power_of_two_of_pages(shared: SharedRing, size: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        KernelRing(shared.descriptor, size)


def test_what_is_no_ring_of_that_size_is_refused(shared: SharedRing) -> None:
    with pytest.raises((OSError, ValueError)):
        KernelRing(shared.descriptor, SIZE)


@pytest.mark.parametrize("count", [0, 3])
def test_verdicts_are_a_power_of_two_of_words(count: int) -> None:
    descriptor = os.memfd_create("test-words")
    try:
        os.ftruncate(descriptor, count * 8)
        with pytest.raises(ValueError, match="power of two"):
            words_of(descriptor)
    finally:
        os.close(descriptor)


def test_verdicts_are_those_behind_the_descriptor() -> None:
    descriptor = os.memfd_create("test-words")
    try:
        os.ftruncate(descriptor, 512 * 8)
        with words_of(descriptor) as words, mmap.mmap(descriptor, 512 * 8) as other:
            assert len(words) == 512 * 8
            words[0] = 7
            assert other[0] == 7
    finally:
        os.close(descriptor)
