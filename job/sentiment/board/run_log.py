"""A run of TensorBoard: one directory with one file of summaries, made of the events of a run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tensorboard.compat.proto.event_pb2 import Event as BoardEvent
from tensorboard.compat.proto.event_pb2 import SessionLog
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from sentiment.board.summaries import Histogram, first_step, summaries_of
from sentiment.events import Event

FILE: Final = "events.out.tfevents.sentiment"
"""Its name in the run's directory: TensorBoard finds files with `tfevents` in their names."""


class RunLog:
    """Writes the summaries of a run, and takes back those of rounds that are made again.

    TensorBoard forgets what a run has at a step and after it when a session begins there
    (SessionLog.START), be it while it shows the run or when it reads the file anew.
    """

    def __init__(self, directory: Path) -> None:
        """Begin the file anew.

        Raises:
            OSError: it cannot be written.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self._records = RecordWriter((directory / FILE).open("wb"))
        self._last_step = -1
        self._begun = False

    def take(self, event: Event) -> None:
        """Write what is to be shown of an event, at the time that it has."""
        told = event.get("time")
        time = float(told) if isinstance(told, int | float) else 0.0
        if not self._begun:
            self._begun = True
            self._write(time, 0, file_version="brain.Event:2")
            self._forget_from(0, time)  # only a second start is one that takes back
        if (first := first_step(event)) is not None:
            self._forget_from(first, time)
        summaries = summaries_of(event)
        if summaries is None:
            return
        if event["event"] == "batch" and summaries.step <= self._last_step:
            self._forget_from(summaries.step, time)  # a batch that is made again, after a crash
        self._last_step = max(self._last_step, summaries.step)
        values = [
            *(Summary.Value(tag=t, simple_value=v) for t, v in summaries.scalars.items()),
            *(Summary.Value(tag=t, histo=_proto(h)) for t, h in summaries.histograms.items()),
        ]
        self._write(time, summaries.step, summary=Summary(value=values))

    def forget(self) -> None:
        """Let TensorBoard forget the run: another one has begun the event file anew."""
        self._begun = False

    def flush(self) -> None:
        """Let readers see all that was written.

        Raises:
            OSError: the disk refuses.
        """
        self._records.flush()

    def close(self) -> None:
        """Flush and close."""
        self._records.close()

    def _forget_from(self, step: int, time: float) -> None:
        """Let TensorBoard forget this step and those after it."""
        self._write(time, step, session_log=SessionLog(status=SessionLog.START))
        self._last_step = step - 1

    def _write(self, time: float, step: int, **content: Any) -> None:
        event = BoardEvent(wall_time=time, step=step, **content)
        self._records.write(event.SerializeToString())


def _proto(histogram: Histogram) -> HistogramProto:
    """As TensorBoard has it; its sums are those of the buckets' middles."""
    bars = list(_bars(histogram))
    middles = [((left + right) / 2, count) for left, right, count in bars]
    return HistogramProto(
        min=histogram.low,
        max=histogram.high,
        num=sum(histogram.counts),
        sum=sum(middle * count for middle, count in middles),
        sum_squares=sum(middle * middle * count for middle, count in middles),
        bucket_limit=[right for _, right, _ in bars],
        bucket=[count for *_, count in bars],
    )


def _bars(histogram: Histogram) -> Iterator[tuple[float, float, int]]:
    """Left and right edge and count of each bucket; of values that are all the same, one."""
    low, high, counts = histogram.low, histogram.high, histogram.counts
    if low == high:
        yield low, high, sum(counts)
        return
    width = (high - low) / len(counts)
    for number, count in enumerate(counts):
        yield low + number * width, low + (number + 1) * width, count
