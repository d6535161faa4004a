"""A stream of reviews, scored micro-batch after micro-batch, each review exactly once.

Spark's Structured Streaming says what a micro-batch is and keeps that in the checkpoint; the
scoring function is that of `score`; the driver writes what comes back, under the batch's number.
A batch that is made again, after a crash, has the same rows and overwrites its own files.
"""

import re
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from py4j.protocol import Py4JError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.streaming.query import StreamingQuery

from sentiment.errors import FAILED, UNREACHABLE, InvalidInputError, SentimentError
from sentiment.events import EventLog
from sentiment.gpus import NO_GPUS, Gpus
from sentiment.model import DESCRIPTION, model_digest, model_from_files, read_model_files
from sentiment.scoring import SCHEMA, Scoring
from sentiment.session import interruption
from sentiment.sources import Refused, SourceOptions
from sentiment.sources.find import find_files
from sentiment.stream_files import LOG, NAME, FilesSource
from sentiment.stream_rows import reviews_of
from sentiment.stream_sink import SPARK, Sink

SETTINGS: Final = {
    "spark.ui.retainedJobs": "50",
    "spark.ui.retainedStages": "50",
    "spark.ui.retainedTasks": "1000",
    "spark.sql.ui.retainedExecutions": "50",
    "spark.sql.streaming.ui.retainedQueries": "1",
    "spark.sql.classic.shuffleDependency.fileCleanup.enabled": "true",
    "spark.cleaner.periodicGC.interval": "1min",
    "spark.eventLog.enabled": "false",
}
"""For a session of weeks: the driver knows of few of its jobs what they did, and writes down of
none what the history page would show; what a batch has left on the workers' disks goes with it, and
the rest when the driver has collected its garbage.
"""
_POLL_SECONDS: Final = 0.2
_DAMAGED: Final = re.compile(r"log file|incomplete log|STREAMING_CHECKPOINT", re.IGNORECASE)
"""What Spark says of a checkpoint that it cannot read."""
_REFUSED: Final = re.compile(r"ConnectException|Connection refused|UnknownHost")
_ROWS: Final = to_arrow_schema(SCHEMA)


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """What is streamed, and how.

    `folder` is watched for files; with `format` it is not: Spark's own source of that name, with
    `format_options`, gives rows; `reading` names their columns. A batch begins every `interval`
    seconds; with `once` what is there is scored and the stream ends. `settle`: a file counts when
    it was not written to for so many seconds. `most_bytes` of files are in a batch.
    """

    folder: Path | None
    reading: SourceOptions
    interval: float = 1.0
    once: bool = False
    settle: float = 1.0
    most_bytes: int = 64 << 20
    format: str | None = None
    format_options: tuple[tuple[str, str], ...] = ()


class WatchedModel:
    """The model at a path, as it is now; while it is half-copied or gone, as it was last."""

    def __init__(self, path: Path) -> None:
        """Read it.

        Raises:
            InvalidInputError: there is none, or it is damaged.
        """
        self._path = path
        self.files = read_model_files(path)
        self.digest = model_from_files(self.files, where=str(path)).digest
        self._stamp = self._now()
        self._complaint = ""

    def look(self) -> str | None:
        """Look again; what is to be said of it: another model, or why the old one stays."""
        stamp = self._now()
        if stamp == self._stamp:
            return None
        try:
            files = read_model_files(self._path)
            digest = model_digest(files, where=str(self._path))
            if digest != self.digest:
                model_from_files(files, where=str(self._path))
        except InvalidInputError as error:
            # It may be being copied: looked at again at the next batch.
            said = f"the model at {self._path} cannot be used ({error.what}); the one before stays"
            fresh, self._complaint = said != self._complaint, said
            return said if fresh else None
        self._stamp, self._complaint = stamp, ""
        if digest == self.digest:
            return None
        before, self.files, self.digest = self.digest, files, digest
        return f"model {digest[:12]} from here on, in the place of {before[:12]}"

    def _now(self) -> tuple[int, int, int] | None:
        try:
            status = (self._path / DESCRIPTION).stat()
        except OSError:
            return None
        return (status.st_mtime_ns, status.st_size, status.st_ino)


