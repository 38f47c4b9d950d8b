"""HAProxy's agent-check grammar: what an agent may say, and what is refused in which words."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from safe_words import check_words

from sluicegate_agent.signals.agent_check import MOST_PERCENT, MOST_WEIGHT, combined, parse_line
from sluicegate_agent.signals.errors import SignalError
from sluicegate_agent.signals.model import Report, Stated

READY, DRAIN, MAINT, UP, DOWN = Stated.READY, Stated.DRAIN, Stated.MAINT, Stated.UP, Stated.DOWN

UNDERSTOOD: dict[bytes, Report] = {
    b"75%\n": Report(share=0.75),
    b"75%\r\n": Report(share=0.75),
    b"75%": Report(share=0.75),
    b"0%\n": Report(share=0.0),
    b"250%\n": Report(share=2.5),
    b"007%\n": Report(share=0.07),
    b"weight:30\n": Report(weight=30),
    b"weight:0\n": Report(weight=0),
    b"WEIGHT:1000\n": Report(weight=1000),
    b"maxconn:30\n": Report(max_connections=30),
    b"ready\n": Report(administrative=READY),
    b"drain\n": Report(administrative=DRAIN),
    b"maint\n": Report(administrative=MAINT),
    b"up\n": Report(operational=UP),
    b"down\n": Report(operational=DOWN),
    b"fail\n": Report(operational=DOWN),
    b"failed\n": Report(operational=DOWN),
    b"stopped\n": Report(operational=DOWN),
    b"Up Ready\n": Report(administrative=READY, operational=UP),
    b"up,75%,maxconn:10\n": Report(operational=UP, share=0.75, max_connections=10),
    b"\t up ,\t ready,,  5%  \n": Report(administrative=READY, operational=UP, share=0.05),
    b"down # disk is full\n": Report(operational=DOWN, note="disk is full"),
    b"stopped #up 50%\n": Report(operational=DOWN, note="up 50%"),
    b"down#now\n": Report(operational=DOWN, note="now"),
    b"down #\n": Report(operational=DOWN),
    b"up\ndown\n": Report(operational=UP),
    b"up\rdown\n": Report(operational=UP),
    b"up\0down\n": Report(operational=UP),
    b"up down\n": Report(operational=DOWN),
    b"75% weight:3\n": Report(weight=3),
    b"weight:3 75%\n": Report(share=0.75),
}


@pytest.mark.parametrize(("answer", "report"), UNDERSTOOD.items(), ids=repr)
def test_what_an_agent_may_say(answer: bytes, report: Report) -> None:
    assert parse_line(answer) == report


REFUSED: dict[bytes, str] = {
    b"": "an empty answer",
    b"\nup\n": "an empty answer",
    b" ,\t\r\n": "an empty answer",
    b"# all well\n": 'an answer without a word: "# all well"',
    b"75\n": '"75" is not in the agent-check grammar: 75%, weight:N,',
    b"75.5%\n": '"75.5%" is not',
    b"-5%\n": '"-5%" is not',
    b"+5%\n": '"+5%" is not',
    b"nan%\n": '"nan%" is not',
    b"75 %\n": '"75" in "75 %" is not',
    b"1001%\n": '"1001%" is above 1000',
    b"99999999999999999999%\n": "is not",
    b"weight:1001\n": '"weight:1001" is above 1000',
    b"weight:\n": '"weight:" is not',
    b"weight: 5\n": '"weight:" in "weight: 5" is not',
    b"weight:-1\n": '"weight:-1" is not',
    b"maxconn:many\n": '"maxconn:many" is not',
    b"up sideways\n": '"sideways" in "up sideways" is not',
    b"upp\n": '"upp" is not',
    b"HTTP/1.1 400 Bad Request\r\n": '"HTTP/1.1" in "HTTP/1.1 400 Bad Request" is not',
    b'\x1b[2J"\n': r'"\x1b[2J\"" is not',
    "75\N{ARABIC PERCENT SIGN}\n".encode(): r'"75\xd9\xaa" is not',
    "\N{ARABIC-INDIC DIGIT SEVEN}%\n".encode(): "is not",
}


@pytest.mark.parametrize(("answer", "words"), REFUSED.items(), ids=repr)
def test_what_is_refused_is_quoted_safely(answer: bytes, words: str) -> None:
    with pytest.raises(SignalError) as failure:
        parse_line(answer)
    assert words in str(failure.value)


pieces = st.sampled_from([*UNDERSTOOD, *REFUSED, b" ", b",", b"#", b"\n", b"%", b"weight:", b"9" * 30])


@given(st.binary(max_size=1100) | st.lists(pieces, max_size=6).map(b"".join))
@example(b"#" * 1024)
def test_whatever_comes_it_is_a_bounded_report_or_one_printable_line(answer: bytes) -> None:
    try:
        report = parse_line(answer)
    except SignalError as failure:
        check_words(failure)
        return
    assert report.share is None or 0 <= report.share <= MOST_PERCENT / 100
    assert report.weight is None or 0 <= report.weight <= MOST_WEIGHT
    assert report.share is None or report.weight is None
    assert report.max_connections is None or 0 <= report.max_connections < 10**9
    assert report.administrative in {None, READY, DRAIN, MAINT}
    assert report.operational in {None, UP, DOWN}
    assert report.note.isascii()
    assert report.note == "" or report.note.isprintable()
    assert report != Report(note=report.note)


def after(*lines: bytes) -> Report:
    """What holds after these lines, one after the other."""
    held = None
    for line in lines:
        held = combined(held, parse_line(line))
    assert held is not None
    return held


@pytest.mark.parametrize(
    ("lines", "report"),
    [
        ((b"drain", b"75%"), Report(administrative=DRAIN, share=0.75)),
        ((b"drain", b"75%", b"ready"), Report(administrative=READY, share=0.75)),
        ((b"maint", b"drain"), Report(administrative=DRAIN)),
        ((b"down #disk", b"50%"), Report(operational=DOWN, share=0.5, note="disk")),
        ((b"down #disk", b"up"), Report(operational=UP)),
        ((b"drain down", b"up"), Report(administrative=DRAIN, operational=UP)),
        ((b"75%", b"weight:5", b"up"), Report(weight=5, operational=UP)),
        ((b"weight:5", b"75%", b"up"), Report(share=0.75, operational=UP)),
        ((b"0%", b"up"), Report(share=0.0, operational=UP)),
        ((b"maxconn:0", b"up"), Report(max_connections=0, operational=UP)),
        ((b"maxconn:9", b"maxconn:5"), Report(max_connections=5)),
    ],
)
def test_what_a_line_does_not_mention_stays_as_it_was(lines: tuple[bytes, ...], report: Report) -> None:
    assert after(*lines) == report
