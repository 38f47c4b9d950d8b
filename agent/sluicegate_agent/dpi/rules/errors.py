"""The one error of the rule parser."""

from __future__ import annotations


class RuleError(ValueError):
    """A rule that cannot be loaded.

    ``keyword`` is the option it is about, "header" for what stands before the options, or empty for the rule as a
    whole; ``column`` counts from 1 in the rule's text, 0 when no one place is to blame.
    """

    def __init__(self, message: str, *, keyword: str = "", column: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.keyword = keyword
        self.column = column

    def at(self, keyword: str, column: int) -> RuleError:
        """The same error with its place, unless it has one."""
        return RuleError(self.message, keyword=self.keyword or keyword, column=self.column or column)