class Stream:
    """A running stream: what it does with each micro-batch."""

    def __init__(
        self,
        spark: SparkSession,
        options: StreamOptions,
        *,
        model: WatchedModel,
        sink: Sink,
        log: EventLog,
        table: str | None = None,
        gpus: Gpus = NO_GPUS,
    ) -> None:
        """Send the model to the cluster. Tasks that score get `gpus`.

        Raises:
            InvalidInputError: hosts lack the word table that the model needs.
        """
        self._spark = spark
        self._options = options
        self._model = model
        self._sink = sink
        self._log = log
        self._table = table
        self._gpus = gpus
        self._scoring = self._sent()
        self._gone = False
        self.failure: BaseException | None = None

    def _sent(self) -> Scoring:
        return Scoring(self._spark, self._model.files, table=self._table, gpus=self._gpus)

    def start(self, checkpoint: Path) -> StreamingQuery:
        """Begin, or go on after the last batch that ended.

        Raises:
            InvalidInputError: Spark does not know the source, or not with these options.
        """
        options = self._options
        if options.folder is not None:
            self._spark.dataSource.register(FilesSource)
            reader = self._spark.readStream.format(NAME).options(
                folder=str(options.folder),
                log=str(checkpoint / LOG),
                settle=str(options.settle),
                mostBytes=str(options.most_bytes),
            )
        else:
            reader = self._spark.readStream.format(str(options.format))
            reader = reader.options(**dict(options.format_options))
        try:
            rows = reader.load()
        except (PySparkException, Py4JError) as error:
            if interruption(error):
                raise
            raise InvalidInputError(
                f"Spark cannot read from it: {_message(error)}",
                where=str(options.format or options.folder),
                todo="correct --format and --option; a source whose jars are not in Spark's "
                "package needs them in spark.jars",
            ) from error
        if options.folder is None:
            reviews_of(rows, options.reading, place=str(options.format))  # its columns will do
        writer = rows.writeStream.foreachBatch(self._guarded)
        writer = writer.option("checkpointLocation", str(checkpoint / SPARK))
        if options.once:
            writer = writer.trigger(availableNow=True)
        else:
            writer = writer.trigger(processingTime=f"{options.interval} seconds")
        try:
            return writer.start()
        except (PySparkException, Py4JError) as error:
            if interruption(error):
                raise
            raise self.explained(error, checkpoint) from error

    def explained(self, error: Exception, checkpoint: Path) -> SentimentError:
        """What ended the stream, in a line, and what to do."""
        what = _message(error)
        if _DAMAGED.search(str(error)):
            return SentimentError(
                f"the checkpoint is damaged: {what}",
                where=str(checkpoint),
                todo=f"sentiment stream repair {shlex.quote(str(checkpoint))}",
            )
        options = self._options
        given = [f"{key}={value}" for key, value in options.format_options]
        return SentimentError(
            f"the stream ended: {what}",
            where=str(options.folder or " ".join([str(options.format), *given])),
            todo="mend that; then the same command goes on",
            code=UNREACHABLE if _REFUSED.search(str(error)) else FAILED,
        )

    def look_at_folder(self) -> None:
        """Warn once when the folder is gone, as an unmounted share is, and when it is back."""
        folder = self._options.folder
        if folder is not None and folder.is_dir() == self._gone:
            self._gone = not self._gone
            self._log.warn(f"{folder} is {'gone: nothing arrives' if self._gone else 'back'}")

    def _guarded(self, rows: DataFrame, number: int) -> None:
        """Py4J hands on no exception as it is: it is kept for who waits."""
        try:
            self._batch(rows, number)
        except BaseException as error:
            self.failure = error
            raise

    def _batch(self, rows: DataFrame, number: int) -> None:
        began, clock = time.perf_counter(), time.time()
        if said := self._model.look():
            self._log.warn(said)
        if self._model.digest != self._scoring.digest:
            before = self._scoring
            self._scoring = self._sent()
            before.close()
        options = self._options
        if options.folder is not None:
            files = rows.collect()
            if not files and not self._sink.has(number):
                return  # Spark's first one, of a folder in which there is nothing yet
            arrived = {
                row["name"]: _arrival(options.folder / row["name"], row["mtime"] / 1e9)
                for row in files
            }
            table = self._score_files(list(arrived))
            waiting = files[0]["waiting"] if files else 0
        else:
            reviews = reviews_of(rows, options.reading, place=str(options.format))
            table = self._scoring.collect(reviews).table
            arrived, waiting = {}, None
        kept = self._sink.write(number, table, model_digest=self._scoring.digest)
        latency = _latencies(table, arrived)
        self._log.write(
            "batch",
            batch=number,
            files=len(arrived),
            waiting=waiting,
            rows=table.num_rows,
            scored=kept.scored,
            quarantined=kept.quarantined,
            duplicates=kept.duplicates,
            late=kept.late,
            praise=kept.praise,
            seconds=round(time.perf_counter() - began, 3),
            began=round(clock, 3),
            latency_p50=latency[0],
            latency_p99=latency[1],
            remembered=self._sink.remembered,
            model_digest=self._scoring.digest,
        )

    def _score_files(self, names: list[str]) -> pa.Table:
        """The rows of these files. One that breaks in the middle is refused, not the batch."""
        assert self._options.folder is not None
        source, refused = find_files(
            names, root=self._options.folder, options=self._options.reading
        )
        tables = [_refused_table(refused)]
        if source is not None:
            try:
                tables.append(self._scoring.collect_source(source).table)
            except SentimentError as error:
                if len(names) == 1:
                    whole = Refused(file=names[0], line=0, reason=error.what, excerpt="", row=-1)
                    return _refused_table([whole])
                return pa.concat_tables([self._score_files([name]) for name in names])
        return pa.concat_tables(tables)


