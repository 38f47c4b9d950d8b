"""The flow tables as rows for people: read in batches, filtered as arrays, made into rows only as far as asked.

A FullNAT flow is a row of ``nat``, any other one a row of ``flows``, as the census in
:mod:`~sluicegate_agent.datapath.flows` counts them: both go by the same :class:`FlowRules`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sluicegate_agent.datapath.codec import address_of, address_words, port_of
from sluicegate_agent.datapath.flowquery import FlowDump, FlowFilter, FlowRow, FlowState
from sluicegate_agent.datapath.flows import BACKEND_FIN, CLIENT_FIN, FlowRules, Judged
from sluicegate_agent.datapath.model import (
    Backend,
    BackendId,
    BackendState,
    Endpoint,
    FrontendId,
    IPAddress,
    IPNetwork,
    KernelState,
)

_STATES = (FlowState.HALF_OPEN, FlowState.ESTABLISHED, FlowState.CLOSING, FlowState.CLOSED)

Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.void]


class FlowTable(Protocol):
    """``flows`` or ``nat`` of one family."""

    capacity: int

    def batches(self) -> Iterable[tuple[Rows, Rows]]:
        """All rows as arrays of keys and values."""
        ...


class FlowTables(Protocol):
    """Where the tables of both families are."""

    def by_family(self, name: str, family: int) -> FlowTable:
        """``flows`` and 4 → ``flows4``."""
        ...


def dump_flows(tables: FlowTables, state: KernelState, rules: FlowRules, wanted: FlowFilter, hertz: int) -> FlowDump:
    """The flows that match. Memory is bounded by one batch and ``wanted.limit`` rows, whatever the tables hold."""
    found = _Dump(state, rules, wanted, hertz)
    for family in (4, 6):
        if wanted.client is not None and wanted.client.version != family:
            continue
        if wanted.backend is not None and wanted.backend[0].version != family:
            continue
        for keys, values in tables.by_family("flows", family).batches():
            found.add(_Kept(keys, values, family, state))
        for keys, values in tables.by_family("nat", family).batches():
            found.add(_Translated(keys, values, family, state))
    return found.result()


class _Batch:
    """Some rows of one table; a subclass knows where its table keeps what."""

    full_nat: bool

    def __init__(self, keys: Rows, values: Rows, family: int, state: KernelState) -> None:
        self.keys, self.values, self.family, self.kernel = keys, values, family, state
        self.frontends = self._frontends().astype(np.int64)

    def _frontends(self) -> npt.NDArray[np.integer]:
        raise NotImplementedError

    def clients(self) -> Rows:
        """Where ``client`` and ``client_port`` are."""
        raise NotImplementedError

    def at_backend(self, address: IPAddress, port: int | None) -> Mask:
        """Which flows are at a backend."""
        raise NotImplementedError

    def backend(self, index: int) -> Endpoint | None:
        """The backend of one flow."""
        raise NotImplementedError

    def source(self, index: int) -> tuple[IPAddress, int] | tuple[None, None]:
        """What the backend of one flow sees as its client, where that is an address of ours."""
        raise NotImplementedError

    def words(self, column: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
        """Addresses as rows of as many words as the family has."""
        count = 1 if self.family == 4 else 4
        return column.reshape(len(self.keys), -1)[:, :count]

    def address(self, column: npt.NDArray[np.uint32], index: int) -> IPAddress:
        """One address of a column."""
        return address_of(np.resize(self.words(column)[index], 4), self.family)


class _Kept(_Batch):
    """Rows of ``flows``: one per flow in the modes that keep the client's address."""

    full_nat = False

    def _frontends(self) -> npt.NDArray[np.integer]:
        frontends: npt.NDArray[np.integer] = self.keys["frontend"]
        return frontends

    def clients(self) -> Rows:
        return self.keys

    def at_backend(self, address: IPAddress, port: int | None) -> Mask:
        found = np.zeros(len(self.keys), dtype=np.bool_)
        for identity, row in self.kernel.backends.items():
            if row.endpoint and row.endpoint.address == address and port in {None, row.endpoint.port}:
                found |= (self.values["backend"] == identity) & (self.values["backend_generation"] == row.generation)
        return found

    def backend(self, index: int) -> Endpoint | None:
        value = self.values[index]
        row = self.kernel.backends.get(BackendId(int(value["backend"])))
        return row.endpoint if is_still(row, int(value["backend_generation"])) and row else None

    def source(self, index: int) -> tuple[IPAddress, int] | tuple[None, None]:
        del index
        return None, None


