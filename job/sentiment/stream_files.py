"""A folder as a stream of Spark's: each file that arrives, once; again when it has changed.

Spark's own file source has every executor open the files, and needs a folder that all hosts
share. This one (pyspark.sql.datasource) lists files beside the driver and gives their names: who
reads them is decided as for any source. The files of a micro-batch are in its offset, which Spark
keeps in the checkpoint, so that a batch which is made again has the same files on whichever host.

    CHECKPOINT/files.jsonl    the files of all batches that Spark has planned: [name, size, mtime]
"""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pyspark.sql.datasource import DataSource, SimpleDataSourceStreamReader
from pyspark.sql.streaming.datasource import SupportsTriggerAvailableNow
from pyspark.sql.types import StructType

from sentiment.files import cut_half_line

NAME: Final = "sentiment-files"
SCHEMA: Final = "name string, size bigint, mtime bigint, waiting bigint"
LOG: Final = "files.jsonl"
_HIDDEN: Final = (".", "_")
_UNFINISHED: Final = (".tmp", ".part", ".partial", ".crdownload", "~")

File = tuple[str, int, int]
"""The path below the folder; bytes; nanoseconds since 1970 at which it was written last."""


class FilesSource(DataSource):
    """The data source that `spark.dataSource.register` takes; options as of FilesReader."""

    @classmethod
    def name(cls) -> str:
        """As `format` names it."""
        return NAME

    def schema(self) -> str:
        """A row a file."""
        return SCHEMA

    def simpleStreamReader(  # noqa: N802 - Spark's name
        self,
        schema: StructType,  # noqa: ARG002
    ) -> "FilesReader":
        """The reader."""
        return FilesReader(
            Path(self.options["folder"]),
            log=Path(self.options["log"]),
            settle=float(self.options["settle"]),
            most_bytes=int(self.options["mostbytes"]),
        )


class FilesReader(SimpleDataSourceStreamReader, SupportsTriggerAvailableNow):
    """Files below `folder` that were written at least `settle` seconds ago, the oldest first.

    A batch has files of at most `most_bytes`, or a single one. Hidden files, those whose names
    begin with _ and those named as unfinished are none.
    """

    def __init__(self, folder: Path, *, log: Path, settle: float, most_bytes: int) -> None:
        """Nothing is listed yet."""
        self._folder = folder
        self._log = log
        self._settle = settle
        self._most_bytes = most_bytes
        self._seen: dict[str, tuple[int, int]] | None = None
        self._available: set[File] | None = None

    def prepareForTriggerAvailableNow(self) -> None:  # noqa: N802
        """From here on what is there now is all that there is, in as many batches as it takes."""
        self._available = set(self._settled())

    def initialOffset(self) -> dict[str, Any]:  # noqa: N802
        """Before the first batch."""
        return {"batch": 0, "files": "[]"}

    def read(
        self, start: dict[str, Any]
    ) -> tuple[Iterator[tuple[str, int, int, int]], dict[str, Any]]:
        """The files after `start`, which Spark has written down, and the offset behind them."""
        seen = self._seen_until(start)
        files: list[File] = []
        size = 0
        new = sorted(self._new(seen), key=lambda one: (one[2], one[0]))
        for file in new:
            if files and size + file[1] > self._most_bytes:
                break
            files.append(file)
            size += file[1]
        if not files:
            return iter(()), start
        end = {
            "batch": int(start["batch"]) + 1,
            "files": json.dumps(files),
            "waiting": len(new) - len(files),
        }
        return self.readBetweenOffsets(start, end), end

    def readBetweenOffsets(  # noqa: N802
        self,
        start: dict[str, Any],  # noqa: ARG002
        end: dict[str, Any],
    ) -> Iterator[tuple[str, int, int, int]]:
        """The files of a batch that is made again; how many waited for the batches after it."""
        waiting = int(end.get("waiting", 0))
        return iter([(*file, waiting) for file in _files(end)])

    def _seen_until(self, start: dict[str, Any]) -> dict[str, tuple[int, int]]:
        """All files up to this offset; those of the offset itself are written down now."""
        if self._seen is None:
            cut_half_line(self._log)  # of a driver that was killed: its batch writes it again
            self._seen = read_log(self._log)
        new = [file for file in _files(start) if self._seen.get(file[0]) != (file[1], file[2])]
        if new:
            with self._log.open("a", encoding="utf-8") as log:
                log.writelines(json.dumps(file) + "\n" for file in new)
                log.flush()
                os.fsync(log.fileno())
            self._seen |= {name: (size, mtime) for name, size, mtime in new}
        return self._seen

    def _new(self, seen: dict[str, tuple[int, int]]) -> Iterator[File]:
        for file in self._settled() if self._available is None else self._available:
            if seen.get(file[0]) != file[1:]:
                yield file

    def _settled(self) -> Iterator[File]:
        latest = time.time() - self._settle
        for name, found in _below(self._folder, ""):
            if found.st_size and found.st_mtime <= latest:
                yield (name, found.st_size, found.st_mtime_ns)


def read_log(path: Path) -> dict[str, tuple[int, int]]:
    """The files that were planned, each as it was last: size and time."""
    seen: dict[str, tuple[int, int]] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            name, size, mtime = json.loads(line)
            seen[name] = (size, mtime)
    return seen


def _files(offset: dict[str, Any]) -> list[File]:
    return [(str(name), int(size), int(mtime)) for name, size, mtime in json.loads(offset["files"])]


def _below(folder: Path, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
    """Every file below a folder; what disappears meanwhile is not there."""
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except FileNotFoundError:
        return
    for entry in found:
        if entry.name.startswith(_HIDDEN) or entry.name.endswith(_UNFINISHED):
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _below(Path(entry.path), f"{prefix}{entry.name}/")
            elif entry.is_file():
                yield f"{prefix}{entry.name}", entry.stat()
        except FileNotFoundError:
            continue
