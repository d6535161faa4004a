"""How a run looks on a terminal: a picture that is drawn again, or a line for each event."""

import statistics
from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sparkbundle.jobs_view import duration
from sparkbundle.watching import Course, Event

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 40
_SHOWN_WARNINGS = 3


def picture(course: Course, *, title: str) -> RenderableType:
    """All that is to be seen of a run."""
    parts: list[RenderableType] = [Text(title, style="bold")]
    if course.batches:
        parts.append(_stream(course))
    elif course.start is not None:
        parts += _training(course, course.start)
    elif course.plan is not None:
        parts.append(Text(f"plan: {course.plan['advice']}"))
    else:
        parts.append(Text("no figures yet"))
    parts += [Text(f"warning: {one}", style="yellow") for one in course.warnings[-_SHOWN_WARNINGS:]]
    return Group(*parts)


def line(event: Event, course: Course) -> str | None:
    """One event as a line of a log; None: it is not shown."""
    shown = _LINES.get(event["event"])
    return shown(event, course) if shown else None


def skew(round_: Event) -> float:
    """How much longer the slowest worker of a round took than the one in the middle."""
    seconds = [shard["seconds"] for shard in round_["shards"]]
    middle = statistics.median(seconds) if seconds else 0.0
    return max(seconds) / middle if middle > 0 else 1.0


def share(part: int, whole: int) -> str:
    """So many of so many, in percent."""
    return f"{part / whole:.0%}" if whole else "–"


def curve(values: Sequence[float], *, width: int = _WIDTH) -> str:
    """Values as bars of eight heights, between the lowest of them and the highest.

    More values than `width` are brought together: a bar is then the mean of its part.
    """
    size = max(1, -(-len(values) // width))
    means = [statistics.fmean(values[at : at + size]) for at in range(0, len(values), size)]
    low, high = min(means, default=0.0), max(means, default=0.0)
    steps = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * steps)] for value in means)


def _start_line(event: Event, _: Course) -> str:
    workers = f"{event['workers']} worker{'s' * (event['workers'] != 1)}"
    words = f"{event['rows']:,} reviews, {event['vocabulary']:,} words"
    on = " on GPUs" if event.get("device") == "cuda" else ""
    return f"recipe {event['recipe']['name']}, {words}, {workers}{on}"


def _round_line(event: Event, course: Course) -> str:
    return (
        f"round {event['round']}/{course.start['rounds'] if course.start else '?'}  "
        f"loss {event['train_loss']:.4f}  accuracy {event['train_accuracy']:.1%}  "
        f"{event['tokens_per_second']:,} tokens/s  skew {skew(event):.2f}"
    )


def _epoch_line(event: Event, _: Course) -> str:
    return (
        f"epoch {event['epoch']}  validation loss {event['validation_loss']:.4f}  "
        f"accuracy {event['validation_accuracy']:.1%}{'  the best so far' * event['best']}"
    )


def _batch_line(event: Event, _: Course) -> str:
    return (
        f"batch {event['batch']}  {event['scored']:,} scored  "
        f"{share(event['praise'], event['scored'])} praise  "
        f"{event['quarantined']:,} quarantined  {event['seconds']:.1f} s"
    )


def _end_line(event: Event, _: Course) -> str:
    accuracy = f"{event['validation_accuracy']:.1%}"
    return f"trained: validation accuracy {accuracy} after epoch {event['kept_epoch']}"


_LINES: dict[str, Callable[[Event, Course], str]] = {
    "start": _start_line,
    "round": _round_line,
    "epoch": _epoch_line,
    "batch": _batch_line,
    "end": _end_line,
    "warning": lambda event, _: f"warning: {event['text']}",
}


def _figures(rows: Sequence[tuple[str, Sequence[float], str]]) -> Table:
    """Names, curves, and the last values in words."""
    table = Table.grid(padding=(0, 2))
    for name, values, words in rows:
        table.add_row(name, Text(curve(values), style="cyan"), words)
    return table


