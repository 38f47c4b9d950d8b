"""What every message about a signal must be, whatever came from the other side."""

from sluicegate_agent.signals.errors import SignalError


def check_words(failure: SignalError) -> None:
    """One line of printable ASCII that is not too long for a status."""
    words = str(failure)
    assert words
    assert words.isascii()
    assert words.isprintable()
    assert len(words) < 600
