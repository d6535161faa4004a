"""A job's output as it comes, across lost connections."""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sparkbundle.errors import UNREACHABLE, SparkbundleError
from sparkbundle.jobs import Job, Target, parse_job, raise_told
from sparkbundle.output import warn

# The agent says every 5 s that it is there.
_SILENCE_SECONDS = 30.0
_PAUSE_SECONDS = 2.0
PATIENCE_SECONDS = 120.0


@dataclass
class Watched:
    """What has been seen of a job: the position in its output, and the job when it has ended.

    `lost` is called with the error when a connection is lost and tried again. With `events` it is
    the job's event file that is watched, not what it prints.
    """

    name: str
    position: int | None = None
    job: Job | None = None
    lost: Callable[[SparkbundleError], None] = lambda _: None
    events: bool = False


def say_lost(error: SparkbundleError) -> None:
    """Of a connection to a job that is watched."""
    warn(f"{error.where}: {error.what}; trying again, the job goes on")


def say_no_figures(job: Job) -> None:
    """Of a job that has no event file, or an empty one."""
    warn(f"{job.id} has written no figures: `sentiment train` and `sentiment stream` do")


def output(
    target: Target,
    watched: Watched,
    *,
    follow: bool = False,
    tail: int | None = None,
    patience: float = PATIENCE_SECONDS,
) -> Iterator[bytes]:
    """The output of a job from `watched.position`, or its last `tail` lines, or all of it.

    With `follow` it goes on until the job has ended, and a lost connection is tried again for
    `patience` seconds; what was seen is not shown again. At the end `watched.job` is set.

    Raises:
        SparkbundleError: there is no such job, or the host is not reached (exit code 4).
    """
    deadline = None
    while True:
        before = watched.position
        try:
            yield from _once(target, watched, follow=follow, tail=tail)
            return
        except SparkbundleError as error:
            if not follow or error.code != UNREACHABLE:
                raise
            if deadline is None or watched.position != before:
                deadline = time.monotonic() + patience
                watched.lost(error)
            if time.monotonic() > deadline:
                raise
        time.sleep(_PAUSE_SECONDS)


def _once(target: Target, watched: Watched, *, follow: bool, tail: int | None) -> Iterator[bytes]:
    words = ["logs", watched.name, *(["--events"] if watched.events else [])]
    if watched.position is not None:
        words += ["--at", str(watched.position)]
    elif tail is not None:
        words += ["--tail", str(tail)]
    blocks = target.ask(*words, *(["--follow"] if follow else []), silence=_SILENCE_SECONDS)
    reader = _Reader(blocks)
    while (head := reader.head()) is not None:
        raise_told(target, head)
        if "job" in head:
            watched.job = parse_job(head["job"])
            return
        watched.position = int(head["at"])
        left = int(head["bytes"])
        while left:
            block = reader.some(left)
            left -= len(block)
            watched.position += len(block)
            yield block
    raise SparkbundleError("the output ends too early", where=target.label, code=UNREACHABLE)


class _Reader:
    """Lines and pieces out of a stream of blocks."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._held = b""

    def head(self) -> dict[str, Any] | None:
        """The next line as JSON; None at the end."""
        while b"\n" not in self._held:
            block = self._more()
            if block is None:
                return None
            self._held += block
        line, self._held = self._held.split(b"\n", 1)
        value = json.loads(line)
        assert isinstance(value, dict)
        return value

    def some(self, most: int) -> bytes:
        """The next bytes, at least one and at most `most`."""
        if not self._held:
            self._held = self._more() or b""
        if not self._held:
            raise SparkbundleError("the output ends too early", code=UNREACHABLE)
        block, self._held = self._held[:most], self._held[most:]
        return block

    def _more(self) -> bytes | None:
        return next(self._blocks, None)