def _training(course: Course, start: Event) -> list[RenderableType]:
    made = max(course.rounds, default=start.get("rounds_made", 0))
    where = f"round {made}/{start['rounds']}"
    if course.end is None and course.left_seconds is not None:
        where += f", about {duration(course.left_seconds)} left"
    bar = Table.grid(padding=(0, 1))
    bar.add_row(ProgressBar(total=max(start["rounds"], 1), completed=made, width=_WIDTH), where)
    parts: list[RenderableType] = [Text(_start_line(start, course)), bar]
    rounds = list(course.rounds.values())
    if not rounds:
        return [*parts, Text("the first round runs")]
    last, best = rounds[-1], _best(course)
    loss = f"{last['train_loss']:.4f} in training"
    accuracy = f"{last['train_accuracy']:.1%} in training"
    if best is not None:
        loss += f", {best['validation_loss']:.4f} on validation (epoch {best['epoch']})"
        accuracy += f", {best['validation_accuracy']:.1%} on validation"
    rows = [
        ("loss", [one["train_loss"] for one in rounds], loss),
        ("accuracy", [one["train_accuracy"] for one in rounds], accuracy),
        ("gradient", [one["gradient_norm"] for one in rounds], f"norm {last['gradient_norm']:.3f}"),
        (
            "tokens/s",
            [one["tokens_per_second"] for one in rounds],
            f"{last['tokens_per_second']:,}",
        ),
    ]
    return [*parts, _figures(rows), _workers(last)]


def _best(course: Course) -> Event | None:
    return min(course.epochs.values(), key=lambda one: one["validation_loss"], default=None)


def _workers(last: Event) -> Table:
    """What each worker did in the last round; the slowest has the longest bar."""
    slowest = max((shard["seconds"] for shard in last["shards"]), default=0.0) or 1.0
    table = Table(box=None, pad_edge=False, header_style="dim", caption_justify="left")
    for name in ("worker", "reviews", "tokens/s"):
        table.add_column(name, justify="right")
    table.add_column("time")
    on_gpus = any("gpu" in shard for shard in last["shards"])
    if on_gpus:
        table.add_column("GPU")
    for number, shard in enumerate(last["shards"]):
        seconds = shard["seconds"]
        bar = "█" * max(1, round(seconds / slowest * 20))
        speed = f"{shard['tokens'] / seconds:,.0f}" if seconds else "–"
        gpu = [_gpu(shard["gpu"]) if "gpu" in shard else "-"] if on_gpus else []
        table.add_row(str(number), f"{shard['rows']:,}", speed, f"{bar:<20} {seconds:.1f} s", *gpu)
    agreeing = f"{last['overhead_seconds']:.1f} s of {last['seconds']:.1f} s for agreeing"
    table.caption = f"skew {skew(last):.2f}; {agreeing}"
    return table


def _gpu(use: Event) -> str:
    """A GPU's name, how busy it is, and what is taken of its memory."""
    busy = "" if use["busy"] is None else f"{use['busy']} % busy, "
    return (
        f"{use['name']}: {busy}{use['used_mib'] / 1024:.1f} of {use['memory_mib'] / 1024:.1f} GiB"
    )


def _stream(course: Course) -> Table:
    batches, totals = list(course.batches.values()), course.totals
    last = batches[-1]
    scored = [one for one in batches if one["scored"]]
    timed = [one for one in batches if one["latency_p50"] is not None]
    rates = [one["scored"] / max(one["seconds"], 0.001) for one in scored]
    rows: list[tuple[str, Sequence[float], str]] = [
        ("batches", [], f"{last['batch'] + 1:,}; model {last['model_digest'][:8]}"),
        ("reviews/s", rates, f"{rates[-1]:,.0f}" if rates else "–"),
        (
            "praise",
            [one["praise"] / one["scored"] for one in scored],
            share(totals["praise"], totals["scored"]),
        ),
    ]
    if timed:
        half, most = (timed[-1][name] for name in ("latency_p50", "latency_p99"))
        words = f"{half:.1f} s from arrival to score, p99 {most:.1f} s"
        rows.append(("latency", [one["latency_p50"] for one in timed], words))
    words = f"{totals['scored']:,} scored of {totals['rows']:,}"
    words += "".join(f", {totals[name]:,} {told}" for name, told in _REST.items() if totals[name])
    rows.append(("rows", [], words))
    if last.get("waiting"):
        rows.append(("waiting", [one.get("waiting", 0) for one in batches], f"{last['waiting']:,}"))
    return _figures(rows)


_REST = {"quarantined": "quarantined", "duplicates": "scored before", "late": "late"}
