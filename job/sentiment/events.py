"""The event file: everything a run measures, one JSON object a line, as it happens.

Each line has `time` (seconds since 1970, UTC), `event` (its kind) and the
figures of that kind. The terminal, the report and later readers draw from it.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sentiment.errors import SentimentError
from sentiment.files import cut_half_line

Event = dict[str, Any]
Listener = Callable[[Event], None]


class EventLog:
    """Appends events to a file and shows each to the listeners."""

    def __init__(
        self, path: Path, *, listeners: tuple[Listener, ...] = (), resume: bool = False
    ) -> None:
        """Start the file anew, or with `resume` go on after its last whole line.

        Raises:
            SentimentError: the file cannot be written.
        """
        self.path = path
        self._listeners = listeners
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if resume:
                cut_half_line(path)
            self._file = path.open("a" if resume else "w", encoding="utf-8")
        except OSError as error:
            raise SentimentError(
                f"cannot be written: {error.strerror}", where=str(path), todo="name another place"
            ) from error

    def write(self, event: str, **values: Any) -> None:
        """Append one event; a reader sees it at once."""
        line: Event = {"time": round(time.time(), 3), "event": event, **values}
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()
        for listener in self._listeners:
            listener(line)

    def warn(self, text: str) -> None:
        """An event that is a warning."""
        self.write("warning", text=text)

    def close(self) -> None:
        """Close the file; one without an event is not left."""
        self._file.close()
        if self.path.is_file() and self.path.stat().st_size == 0:
            self.path.unlink()


@contextmanager
def event_log(
    path: Path, *, listeners: tuple[Listener, ...] = (), resume: bool = False
) -> Iterator[EventLog]:
    """An EventLog that is closed when the block ends."""
    log = EventLog(path, listeners=listeners, resume=resume)
    try:
        yield log
    finally:
        log.close()


def read_events(path: Path) -> list[Event]:
    """All events of a file; a last line that is still being written is left out.

    Rounds that were made again, by a run that went on from the checkpoint before them, are there
    once.
    """
    events: list[Event] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            break
        if event["event"] == "start":
            events = [one for one in events if _made_by(one, event.get("rounds_made", 0))]
        events.append(event)
    return events


def _made_by(event: Event, rounds: int) -> bool:
    """Whether an event is of the first `rounds` rounds."""
    return bool(event.get("round", 0) <= rounds)
