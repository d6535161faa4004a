"""Charts as static SVG: no script, the page's own colours, as good on paper as on a screen.

A mark's class names its colour in the page's style sheet; its title shows under a mouse.
"""

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

WIDTH: Final = 460
HEIGHT: Final = 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 12, 46
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)

Point = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Axis:
    """The values from `low` to `high`, marked at `ticks` with these texts; `title` has the unit."""

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    title: str


def round_axis(
    low: float, high: float, *, title: str, text: Callable[[float], str], parts: int = 5
) -> Axis:
    """An axis that holds `low` and `high`, with a tick at each end and at round values between."""
    span = max(high - low, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / parts))
    step = next(s * power for s in _STEPS if s * power * parts >= span * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    values = [n * step for n in range(first, max(last, first + 1) + 1)]
    return Axis(low=values[0], high=values[-1], ticks=[(v, text(v)) for v in values], title=title)


class Chart:
    """A pair of axes and the marks between them, drawn in the order in which they are added."""

    def __init__(self, *, x: Axis, y: Axis, about: str) -> None:
        """Axes, and what the chart shows in words, for those who do not see it."""
        self._x = x
        self._y = y
        self._about = about
        self._marks: list[str] = []

    def line(self, points: Sequence[Point], *, kind: str) -> None:
        """A line through points."""
        places = " ".join(f"{self._across(x)},{self._up(y)}" for x, y in points)
        self._marks.append(f'<polyline class="line {kind}" points="{places}"/>')

    def dot(self, at: Point, *, kind: str, title: str) -> None:
        """A dot."""
        x, y = self._across(at[0]), self._up(at[1])
        self._mark(f'circle class="dot {kind}" cx="{x}" cy="{y}" r="4"', title)

    def bar(self, x: Point, y: Point, *, kind: str, title: str) -> None:
        """A filled rectangle, from one value to another on each axis."""
        left, right = self._across(x[0]), self._across(x[1])
        top, bottom = self._up(max(y)), self._up(min(y))
        size = f'width="{right - left:.1f}" height="{bottom - top:.1f}"'
        self._mark(f'rect class="bar {kind}" x="{left}" y="{top}" {size}', title)

    def segment(self, start: Point, end: Point, *, kind: str) -> None:
        """A straight line from one point to another."""
        ends = (
            f'x1="{self._across(start[0])}" y1="{self._up(start[1])}" '
            f'x2="{self._across(end[0])}" y2="{self._up(end[1])}"'
        )
        self._marks.append(f'<line class="segment {kind}" {ends}/>')

    def svg(self) -> str:
        """The chart as an element of a page."""
        about = html.escape(self._about)
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{about}">'
            f"{''.join([*self._frame(), *self._marks])}</svg>"
        )

    def _mark(self, element: str, title: str) -> None:
        name = element.split(maxsplit=1)[0]
        self._marks.append(f"<{element}><title>{html.escape(title)}</title></{name}>")

    def _frame(self) -> list[str]:
        base, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
        parts = []
        for value, text in self._y.ticks:
            y = self._up(value)
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y}" y2="{y}"/>')
            parts.append(_text(text, x=_LEFT - 7, y=y + 4, anchor="end", kind="tick"))
        for value, text in self._x.ticks:
            x = self._across(value)
            parts += [
                _text(line, x=x, y=base + 16 + 13 * row, anchor="middle", kind="tick")
                for row, line in enumerate(text.split("\n"))
            ]
        middle = (_TOP + base) / 2
        parts.append(f'<line class="base" x1="{_LEFT}" x2="{right}" y1="{base}" y2="{base}"/>')
        across = (_LEFT + right) / 2
        parts.append(_text(self._x.title, x=across, y=HEIGHT - 4, anchor="middle", kind="title"))
        parts.append(
            f'<g transform="rotate(-90 13 {middle:.0f})">'
            f"{_text(self._y.title, x=13, y=middle, anchor='middle', kind='title')}</g>"
        )
        return parts

    def _across(self, value: float) -> float:
        share = (value - self._x.low) / (self._x.high - self._x.low)
        return round(_LEFT + share * (WIDTH - _LEFT - _RIGHT), 1)

    def _up(self, value: float) -> float:
        share = (value - self._y.low) / (self._y.high - self._y.low)
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _BOTTOM - _TOP), 1)


def _text(text: str, *, x: float, y: float, anchor: str, kind: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {place}>{html.escape(text)}</text>'
