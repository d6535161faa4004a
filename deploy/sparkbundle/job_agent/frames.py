"""A job's output on its way to the user: pieces with a line of JSON before each.

{"at": 1024, "bytes": 300} comes before 300 bytes of output from position 1024;
{"at": 1324, "bytes": 0} says every few seconds that this end is still there;
{"job": {…}} is the last one.
"""

import json
import time
from collections.abc import Callable
from typing import IO, Any

from .records import JobFolder, read_result

_BLOCK = 1 << 16
_POLL_SECONDS = 0.3
_ALIVE_SECONDS = 5.0


def send_log(
    folder: JobFolder,
    out: IO[bytes],
    *,
    at: int | None,
    tail: int | None,
    follow: bool,
    running: Callable[[], bool],
    describe: Callable[[], dict[str, Any]],
) -> None:
    """Send the output from position `at`, or its last `tail` lines, or all of it.

    With `follow` it goes on until the job has ended. `running` is asked every few
    seconds, which tells of a job that is gone without a result.
    """
    with folder.log.open("rb") as log:
        position = at if at is not None else 0 if tail is None else tail_start(log, tail)
        asked = time.monotonic() - _ALIVE_SECONDS
        sent = time.monotonic()
        while True:
            # Asked before it is read: what was written before the end is sent then.
            ended = not follow or read_result(folder) is not None
            if not ended and time.monotonic() - asked >= _ALIVE_SECONDS:
                asked = time.monotonic()
                ended = not running()
            log.seek(position)
            while block := log.read(_BLOCK):
                _send(out, {"at": position, "bytes": len(block)}, block)
                position += len(block)
                sent = time.monotonic()
            if ended:
                break
            if time.monotonic() - sent >= _ALIVE_SECONDS:
                _send(out, {"at": position, "bytes": 0})
                sent = time.monotonic()
            time.sleep(_POLL_SECONDS)
    _send(out, {"job": describe()})


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
