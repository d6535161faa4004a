"""Event files as they grow, and new ones in a folder."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sentiment.errors import InvalidInputError
from sentiment.events import Event

PATTERNS: Final = ("*events.jsonl", "*/*events.jsonl")
"""Event files in a folder, and one folder further down, where a stream's are."""
_SUFFIXES: Final = (".events.jsonl", ".jsonl")
_HEAD: Final = 64
"""Bytes that tell a file from the one before it: the first event's time is among them."""
_LONGEST_LINE: Final = 1 << 20


class Followed:
    """An event file that is read from where it was left; what is no whole event waits."""

    def __init__(self, path: Path) -> None:
        """Nothing is read yet."""
        self.path = path
        self._at = 0
        self._head = b""

    def begun_anew(self) -> bool:
        """Whether another run has begun the file anew since; it is read from its start then."""
        if not self._at:
            return False
        try:
            with self.path.open("rb") as file:
                same = file.read(len(self._head)) == self._head
                same = same and file.seek(0, 2) >= self._at
        except OSError:
            return False  # it is gone: what was read of it stays
        if not same:
            self._at = 0
        return not same

    def read(self) -> Iterator[Event]:
        """The events that have come since; lines that are none are passed over."""
        try:
            file = self.path.open("rb")
        except OSError:
            return
        with file:
            if not self._at:
                self._head = file.read(_HEAD)
            file.seek(self._at)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # it is still being written
                self._at += len(line)
                if (event := _event(line)) is not None:
                    yield event


def is_event_file(path: Path) -> bool:
    """Whether the first line is an event; of an empty file, that is still to be seen.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        line = file.readline(_LONGEST_LINE)
    if line.endswith(b"\n") or len(line) == _LONGEST_LINE:
        return _event(line) is not None
    return line[:1] in (b"", b"{")  # it is still being written


def check_place(path: Path) -> None:
    """Refuse what is neither an event file nor a folder.

    Raises:
        InvalidInputError: it is not there, cannot be read, or is no event file.
    """
    todo = "name an event file (MODEL.events.jsonl, OUT/events.jsonl) or a folder with such files"
    if path.is_dir():
        return
    try:
        if path.is_file() and is_event_file(path):
            return
        what = "is no event file" if path.exists() else "there is no such file or folder"
    except OSError as error:
        what = f"cannot be read: {error.strerror}"
    raise InvalidInputError(what, where=str(path), todo=todo)


def event_files(place: Path) -> Iterator[tuple[str, Path]]:
    """The event files at a place, itself or in a folder, each with its name.

    A file `model.events.jsonl` is `model`, one `scores/events.jsonl` is `scores`.
    """
    if not place.is_dir():
        yield _name(place), place
        return
    for pattern in PATTERNS:
        for path in sorted(place.glob(pattern)):
            folder = path.parent.relative_to(place)
            hidden = any(part.startswith(".") for part in (*folder.parts, path.name))
            if hidden or not path.is_file():
                continue
            name = _name(path)
            below = folder.parent if path.name == "events.jsonl" else folder
            yield str(below / name), path


def _name(path: Path) -> str:
    if path.name == "events.jsonl":
        return path.absolute().parent.name or "events"
    suffix = next((one for one in _SUFFIXES if path.name.endswith(one)), "")
    return path.name.removesuffix(suffix) or path.name


def _event(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None
