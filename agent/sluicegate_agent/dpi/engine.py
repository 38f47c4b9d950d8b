"""The native engine's face in Python: tables in, batches of events out.

An engine belongs to one thread. Its calls hold no lock of the interpreter while they work.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final, Self

from sluicegate_agent.dpi import binding
from sluicegate_agent.dpi.binding import EngineError, PatternError, available, scanner_version
from sluicegate_agent.dpi.engine_model import (
    APPS,
    DETAIL,
    EVENT,
    MAX_DROP_SECONDS,
    RISKS,
    Action,
    Batch,
    Detail,
    End,
    Event,
    Kind,
    Limits,
    Policy,
    Reason,
    Tables,
)
from sluicegate_agent.dpi.engine_rules import CompiledRules, check_pattern, compile_rules, time_pattern
from sluicegate_agent.dpi.live.ring import KernelRing
from sluicegate_agent.dpi.ndpi_provider import NdpiLibrary
from sluicegate_agent.dpi.records import MemoryRing

__all__ = [
    "APPS",
    "DETAIL",
    "EVENT",
    "RISKS",
    "Action",
    "Batch",
    "CompiledRules",
    "Detail",
    "End",
    "Engine",
    "EngineError",
    "Event",
    "Kind",
    "Limits",
    "PatternError",
    "Policy",
    "Reason",
    "Tables",
    "available",
    "check_pattern",
    "compile_rules",
    "scanner_version",
    "time_pattern",
]

# How nDPI's own revision begins, in the wheel that ndpi_provider.py knows.
REVISION: Final = "5.0"
DEFAULT_LIMITS: Final = Limits()
_STARTING: Final = threading.Lock()
_ALL_ONES: Final = 2**64 - 1

# A question for "example.com" from 192.0.2.1 to 192.0.2.53, and its answer: what nDPI must call DNS.
_QUESTION: Final = bytes.fromhex(
    "45000039000100004011f662c0000201c0000235c000003500250000123401000001000000000000076578616d706c6503636f6d0000010001"
)
_ANSWER: Final = bytes.fromhex(
    "45000049000100004011f652c0000235c00002010035c000003500001234818000010001000000000765"
    "78616d706c6503636f6d0000010001c00c000100010000003c0004c0000207"
)


class Engine:
    """Flows, classification, patterns and verdicts of one ring. Close it, or use it in a `with` statement."""

    def __init__(
        self,
        limits: Limits = DEFAULT_LIMITS,
        ndpi: NdpiLibrary | None = None,
        settings: Sequence[tuple[str | None, str, str]] = (),
    ) -> None:
        """Make an engine; with `ndpi` it classifies. `settings` are nDPI's: (protocol or None, parameter, value).

        When nDPI is not what we know, or fails its self-test, classification is off and `no_classification` says why.
        """
        self._native = binding.module()
        ffi, lib = self._native.ffi, self._native.lib
        self._ffi, self._lib = ffi, lib
        self._limits = limits
        self._keep: dict[str, Any] = {}
        self._risks: dict[int, str] = {}
        self.no_classification: str | None = "nDPI was not asked for"
        self._engine = self._new()
        if ndpi is not None:
            self.no_classification = self._start(ndpi, settings)
            if self.no_classification is not None:
                # Nothing of a library that failed its test stays in use.
                lib.sg_free(self._engine)
                self._engine = self._new()
        self._events = ffi.new("struct sg_event **")
        self._blob = ffi.new("uint8_t **")
        self._blob_length = ffi.new("uint32_t *")
        self._stats = ffi.new("struct sg_stats *")
        self._fields = [name for name, _ in ffi.typeof("struct sg_stats").fields]
        self.set_tables(Tables())

    def _new(self) -> Any:
        limits = self._limits
        idle = [limits.tcp_new_seconds, limits.tcp_open_seconds, limits.datagram_seconds, limits.decided_seconds]
        engine = self._lib.sg_new(
            self._ffi.new(
                "struct sg_limits *",
                {
                    "max_flows": limits.max_flows,
                    "max_undecided": limits.max_undecided,
                    "max_events": limits.max_events,
                    "blob_bytes": limits.blob_bytes,
                    "max_held_bytes": limits.max_held_bytes,
                    "held_bytes": limits.held_bytes,
                    "idle_seconds": idle,
                },
            )
        )
        if engine == self._ffi.NULL:
            msg = f"the engine was not made: {binding.error()}"
            raise EngineError(msg)
        return engine

    def _start(self, ndpi: NdpiLibrary, settings: Sequence[tuple[str | None, str, str]]) -> str | None:
        """Open, check, configure, test; the reason why not."""
        ffi, lib = self._ffi, self._lib
        path = ffi.new("char[]", ndpi.path.encode())
        setup = ffi.new(
            "struct sg_ndpi_setup *",
            {
                "path": path,
                "flow_size": ndpi.flow_size,
                "serializer_size": ndpi.serializer_size,
                "state_offset": ndpi.state_offset,
                "confidence_offset": ndpi.confidence_offset,
                "risk_offset": ndpi.risk_offset,
            },
        )
        # nDPI's start is not thread-safe.
        with _STARTING:
            if lib.sg_ndpi_open(self._engine, setup) < 0:
                return f"nDPI in {ndpi.path}: {binding.error()}"
            revision = binding.text(lib.sg_ndpi_revision(self._engine)) or "nothing"
            if not revision.startswith(REVISION):
                return f"nDPI in {ndpi.path} is revision {revision}, known is {REVISION}"
            for protocol, parameter, value in settings:
                where = ffi.NULL if protocol is None else ffi.new("char[]", protocol.encode())
                binding.check(
                    lib.sg_ndpi_set(self._engine, where, parameter.encode(), value.encode()), "nDPI's settings"
                )
            if lib.sg_ndpi_start(self._engine) < 0:
                return binding.error()
        label = lib.sg_ndpi_try(self._engine, _QUESTION, len(_QUESTION), _ANSWER, len(_ANSWER))
        name = binding.text(lib.sg_ndpi_protocol(self._engine, label)) if label > 0 else binding.error()
        if name != "DNS":
            return f"nDPI {revision} calls a DNS question and its answer {name}: its structures are not what we know"
        self._revision = revision
        return None

    @property
    def classification(self) -> str | None:
        """nDPI's revision; None when classification is off."""
        return None if self.no_classification is not None else self._revision

    def protocols(self) -> Mapping[str, int]:
        """nDPI's protocols by name; empty when classification is off."""
        names = ((self.protocol_name(number), number) for number in range(self._lib.sg_ndpi_protocols(self._engine)))
        return {name: number for name, number in names if name}

    def protocol_name(self, number: int) -> str:
        """nDPI's name of a protocol; empty when it has none."""
        return binding.text(self._lib.sg_ndpi_protocol(self._engine, number)) or ""

    def category(self, app: int) -> str:
        """nDPI's name of a protocol's category; empty when it has none."""
        return binding.text(self._lib.sg_ndpi_category(self._engine, app)) or ""

    def risk_name(self, bit: int) -> str:
        """nDPI's words for a bit of the risk mask."""
        name = self._risks.get(bit)
        if name is None:
            name = self._risks[bit] = binding.text(self._lib.sg_ndpi_risk(self._engine, bit)) or ""
        return name

    def risk_score(self, bit: int) -> int:
        """nDPI's score of a bit of the risk mask, client's and server's together."""
        score: int = self._lib.sg_ndpi_risk_score(self._engine, bit)
        return score

    def set_tables(self, tables: Tables) -> None:
        """Replace what is wanted, encrypted and named."""
        native = self._ffi.new("struct sg_tables *")
        for kind in Kind:
            default = tables.want.get((kind, None), 1)
            self._ffi.memmove(native.want[kind], bytes([default]) * APPS, APPS)
        for (kind, app), value in tables.want.items():
            if app is not None:
                native.want[kind][app] = value
        for app in tables.encrypted:
            native.encrypted[app] = 1
        for app, number in tables.app.items():
            native.app[app] = number
        scores = tables.risk_score or [self.risk_score(bit) for bit in range(RISKS)]
        for bit, score in enumerate(scores):
            native.risk_score[bit] = score
        self._lib.sg_tables_set(self._engine, native)

    def set_policy(self, number: int, policy: Policy) -> None:
        """Replace what one sniffer wants; records name it by number. Without one, a flow has no budget."""
        native = self._ffi.new("struct sg_policy *")
        native.max_packets = policy.max_packets
        native.payload_packets = policy.payload_packets
        native.payload_bytes = policy.payload_bytes
        native.min_risk = policy.min_risk
        native.risk_action = policy.risk_action
        native.classify = policy.classify
        native.drop_seconds = policy.drop_seconds
        for app, action in policy.on_app.items():
            native.on_app[app] = action
        binding.check(self._lib.sg_policy_set(self._engine, number, native), f"policy {number}")

    def load_rules(self, rules: CompiledRules | None, policy: int = 0) -> None:
        """Use these rules for flows of that policy from the next record on; flows stay. None: no rules."""
        handle = self._ffi.NULL if rules is None else rules.take()
        if self._lib.sg_rules_swap(self._engine, policy, handle) < 0:
            reason = binding.error()
            self._lib.sg_compiled_free(handle)
            msg = f"rules of policy {policy}: {reason}"
            raise EngineError(msg)

    def use_verdicts(self, words: Any) -> None:
        """Write verdicts into this buffer of u64, a power of two of them.

        words[slot] = generation << 32 | seconds << 8 | action; seconds of a drop.
        """
        memory = self._ffi.from_buffer("uint64_t[]", words, require_writable=True)
        count = len(memory)
        if count == 0 or count & (count - 1):
            msg = f"the verdict array has {count} words, not a power of two"
            raise EngineError(msg)
        self._keep["verdicts"] = memory
        self._lib.sg_verdict_words(self._engine, memory, count - 1)

    def use_mark(self, words: Any) -> None:
        """Note position and flow of each record in these two u64 words before it is looked at, for a supervisor."""
        memory = self._ffi.from_buffer("uint64_t[]", words, require_writable=True)
        if len(memory) != 2:
            msg = f"the mark has {len(memory)} words, not 2"
            raise EngineError(msg)
        self._keep["mark"] = memory
        self._lib.sg_mark_words(self._engine, memory)

    def run(self, ring: MemoryRing | KernelRing, max_records: int = 4096) -> Batch:
        """Take records; `taken` is fewer than asked for when the ring is empty or the batch is full.

        A ring in memory that is empty afterwards can be written from its start again.
        """
        if isinstance(ring, KernelRing):
            return self._batch(self._lib.sg_run(self._engine, ring.native(self._ffi), max_records))
        view = self._ffi.from_buffer("uint8_t[]", ring.memory)
        consumer = self._ffi.new("uint64_t *", ring.consumed)
        producer = self._ffi.new("uint64_t *", min(ring.produced, len(ring.memory)))
        place = self._ffi.new("struct sg_ring *", (consumer, producer, view, _ALL_ONES))
        taken = self._lib.sg_run(self._engine, place, max_records)
        self._ffi.release(view)
        ring.consumed = consumer[0]
        if ring.consumed >= ring.produced:
            ring.consumed = ring.produced = 0
        return self._batch(taken)

    def expire(self, now_ns: int, max_flows: int = 4096) -> Batch:
        """End flows that were idle too long, by the records' clock; `taken` says how many."""
        return self._batch(self._lib.sg_expire(self._engine, now_ns, max_flows))

    def end(self, flow_id: int, now_ns: int) -> Batch:
        """End one flow because it is over in the kernel; `taken` is 0 for a flow that is not known."""
        ended = self._lib.sg_end(self._engine, flow_id, now_ns)
        binding.check(ended, "a flow was not ended")
        return self._batch(ended)

    def drop(self, flow_id: int, seconds: int, reason: Reason, now_ns: int) -> Batch:
        """Drop a flow for what its events said; `taken` is 0 for one that is not known, whose word is written as well.

        Classification of the flow ends with it.
        """
        known = self._lib.sg_drop(self._engine, flow_id, min(seconds, MAX_DROP_SECONDS), reason, now_ns)
        binding.check(known, "a flow was not dropped")
        return self._batch(known)

    def flush(self, now_ns: int, max_flows: int = 4096) -> Batch:
        """End flows, idle or not; call until `taken` is 0."""
        return self._batch(self._lib.sg_flush(self._engine, now_ns, max_flows))

    def _batch(self, taken: int) -> Batch:
        count = self._lib.sg_events(self._engine, self._events, self._blob, self._blob_length)
        if not count:
            return Batch(taken, b"", b"")
        events = bytes(self._ffi.buffer(self._events[0], count * EVENT.size))
        return Batch(taken, events, bytes(self._ffi.buffer(self._blob[0], self._blob_length[0])))

    def stats(self) -> dict[str, int]:
        """All counters and gauges of struct sg_stats, by name."""
        self._lib.sg_stats_get(self._engine, self._stats)
        return {name: getattr(self._stats, name) for name in self._fields}

    def close(self) -> None:
        """Free everything; flows that are left make no events."""
        if self._engine is not None:
            self._lib.sg_free(self._engine)
            self._engine = None

    def __enter__(self) -> Self:
        """Use the engine until the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()
