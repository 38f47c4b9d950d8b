"""HTTP responses piece by piece: the same answer however it is cut, and nothing above its bounds."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safe_words import check_words

from sluicegate_agent.asking.http import LONGEST_HEAD
from sluicegate_agent.signals.errors import SignalError
from sluicegate_agent.signals.http import Response

MOST = 64


def read(answer: bytes, cuts: tuple[int, ...] = ()) -> Response:
    """The response in an answer that comes in these pieces and then ends."""
    response = Response(MOST)
    places = [0, *sorted(cut % (len(answer) + 1) for cut in cuts), len(answer)]
    for start, end in pairwise(places):
        if start < end and response.feed(answer[start:end]):
            return response
    response.end()
    return response


UNDERSTOOD: dict[bytes, tuple[int, bytes]] = {
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi": (200, b"hi"),
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi there": (200, b"hi"),
    b"HTTP/1.1 200 OK\r\nCONTENT-LENGTH:2\r\ncontent-length: 2\r\n\r\nhi": (200, b"hi"),
    b"HTTP/1.0 200 OK\r\n\r\nuntil the end": (200, b"until the end"),
    b"HTTP/1.1 200\n\nbare": (200, b"bare"),
    b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n": (503, b""),
    b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n": (204, b""),
    b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx": (200, b"x"),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n6;a=b\r\n there\r\n0\r\n\r\n": (200, b"hi there"),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nContent-Length: 9\r\n\r\n1\r\na\r\n0\r\nTail: er\r\n\r\n": (
        200,
        b"a",
    ),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\n\n00A\n0123456789\n0\n": (200, b"0123456789"),
    b"HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\nContent-Length: 64\r\n\r\n" + b"x" * 64: (200, b"x" * 64),
}


@pytest.mark.parametrize(("answer", "expected"), UNDERSTOOD.items(), ids=repr)
def test_what_servers_say_is_understood(answer: bytes, expected: tuple[int, bytes]) -> None:
    response = read(answer)
    assert (response.status, bytes(response.body)) == expected


@given(st.sampled_from(list(UNDERSTOOD)), st.lists(st.integers(0, 200), max_size=8).map(tuple))
def test_it_is_the_same_however_it_is_cut(answer: bytes, cuts: tuple[int, ...]) -> None:
    response = read(answer, cuts)
    assert (response.status, bytes(response.body)) == UNDERSTOOD[answer]


@pytest.mark.parametrize("answer", list(UNDERSTOOD), ids=repr)
def test_it_is_the_same_byte_by_byte(answer: bytes) -> None:
    response = read(answer, tuple(range(len(answer))))
    assert (response.status, bytes(response.body)) == UNDERSTOOD[answer]


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
REFUSED: dict[bytes, str] = {
    b"": "connection closed without an answer",
    b"HTTP/1.1 2": "closed after 10 bytes, within the head",
    OK + b"Content-Length: 5\r\n\r\nhi": "within the body",
    CHUNKED + b"5\r\nhi": "within the body",
    CHUNKED + b"2\r\nhi": "within the body",
    CHUNKED: "within the body",
    b"75%\n": 'no HTTP: the answer begins with "75%\\n"',
    b"HTTP/2 200 OK\r\n\r\n": "no HTTP",
    b"HTTP/1.1 OK\r\n\r\n": "no HTTP",
    b"HTTP/1.1 101 Switching Protocols\r\n\r\n": "another protocol",
    OK + b"Content-Length: 65\r\n\r\n": "has 65 bytes, at most 64 are read",
    OK + b"Content-Length: -1\r\n\r\n": 'Content-Length is "-1"',
    OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi": 'Content-Length is "2, 3"',
    OK + b"Content-Length: \xb2\r\n\r\n": "Content-Length is",
    OK + b"\r\n" + b"x" * 65: "longer than the 64 bytes",
    CHUNKED + b"41\r\n" + b"x" * 65: "longer than the 64 bytes",
    CHUNKED + b"20\r\n" + b"x" * 32 + b"\r\n30\r\n" + b"x" * 48: "longer than the 64 bytes",
    CHUNKED + b"\r\n": "not its size",
    CHUNKED + b"-5\r\nhello": "not its size",
    CHUNKED + b"0x5\r\nhello": "not its size",
    CHUNKED + b"1" * 300: "not its size",
    CHUNKED + b"2\r\nhi there": "chunk is followed by",
    OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n": "only chunked is read",
    OK + b"Content-Encoding: gzip\r\n\r\n": "compressed",
    OK + b"a: b\r\n" * 5000: "is longer than 16384 bytes",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 5000: "is longer than 16384 bytes",
}


@pytest.mark.parametrize(("answer", "words"), REFUSED.items(), ids=lambda value: repr(value)[:60])
def test_what_is_wrong_is_said(answer: bytes, words: str) -> None:
    with pytest.raises(SignalError) as failure:
        read(answer)
    assert words in str(failure.value)


parts = st.sampled_from(
    [OK, CHUNKED, b"\r\n", b"5\r\n", b"hello", b"0\r\n\r\n", b"Content-Length: 5\r\n", b"HTTP/1.1 "]
)


@given(
    st.binary(max_size=200) | st.lists(parts | st.binary(max_size=9), max_size=8).map(b"".join),
    st.lists(st.integers(0, 300), max_size=5).map(tuple),
)
def test_whatever_comes_it_is_a_bounded_body_or_one_printable_line(answer: bytes, cuts: tuple[int, ...]) -> None:
    try:
        response = read(answer, cuts)
    except SignalError as failure:
        check_words(failure)
        return
    assert 200 <= response.status < 600
    assert len(response.body) <= MOST


@settings(deadline=None)  # thousands of pieces each
@given(st.sampled_from([b"", OK, CHUNKED, CHUNKED + b"1"]), st.binary(min_size=1, max_size=300))
def test_an_endless_answer_ends_in_bounds(beginning: bytes, chunk: bytes) -> None:
    response = Response(MOST)
    fed = 0
    with suppress(SignalError):
        while not response.feed(beginning if not fed else chunk) and fed < 10_000:
            fed += 1
    assert response.received <= 2 * LONGEST_HEAD + len(chunk) + 300 * MOST
    assert len(response._waiting) <= LONGEST_HEAD + len(chunk)
