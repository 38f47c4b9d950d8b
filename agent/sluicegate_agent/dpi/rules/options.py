"""From a rule's options to a checked Signature: every keyword has one function here, and the checks that need all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from sluicegate_agent.dpi.rules.errors import RuleError
from sluicegate_agent.dpi.rules.header import header_of
from sluicegate_agent.dpi.rules.keywords import CLASS_PRIORITIES, KEYWORDS
from sluicegate_agent.dpi.rules.model import L4, App, Buffer, Content, Flow, Header, Match, Regex, Signature
from sluicegate_agent.dpi.rules.patterns import can_be_absent
from sluicegate_agent.dpi.rules.places import Places, shortened
from sluicegate_agent.dpi.rules.syntax import Option, taken_apart
from sluicegate_agent.dpi.rules.tables import MAX_DSIZE
from sluicegate_agent.dpi.rules.values import bytes_of, length_range, number, quoted, regex_of, unescaped

MAX_MATCHES = 64
_DEFAULT_PRIORITY = 3
_LAST_U32 = 0xFFFFFFFF
_LAST_PLACE = 65535
"""Bytes; the largest place that a content can name, as in Suricata."""

_FLOW_WORDS = {
    "to_server": Flow.TO_SERVER,
    "from_client": Flow.TO_SERVER,
    "to_client": Flow.TO_CLIENT,
    "from_server": Flow.TO_CLIENT,
    "established": Flow.ESTABLISHED,
    "not_established": Flow.NOT_ESTABLISHED,
    "stateless": Flow.NONE,
}
_OPPOSITES = (Flow.TO_SERVER | Flow.TO_CLIENT, Flow.ESTABLISHED | Flow.NOT_ESTABLISHED)


def signature_of(text: str, places: Places) -> Signature:
    """Read one rule. Raises RuleError with the place, and nothing else."""
    words = taken_apart(text)
    header = header_of(words, places)
    draft = _Draft(header, per_packet=words.header[1].lower() == "tcp-pkt")
    for option in words.options:
        try:
            draft.take(option)
        except RuleError as error:
            raise error.at(option.keyword, option.column) from None
    return draft.signature()


@dataclass
class _Draft:
    """A rule while its options are read, in their order."""

    header: Header
    per_packet: bool
    buffer: Buffer = Buffer.STREAM
    matches: list[Match] = field(default_factory=list)
    flow: Flow = Flow.NONE
    named: dict[str, int] = field(default_factory=dict)
    message: str = ""
    classtype: str = ""
    payload_length: tuple[int, int] | None = None
    references: list[str] = field(default_factory=list)
    metadata: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def take(self, option: Option) -> None:
        """Read one option."""
        known = KEYWORDS.get(option.keyword)
        if known is None:
            raise RuleError(f"{shortened(option.keyword)} is not supported here yet")
        if known.buffer is not None:
            if option.value is not None:
                raise RuleError("takes no value")
            self._move(known.buffer) if known.modifies else self._look_in(known.buffer)
            return
        if option.keyword in _ONCE:
            if option.keyword in self.seen:
                raise RuleError("stands twice in the rule")
            self.seen.add(option.keyword)
        read = _READERS.get(option.keyword)
        if read is None:
            return
        value = option.value or ""
        if option.keyword in _WITHOUT_VALUE:
            if option.value is not None:
                raise RuleError("takes no value")
        elif not value:
            raise RuleError(f"needs a value, such as {known.form}")
        read(self, value, option.column)

    def signature(self) -> Signature:
        """The whole rule, when its parts fit together."""
        if "sid" not in self.named:
            raise RuleError("the rule has no sid: give it a number, such as sid:1000001;", keyword="sid")
        if self.payload_length is not None:
            self.per_packet = True
        matches = self._checked()
        header = replace(self.header, app=self._app(matches))
        directions = self._directions(matches)
        return Signature(
            header=header,
            matches=matches,
            sid=self.named["sid"],
            gid=self.named.get("gid", 1),
            rev=self.named.get("rev", 0),
            message=self.message,
            classtype=self.classtype,
            priority=self.named.get("priority", CLASS_PRIORITIES.get(self.classtype, _DEFAULT_PRIORITY)),
            flow=self.flow | directions | (Flow.BOTH_WAYS if self.header.both_ways else Flow.NONE),
            per_packet=self.per_packet,
            payload_length=self.payload_length,
            references=tuple(self.references),
            metadata=tuple(self.metadata),
            notes=tuple(self.notes),
        )

    def _directions(self, matches: tuple[Match, ...]) -> Flow:
        fields = {match.buffer for match in matches if not match.buffer.is_payload}
        if fields and Flow.TO_CLIENT in self.flow:
            names = ", ".join(sorted(each.keyword for each in fields))
            raise RuleError(f"{names} is what clients send: the rule never matches towards the client", keyword="flow")
        return Flow.TO_SERVER if fields else Flow.NONE

    def _checked(self) -> tuple[Match, ...]:
        payload = Buffer.PACKET if self.per_packet else Buffer.STREAM
        checked: list[Match] = []
        seen: set[Buffer] = set()
        for match in self.matches:
            try:
                if isinstance(match, Content):
                    match = _checked_content(match)  # noqa: PLW2901  # the same content, in its normal form
                if match.negated and match.relative and not can_be_absent(match):
                    raise RuleError(
                        "a negated match that is relative to another can be expressed here only as a content with "
                        "within, of one byte or with within as long as itself; "
                        "write it without distance, within and R if it may stand anywhere"
                    )
                if match.relative and match.buffer not in seen:
                    match = _from_start(match)  # noqa: PLW2901
                    self.notes.append("a relative match with none before it counts from the start of the buffer")
            except RuleError as error:
                raise error.at("content" if isinstance(match, Content) else "pcre", match.column) from None
            if not match.negated:
                seen.add(match.buffer)
            if match.buffer is Buffer.STREAM:
                match = replace(match, buffer=payload)  # noqa: PLW2901
            checked.append(match)
        return tuple(checked)

    def _app(self, matches: tuple[Match, ...]) -> App:
        app = self.header.app
        for buffer in {match.buffer for match in matches if not match.buffer.is_payload}:
            if self.payload_length is not None:
                raise RuleError(f"cannot stand with {buffer.keyword}, which may span packets", keyword="dsize")
            needed = App[buffer.keyword.split(".", maxsplit=1)[0].upper()]
            l4 = L4.UDP if needed is App.DNS else L4.TCP
            if app not in {App.ANY, needed} or self.header.l4 not in {L4.ANY, l4}:
                other = app if app not in {App.ANY, needed} else self.header.l4
                raise RuleError(f"{buffer.keyword} never exists in {other.name.lower()}", keyword=buffer.keyword)
            app = needed
        return app

    def _look_in(self, buffer: Buffer) -> None:
        self.buffer = buffer

    def _move(self, buffer: Buffer) -> None:
        last = self._last("")
        if last.buffer not in {Buffer.STREAM, buffer}:
            raise RuleError(f"the match before it already looks in {last.buffer.keyword}")
        self.matches[-1] = replace(last, buffer=buffer)

    def _last(self, needs: str) -> Match:
        if not self.matches:
            raise RuleError(f"has no {needs or 'content'} before it")
        return self.matches[-1]

    def _last_content(self) -> Content:
        last = self._last("content")
        if not isinstance(last, Content):
            raise RuleError("has a pcre before it; it belongs to a content")
        return last

    def _add(self, match: Match) -> None:
        if len(self.matches) >= MAX_MATCHES:
            raise RuleError(f"more than {MAX_MATCHES} contents and expressions in one rule")
        self.matches.append(match)

    def read_message(self, value: str, column: int) -> None:
        del column
        negated, text = quoted(value)
        if negated:
            raise RuleError("cannot be negated")
        self.message = unescaped(text)

    def read_classtype(self, value: str, column: int) -> None:
        del column
        self.classtype = value.lower()

    def read_reference(self, value: str, column: int) -> None:
        del column
        self.references.append(value)

    def read_metadata(self, value: str, column: int) -> None:
        del column
        self.metadata.extend(part.strip() for part in value.split(",") if part.strip())

    def read_flow(self, value: str, column: int) -> None:
        del column
        for word in (part.strip().lower() for part in value.split(",")):
            if word == "no_stream":
                self.per_packet = True
            elif word in _FLOW_WORDS:
                self.flow |= _FLOW_WORDS[word]
            elif word != "only_stream":
                raise RuleError(f"{shortened(word)} is not supported here yet; known are {', '.join(_FLOW_WORDS)}")
        for pair in _OPPOSITES:
            if self.flow & pair == pair:
                raise RuleError("asks for two things that exclude each other")

    def read_content(self, value: str, column: int) -> None:
        negated, text = quoted(value)
        self._add(Content(bytes_of(text), self.buffer, negated=negated, column=column))

    def read_pcre(self, value: str, column: int) -> None:
        negated, text = quoted(value)
        self._add(replace(regex_of(text, self.buffer), negated=negated, column=column))

    def read_dsize(self, value: str, column: int) -> None:
        del column
        self.payload_length = length_range(value, MAX_DSIZE)

    def read_threshold(self, value: str, column: int) -> None:
        del column
        kind = value.split(",", maxsplit=1)[0].split()
        if kind[-1:] != ["limit"]:
            raise RuleError("only type limit is supported here yet: a rule alerts once per flow")
        self.notes.append("threshold: one alert per flow instead")

    def place(self, name: str, value: str) -> None:
        """Set offset, depth, distance or within of the content before it."""
        content = self._last_content()
        if getattr(content, name) is not None:
            raise RuleError("stands twice at one content")
        match name:
            case "offset":
                placed = replace(content, offset=number(value, 0, _LAST_PLACE))
            case "depth":
                placed = replace(content, depth=number(value, 1, _LAST_PLACE))
            case "distance":
                placed = replace(content, distance=number(value, -_LAST_PLACE, _LAST_PLACE))
            case _:
                placed = replace(content, within=number(value, 1, _LAST_PLACE))
        self.matches[-1] = placed

    def read_startswith(self, value: str, column: int) -> None:
        del value, column
        content = self._last_content()
        if content.offset is not None or content.depth is not None or content.relative:
            raise RuleError("cannot stand with offset, depth, distance or within")
        self.matches[-1] = replace(content, offset=0, depth=len(content.data))

    def read_endswith(self, value: str, column: int) -> None:
        del value, column
        self.matches[-1] = replace(self._last_content(), ends=True)

    def read_nocase(self, value: str, column: int) -> None:
        del value, column
        self.matches[-1] = replace(self._last_content(), nocase=True)


def _checked_content(content: Content) -> Content:
    length = len(content.data)
    absolute = content.offset is not None or content.depth is not None
    if absolute and content.relative:
        raise RuleError("offset and depth count from the start, distance and within from the last match: choose one")
    if content.depth is not None and content.depth < length:
        raise RuleError(f"depth {content.depth} is shorter than the content, which has {length} bytes")
    if content.within is not None and content.within < length:
        raise RuleError(f"within {content.within} is shorter than the content, which has {length} bytes")
    if content.distance is not None and content.distance < 0:
        raise RuleError("a negative distance cannot be expressed here: matches do not overlap")
    lower = content.buffer in {Buffer.HTTP_HOST, Buffer.DNS_QUERY}
    if lower and not content.nocase and content.data != content.data.lower():
        raise RuleError(f"{content.buffer.keyword} is in lower case: a content with capitals never matches")
    return content


def _from_start(match: Match) -> Match:
    if isinstance(match, Regex):
        return replace(match, relative=False)
    return replace(match, offset=match.distance or 0, depth=match.within, distance=None, within=None)


_Read = Callable[[_Draft, str, int], None]


def _whole(name: str, low: int, high: int) -> _Read:
    def read(draft: _Draft, value: str, column: int) -> None:
        del column
        draft.named[name] = number(value, low, high)

    return read


def _modifier(name: str) -> _Read:
    def read(draft: _Draft, value: str, column: int) -> None:
        del column
        draft.place(name, value)

    return read


_READERS: dict[str, _Read] = {
    "msg": _Draft.read_message,
    "sid": _whole("sid", 1, _LAST_U32),
    "rev": _whole("rev", 0, _LAST_U32),
    "gid": _whole("gid", 1, _LAST_U32),
    "priority": _whole("priority", 1, 255),
    "classtype": _Draft.read_classtype,
    "reference": _Draft.read_reference,
    "metadata": _Draft.read_metadata,
    "flow": _Draft.read_flow,
    "dsize": _Draft.read_dsize,
    "content": _Draft.read_content,
    "pcre": _Draft.read_pcre,
    "nocase": _Draft.read_nocase,
    "offset": _modifier("offset"),
    "depth": _modifier("depth"),
    "distance": _modifier("distance"),
    "within": _modifier("within"),
    "startswith": _Draft.read_startswith,
    "endswith": _Draft.read_endswith,
    "threshold": _Draft.read_threshold,
}
_ONCE = frozenset({"msg", "sid", "rev", "gid", "priority", "classtype", "dsize", "flow"})
_WITHOUT_VALUE = frozenset({"nocase", "startswith", "endswith"})
