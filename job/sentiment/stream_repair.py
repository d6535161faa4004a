"""A damaged checkpoint, made one that a stream can go on from.

Spark writes a file a batch below offsets/ (what is in it) and commits/ (that it has ended), and
stops at one that is empty or cut, as a power failure may leave it. From the first damaged batch
on everything is moved aside, so that those batches are made again. The sink overwrites them, and
reviews that were scored before are duplicates, so nothing is scored twice and nothing is lost.
"""

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sentiment.errors import InvalidInputError
from sentiment.files import locked_directory, write_file, write_json
from sentiment.stream_files import LOG
from sentiment.stream_sink import SCORES, SPARK, last_batch

_LOGS: Final = ("offsets", "commits")
_METADATA: Final = "metadata"
_VERSION: Final = "v1"
_ASIDE: Final = "damaged-"


@dataclass(frozen=True)
class Repair:
    """What was done: batches from `first` on are made again; `moved` files are in `aside`.

    `metadata`: the stream's identity, which was missing or damaged, was given anew.
    """

    first: int | None
    moved: int
    aside: Path | None
    metadata: bool


def repair(checkpoint: Path) -> Repair:
    """Move aside what Spark cannot read, and what comes after it.

    Raises:
        InvalidInputError: it is no stream's checkpoint.
        SentimentError: its stream runs.
    """
    directory = checkpoint / SPARK
    if not (directory / "offsets").is_dir():
        raise InvalidInputError(
            "is no checkpoint of a stream",
            where=str(checkpoint),
            todo="give the directory that --checkpoint named, OUT.checkpoint else",
        )
    with locked_directory(checkpoint):
        metadata = _mend_metadata(directory / _METADATA)
        first = min(
            (number for number, path in _batches(directory) if _damaged(path)), default=None
        )
        if first is None:
            return Repair(None, 0, None, metadata)
        _forget_files(checkpoint, first)
        aside = checkpoint / f"{_ASIDE}{time.strftime('%Y%m%d-%H%M%S')}"
        moved = 0
        for number, path in list(_batches(directory)):
            if number >= first:
                target = aside / path.parent.name / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)
                path.with_name(f".{path.name}.crc").unlink(missing_ok=True)
                moved += 1
        return Repair(first, moved, aside, metadata)


def _mend_metadata(path: Path) -> bool:
    """Spark's name for the stream, a UUID: any other does as well. Whether a new one was needed."""
    try:
        if isinstance(json.loads(path.read_bytes())["id"], str):
            return False
    except (OSError, ValueError, KeyError, TypeError):
        pass
    path.with_name(f".{path.name}.crc").unlink(missing_ok=True)
    write_json(path, {"id": str(uuid.uuid4())})
    return True


def require_same_batches(checkpoint: Path, out: Path) -> None:
    """Stop before scores are lost because the checkpoint is not the one of OUT, or OUT is new.

    A batch that the checkpoint does not know would be made anew, of the files that are there now.

    Raises:
        InvalidInputError: the checkpoint was lost, or OUT was.
    """
    last, fresh = last_batch(out), not (out / SCORES).is_dir()
    planned = max((number for number, _ in _known(checkpoint)), default=-1)
    if last > planned:
        raise InvalidInputError(
            f"OUT has batches up to {last}, of which this checkpoint "
            + (f"knows those up to {planned}" if planned >= 0 else "knows none")
            + ": the others would be lost",
            where=str(checkpoint),
            todo="name the checkpoint that belongs to OUT, or another OUT for a new start",
        )
    ended = [number for number, path in _known(checkpoint) if path.parent.name == "commits"]
    if fresh and ended:
        raise InvalidInputError(
            f"the batches up to {max(ended)} are done, and OUT does not have their scores",
            where=str(checkpoint),
            todo=f"bring OUT back; or remove {checkpoint} to score everything anew",
        )


def _known(checkpoint: Path) -> Iterator[tuple[int, Path]]:
    """All batches that Spark has planned or ended; those that a repair has put aside, too."""
    for directory in (checkpoint / SPARK, *checkpoint.glob(f"{_ASIDE}*")):
        if directory.is_dir():
            yield from _batches(directory)


def _batches(directory: Path) -> Iterator[tuple[int, Path]]:
    for log in _LOGS:
        if (directory / log).is_dir():
            for path in (directory / log).iterdir():
                if path.name.isdigit():
                    yield int(path.name), path


def _damaged(path: Path) -> bool:
    """Whether Spark would stop at it: a version line, then lines of JSON."""
    try:
        version, *lines = path.read_text(encoding="utf-8").splitlines()
        for line in lines:
            json.loads(line) if line != "-" else None
    except ValueError:  # empty, no JSON, not UTF-8
        return True
    return version != _VERSION or not lines


def _forget_files(checkpoint: Path, first: int) -> None:
    """Batches from `first` on are no longer in the list of files that were seen."""
    log = checkpoint / LOG
    if not log.exists():
        return
    before = _files_of(checkpoint / SPARK / "offsets" / str(first - 1))
    lines = log.read_text(encoding="utf-8").splitlines()
    ends = [number for number, line in enumerate(lines) if line in before]
    # Its files come when the next batch is planned: without them nothing comes after.
    if ends or first == 0:
        write_file(log, "".join(f"{line}\n" for line in lines[: max(ends, default=-1) + 1]))


def _files_of(offset: Path) -> set[str]:
    """The files of a batch, as lines of the list."""
    try:
        *_, last = offset.read_text(encoding="utf-8").splitlines()
        return {json.dumps(file) for file in json.loads(json.loads(last)["files"])}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
