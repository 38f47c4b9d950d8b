"""Why programs could not be compiled or loaded, for people."""

from __future__ import annotations

WARNING = "warning: "
"""Begins a line of the loader's progress that is one."""


class LoaderError(Exception):
    """``message`` says what is wrong, ``remedy`` what to do next (may be empty)."""

    def __init__(self, message: str, remedy: str = "") -> None:
        self.message = message
        self.remedy = remedy
        super().__init__(f"{message}; {remedy}" if remedy else message)

    def __reduce__(self) -> tuple[type[LoaderError], tuple[str, str]]:  # comes back from the compiling process
        return type(self), (self.message, self.remedy)
