"""Words for what does not fit the kernel's tables. Pure."""

from __future__ import annotations


def full(table: str, entries: int, variable: str = "") -> str:
    """``table`` has no room for more than ``entries``; ``variable`` of the agent's environment makes it larger."""
    remedy = f"use fewer, or start the agent with a larger {variable}" if variable else "use fewer"
    return f"the kernel's table of {table} is full ({entries} entries): {remedy}"