def _refused_table(refused: list[Refused]) -> pa.Table:
    """Refused files as rows of the sink."""
    rows = [
        {"row": one.row, "file": one.file, "line": one.line, "reason": one.reason}
        for one in refused
    ]
    return pa.Table.from_pylist(rows, _ROWS)


def _arrival(path: Path, written: float) -> float:
    """When a file came, in seconds since 1970: one that is moved in was written before."""
    try:
        return max(written, path.stat().st_ctime)
    except OSError:
        return written


def _latencies(table: pa.Table, arrived: Mapping[str, float]) -> tuple[float | None, float | None]:
    """Median and 99th percentile, over the rows, of the seconds since their file came."""
    now = time.time()
    waited = [now - arrived[name] for name in table["file"].to_pylist() if name in arrived]
    if not waited:
        return None, None
    p50, p99 = np.percentile(waited, [50, 99])
    return round(float(p50), 3), round(float(p99), 3)


@contextmanager
def running(stream: Stream, checkpoint: Path) -> Iterator[StreamingQuery]:
    """A stream that is stopped when the block ends; the batch it is in is made again later."""
    query = stream.start(checkpoint)
    try:
        yield query
    finally:
        query.stop()


def wait(query: StreamingQuery, stream: Stream, checkpoint: Path) -> None:
    """Until the stream ends by itself.

    Raises:
        SentimentError: what a batch said, or Spark.
        Exception: whatever else a batch has raised.
    """
    while query.isActive:
        time.sleep(_POLL_SECONDS)  # not awaitTermination: a call in py4j hears no Ctrl-C
        stream.look_at_folder()
    if stream.failure is not None:
        raise stream.failure
    if error := query.exception():
        raise stream.explained(error, checkpoint)


def _message(error: Exception) -> str:
    """What the JVM said, on one line."""
    java = getattr(error, "java_exception", None)
    lines = str(java.getMessage() if java is not None else error).splitlines()
    return next((line.strip() for line in lines if line.strip()), type(error).__name__)


def about(options: StreamOptions, *, out: Path) -> dict[str, Any]:
    """What tells a stream from others: `stream.json` in its checkpoint and in OUT."""
    source = str(options.folder) if options.folder is not None else options.format
    return {"source": source, "out": str(out)}
