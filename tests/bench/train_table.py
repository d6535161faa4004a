"""How the rows of `tests.bench.train` are shown: a table, the limits, and a plot."""

from statistics import median

from tests.bench.measure import spread

BESIDE = "beside each other"
"""The place of rows that were measured at the same time, and are no rows of the table."""


def show(rows, target):
    """The table, grouped by place; then the plot of time to the accuracy, for Mermaid."""
    groups = {}
    for row in (row for row in rows if row.place != BESIDE):
        groups.setdefault((row.place, row.workers, row.way), []).append(row)
    ones = {place: _one(groups, place) for place, *_ in groups}
    titles = ("where", "workers", "how", "tokens/s", "times one worker", "predicted")
    print(f"| {' | '.join(titles)} | s to {target:.0%} | accuracy |")
    print("|---|---|---|---|---|---|---|---|")
    for (place, workers, way), same in groups.items():
        times = predicted = "–"
        if (one := ones[place]) and workers > 1:
            speed_ups = [row.tokens_per_second / one for row in same]
            times = f"{spread(speed_ups)}" if len(same) > 1 else f"{speed_ups[0]:.2f}"
            if same[0].predicted is not None:
                errors = [row.predicted / s - 1 for row, s in zip(same, speed_ups, strict=True)]
                predicted = f"{median(row.predicted for row in same):.2f} ({median(errors):+.0%})"
        speed = spread([row.tokens_per_second for row in same])
        shown = speed if len(same) > 1 else f"{speed.median:,.0f}"
        reached = [row.seconds_to_target for row in same if row.seconds_to_target is not None]
        seconds = f"{median(reached):.0f}" if len(reached) == len(same) else "not reached"
        right = median(row.accuracy for row in same)
        cells = (place, workers, way, shown, times, predicted, seconds, f"{right:.1%}")
        print(f"| {' | '.join(map(str, cells))} |")
    _show_overhead([row for row in rows if row.place == BESIDE])
    print(_plot(groups, target))


def _show_overhead(beside):
    """What one worker on the cluster takes beside the plain loop of the same seconds.

    `beside`: for each run the worker's row, then the loop's.
    """
    for worker, plain in zip(beside[::2], beside[1::2], strict=True):
        speeds = worker.tokens_per_second, plain.tokens_per_second
        print(
            "\nOne worker on the cluster, and a plain loop beside it: "
            "{:,.0f} and {:,.0f} tokens/s; {:+.1%} of its time.".format(
                *speeds, speeds[1] / speeds[0] - 1
            )
        )


def _one(groups, place):
    """Tokens a second of one worker there: of a host, of the machine that it shares."""
    for where in (place, "embedded", "one process"):
        for way in ("averaging", "plain PyTorch loop"):
            if same := groups.get((where, 1, way)):
                return median(row.tokens_per_second for row in same)
    return None


def _plot(groups, target):
    """A bar for each way to train with several workers."""
    bars = [
        (f"{place} x{workers} {way.split(',')[0]}", median(row.seconds_to_target for row in same))
        for (place, workers, way), same in groups.items()
        if all(row.seconds_to_target is not None for row in same)
    ]
    names = ", ".join(f'"{name.replace(",", "")}"' for name, _ in bars)
    values = ", ".join(f"{seconds:.0f}" for _, seconds in bars)
    return "\n".join(
        [
            "",
            "```mermaid",
            "xychart-beta horizontal",
            f'    title "Seconds to {target:.0%}"',
            f"    x-axis [{names}]",
            '    y-axis "seconds"',
            f"    bar [{values}]",
            "```",
        ]
    )
