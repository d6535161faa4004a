"""Runs that are compared are run in turn, so that a machine's drift meets both."""

import os
import platform
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Spread:
    """The median of some runs with the smallest and the largest."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:,.4g} ({self.low:,.4g} – {self.high:,.4g})"


def spread(values: list[float]) -> Spread:
    return Spread(statistics.median(values), min(values), max(values))


def in_turn(runs: int, measured: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Call each function once uncounted, then all of them in turn `runs` times."""
    for function in measured.values():
        function()
    results: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(runs):
        for name, function in measured.items():
            results[name].append(function())
    return results


def ratios(ours: list[float], theirs: list[float]) -> Spread:
    """Ours over theirs, pair by pair."""
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])


def machine() -> str:
    """The machine's name for a table."""
    with Path("/proc/cpuinfo").open() as file:
        models = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores, "
        f"{memory:.0f} GiB, Python {platform.python_version()}"
    )
