"""The report's tables. A column whose title begins with # is of numbers, set to the right."""

import html
from collections.abc import Iterable, Sequence
from typing import Final

NUMBER: Final = ' class="number"'
"""The attribute of a cell that holds a number."""


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of texts, which are escaped; a narrow screen scrolls it."""
    numbers = [title.startswith("#") for title in titles]
    lines = "".join(f"<tr>{_cells(row, numbers)}</tr>" for row in rows)
    return f'<div class="wide"><table>{head_row(titles)}{lines}</table></div>'


def head_row(titles: Sequence[str]) -> str:
    """The row with the titles of the columns."""
    cells = "".join(
        f"<th{NUMBER if title.startswith('#') else ''}>{html.escape(title.removeprefix('#'))}</th>"
        for title in titles
    )
    return f"<tr>{cells}</tr>"


def _cells(row: Sequence[str], numbers: Sequence[bool]) -> str:
    return "".join(
        f"<td{NUMBER if number else ''}>{html.escape(cell)}</td>"
        for cell, number in zip(row, numbers, strict=True)
    )
