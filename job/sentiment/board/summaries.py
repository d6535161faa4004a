"""What TensorBoard is to show of an event: scalars and histograms at a step.

The step of a training's events is the round, that of a stream's the micro-batch. A tag's first
part is the group that it is shown in.
"""

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sentiment.events import Event

_LAST_STEP: Final = (1 << 62) - 1


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
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        return None  # not as this version writes it


def first_step(event: Event) -> int | None:
    """The round that a run begins with, or goes on with from a checkpoint; None: it is no start."""
    made = event.get("rounds_made", 0)
    if event["event"] != "start" or not isinstance(made, int) or not 0 <= made < _LAST_STEP:
        return None
    return made + 1


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
    for number, shard in enumerate(event.get("shards", [])):
        if gpu := shard.get("gpu"):
            scalars[f"gpu/percent busy, worker {number}"] = gpu["busy"]
            scalars[f"gpu/percent of memory used, worker {number}"] = _percent(gpu)
    return Summaries(_step(event["round"]), _finite(scalars))


def _epoch(event: Event) -> Summaries:
    scalars = {
        "loss/validation": event.get("validation_loss"),
        "error/validation": _rest(event.get("validation_accuracy")),
    }
    return Summaries(_step(event["round"]), _finite(scalars))


def _layers(event: Event) -> Summaries:
    scalars: dict[str, Any] = {}
    histograms = {}
    for layer in event["layers"]:
        name = str(layer["name"]).encode(errors="replace").decode()
        for kind in ("weight", "update", "gradient"):
            scalars[f"{kind}_norm/{name}"] = layer.get(f"{kind}_norm")
            if told := layer.get(f"{kind}s"):
                histograms[f"{kind}s/{name}"] = _histogram(told)
    return Summaries(_step(event["round"]), _finite(scalars), histograms)


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
    return Summaries(_step(event["batch"]), _finite(scalars))


_MADE: Mapping[str, Callable[[Event], Summaries]] = {
    "round": _round,
    "layers": _layers,
    "epoch": _epoch,
    "batch": _batch,
}


def _step(number: Any) -> int:
    """As TensorBoard's format can have it."""
    if not 0 <= number <= _LAST_STEP:
        raise ValueError(f"no step: {number}")
    return int(number)


def _histogram(told: Mapping[str, Any]) -> Histogram:
    low, high = float(told["low"]), float(told["high"])
    if not math.isfinite(high - low) or not told["counts"]:
        raise ValueError(f"no buckets: {low} to {high}")
    return Histogram(low, high, tuple(map(int, told["counts"])))


def _rest(share: float | None) -> float | None:
    """The error, of an accuracy."""
    return None if share is None else 1 - share


def _percent(gpu: Mapping[str, Any]) -> float:
    return 100 * float(gpu["used_mib"]) / float(gpu["memory_mib"])


def _ratio(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _finite(scalars: Mapping[str, Any]) -> dict[str, float]:
    """Those that are numbers: a stream of a socket has no latency, an old file no learning rate."""
    return {
        tag: float(value)
        for tag, value in scalars.items()
        if value is not None and math.isfinite(value)
    }
