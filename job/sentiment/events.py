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

Event = dict[str, Any]
Listener = Callable[[Event], None]


class EventLog:
    """Appends events to a file and shows each to the listeners."""

    def __init__(self, path: Path, *, listeners: tuple[Listener, ...] = ()) -> None:
        """Start the file anew.

        Raises:
            SentimentError: the file cannot be written.
        """
        self.path = path
        self._listeners = listeners
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("w", encoding="utf-8")
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

    def close(self) -> None:
        """Close the file; one without an event is not left."""
        self._file.close()
        if self.path.is_file() and self.path.stat().st_size == 0:
            self.path.unlink()


@contextmanager
def event_log(path: Path, *, listeners: tuple[Listener, ...] = ()) -> Iterator[EventLog]:
    """An EventLog that is closed when the block ends."""
    log = EventLog(path, listeners=listeners)
    try:
        yield log
    finally:
        log.close()


def read_events(path: Path) -> list[Event]:
    """All events of a file; a last line that is still being written is left out."""
    events = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            events.append(json.loads(line))
        except ValueError:
            break
    return events
