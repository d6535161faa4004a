"""What TensorBoard is to show of an event: scalars and histograms at a step.

The step of a training's events is the round, that of a stream's the micro-batch. A tag's first
part is the group that it is shown in.
"""

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sentiment.events import Event


@dataclass(frozen=True)
class Histogram:
    """Counts in buckets of one width, from `low` to `high`."""

    low: float
    high: float
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Summaries:
    """By tag."""

    step: int
    scalars: Mapping[str, float]
    histograms: Mapping[str, Histogram] = field(default_factory=dict)


def summaries_of(event: Event) -> Summaries | None:
    """What is to be shown of an event; None: nothing. What is missing in it is left out."""
    made = _MADE.get(event["event"])
    try:
        return made(event) if made else None
    except (AttributeError, KeyError, TypeError, ValueError):
        return None  # not as this version writes it


def _round(event: Event) -> Summaries:
    scalars = {
        "loss/training": event.get("train_loss"),
        "error/training": _rest(event.get("train_accuracy")),
        "learning_rate": event.get("learning_rate"),
        "gradient_norm/all layers": event.get("gradient_norm"),
        "speed/tokens a second": event.get("tokens_per_second"),
        "seconds/round": event.get("seconds"),
        "seconds/agreeing": event.get("overhead_seconds"),
    }
    if seconds := [shard["seconds"] for shard in event.get("shards", [])]:
        slowest, middle = max(seconds), statistics.median(seconds)
        scalars["seconds/slowest worker"] = slowest
        scalars["seconds/worker in the middle"] = middle
        scalars["skew/slowest worker to the one in the middle"] = _ratio(slowest, middle)
    return Summaries(event["round"], _finite(scalars))


def _epoch(event: Event) -> Summaries:
    scalars = {
        "loss/validation": event.get("validation_loss"),
        "error/validation": _rest(event.get("validation_accuracy")),
    }
    return Summaries(event["round"], _finite(scalars))


def _layers(event: Event) -> Summaries:
    scalars: dict[str, Any] = {}
    histograms = {}
    for layer in event["layers"]:
        for kind in ("weight", "update", "gradient"):
            scalars[f"{kind}_norm/{layer['name']}"] = layer.get(f"{kind}_norm")
            if told := layer.get(f"{kind}s"):
                shown = Histogram(told["low"], told["high"], tuple(told["counts"]))
                histograms[f"{kind}s/{layer['name']}"] = shown
    return Summaries(event["round"], _finite(scalars), histograms)


def _batch(event: Event) -> Summaries:
    rows = event.get("rows", 0)
    scalars = {
        "speed/rows a second": _ratio(rows, event.get("seconds")),
        "seconds/batch": event.get("seconds"),
        "latency/median": event.get("latency_p50"),
        "latency/99 of 100": event.get("latency_p99"),
        "lag/files that wait": event.get("waiting"),
        "rows/scored": event.get("scored"),
        "share/praise": _ratio(event.get("praise"), event.get("scored")),
        **{
            f"share/{name}": _ratio(event.get(name), rows)
            for name in ("quarantined", "duplicates", "late")
        },
    }
    return Summaries(event["batch"], _finite(scalars))


_MADE: Mapping[str, Callable[[Event], Summaries]] = {
    "round": _round,
    "layers": _layers,
    "epoch": _epoch,
    "batch": _batch,
}


def _rest(share: float | None) -> float | None:
    """The error, of an accuracy."""
    return None if share is None else 1 - share


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _finite(scalars: Mapping[str, Any]) -> dict[str, float]:
    """Those that are numbers: a stream of a socket has no latency, an old file no learning rate."""
    return {
        tag: float(value)
        for tag, value in scalars.items()
        if value is not None and math.isfinite(value)
    }
