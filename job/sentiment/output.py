"""What people see: results on standard output, all else on standard error."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table
from rich.text import Text

from sentiment.events import Event


def say(text: str) -> None:
    """A line about what goes on, on standard error."""
    click.echo(text, err=True)


def next_step(command: str) -> None:
    """What a user would type next."""
    say(f"next: {command}")


def submitted_job() -> str | None:
    """The job of `sparkbundle submit` that this is: on a host, where nobody types commands."""
    return os.environ.get("SPARKBUNDLE_JOB")


def next_pull(result: Path) -> bool:
    """What a user would type next to have the result of a job; False: it is here already."""
    if job := submitted_job():
        next_step(f"sparkbundle pull {job}:{result} {result.name}    (-i as for submit)")
    return bool(job)


def result_json(value: dict[str, Any]) -> None:
    """The one JSON object of `--json`."""
    click.echo(json.dumps(value, ensure_ascii=False))


def result_table(title: str, rows: list[tuple[str, str]]) -> None:
    """Names and values, one a line."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    click.echo(title)  # as the table's own title it would be cut to the table's width
    Console(file=sys.stdout, width=120, highlight=False, markup=False).print(table)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Say what is done, and how long it took once it is."""
    started = time.perf_counter()
    say(f"{text} …")
    yield
    say(f"{text}: {time.perf_counter() - started:.1f} s")


class TrainingProgress:
    """Shows the events of a training run: a bar on a terminal, else a line a round."""

    def __init__(self) -> None:
        """Nothing is shown before the first event."""
        self._console = Console(stderr=True, highlight=False, markup=False)
        self._bar: Progress | None = None

    def __call__(self, event: Event) -> None:
        """Show one event."""
        kind = event["event"]
        if kind == "start":
            self._start(event)
        elif kind == "round":
            self._round(event)
        elif kind == "epoch":
            self._line(
                f"epoch {event['epoch']}: validation loss {event['validation_loss']:.4f}, "
                f"accuracy {event['validation_accuracy']:.1%}{', the best so far' * event['best']}"
            )
        elif kind == "planning":
            self._line("measuring what the workers are worth (--no-plan begins at once) …")
        elif kind == "plan":
            self._line(plan_line(event))
        elif kind == "warning":
            self._line(f"warning: {event['text']}")
        elif kind == "end":
            self.close()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _start(self, event: Event) -> None:
        workers = "1 worker" if event["workers"] == 1 else f"{event['workers']} workers"
        self._line(
            f"training recipe {event['recipe']['name']} on {event['rows']:,} reviews, "
            f"{event['vocabulary']:,} words, {workers}, "
            f"{event['rounds']} rounds; {event['validation_rows']:,} reviews held back"
        )
        if event["rounds_made"]:
            self._line(f"goes on after round {event['rounds_made']}")
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("round"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.description}"),
                console=self._console,
                transient=True,
            )
            self._bar.add_task("", total=event["rounds"], completed=event["rounds_made"])
            self._bar.start()
        self._rounds = event["rounds"]

    def _round(self, event: Event) -> None:
        figures = (
            f"loss {event['train_loss']:.4f}  accuracy {event['train_accuracy']:.1%}  "
            f"{event['tokens_per_second']:,} tokens/s"
        )
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=event["round"], description=figures)
        else:
            say(f"round {event['round']}/{self._rounds}  {figures}  {event['seconds']:.1f} s")

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text)
        else:
            say(text)


def plan_line(event: Event) -> str:
    """What a plan comes to, in a line."""
    chosen, measured = event["chosen"], event["measured"]
    return (
        f"plan: {measured['workers']} workers will be {chosen['speed_up']:.2f} times as fast as "
        f"one ({chosen['strategy']}, {chosen['steps_a_round']} steps a round, "
        f"{chosen['overhead']:.0%} of the time for agreeing): {event['advice']}"
    )
