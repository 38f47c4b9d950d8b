"""Small pictures as SVG, readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_INK = "#6e7781"
_COLOURS = ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#9a6700", "#cf222e")
_FONT = "font-family='system-ui, sans-serif' font-size='12'"


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar; those of one ``group`` share a colour. ``label`` stands behind it."""

    name: str
    value: float
    label: str
    group: int = 0


def bars(title: str, rows: Sequence[Bar], *, width: int = 720) -> str:
    """Horizontal bars from zero."""
    left, step, top = 250, 22, 34
    longest = max((row.value for row in rows), default=0.0) or 1.0
    scale = (width - left - 90) / longest
    lines = [_text(10, 18, title, weight="bold")]
    for index, row in enumerate(rows):
        y = top + index * step
        length = max(row.value, 0.0) * scale
        lines += [
            _text(left - 8, y + 12, row.name, anchor="end"),
            f"<rect x='{left}' y='{y}' width='{length:.1f}' height='15' fill='{_colour(row.group)}'/>",
            _text(left + length + 6, y + 12, row.label),
        ]
    return _document(width, top + len(rows) * step + 8, lines)


@dataclass(frozen=True, slots=True)
class Line:
    """Points (x, y) in order of x."""

    name: str
    points: Sequence[tuple[float, float]]


def lines(title: str, rows: Sequence[Line], *, x: str, y: str, width: int = 720, height: int = 300) -> str:
    """Lines over common axes from zero; ``x`` and ``y`` name these."""
    left, right, top, bottom = 60, 10, 52, 40
    span = max((point[0] for row in rows for point in row.points), default=1.0) or 1.0
    peak = max((point[1] for row in rows for point in row.points), default=1.0) or 1.0
    across, down = (width - left - right) / span, (height - top - bottom) / peak
    foot = height - bottom
    out = [
        _text(10, 18, title, weight="bold"),
        f"<path d='M{left} {top}V{foot}H{width - right}' fill='none' stroke='{_INK}'/>",
        _text((left + width) / 2, height - 6, x, anchor="middle"),
        _text(left - 6, top - 6, y, anchor="end"),
    ]
    for part in range(5):
        value_x, value_y = span * part / 4, peak * part / 4
        out.append(_text(left + value_x * across, foot + 15, f"{value_x:.3g}", anchor="middle"))
        out.append(_text(left - 6, foot - value_y * down + 4, f"{value_y:.3g}", anchor="end"))
    for index, row in enumerate(rows):
        places = " ".join(f"{left + at * across:.1f},{foot - value * down:.1f}" for at, value in row.points)
        out.append(f"<polyline points='{places}' fill='none' stroke='{_colour(index)}' stroke-width='1.6'/>")
        out.append(_text(left + 10 + index * 160, top - 14, row.name, colour=_colour(index)))
    return _document(width, height, out)


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]


def _text(x: float, y: float, text: str, *, anchor: str = "start", weight: str = "normal", colour: str = _INK) -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' font-weight='{weight}' fill='{colour}'>"
        f"{escape(text)}</text>"
    )


def _document(width: int, height: int, body: Sequence[str]) -> str:
    head = f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' {_FONT}>"
    return "\n".join([head, *body, "</svg>", ""])
