"""Rows of the driver for executors that cannot open its files.

Each chunk of rows is a broadcast of its own. It lies on disk, not in the driver's Java
heap; it has no part in the size of a task's message; an executor fetches the chunks of its
own tasks only, from the driver or from one another, and again after a failure.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from typing import Final

import pyarrow as pa
from pyspark import Broadcast
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from sentiment.corpus import SCHEMA, Corpus
from sentiment.errors import InvalidInputError
from sentiment.folders import VARIABLE, shared

MOST_BYTES: Final = 2 << 30
"""Bytes on disk that are sent; a chunk's broadcast is a part of the plan, so not any number."""
CHUNK_BYTES: Final = 32 << 20
_TASKS_A_CORE = 2
Sent = Broadcast[list[bytes]]
"""A chunk of rows, on its way or there."""
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="zstd")


def split_rows(
    spark: SparkSession, corpus: Corpus, split: str, columns: Sequence[str]
) -> DataFrame:
    """A split of a corpus: read by path where every host sees it, else sent.

    Raises:
        InvalidInputError: there is no such split, a file cannot be read, too much to send.
    """
    files = [part.path for part in corpus.part_files(split)]
    if files and shared(str(spark.sparkContext.master), corpus.path):
        return spark.read.parquet(*map(str, files)).select(*columns)
    check_size(sum(file.stat().st_size for file in files), where=str(corpus.path))
    batches = corpus.read(split, columns=columns)
    return send(spark, batches, pa.schema([SCHEMA.field(column) for column in columns]))


def check_size(size: int, *, where: str) -> None:
    """Stop before anything is read if it is too much to send.

    Raises:
        InvalidInputError: it is.
    """
    if size > MOST_BYTES:
        raise InvalidInputError(
            f"{size / 1e9:.1f} GB are too much to send to the cluster's hosts, which do not "
            f"share this folder (at most {MOST_BYTES / 1e9:.1f} GB)",
            where=where,
            todo="put it in a folder that every host sees under the same path, and name that "
            f"folder: {VARIABLE}=FOLDER",
        )


def send(
    spark: SparkSession,
    batches: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    *,
    chunk_bytes: int = CHUNK_BYTES,
    sent: list[Sent] | None = None,
) -> DataFrame:
    """A DataFrame of the rows of `batches`, which are read here and now.

    A batch is not cut: batches of some thousand rows spread well. Who sends again and again
    gives a list: what is sent is added to it, to be destroyed when the rows are of no more use.
    """
    context = spark.sparkContext
    columns = from_arrow_schema(schema)
    packed = [(context.broadcast(chunk), len(chunk)) for chunk in _chunks(batches, chunk_bytes)]
    if sent is not None:
        sent += [chunk for chunk, _ in packed]
    if not packed:
        return spark.createDataFrame([], columns)
    # Else Spark would make one partition of frames that have one partition each.
    spark.conf.set("spark.sql.unionOutputPartitioning", "false")
    tasks = -(-_TASKS_A_CORE * context.defaultParallelism // len(packed))
    frames = [
        spark.range(min(tasks, blocks), numPartitions=min(tasks, blocks)).mapInArrow(
            _unpacking(chunk, min(tasks, blocks)), columns
        )
        for chunk, blocks in packed
    ]
    return reduce(DataFrame.union, frames)


def _chunks(batches: Iterable[pa.RecordBatch], chunk_bytes: int) -> Iterator[list[bytes]]:
    """The batches, each compressed, in lists of about `chunk_bytes`."""
    chunk: list[bytes] = []
    size = 0
    for batch in batches:
        if chunk and size >= chunk_bytes:
            yield chunk
            chunk, size = [], 0
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema, options=_COMPRESSED) as stream:
            stream.write_batch(batch)
        chunk.append(sink.getvalue().to_pybytes())
        size += len(chunk[-1])
    if chunk:
        yield chunk


def _unpacking(
    chunk: Sent, tasks: int
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """What task n of `tasks` does: every `tasks`-th batch of the chunk from n on."""

    def unpack(numbers: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in numbers:
            for number in batch.column("id").to_pylist():
                for block in chunk.value[number::tasks]:
                    yield from pa.ipc.open_stream(block)

    return unpack