class _Translated(_Batch):
    """Rows of ``nat``: one per FullNAT flow."""

    full_nat = True

    def _frontends(self) -> npt.NDArray[np.integer]:
        frontends: npt.NDArray[np.integer] = self.values["frontend"]
        return frontends

    def clients(self) -> Rows:
        return self.values

    def at_backend(self, address: IPAddress, port: int | None) -> Mask:
        found: Mask = (self.words(self.keys["backend"]) == _packed(address)).all(axis=1)
        return found if port is None else found & (self.keys["backend_port"] == port_of(port))

    def backend(self, index: int) -> Endpoint | None:
        key = self.keys[index]
        protocol = self.kernel.frontends[FrontendId(int(self.frontends[index]))].endpoint.protocol
        return Endpoint(self.address(self.keys["backend"], index), protocol, port_of(int(key["backend_port"])))

    def source(self, index: int) -> tuple[IPAddress, int] | tuple[None, None]:
        return self.address(self.keys["source"], index), port_of(int(self.keys["source_port"][index]))


class _Dump:
    def __init__(self, state: KernelState, rules: FlowRules, wanted: FlowFilter, hertz: int) -> None:
        self._state, self._rules, self._wanted, self._hertz = state, rules, wanted, hertz
        self._frontends = np.zeros(len(rules.idle), dtype=np.bool_)
        chosen = state.frontends.keys() if wanted.frontends is None else wanted.frontends & state.frontends.keys()
        self._frontends[list(chosen)] = True
        self._rows: list[FlowRow] = []
        self._states: Counter[FlowState] = Counter()

    def add(self, batch: _Batch) -> None:
        frontends = batch.frontends
        chosen = self._frontends[frontends] & (self._rules.full_nat[frontends] == batch.full_nat)
        if self._wanted.client is not None:
            chosen &= _in_network(batch.words(batch.clients()["client"]), self._wanted.client)
        if self._wanted.client_port is not None:
            chosen &= batch.clients()["client_port"] == port_of(self._wanted.client_port)
        if self._wanted.backend is not None:
            chosen &= batch.at_backend(*self._wanted.backend)
        judged = self._rules.judge(frontends, batch.values)
        codes = _codes(judged, batch.values)
        chosen &= judged.age <= judged.limit
        for code, state in enumerate(_STATES):
            matching = chosen & (codes == code)
            self._states[state] += int(np.count_nonzero(matching))
            if state in self._wanted.states:
                room = self._wanted.limit - len(self._rows)
                self._rows += [self._row(batch, int(i), judged, state) for i in np.flatnonzero(matching)[:room]]

    def result(self) -> FlowDump:
        matched = sum(self._states[state] for state in self._wanted.states)
        return FlowDump(tuple(self._rows), matched, {state: self._states[state] for state in _STATES})

    def _row(self, batch: _Batch, index: int, judged: Judged, state: FlowState) -> FlowRow:
        frontend_id = FrontendId(int(batch.frontends[index]))
        frontend = self._state.frontends[frontend_id]
        clients = batch.clients()
        source, source_port = batch.source(index)
        age, limit = int(judged.age[index]), int(judged.limit[index])
        return FlowRow(
            client=batch.address(clients["client"], index),
            client_port=port_of(int(clients["client_port"][index])),
            frontend=frontend_id,
            vip=frontend.endpoint,
            mode=frontend.mode,
            backend_id=BackendId(int(batch.values["backend"][index])),
            backend=batch.backend(index),
            source=source,
            source_port=source_port,
            state=state,
            idle_seconds=age / self._hertz,
            expires_in_seconds=(limit - age) / self._hertz,
        )


def is_still(row: Backend | None, generation: int) -> bool:
    """Whether a backend's row is the one that a flow of this generation was opened to."""
    return row is not None and row.state is not BackendState.FREE and row.generation == generation


def _codes(judged: Judged, values: Rows) -> npt.NDArray[np.int64]:
    """The state of each row, as an index of ``_STATES``."""
    closing = (values["state"] & (CLIENT_FIN | BACKEND_FIN)) != 0
    codes: npt.NDArray[np.int64] = np.select([judged.closed, judged.half_open, closing], [3, 0, 2], default=1)
    return codes


def _packed(address: IPAddress) -> npt.NDArray[np.uint32]:
    return address_words(address)[: 1 if address.version == 4 else 4]


def _in_network(words: npt.NDArray[np.uint32], network: IPNetwork) -> Mask:
    inside: Mask = ((words & _packed(network.netmask)) == _packed(network.network_address)).all(axis=1)
    return inside
