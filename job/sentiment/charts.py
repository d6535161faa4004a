"""Charts that move: drawn anew when rows come, or while an event file grows.

The words are those of Spark Notebook, in which the talk of 2016 was shown: `apply_on` replaces
what is drawn, `add_and_apply` adds to it, `new_max` says how much of it is kept.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeAlias

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from sentiment.errors import InvalidInputError, SentimentError
from sentiment.events import Event, read_events
from sentiment.output import say

Kind = Literal["lines", "points", "bars"]
Rows: TypeAlias = pd.DataFrame | Sequence[Mapping[str, Any]] | Sequence[Sequence[Any]]
COLOURS: Final = (
    *("#3b6ea8", "#d1603d", "#2e8b57", "#8a5fa8", "#b08a2e"),
    *("#4aa3a2", "#b03a48", "#6b6b6b", "#7fa650", "#c46fa0"),
)
_LOOK_SECONDS: Final = 0.5


@dataclass(frozen=True)
class Panel:
    """One of the pictures of a chart; all of them have the same x.

    `lines`: the name of each line, and the column that it shows. `form`: how the numbers are
    written, in d3's words (".0%").
    """

    title: str
    lines: Mapping[str, str]
    form: str = ""


class Chart:
    """A picture of rows in a notebook, which moves when rows come, also while a cell runs.

    It is drawn anew in its place (Jupyter's `update_display_data`): so it needs no widget, and
    what is seen is what is saved with the notebook.

    `x` is the column from left to right, `panels` what is drawn over it; with `by`, another
    column, there is a line for each of its values. Rows are a DataFrame of pandas, dicts, named
    tuples or Spark's rows, whose columns are found by name; or tuples of just the columns x, by
    (if there is one), and those of the panels, in this order. They are drawn in the order in
    which they come. A null in a line is left out of it.
    """

    def __init__(
        self,
        x: str,
        panels: Sequence[Panel],
        *,
        by: str | None = None,
        most: int | None = None,
        kind: Kind = "lines",
        title: str = "",
    ) -> None:
        """Nothing is drawn yet. `most` as in `new_max`."""
        self._x, self._by, self._kind = x, by, kind
        self._panels = tuple(panels)
        self._shown = [column for panel in panels for column in panel.lines.values()]
        self._columns = list(dict.fromkeys([x, *([by] if by else []), *self._shown]))
        self._traces: dict[tuple[int, str], Any] = {}
        self._lock = threading.RLock()  # rows may come from a thread that follows a file
        self._most: int | None = None
        self._handle: Any = None
        self.rows = pd.DataFrame(columns=self._columns)
        self.figure = _empty_figure(x, self._panels, title)
        self.new_max(most)

    def apply_on(self, rows: Rows) -> Self:
        """Draw these rows in the place of those before.

        Raises:
            InvalidInputError: a column is missing, or one that is drawn holds no numbers.
        """
        with self._lock:
            self.rows = self._last(self._frame(rows))
            self._draw()
        return self

    def add_and_apply(self, rows: Rows) -> Self:
        """Draw these rows after those before.

        Raises:
            InvalidInputError: as `apply_on`.
        """
        with self._lock:
            new = self._frame(rows)
            parts = [part for part in (self.rows, new) if len(part)]
            self.rows = self._last(pd.concat(parts, ignore_index=True) if parts else new)
            self._draw()
        return self

    def new_max(self, most: int | None) -> Self:
        """Keep the last `most` rows, from now on: of each line, if there is `by`; None: all.

        Raises:
            InvalidInputError: it is less than 1.
        """
        if most is not None and most < 1:
            raise InvalidInputError(f"{most} is no number of rows to keep", todo="give 1 or more")
        with self._lock:
            self._most = most
            self.rows = self._last(self.rows)
            self._draw()
        return self

    def _ipython_display_(self) -> None:
        """Show it below the cell; from now on it moves there."""
        from IPython.display import display  # noqa: PLC0415 - only notebooks have it

        with self._lock:
            self._handle = display(  # type: ignore[no-untyped-call]
                _bundle(self.figure), raw=True, display_id=True
            )

    def _frame(self, rows: Rows) -> pd.DataFrame:
        """The rows' columns that are drawn, checked."""
        frame = rows if isinstance(rows, pd.DataFrame) else self._frame_of_list(list(rows))
        missing = [name for name in self._columns if name not in frame.columns]
        if missing:
            known = ", ".join(map(repr, frame.columns)) or "none"
            raise InvalidInputError(
                f"the rows have no column {', '.join(map(repr, missing))}; they have {known}",
                where="chart",
                todo="give rows that have it, or name another column when the chart is made",
            )
        frame = frame[self._columns].reset_index(drop=True)
        for name in self._shown:
            try:
                frame[name] = pd.to_numeric(frame[name]).astype(float)
            except (TypeError, ValueError) as error:
                raise InvalidInputError(
                    f"the column {name!r} holds what is no number: {error}", where="chart"
                ) from error
        return frame

    def _frame_of_list(self, rows: list[Any]) -> pd.DataFrame:
        if not rows:
            return pd.DataFrame(columns=self._columns)
        named = [named for row in rows if (named := _named(row)) is not None]
        if len(named) == len(rows):
            return pd.DataFrame(named)
        for row in rows:
            if named or _size(row) != len(self._columns):
                raise InvalidInputError(
                    f"a row is {row!r}; it is to have {', '.join(map(repr, self._columns))}",
                    where="chart",
                    todo="give a DataFrame, dicts, or tuples of these values in this order",
                )
        return pd.DataFrame(rows, columns=self._columns)

    def _last(self, rows: pd.DataFrame) -> pd.DataFrame:
        if self._most is None:
            return rows
        parts = rows.groupby(self._by, sort=False, dropna=False) if self._by else rows
        return parts.tail(self._most).reset_index(drop=True)

    def _draw(self) -> None:
        lines = dict(self._lines())
        for number, name in lines:
            if (number, name) not in self._traces:
                self._traces[number, name] = self._new_trace(number, name)
        for key, trace in self._traces.items():
            trace.x, trace.y = lines.get(key, ([], []))
        if self._handle is not None:
            # JupyterLab's plotly keeps a graph that it has drawn: without one between, none moves.
            self._handle.update({"text/plain": ""}, raw=True)
            self._handle.update(_bundle(self.figure), raw=True)

    def _lines(self) -> Iterator[tuple[tuple[int, str], tuple[list[Any], list[Any]]]]:
        """The points of each line, by its panel's number and its name."""
        groups: list[tuple[Any, pd.DataFrame]] = [("", self.rows)]
        if self._by:
            groups = list(self.rows.groupby(self._by, sort=False, dropna=False))
        for number, panel in enumerate(self._panels):
            for group, rows in groups:
                for line, column in panel.lines.items():
                    several = len(panel.lines) > 1 or not self._by
                    name = ", ".join([*([str(group)] * bool(self._by)), *([line] * several)])
                    points = rows[[self._x, column]].dropna(subset=[column])
                    yield (number, name), (points[self._x].tolist(), points[column].tolist())

    def _new_trace(self, number: int, name: str) -> Any:
        names = list(dict.fromkeys(known for _, known in self._traces))
        first = name not in names
        colour = COLOURS[(len(names) if first else names.index(name)) % len(COLOURS)]
        told = {"name": name, "legendgroup": name, "showlegend": first}
        if self._kind == "bars":
            trace = go.Bar(marker_color=colour, **told)
        else:
            mode = "markers" if self._kind == "points" else "lines+markers"
            marks = {"size": 8 if self._kind == "points" else 5, "color": colour}
            trace = go.Scatter(mode=mode, marker=marks, line={"color": colour}, **told)
        self.figure.add_trace(trace, row=1, col=number + 1)
        return self.figure.data[-1]


class EventChart:
    """A chart of an event file, which is read anew whenever it has changed.

    All that is drawn is in the file: another kernel, or another browser, draws the same.
    """

    def __init__(
        self, path: Path | str, *, chart: Chart, rows_of: Callable[[Sequence[Event]], Rows]
    ) -> None:
        """Nothing is read yet; the file may not be there yet."""
        self.path = Path(path)
        self.chart = chart
        self._rows_of = rows_of
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._seen: tuple[int, int, int] | None = None
        self._ended = False

    def draw(self) -> Self:
        """Draw what the file tells now; nothing, if there is none.

        Raises:
            InvalidInputError: it is no event file.
        """
        try:
            status = self.path.stat()
            seen = (status.st_ino, status.st_size, status.st_mtime_ns)
            if seen != self._seen:
                events = read_events(self.path)
                self.chart.apply_on(self._rows_of(events))
                self._ended = any(event["event"] == "end" for event in events)
                self._seen = seen
        except FileNotFoundError:
            return self
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InvalidInputError(
                "is no event file of this chart", where=str(self.path), todo="name another one"
            ) from error
        return self

    def follow(
        self,
        *,
        seconds: float | None = None,
        alive: Callable[[], bool] | None = None,
        background: bool = False,
    ) -> None:
        """Show the chart, and draw it whenever the file grows.

        The cell runs until the `end` event is there or, if `alive` is given, until that is False
        (say `lambda: process.poll() is None`; the file may be of an earlier run at first). It
        ends, too, after `seconds`, and when it is interrupted: what writes the file goes on. With
        `background` it ends at once and a thread draws, until then or until `stop`.

        Raises:
            InvalidInputError: it is no event file.
        """
        self.stop()
        self._stop.clear()
        _show(self.chart)
        until = None if seconds is None else time.monotonic() + seconds
        if background:
            self._thread = threading.Thread(
                target=self._follow_quietly, args=(until, alive), daemon=True
            )
            self._thread.start()
        else:
            self._follow(until, alive)

    @property
    def following(self) -> bool:
        """Whether a thread follows the file."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """End the thread that follows the file, if there is one."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _follow(self, until: float | None, alive: Callable[[], bool] | None) -> None:
        try:
            while True:
                over = self._stop.is_set() or (alive is not None and not alive())
                self.draw()  # after the question: what was written at last is drawn, too
                over = over or (self._ended and alive is None)
                if over or (until is not None and time.monotonic() > until):
                    break
                self._stop.wait(_LOOK_SECONDS)
        except KeyboardInterrupt:
            say(f"no longer followed; what writes {self.path} goes on")

    def _follow_quietly(self, until: float | None, alive: Callable[[], bool] | None) -> None:
        """In a thread nobody waits for the error: it is said."""
        try:
            self._follow(until, alive)
        except SentimentError as error:
            say(f"error: {error}")

    def _ipython_display_(self) -> None:
        """Show the chart of what the file tells now."""
        self.draw().chart._ipython_display_()


def training(path: Path | str, *, most: int | None = None) -> EventChart:
    """Loss and error in training and validation, and tokens a second, by round.

    Of a run on GPUs, if its file tells so already, also how busy the idlest of them is.

    `path` is the event file of `sentiment train`, MODEL.events.jsonl; `most` as in `new_max`.
    """
    loss = {"training": "train_loss", "validation": "validation_loss"}
    error = {"training": "train_error", "validation": "validation_error"}
    panels = [
        Panel("loss", loss),
        Panel("error", error, ".0%"),
        Panel("tokens a second", {"training": "tokens_per_second"}),
    ]
    if _on_gpus(Path(path)):
        panels.append(Panel("GPU busy", {"the idlest": "gpu_busy"}, ".0%"))
    chart = Chart("round", panels, most=most)
    return EventChart(path, chart=chart, rows_of=_training_rows)


def stream(path: Path | str, *, most: int | None = 500) -> EventChart:
    """Share of praise, reviews scored a second, and latency, by micro-batch.

    `path` is the event file of `sentiment stream`, OUT/events.jsonl; `most` as in `new_max`.
    """
    panels = [
        Panel("praise", {"praise": "praise"}, ".0%"),
        Panel("reviews a second", {"reviews": "rate"}),
        Panel("seconds to the score", {"median": "latency_p50", "99 of 100": "latency_p99"}),
    ]
    chart = Chart("batch", panels, most=most)
    return EventChart(path, chart=chart, rows_of=_stream_rows)


def _on_gpus(path: Path) -> bool:
    """Whether an event file tells of a run on GPUs; one that is no such file is told by `draw`."""
    try:
        return any(event.get("device") == "cuda" for event in read_events(path))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _gpu_busy(event: Event) -> float | None:
    """The share of time in which the idlest GPU of a round computes, as far as that is known."""
    told = [shard["gpu"]["busy"] for shard in event.get("shards", []) if shard.get("gpu")]
    known = [busy for busy in told if busy is not None]
    return min(known) / 100 if known else None


def _training_rows(events: Sequence[Event]) -> pd.DataFrame:
    """A row a round; where an epoch ended, with its validation. A round made again counts last."""
    names = ("train_loss", "train_error", "tokens_per_second", "validation_loss")
    rounds: dict[int, dict[str, Any]] = {}
    for event in events:
        row = {name: event[name] for name in names if name in event}
        for part in ("train", "validation"):
            if f"{part}_accuracy" in event:
                row[f"{part}_error"] = 1 - event[f"{part}_accuracy"]
        if event["event"] == "round":
            row["gpu_busy"] = _gpu_busy(event)
        if event["event"] in ("round", "epoch"):
            rounds.setdefault(event["round"], {"round": event["round"]}).update(row)
    columns = ["round", *names, "validation_error", "gpu_busy"]
    return pd.DataFrame([rounds[number] for number in sorted(rounds)], columns=columns)


def _stream_rows(events: Sequence[Event]) -> pd.DataFrame:
    """A row a batch. A batch made again counts last."""
    batches = {event["batch"]: event for event in events if event["event"] == "batch"}
    rows = [
        {
            "batch": number,
            "praise": one["praise"] / one["scored"] if one["scored"] else None,
            "rate": one["scored"] / max(one["seconds"], 0.001),
            "latency_p50": one["latency_p50"],
            "latency_p99": one["latency_p99"],
        }
        for number, one in sorted(batches.items())
    ]
    return pd.DataFrame(rows, columns=["batch", "praise", "rate", "latency_p50", "latency_p99"])


def _empty_figure(x: str, panels: Sequence[Panel], title: str) -> go.Figure:
    """Axes and no line."""
    figure = make_subplots(rows=1, cols=len(panels), horizontal_spacing=0.08)
    for number, panel in enumerate(panels, start=1):
        figure.update_xaxes(title=x, col=number)
        figure.update_yaxes(title=panel.title, tickformat=panel.form, col=number)
    figure.update_layout(
        template="plotly_white",
        title=title or None,
        height=360,
        margin={"l": 60, "r": 20, "t": 60 if title else 30, "b": 50},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom"},
    )
    return figure


def _named(row: Any) -> Mapping[str, Any] | None:
    """A row by its names, if it has names: of a tuple's values alone the order may be another."""
    if isinstance(row, Mapping):
        return row
    for way in ("asDict", "_asdict"):  # Spark's rows, named tuples
        if hasattr(row, way):
            named: Mapping[str, Any] = getattr(row, way)()
            return named
    return None


def _size(row: Any) -> int:
    return len(row) if isinstance(row, Sequence) and not isinstance(row, str) else 0


def _bundle(figure: go.Figure) -> dict[str, Any]:
    """A figure as plotly gives it to a notebook: its data by kind."""
    return dict(figure._repr_mimebundle_())


def _show(chart: Chart) -> None:
    """Show a chart below the cell that runs; nothing, where there is no notebook."""
    from IPython.core.getipython import get_ipython  # noqa: PLC0415 - only notebooks have it

    if get_ipython() is not None:
        chart._ipython_display_()
