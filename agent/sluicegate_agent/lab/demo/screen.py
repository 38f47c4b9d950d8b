"""The demo on a terminal: a picture that is drawn anew in place, or plain lines where there is no terminal."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, RenderableType
from rich.live import Live


class Frame(Protocol):
    """Everything that the screen shows at one moment; ``elapsed`` in seconds since the act's load began."""

    @property
    def elapsed(self) -> float:
        """Seconds."""
        ...

    @property
    def line(self) -> str:
        """The moment in one line."""
        ...

    def picture(self) -> RenderableType:
        """The moment on a terminal."""
        ...


class Summary(Protocol):
    """What an act showed. It is a success when there are no complaints."""

    @property
    def complaints(self) -> Sequence[str]:
        """Why it does not show what it should."""
        ...

    @property
    def highlight(self) -> Frame:
        """The frame that tells most."""
        ...

    def results(self) -> RenderableType:
        """What was measured."""
        ...

    def moral(self) -> str:
        """What a success means, in words."""
        ...


class Screen(Protocol):
    """Where the demo shows itself."""

    def note(self, text: str) -> None:
        """Something happened."""
        ...

    def show(self, frame: Frame) -> None:
        """This is how it is now."""
        ...


class PlainScreen(AbstractContextManager["PlainScreen"]):
    """One line per event and one per second."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown_second = -1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to put back."""

    def note(self, text: str) -> None:
        """Print it."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    def show(self, frame: Frame) -> None:
        """Print a line when a new second began."""
        if int(frame.elapsed) == self._shown_second:
            return
        self._shown_second = int(frame.elapsed)
        self._console.print(frame.line, highlight=False, markup=False, soft_wrap=True)


class LiveScreen(AbstractContextManager["LiveScreen"]):
    """A picture that is drawn when it changes, and only then: a thread that draws takes its time from the load."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        """Take over the terminal's last lines."""
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the terminal back."""
        self._live.__exit__(kind, error, trace)

    def note(self, text: str) -> None:
        """Print it above the picture, where it stays."""
        self._live.console.print(text, highlight=False, markup=False)

    def show(self, frame: Frame) -> None:
        """Draw the frame."""
        self._live.update(frame.picture(), refresh=True)
