"""Pictures of a terminal that load nothing from elsewhere: no font, no style, no link."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console, RenderableType

WIDTH = 88

# The braces are rich's: it fills in sizes, colours and text.
_FORMAT = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: ui-monospace, "DejaVu Sans Mono", "Liberation Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px;
  line-height: {line_height}px;
}}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix" xml:space="preserve">
{matrix}
</g>
</g>
</svg>
"""


def svg(title: str, parts: Iterable[RenderableType]) -> str:
    """These parts, printed one below the other on a terminal with colours."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(
            record=True, file=nowhere, width=WIDTH, force_terminal=True, color_system="truecolor", highlight=False
        )
        for part in parts:
            console.print(part)
        return console.export_svg(title=title, code_format=_FORMAT, unique_id="terminal")
