"""What must hold in the kernel's tables after every single operation, so that no packet meets a half-made state.

The in-memory data path refuses operations that break a rule, which is how the order of a plan is tested. The
reconciler asks before every operation, so that one refused by the kernel never drags others into a broken state.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final, cast

from sluicegate_agent.datapath.model import (
    AddressFilter,
    Backend,
    BackendId,
    BackendState,
    Delete,
    Endpoint,
    ForwardingMode,
    Frontend,
    FrontendId,
    InterfaceIndex,
    KernelState,
    Key,
    Nexthop,
    NexthopId,
    Operation,
    Put,
    Row,
    ServiceId,
    Settings,
    Slots,
    Table,
    address_hash,
)

REVERSE_FRONTENDS: Final = 8
"""Of ``bpf/types.h``."""


class Tables:
    """Rows under these rules. ``state`` is changed in place, and by :meth:`write` only.

    Counts who uses a next hop: thousands of them go at once when a link changes, and each has to be free.
    """

    def __init__(self, state: KernelState) -> None:
        self.state = state
        self._hop_users = Counter(row.nexthop for row in state.backends.values())

    def broken_by(self, operation: Operation) -> str | None:
        """The rule that ``operation`` would break, in words; None when it may be carried out."""
        match operation:
            case Put(table=Table.NEXTHOPS, key=key, row=row):
                return _put_nexthop(self.state, key, row, self._hop_users[cast("NexthopId", key)])
            case Delete(table=Table.NEXTHOPS, key=key):
                users = self._hop_users[cast("NexthopId", key)]
                return f"next hop {key} is used by backends: {users}" if users else None
            case Put(table=table, key=key, row=row):
                put_rule = _PUT_RULES.get(table)
                return put_rule(self.state, key, row) if put_rule else None
            case Delete(table=table, key=key):
                delete_rule = _DELETE_RULES.get(table)
                return delete_rule(self.state, key) if delete_rule else None

    def write(self, operation: Operation) -> None:
        """Carry out ``operation``, unchecked."""
        if operation.table is Table.BACKENDS:
            identity = cast("BackendId", operation.key)
            self._count(identity, -1)
            write(self.state, operation)
            self._count(identity, 1)
        else:
            write(self.state, operation)

    def _count(self, identity: BackendId, change: int) -> None:
        row = self.state.backends.get(identity)
        if row is not None:
            self._hop_users[row.nexthop] += change


def write(state: KernelState, operation: Operation) -> None:
    """Carry out ``operation`` on ``state`` in place, unchecked."""
    table = operation.table
    if isinstance(operation, Put) and table is Table.SETTINGS:
        state.settings = cast("Settings", operation.row)
    elif isinstance(operation, Put) and table is Table.FILTER:
        state.filter = cast("AddressFilter", operation.row)
    else:
        rows = cast("dict[Key, Row]", getattr(state, table.value))
        if isinstance(operation, Put):
            rows[operation.key] = operation.row
        else:
            rows.pop(operation.key, None)


def copy(state: KernelState) -> KernelState:
    """A state of its own with the same rows."""
    return KernelState(
        settings=state.settings,
        interfaces=dict(state.interfaces),
        nexthops=dict(state.nexthops),
        backends=dict(state.backends),
        slots=dict(state.slots),
        frontends=dict(state.frontends),
        vips=dict(state.vips),
        reverse=dict(state.reverse),
        sources=dict(state.sources),
        filter=state.filter,
    )


def _put_nexthop(state: KernelState, key: Key, row: Row, users: int) -> str | None:
    hop = cast("Nexthop", row)
    if hop.ifindex not in state.interfaces:
        return f"next hop {key} leads through interface {hop.ifindex}, which has no row"
    present = state.nexthops.get(cast("NexthopId", key))
    if present not in (None, hop) and users:
        return f"next hop {key} is edited while backends use it"
    return None


def _delete_interface(state: KernelState, key: Key) -> str | None:
    users = [identity for identity, row in state.nexthops.items() if row.ifindex == cast("InterfaceIndex", key)]
    return f"interface {key} is used by next hops {users}" if users else None


def _put_backend(state: KernelState, key: Key, row: Row) -> str | None:
    identity, backend = cast("BackendId", key), cast("Backend", row)
    present = state.backends.get(identity)
    if backend.state is not BackendState.ACTIVE and present and identity in state.slots.get(present.service, ()):
        return f"backend {key} becomes {backend.state.name} while the table of service {present.service} holds it"
    if backend.state is BackendState.FREE:
        return None
    if backend.nexthop not in state.nexthops and (backend.nexthop or backend.state is BackendState.ACTIVE):
        return f"backend {key} has next hop {backend.nexthop}, which has no row"
    return _other_holder(key, present, backend) or _outside_filter(
        state.filter, backend, answers_here=_answers_here(state, backend.service)
    )


def _other_holder(key: Key, present: Backend | None, backend: Backend) -> str | None:
    if present is None:
        return None
    if present.state is BackendState.FREE:
        reused = present.generation == backend.generation
        return f"backend {key} is reused without another generation" if reused else None
    if (present.service, present.endpoint) != (backend.service, backend.endpoint):
        return f"backend {key} is given away while it is in use"
    moved = present.generation != backend.generation
    return f"the generation of backend {key} moves while it is in use" if moved else None


def _answers_here(state: KernelState, service: ServiceId) -> bool:
    """Whether backends without a source answer through this node: with DNAT, but not with DirectReturn."""
    return any(row.service == service and row.mode is ForwardingMode.DNAT for row in state.frontends.values())


def _outside_filter(bits: AddressFilter, backend: Backend, *, answers_here: bool) -> str | None:
    if backend.endpoint is None:
        return "a backend in use has no endpoint"
    if backend.source is None and not (answers_here or backend.local):
        return None
    wanted = bits.dnat_backends if backend.source is None else bits.nat_backends
    if address_hash(backend.endpoint.address) not in wanted:
        return f"the address filter lacks backend {backend.endpoint}"
    return None


def _put_slots(state: KernelState, key: Key, row: Row) -> str | None:
    service, slots = cast("ServiceId", key), cast("Slots", row)
    for identity in set(slots):
        backend = state.backends.get(identity)
        if backend is None or backend.state is not BackendState.ACTIVE:
            return f"the table of service {key} holds backend {identity}, which takes no new flows"
        if backend.service != service:
            return f"the table of service {key} holds backend {identity} of service {backend.service}"
    if len(slots) < len(state.slots.get(service, ())):
        for frontend in state.frontends.values():
            if frontend.service == service and frontend.slots > len(slots):
                return f"the table of service {key} gets shorter than frontend {frontend.endpoint} reads"
    return None


def _delete_slots(state: KernelState, key: Key) -> str | None:
    users = [identity for identity, row in state.frontends.items() if row.service == key]
    return f"the table of service {key} is used by frontends {users}" if users else None


def _put_frontend(state: KernelState, key: Key, row: Row) -> str | None:
    frontend = cast("Frontend", row)
    slots = state.slots.get(frontend.service)
    if slots is None or frontend.slots > len(slots):
        return f"frontend {key} reads {frontend.slots} slots of service {frontend.service}, which has fewer"
    present = state.frontends.get(cast("FrontendId", key))
    if present and (present.endpoint, present.mode) != (frontend.endpoint, frontend.mode):
        return f"frontend {key} is given to another endpoint or mode while its flows are there"
    if frontend.restricted and frontend.service not in state.sources:
        return f"frontend {key} serves allowed clients only, and service {frontend.service} has no row of them"
    if frontend.mode is ForwardingMode.DNAT:
        users = (state.backends.get(identity) for identity in set(slots))
        problems = (_outside_filter(state.filter, user, answers_here=True) for user in users if user)
        return next((problem for problem in problems if problem), None)
    return None


def _delete_frontend(state: KernelState, key: Key) -> str | None:
    frontend = state.frontends.get(cast("FrontendId", key))
    if frontend and state.vips.get(frontend.endpoint) == key:
        return f"frontend {key} is bound to {frontend.endpoint}"
    answering = [str(endpoint) for endpoint, row in state.reverse.items() if key in row]
    return f"frontend {key} is in the reverse rows of {answering}" if answering else None


def _put_vip(state: KernelState, key: Key, row: Row) -> str | None:
    endpoint = cast("Endpoint", key)
    frontend = state.frontends.get(cast("FrontendId", row))
    if frontend is None or frontend.endpoint != endpoint:
        return f"{endpoint} is bound to frontend {row}, which is not its own"
    if address_hash(endpoint.address) not in state.filter.vips:
        return f"the address filter lacks VIP {endpoint}"
    return None


def _put_reverse(state: KernelState, key: Key, row: Row) -> str | None:
    frontends = cast("tuple[FrontendId, ...]", row)
    missing = [identity for identity in frontends if identity not in state.frontends]
    if missing:
        return f"the reverse row of {key} names frontends {missing}, which do not exist"
    if not 0 < len(frontends) <= REVERSE_FRONTENDS:
        return f"the reverse row of {key} holds {len(frontends)} frontends"
    return None


def _put_filter(state: KernelState, _: Key, row: Row) -> str | None:
    bits = cast("AddressFilter", row)
    for endpoint in state.vips:
        if address_hash(endpoint.address) not in bits.vips:
            return f"the address filter would lack VIP {endpoint}"
    answering = {row.service for row in state.frontends.values() if row.mode is ForwardingMode.DNAT}
    for backend in state.backends.values():
        if backend.state is BackendState.FREE:
            continue
        if problem := _outside_filter(bits, backend, answers_here=backend.service in answering):
            return problem
    return None


def _delete_sources(state: KernelState, key: Key) -> str | None:
    users = [identity for identity, row in state.frontends.items() if row.service == key and row.restricted]
    return f"the allowed clients of service {key} are asked for by frontends {users}" if users else None


_PUT_RULES: Final[dict[Table, Callable[[KernelState, Key, Row], str | None]]] = {
    Table.BACKENDS: _put_backend,
    Table.SLOTS: _put_slots,
    Table.FRONTENDS: _put_frontend,
    Table.VIPS: _put_vip,
    Table.REVERSE: _put_reverse,
    Table.FILTER: _put_filter,
}
_DELETE_RULES: Final[dict[Table, Callable[[KernelState, Key], str | None]]] = {
    Table.INTERFACES: _delete_interface,
    Table.SLOTS: _delete_slots,
    Table.FRONTENDS: _delete_frontend,
    Table.SOURCES: _delete_sources,
}
