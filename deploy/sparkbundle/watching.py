"""What a job has measured so far, as its event file tells it.

The events are those of `sentiment train` and `sentiment stream`: a JSON object a line, with
`event`, its kind, and `time`, seconds since 1970.
"""

import json
import statistics
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparkbundle.errors import PreflightError

Event = dict[str, Any]

_POLL_SECONDS = 0.3
_REMEMBERED = 2000
"""Micro-batches that are kept: a stream may run for months."""


@dataclass
class Course:
    """The events of a run, put in order.

    `rounds` and `epochs` by number: a run that goes on from a checkpoint makes some of them
    again, and only the last of each counts.
    """

    start: Event | None = None
    plan: Event | None = None
    end: Event | None = None
    rounds: dict[int, Event] = field(default_factory=dict)
    epochs: dict[int, Event] = field(default_factory=dict)
    batches: dict[int, Event] = field(default_factory=dict)
    totals: dict[str, int] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def add(self, event: Event) -> None:
        """Take one event in; a kind that is not known is passed over."""
        match event.get("event"):
            case "start":
                self._begin(event)
            case "plan":
                self.plan = event
            case "round":
                self.rounds[event["round"]] = event
            case "epoch":
                self.epochs[event["epoch"]] = event
            case "batch":
                self._batch(event)
            case "warning":
                self.warnings.append(event["text"])
            case "end":
                self.end = event

    @property
    def left_seconds(self) -> float | None:
        """How long the rounds that are left will take, by the last ones; None: nobody knows."""
        if self.start is None or not self.rounds:
            return None
        lately = [one["seconds"] for one in list(self.rounds.values())[-5:]]
        return float(statistics.median(lately) * (self.start["rounds"] - max(self.rounds)))

    def _begin(self, event: Event) -> None:
        made = event.get("rounds_made", 0)
        self.start, self.end = event, None
        self.rounds = {n: one for n, one in self.rounds.items() if n <= made}
        self.epochs = {n: one for n, one in self.epochs.items() if one["round"] <= made}

    def _batch(self, event: Event) -> None:
        # A batch that a stream made again after a crash is told again.
        before = self.batches.get(event["batch"], {})
        for name in ("rows", "scored", "praise", "quarantined", "duplicates", "late"):
            known = self.totals.get(name, 0)
            self.totals[name] = known + event.get(name, 0) - before.get(name, 0)
        self.batches[event["batch"]] = event
        while len(self.batches) > _REMEMBERED:
            del self.batches[next(iter(self.batches))]


def parse_events(blocks: Iterable[bytes]) -> Iterator[Event]:
    """The events of a file that comes in blocks; a line that is no event is passed over."""
    held = b""
    for block in blocks:
        *lines, held = (held + block).split(b"\n")
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue  # half a line, which a killed run has left
            if isinstance(event, dict) and "event" in event:
                yield event


def follow_file(path: Path) -> Iterator[bytes]:
    """What is in an event file of this machine, and what is added to it, for ever.

    Raises:
        PreflightError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            while True:
                if block := file.read(1 << 16):
                    yield block
                else:
                    time.sleep(_POLL_SECONDS)
    except OSError as error:
        raise PreflightError(
            f"cannot be read: {error.strerror}", where=str(path), todo="name an event file"
        ) from error
