"""The engine as a replay needs it: with nDPI if it is there, and with those of the signatures that can be used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sluicegate_agent.dpi.configuration import engine_policy, ndpi_settings, rule_drops
from sluicegate_agent.dpi.engine import Action, Engine, Limits, compile_rules
from sluicegate_agent.dpi.engine_tables import engine_tables
from sluicegate_agent.dpi.ndpi_provider import NdpiLibrary, NoNdpi, find
from sluicegate_agent.dpi.rules.empty import needs_empty_segments
from sluicegate_agent.dpi.rules.load import load
from sluicegate_agent.dpi.rules.model import Signature
from sluicegate_agent.dpi.rules.sources import sources_of
from sluicegate_api.dpisniffer import Depth, DpiSniffer, DpiSnifferSpec


@dataclass(frozen=True, slots=True)
class OfflineEngine:
    """An engine ready for records. ``signatures`` in force by sid; ``refused`` counts the others.

    ``send_empty``: one of them looks at TCP segments without data.
    """

    engine: Engine
    classification_reason: str
    signatures: Mapping[int, Signature]
    refused: int
    send_empty: bool = False

    def message(self, sid: int) -> str:
        """What a signature is called."""
        found = self.signatures.get(sid)
        return found.message if found is not None else f"signature {sid}"


@contextmanager
def open_engine(sniffer: DpiSniffer | None, limits: Limits, base: Path) -> Iterator[OfflineEngine]:
    """An engine for one sniffer; relative paths of signature files begin at ``base``.

    Raises EngineError or NoVectorscanError when what the sniffer needs is not there.
    """
    spec = DpiSnifferSpec() if sniffer is None else sniffer.spec
    library = _library(spec)
    rules = None if sniffer is None or not spec.signatures.given else load(sources_of(sniffer, base), spec.variables)
    engine = Engine(limits, library if isinstance(library, NdpiLibrary) else None, ndpi_settings(spec.classify.depth))
    try:
        engine.set_tables(engine_tables(engine))
        engine.set_policy(0, engine_policy(spec))
        send_empty = False
        if rules is not None:
            seconds = rule_drops(spec)
            tables = rules.tables(dict.fromkeys(seconds, int(Action.DROP)))
            engine.load_rules(compile_rules(tables, seconds))
            send_empty = needs_empty_segments(tables)
        in_force = {} if rules is None else {signature.sid: signature for signature in rules.signatures}
        refused = 0 if rules is None else sum(not outcome.state.in_force for outcome in rules.outcomes)
        reason = library.reason if isinstance(library, NoNdpi) else engine.no_classification
        yield OfflineEngine(engine, reason or "", in_force, refused, send_empty)
    finally:
        engine.close()


def _library(spec: DpiSnifferSpec) -> NdpiLibrary | NoNdpi:
    return NoNdpi("classify.depth is Off") if spec.classify.depth is Depth.OFF else find()
