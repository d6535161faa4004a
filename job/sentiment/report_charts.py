"""The charts of the report, drawn from what a run measured."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sentiment.events import Event
from sentiment.metrics import wilson_interval
from sentiment.svg import Axis, Chart, round_axis

LENGTH_BINS: Final = (0, 100, 150, 200, 300, 500, 1_000_000)
HISTOGRAM_BINS: Final = 20
_NAMES = {1: "praise", 0: "pan"}


def learning_chart(events: Sequence[Event], kind: str, *, title: str, percent: bool) -> str:
    """Training and validation `kind` (loss or accuracy) by epoch, the kept epoch marked."""
    epochs = [event for event in events if event["event"] == "epoch"]
    rounds = [event for event in events if event["event"] == "round"]
    parts = epochs[0]["round"] / epochs[0]["epoch"]
    trained = [(event["round"] / parts, event[f"train_{kind}"]) for event in rounds]
    checked = [(float(event["epoch"]), event[f"validation_{kind}"]) for event in epochs]
    values = [value for _, value in [*trained, *checked]]
    text = _percent if percent else _plain
    y_axis = round_axis(min(values), max(values), title=title, text=text)
    last = int(checked[-1][0])
    ticks = [(n, str(n)) for n in range(last + 1)]
    chart = Chart(
        x=Axis(low=0, high=last + 0.15, ticks=ticks, title="epoch"),
        y=y_axis,
        about=f"{kind} in training and validation, by epoch",
    )
    kept = kept_epoch(epochs)
    at = next(value for epoch, value in checked if epoch == kept)
    chart.segment((kept, y_axis.low), (kept, y_axis.high), kind="kept")
    chart.line(trained, kind="training")
    chart.line(checked, kind="validation")
    for x, y in trained:
        chart.dot((x, y), kind="training small", title=f"training, epoch {x:.2g}: {_exact(y)}")
    for x, y in checked:
        chart.dot((x, y), kind="validation", title=f"validation, epoch {x:.0f}: {_exact(y)}")
    chart.dot((kept, at), kind="validation ring", title=f"kept: epoch {kept}, {_exact(at)}")
    return chart.svg()


def kept_epoch(epochs: Sequence[Event]) -> int:
    """The epoch (from 1) with the lowest validation loss, the first of several."""
    return int(min(epochs, key=lambda event: event["validation_loss"])["epoch"])


def probability_chart(probability: NDArray[np.float64], label: NDArray[np.int8]) -> str:
    """How many reviews of each label got which probability, one upon the other."""
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    counts = {value: np.histogram(probability[label == value], bins=edges)[0] for value in _NAMES}
    highest = int((counts[0] + counts[1]).max())
    chart = Chart(
        x=_shares("probability of praise"),
        y=round_axis(0, highest, title="reviews", text=lambda n: f"{n:,.0f}"),
        about="histogram of the probabilities, by what the reviews are",
    )
    for number, (low, high) in enumerate(pairwise(edges.tolist())):
        below = 0
        for value, name in _NAMES.items():
            count = int(counts[value][number])
            if count:
                chart.bar(
                    (low + 0.003, high - 0.003),
                    (below, below + count),
                    kind=name,
                    title=f"{count:,} reviews that are {name} got {low:.2f} to {high:.2f}",
                )
            below += count
    return chart.svg()


def calibration_chart(bins: Sequence[dict[str, Any]]) -> str:
    """The share of praise among reviews of like probability, with 95 % intervals."""
    chart = Chart(
        x=_shares("mean probability given"),
        y=_shares("share that is praise"),
        about="calibration: the share of praise against the probability of praise",
    )
    chart.segment((0, 0), (1, 1), kind="ideal")
    for one in bins:
        x, y = one["mean_probability"], one["share_praise"]
        low, high = wilson_interval(y, one["rows"])
        chart.segment((x, low), (x, high), kind="whisker")
        title = f"{one['rows']:,} reviews, mean probability {x:.3f}: {y:.1%} are praise"
        chart.dot((x, y), kind="validation", title=title)
    return chart.svg()


def length_chart(wrong: NDArray[np.bool_], tokens: NDArray[np.int64]) -> str:
    """The share of mistakes among short and long reviews, with 95 % intervals."""
    bars = []
    for low, high in pairwise(LENGTH_BINS):
        inside = (tokens >= low) & (tokens < high)
        if inside.any():
            end = f"–{high - 1}" if high != LENGTH_BINS[-1] else "+"
            bars.append((f"{low}{end}", int(wrong[inside].sum()), int(inside.sum())))
    spans = [wilson_interval(count / rows, rows) for _, count, rows in bars]
    ticks = [(number + 0.5, f"{name}\nn={rows:,}") for number, (name, _, rows) in enumerate(bars)]
    chart = Chart(
        x=Axis(low=0, high=len(bars), ticks=ticks, title=""),
        y=round_axis(0, max(high for _, high in spans), title="share wrong", text=_percent),
        about="share of mistakes by the review's number of tokens",
    )
    for number, ((name, count, rows), span) in enumerate(zip(bars, spans, strict=True)):
        title = f"{name} tokens: {count:,} of {rows:,} wrong"
        chart.bar((number + 0.15, number + 0.85), (0, count / rows), kind="plain", title=title)
        chart.segment((number + 0.5, span[0]), (number + 0.5, span[1]), kind="whisker")
    return chart.svg()


def _shares(title: str) -> Axis:
    return round_axis(0, 1, title=title, text=_plain)


def _plain(value: float) -> str:
    return f"{value:.3g}"


def _percent(value: float) -> str:
    return f"{value * 100:.3g}%"


def _exact(value: float) -> str:
    return f"{value:.4f}"
