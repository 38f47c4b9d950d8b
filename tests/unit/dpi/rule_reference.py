"""What a rule means, slowly: contents are placed one after the other, every way there is, on reassembled bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rule_traffic import TO_CLIENT, TO_SERVER, Traffic

from sluicegate_agent.dpi.rules.model import L4, App, Buffer, Content, Flow, Match, Regex, Signature

_WAYS = {TO_SERVER: Flow.TO_SERVER, TO_CLIENT: Flow.TO_CLIENT}


def alerts(signature: Signature, traffic: Traffic) -> bool:
    """Whether the rule matches somewhere in the flow."""
    if signature.header.l4 not in {L4.ANY, traffic.l4} or signature.header.app not in {App.ANY, traffic.app}:
        return False
    streams = {TO_SERVER: b"", TO_CLIENT: b""}
    fields: dict[Buffer, bytes] = {}
    for piece in traffic.pieces:
        streams[piece.direction] += piece.data
        fields |= piece.fields
        if not _looks(signature, traffic, piece.direction):
            continue
        low, high = signature.payload_length or (0, 65535)
        seen = {**fields, Buffer.PACKET: piece.data}
        seen[Buffer.STREAM] = streams[piece.direction] if traffic.l4 == L4.TCP else piece.data
        if low <= len(piece.data) <= high and _all_hold(signature, seen, over=traffic.l4 != L4.TCP):
            return True
    return any(
        _looks(signature, traffic, direction)
        and traffic.l4 == L4.TCP
        and not signature.per_packet
        and any(isinstance(match, Content) and _needs_end(match) for match in signature.matches)
        and _all_hold(signature, {**fields, Buffer.STREAM: streams[direction], Buffer.PACKET: b""}, over=True)
        for direction in {piece.direction for piece in traffic.pieces}
    )


def _needs_end(content: Content) -> bool:
    return content.ends or (content.negated and content.relative)


def _looks(signature: Signature, traffic: Traffic, direction: int) -> bool:
    wanted = signature.flow & (Flow.TO_SERVER | Flow.TO_CLIENT)
    if wanted and not wanted & _WAYS[direction]:
        return False
    header = signature.header
    ways = [traffic.ends(direction)]
    if header.both_ways:
        ways.append(traffic.ends(1 - direction))
    return any(
        source in header.source
        and source_port in header.source_ports
        and destination in header.destination
        and destination_port in header.destination_ports
        for source, source_port, destination, destination_port in ways
    )


def _all_hold(signature: Signature, seen: dict[Buffer, bytes], *, over: bool) -> bool:
    """``over``: nothing more comes, so a payload that ends here has ended."""
    for buffer in {match.buffer for match in signature.matches}:
        if buffer not in seen:
            return False
        ended = over or buffer is not Buffer.STREAM
        if not _holds([match for match in signature.matches if match.buffer is buffer], seen[buffer], 0, ended):
            return False
    return True


def _holds(matches: list[Match], data: bytes, last: int, ended: bool) -> bool:
    if not matches:
        return True
    first, *rest = matches
    if first.negated and isinstance(first, Content) and first.relative:
        return _absent(first, data, last, ended) and _holds(rest, data, last, ended)
    if first.negated:
        return not any(_ends(first, data, last, ended)) and _holds(rest, data, last, ended)
    return any(_holds(rest, data, end, ended) for end in _ends(first, data, last, ended))


def _absent(content: Content, data: bytes, last: int, ended: bool) -> bool:
    """Whether it is certain that a content does not come at its places."""
    start = last + (content.distance or 0)
    place = data[start : start + (content.within or 0)]
    wanted = content.data
    if content.nocase:
        place, wanted = place.lower(), wanted.lower()
    if wanted in place:
        return False
    return ended or len(place) == content.within or (len(wanted) > 1 and not wanted.startswith(place))


def _ends(match: Match, data: bytes, last: int, ended: bool) -> Iterator[int]:
    """Every place where a match can end; the end of an empty place counts as none."""
    if isinstance(match, Regex):
        yield from _regex_ends(match, data, last if match.relative else 0)
        return
    start, stop = match.offset or 0, len(data)
    if match.depth is not None:
        stop = start + match.depth
    if match.relative:
        start, stop = last + (match.distance or 0), len(data)
        if match.within is not None:
            stop = start + match.within
    for at in range(max(start, 0), min(stop, len(data)) - len(match.data) + 1):
        found = data[at : at + len(match.data)]
        same = found.lower() == match.data.lower() if match.nocase else found == match.data
        end = at + len(match.data)
        if same and (not match.ends or (ended and end == len(data))):
            yield end


def _regex_ends(regex: Regex, data: bytes, start: int) -> Iterator[int]:
    flags = re.IGNORECASE if regex.caseless else 0
    flags |= re.DOTALL if regex.dot_all else 0
    flags |= re.MULTILINE if regex.multiline else 0
    flags |= re.VERBOSE if regex.extended else 0
    expression = re.compile(regex.expression.encode(), flags)
    rest = data[start:]
    for at in range(1 if regex.anchored else len(rest) + 1):
        for end in range(at, len(rest) + 1):
            if expression.fullmatch(rest, at, end):
                yield start + end
