"""A job's output, or its event file, on its way to the user: pieces with a line of JSON each.

{"at": 1024, "bytes": 300} comes before 300 bytes of output from position 1024;
{"at": 1324, "bytes": 0} says every few seconds that this end is still there;
{"job": {…}} is the last one.
"""

import json
import os
import stat
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Any

from .records import JobFolder, read_result

_BLOCK = 1 << 16
_POLL_SECONDS = 0.3
_ALIVE_SECONDS = 5.0
_EVENTS = ("*events.jsonl", "*/*events.jsonl")
"""Where `sentiment` writes its event file, under a job's working directory."""


def send(
    folder: JobFolder,
    out: IO[bytes],
    *,
    find: Callable[[JobFolder], IO[bytes] | None],
    at: int | None,
    tail: int | None,
    follow: bool,
    running: Callable[[], bool],
    describe: Callable[[], dict[str, Any]],
) -> None:
    """Send a file of a job from position `at`, or its last `tail` lines, or all of it.

    `find` opens the file (`output` or `events`), or gives None as long as there is none. With
    `follow` it goes on until the job has ended. `running` is asked every few seconds, which tells
    of a job that is gone without a result.
    """
    file: IO[bytes] | None = None
    position = 0
    asked = time.monotonic() - _ALIVE_SECONDS
    sent = time.monotonic()
    with ExitStack() as stack:
        while True:
            # Asked before it is read: what was written before the end is sent then.
            ended = not follow or read_result(folder) is not None
            if not ended and time.monotonic() - asked >= _ALIVE_SECONDS:
                asked = time.monotonic()
                ended = not running()
            if file is None and (file := find(folder)) is not None:
                stack.enter_context(file)
                position = at if at is not None else 0 if tail is None else tail_start(file, tail)
            before = position
            if file is not None:
                position = _send_rest(file, out, position)
            if ended:
                break
            if position != before:
                sent = time.monotonic()
            elif time.monotonic() - sent >= _ALIVE_SECONDS:
                _send(out, {"at": position, "bytes": 0})
                sent = time.monotonic()
            time.sleep(_POLL_SECONDS)
    _send(out, {"job": describe()})


def _send_rest(file: IO[bytes], out: IO[bytes], position: int) -> int:
    """Send what there is from a position on; the position at the end."""
    file.seek(position)
    while block := file.read(_BLOCK):
        _send(out, {"at": position, "bytes": len(block)}, block)
        position += len(block)
    return position


def output(folder: JobFolder) -> IO[bytes]:
    """All that a job prints."""
    return folder.log.open("rb")


def events(folder: JobFolder) -> IO[bytes] | None:
    """The newest event file of a job, or None.

    The job writes what it likes there, and on a host root reads it: no link is followed, and the
    file must be the job's own.
    """
    found: list[tuple[float, Path]] = []
    for pattern in _EVENTS:
        for path in folder.work.glob(pattern):
            with suppress(OSError):
                found.append((path.lstat().st_mtime, path))
    for _, path in sorted(found, reverse=True):
        with suppress(OSError):
            number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            file = os.fdopen(number, "rb")
            status = os.fstat(number)
            if stat.S_ISREG(status.st_mode) and status.st_uid == folder.work.stat().st_uid:
                return file
            file.close()
    return None


def tail_start(log: IO[bytes], lines: int) -> int:
    """The position at which the last lines of a file begin."""
    end = log.seek(0, 2)
    if lines <= 0:
        return end
    position, found = end, 0
    while position > 0:
        start = max(0, position - _BLOCK)
        log.seek(start)
        block = log.read(position - start)
        # The line break at the very end closes the last line and begins none.
        search = len(block) - (1 if position == end and block.endswith(b"\n") else 0)
        while (index := block.rfind(b"\n", 0, search)) >= 0:
            found += 1
            if found == lines:
                return start + index + 1
            search = index
        position = start
    return 0


def _send(out: IO[bytes], head: dict[str, Any], block: bytes = b"") -> None:
    out.write(json.dumps(head).encode() + b"\n" + block)
    out.flush()
