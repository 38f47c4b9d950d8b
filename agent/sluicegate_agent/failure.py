"""Errors that end the agent before it runs, told so that a person can act."""

from __future__ import annotations


class StartError(Exception):
    """The agent cannot start. ``remedy`` says what to do; ``exit_code`` is 2 for wrong use, else 1."""

    def __init__(self, message: str, remedy: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.exit_code = exit_code
