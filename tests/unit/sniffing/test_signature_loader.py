"""Signatures are read beside everything else, and again when they change."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sluicegate_agent.dpi.rules.load import Outcome, RuleSet, State
from sluicegate_agent.dpi.rules.vectorscan import NoVectorscanError
from sluicegate_agent.sniffing.signatures import SignatureLoader
from sluicegate_agent.source.configuration import SnifferEntry
from sluicegate_agent.source.objects import Kept
from sluicegate_api.common import ObjectKey
from sluicegate_api.dpisniffer import DpiSniffer

EDGE = ObjectKey("shop", "edge")


class Reading:
    """Reads rules as a test says: one set per read, or an error; ``hold`` keeps it waiting."""

    def __init__(self) -> None:
        self.sets: list[RuleSet | Exception] = []
        self.seen: list[tuple[str, Path]] = []
        self.hold = threading.Event()
        self.hold.set()

    def __call__(self, sniffer: DpiSniffer, folder: Path) -> RuleSet:
        self.seen.append((sniffer.spec.signatures.inline or "", folder))
        assert self.hold.wait(10)
        found = self.sets.pop(0) if self.sets else rules()
        if isinstance(found, Exception):
            raise found
        return found


def rules(*states: State) -> RuleSet:
    return RuleSet(tuple(Outcome("here", line, state, "because") for line, state in enumerate(states, 1)), {})


def entry(inline: str | None = "alert …", *, folder: Path = Path("/etc"), **spec: object) -> SnifferEntry:
    signatures = {"inline": inline} if inline else {}
    body = {"signatures": {**signatures, **({"files": spec.pop("files")} if "files" in spec else {})}, **spec}
    sniffer = DpiSniffer.model_validate({"metadata": {"name": "edge", "namespace": "shop"}, "spec": body})
    return Kept(sniffer, str(folder / "a.yaml"), 1)


def play(story: Callable[[SignatureLoader, Reading], Awaitable[None]]) -> None:
    async def run() -> None:
        reading = Reading()
        loader = SignatureLoader(reading)
        try:
            async with asyncio.timeout(20):
                await story(loader, reading)
        finally:
            reading.hold.set()
            await loader.close()

    asyncio.run(run())


async def loaded(loader: SignatureLoader) -> None:
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
    assert loader.idle


def test_a_sniffer_without_signatures_waits_for_nothing() -> None:
    async def story(loader: SignatureLoader, reading: Reading) -> None:
        await loader.configure([entry(None)])
        assert loader.idle
        assert loader.settled(EDGE)
        assert loader.rules(EDGE) is None
        assert loader.summary(EDGE) is None
        assert not reading.seen

    play(story)


def test_it_is_settled_once_the_first_version_was_read() -> None:
    async def story(loader: SignatureLoader, reading: Reading) -> None:
        reading.hold.clear()
        reading.sets = [rules(State.LOADED, State.REWRITTEN, State.REFUSED)]
        await loader.configure([entry(folder=Path("/srv"))])
        assert not loader.settled(EDGE)
        summary = loader.summary(EDGE)
        assert summary is not None
        assert summary.loading
        reading.hold.set()
        await loaded(loader)
        summary = loader.summary(EDGE)
        assert loader.settled(EDGE)
        assert summary is not None
        assert (summary.in_force, summary.left_out, summary.loading) == (2, 1, False)
        assert summary.examples == ("here:3: because",)
        assert reading.seen == [("alert …", Path("/srv"))]

    play(story)


def test_what_did_not_change_is_not_read_again_and_what_did_is_while_the_last_stays() -> None:
    async def story(loader: SignatureLoader, reading: Reading) -> None:
        first = rules(State.LOADED)
        reading.sets = [first, rules()]
        await loader.configure([entry()])
        await loaded(loader)
        await loader.configure([entry(budget={"maxPackets": 99})])
        assert loader.idle
        reading.hold.clear()
        await loader.configure([entry("alert other")])
        assert loader.rules(EDGE) is first
        assert loader.settled(EDGE)
        reading.hold.set()
        await loaded(loader)
        assert loader.rules(EDGE) is not first
        assert [text for text, _ in reading.seen] == ["alert …", "alert other"]

    play(story)


def test_a_changed_file_and_a_changed_variable_are_read_again(tmp_path: Path) -> None:
    async def story(loader: SignatureLoader, reading: Reading) -> None:
        path = tmp_path / "local.rules"
        path.write_text("one")
        given = entry(None, folder=tmp_path, files=["local.rules"])
        for change in (lambda: None, lambda: path.write_text("another"), path.unlink):
            change()
            await loader.configure([given])
            await loaded(loader)
        assert len(reading.seen) == 3
        await loader.configure([entry(None, folder=tmp_path, files=["local.rules"], variables={"HOME_NET": "any"})])
        await loaded(loader)
        assert len(reading.seen) == 4

    play(story)


@pytest.mark.parametrize("error", [NoVectorscanError("libhs is missing"), RuntimeError("no idea")])
def test_signatures_that_cannot_be_read_at_all_are_told_and_the_sniffer_goes_without(error: Exception) -> None:
    async def story(loader: SignatureLoader, reading: Reading) -> None:
        reading.sets = [error]
        await loader.configure([entry()])
        await loaded(loader)
        summary = loader.summary(EDGE)
        assert loader.settled(EDGE)
        assert loader.rules(EDGE) is None
        assert summary is not None
        assert str(error) in summary.error

    play(story)


def test_a_sniffer_that_goes_takes_its_signatures_with_it() -> None:
    async def story(loader: SignatureLoader, reading: Reading) -> None:
        del reading
        await loader.configure([entry()])
        await loaded(loader)
        await loader.configure([])
        assert loader.rules(EDGE) is None
        assert loader.summary(EDGE) is None

    play(story)
