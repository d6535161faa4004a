"""What the commands show: progress on stderr, results on stdout.

On a terminal a running step has a spinner and colours; in a pipe or a log each
step is one plain line.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from rich.console import Console
from rich.status import Status
from rich.text import Text

from sparkbundle.errors import InterruptedRunError, SparkbundleError, Trouble


def stderr_console() -> Console:
    """The console for everything that is not a result."""
    return Console(stderr=True, highlight=False, soft_wrap=not sys.stderr.isatty())


class Step:
    """One step while it runs."""

    def __init__(self, *, console: Console, label: str, status: Status | None = None) -> None:
        """Made by `Steps.step`."""
        self._console = console
        self._label = label
        self._status = status
        self._outcome = ""

    @property
    def outcome(self) -> str:
        """What `done` was told, empty before."""
        return self._outcome

    def done(self, outcome: str) -> None:
        """Set the words that are shown behind the step's title when it ends."""
        self._outcome = outcome

    def working_on(self, what: str) -> None:
        """Show, on a terminal, what the step does just now."""
        if self._status is not None:
            self._status.update(Text(f"{self._label}: {what}"))

    def say(self, line: str) -> None:
        """Show a line of its own while the step goes on."""
        self._console.print(Text(f"      {line}", style="dim"))


class Steps:
    """Numbered steps with their times: `[2/4] start the daemons … 3.1 s`.

    `total` is the number of steps the whole command has. Several functions may
    share one Steps: the numbers go on. `seconds` has the time of each step that ended well.
    """

    def __init__(self, *, total: int, console: Console | None = None) -> None:
        """Count from 1 to `total`, on stderr where no console is given."""
        self._total = total
        self._number = 0
        self.seconds: dict[str, float] = {}
        self._console = console or stderr_console()

    @contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Run the block as the next step, and show its title, outcome and time."""
        self._number += 1
        label = f"[{self._number}/{self._total}] {title}"
        status = self._console.status(Text(label)) if self._console.is_terminal else None
        step = Step(console=self._console, label=label, status=status)
        began = time.monotonic()
        try:
            with status or nullcontext():
                yield step
        except BaseException as error:
            stopped = isinstance(error, (KeyboardInterrupt, InterruptedRunError))
            word = "interrupted" if stopped else "failed"
            self._line(label, f"{word} after {time.monotonic() - began:.1f} s", style="red")
            raise
        self.seconds[title] = time.monotonic() - began
        seconds = f"{self.seconds[title]:.1f} s"
        self._line(label, f"{step.outcome} ({seconds})" if step.outcome else seconds, style="green")

    def _line(self, label: str, outcome: str, *, style: str) -> None:
        self._console.print(Text.assemble(label, " … ", (outcome, style)))


def print_json(value: Mapping[str, Any]) -> None:
    """Print one JSON object on stdout: the result of a command with `--json`."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def print_pairs(title: str, pairs: Mapping[str, object]) -> None:
    """Print a result on stdout as a title and one aligned line for each value."""
    width = max(map(len, pairs), default=0)
    lines = [title, *(f"  {name:<{width}}  {value}" for name, value in pairs.items())]
    sys.stdout.write("\n".join(lines) + "\n")


def print_rows(titles: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a result on stdout as a table: its columns are aligned, its last one never cut."""
    shown = [[str(cell) for cell in row] for row in (titles, *rows)]
    widths = [max(len(row[column]) for row in shown) for column in range(len(titles) - 1)]
    for row in shown:
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)]
        sys.stdout.write("  ".join([*cells, row[-1]]).rstrip() + "\n")


def next_steps(*lines: str) -> None:
    """Show on stderr what the user may want to type next."""
    console = stderr_console()
    console.print("\nnext:")
    for line in lines:
        console.print(Text(f"  {line}"))


def warn(message: str) -> None:
    """Show a warning on stderr."""
    stderr_console().print(Text.assemble(("warning: ", "yellow"), message))


def show_error(error: SparkbundleError) -> None:
    """Show an error on stderr: the table of daemons if it has one, then what, where, what to do."""
    console = stderr_console()
    for trouble in error.troubles:
        _show_trouble(console, trouble)
    where = f"{error.where}: " if error.where else ""
    console.print(Text.assemble(("error: ", "bold red"), where, error.what))
    if error.todo:
        console.print(Text(f"  do:  {error.todo}"))


def _show_trouble(console: Console, trouble: Trouble) -> None:
    # Lines, not a table of rich: in a pipe that would fold paths at 80 columns.
    indent = " " * 10
    console.print(
        Text.assemble(
            (f"{trouble.daemon:<{len(indent)}}", "bold"), f"{trouble.phase}: {trouble.reason}"
        )
    )
    for line in trouble.last_lines:
        console.print(Text(f"{indent}| {line}", style="dim"))
    if trouble.todo:
        console.print(Text(f"{indent}do:  {trouble.todo}"))
