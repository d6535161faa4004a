"""One HTML page about a training run, for someone who was not there.

One file: no network, no script. Its charts are static SVG, its numbers are in tables.
"""

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentiment.events import Event
from sentiment.files import write_file
from sentiment.metrics import wilson_interval
from sentiment.mistakes import Mistake
from sentiment.report_charts import (
    calibration_chart,
    kept_epoch,
    learning_chart,
    length_chart,
    probability_chart,
)
from sentiment.report_style import STYLE
from sentiment.report_tables import NUMBER, head_row, table
from sentiment.score import verdict

_OURS = ' class="ours"'
_LEARNING_KEYS = (
    ("training", "training, round by round"),
    ("validation", "validation, epoch by epoch"),
    ("kept", "the epoch that was kept"),
)
_LABEL_KEYS = (("praise", "is praise"), ("pan", "is a pan"))
_CALIBRATION_KEYS = (
    ("validation", "measured, with its 95% interval"),
    ("ideal", "what a probability promises"),
)


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the page shows.

    `question`: what the model is asked of a review. `held_out`: which reviews it was measured
    on, as the end of a sentence. `rows`: name and accuracy of the model and then of its controls.
    `probability`, `label`, `tokens`: of each review of the test split. `sentences`: text and
    probability of praise. `facts`: what it was trained on. `command` makes it again.
    """

    question: str
    held_out: str
    rows: Sequence[tuple[str, float]]
    events: Sequence[Event]
    metrics: dict[str, Any]
    probability: NDArray[np.float64]
    label: NDArray[np.int8]
    tokens: NDArray[np.int64]
    sentences: Sequence[tuple[str, float]]
    mistakes: Sequence[Mistake]
    facts: Sequence[tuple[str, str]]
    command: str
    date: datetime


def write_report(path: Path, report: Report) -> None:
    """Write the page: one file that opens anywhere.

    Raises:
        SentimentError: the disk refuses.
    """
    headline = _headline(report)
    body = (
        _head(report, headline),
        _tiles(report),
        _section("Compared with simpler models", _comparison(report)),
        _section("How it learned", _learning(report.events)),
        _section("What it said of the held-out reviews", _said(report)),
        _section("Where it is right, and how far its probabilities can be trusted", _trust(report)),
        _section("What it says of sentences made up for it", _sentences(report.sentences)),
        _section("Where it was surest, and wrong", _mistakes(report)),
        _section("How it was made", _made(report)),
    )
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(headline)}</title><style>{STYLE}</style></head>\n"
        f"<body>{''.join(body)}</body></html>\n"
    )
    write_file(path, page)


def _section(title: str, content: str) -> str:
    return f"<section><h2>{html.escape(title)}</h2>{content}</section>\n"


def _headline(report: Report) -> str:
    metrics = report.metrics
    return f"{metrics['accuracy']:.1%} of {metrics['rows']:,} held-out reviews judged right"


def _head(report: Report, headline: str) -> str:
    low, high = wilson_interval(report.metrics["accuracy"], report.metrics["rows"])
    return (
        f'<header><p class="above">{html.escape(report.question)}</p>'
        f"<h1>{html.escape(headline)}</h1>"
        f'<p class="lead">95% interval {low:.1%} to {high:.1%}. {_beside(report)}</p>'
        f'<p class="note">Measured on {html.escape(report.held_out)}. The interval is what chance '
        "in the choice of these reviews allows (Wilson 1927); what another seed of the training "
        "changes comes on top."
        f"<br>Made on {report.date:%Y-%m-%d %H:%M %Z}.</p></header>\n"
    )


def _beside(report: Report) -> str:
    """The model beside each control, the best one first, in words."""
    (_, ours), *controls = report.rows
    low, high = wilson_interval(ours, report.metrics["rows"])
    told = []
    for name, value in sorted(controls, key=lambda row: -row[1]):
        points = 100 * (value - ours)
        way = "more" if points > 0 else "less"
        chance = ", which may be chance" if low <= value <= high else ""
        told.append(f"{name} {value:.1%} ({abs(points):.1f} points {way}{chance})")
    return html.escape(f"Beside it, on the same reviews: {', '.join(told)}.") if told else ""


def _tiles(report: Report) -> str:
    metrics, end = report.metrics, _event(report.events, "end")
    cells = metrics["confusion"]
    wrong = cells["pan_as_praise"] + cells["praise_as_pan"]
    tiles = [
        (f"{metrics['f1']:.3f}", "F1 of praise"),
        (f"{wrong:,}", f"mistakes in {metrics['rows']:,} reviews"),
        (f"{metrics['calibration_error']:.3f}", "expected calibration error, 0 is best"),
    ]
    if end:
        tiles += [
            (f"{end['seconds']:,.0f} s", "to train, reading and validation included"),
            (f"{end['tokens_per_second']:,}", "tokens/s in training, all workers together"),
        ]
    items = "".join(f"<li><b>{value}</b><span>{what}</span></li>" for value, what in tiles)
    return f'<ul class="tiles">{items}</ul>\n'


def _comparison(report: Report) -> str:
    rows = report.metrics["rows"]
    spans = [wilson_interval(value, rows) for _, value in report.rows]
    left = math.floor(min(low for low, _ in spans) * 10) / 10
    lines = []
    for number, ((name, value), (low, high)) in enumerate(zip(report.rows, spans, strict=True)):
        lines.append(
            f"<tr{_OURS if number == 0 else ''}><td>{html.escape(name)}</td>"
            f"<td{NUMBER}>{value:.1%}</td><td{NUMBER}>{low:.1%} – {high:.1%}</td>"
            f"<td>{_strip(value, low, high, left=left)}</td></tr>"
        )
    head = head_row(["", "#accuracy", "#95% interval", f"from {left:.0%} to 100%"])
    note = f"All on the same {rows:,} reviews."
    return (
        f'<div class="wide"><table>{head}{"".join(lines)}</table></div><p class="note">{note}</p>'
    )


def _strip(value: float, low: float, high: float, *, left: float) -> str:
    """A value and its interval as marks on a strip from `left` to 1."""
    a, b, at = (100 * (v - left) / (1 - left) for v in (low, high, value))
    return (
        '<svg class="strip" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="all" width="100" height="10"/>'
        f'<rect class="span" x="{a:.2f}" width="{b - a:.2f}" height="10"/>'
        f'<rect class="at" x="{at - 0.4:.2f}" width="0.8" height="10"/></svg>'
    )


def _learning(events: Sequence[Event]) -> str:
    epochs = [event for event in events if event["event"] == "epoch"]
    rounds = [event for event in events if event["event"] == "round"]
    if not epochs:
        return "<p>No epoch was finished.</p>"
    start, kept = _event(events, "start"), kept_epoch(epochs)
    counts = (
        f"Training: the mean over each round's part of {start['rows']:,} reviews, with dropout. "
        f"Validation: {start['validation_rows']:,} others, held back. "
        if start
        else ""
    )
    per_epoch = {
        one["epoch"]: next(r for r in reversed(rounds) if r["round"] <= one["round"])
        for one in epochs
    }
    rows = [
        (
            str(one["epoch"]) + (" (kept)" if one["epoch"] == kept else ""),
            f"{per_epoch[one['epoch']]['train_loss']:.4f}",
            f"{per_epoch[one['epoch']]['train_accuracy']:.1%}",
            f"{one['validation_loss']:.4f}",
            f"{one['validation_accuracy']:.1%}",
        )
        for one in epochs
    ]
    head = (
        "epoch",
        "#training loss (last round)",
        "#training accuracy",
        "#validation loss",
        "#validation accuracy",
    )
    charts = "".join(
        f"<figure>{learning_chart(events, kind, title=title, percent=percent)}</figure>"
        for kind, title, percent in (
            ("loss", "loss (nats a review)", False),
            ("accuracy", "accuracy", True),
        )
    )
    return (
        f"{_legend(_LEARNING_KEYS)}"
        f'<div class="pair">{charts}</div>'
        f'<p class="note">{counts}The epoch with the lowest validation loss is kept: '
        f"epoch {kept} of {len(epochs)}.</p>{table(head, rows)}"
    )


def _said(report: Report) -> str:
    return (
        f'<div class="pair"><figure><h3>Reviews by what they are and what it said</h3>'
        f"{_confusion(report.metrics)}</figure>"
        f"<figure><h3>Reviews by the probability they got (n = {report.metrics['rows']:,})</h3>"
        f"{_legend(_LABEL_KEYS)}{probability_chart(report.probability, report.label)}"
        "<figcaption>Above 0.5 it says praise. The nearer to the ends, the surer it was."
        "</figcaption></figure></div>"
    )


def _confusion(metrics: dict[str, Any]) -> str:
    cells, lines = metrics["confusion"], []
    for what, name in (("pan", "is a pan"), ("praise", "is praise")):
        total = cells[f"{what}_as_pan"] + cells[f"{what}_as_praise"]
        columns = "".join(
            _cell(cells[f"{what}_as_{said}"], total, right=said == what)
            for said in ("pan", "praise")
        )
        lines.append(f"<tr><th>{name}</th>{columns}</tr>")
    head = "<tr><th></th><th>it said: pan</th><th>it said: praise</th></tr>"
    note = (
        f"Of praise: precision {metrics['precision']:.1%}, recall {metrics['recall']:.1%}. "
        f"Log loss {metrics['log_loss']:.3f} nats, Brier score {metrics['brier']:.3f}."
    )
    return (
        f'<div class="wide"><table class="confusion">{head}{"".join(lines)}</table></div>'
        f"<figcaption>{note}</figcaption>"
    )


def _cell(count: int, total: int, *, right: bool) -> str:
    kind, share = "right" if right else "wrong", count / max(total, 1)
    return f'<td class="{kind}"><b>{count:,}</b>{share:.1%} of {total:,}</td>'


def _trust(report: Report) -> str:
    bins = report.metrics["calibration"]
    wrong = (report.probability > 0.5) != (report.label == 1)  # noqa: PLR2004
    rows = [
        (
            f"{one['from']:.1f} – {one['to']:.1f}",
            f"{one['rows']:,}",
            f"{one['mean_probability']:.3f}",
            f"{one['share_praise']:.1%}",
        )
        for one in bins
    ]
    head = ("probability", "#reviews", "#mean given", "#praise")
    return (
        '<div class="pair"><figure><h3>Calibration</h3>'
        f"{_legend(_CALIBRATION_KEYS)}{calibration_chart(bins)}"
        f"<figcaption>Ten bins of equal width; expected calibration error "
        f"{report.metrics['calibration_error']:.3f} (Naeini et al. 2015).</figcaption>"
        f"<details><summary>the numbers</summary>{table(head, rows)}</details></figure>"
        "<figure><h3>Mistakes by length (tokens in the review)</h3>"
        f"{length_chart(wrong, report.tokens)}"
        "<figcaption>Lines: 95% intervals.</figcaption></figure></div>"
    )


def _sentences(sentences: Sequence[tuple[str, float]]) -> str:
    rows = [(text, f"{score:.3f}", verdict(score)) for text, score in sentences]
    return table(("text", "#probability of praise", "verdict"), rows)


def _mistakes(report: Report) -> str:
    if not report.mistakes:
        return "<p>It made none.</p>"
    shown = "".join(_mistake(one) for one in report.mistakes)
    return (
        '<p class="note">Excerpts of the reviews themselves, the verdict often at their end: mind '
        f"whose they are before this page is published.</p>{shown}"
    )


def _mistake(mistake: Mistake) -> str:
    said, name = verdict(mistake.probability), "praise" if mistake.label == 1 else "pan"
    return (
        f'<div class="mistake {name}"><div class="note">It is {name}; the model said {said}, '
        f"probability of praise {mistake.probability:.3f}; {mistake.tokens:,} tokens</div>"
        f"<blockquote>{html.escape(mistake.text)}</blockquote></div>"
    )


def _made(report: Report) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(a)}</th><td>{html.escape(b)}</td></tr>" for a, b in report.facts
    )
    return (
        f'<table class="facts">{rows}</table>{_workers(report.events)}'
        f"<h3>Made again with</h3><pre>{html.escape(report.command)}</pre>"
        '<p class="note">The same reviews, word table, seed, versions and number of workers give '
        "the same model, bit for bit.</p>"
    )


def _workers(events: Sequence[Event]) -> str:
    """What each worker did in all rounds, and how far the slowest was behind."""
    rounds = [event["shards"] for event in events if event["event"] == "round" if event["shards"]]
    if not rounds:
        return ""
    slowest = sum(max(shard["seconds"] for shard in shards) for shards in rounds)
    mean = sum(sum(shard["seconds"] for shard in shards) / len(shards) for shards in rounds)
    rows = []
    for number, shards in enumerate(zip(*rounds, strict=True), start=1):
        reviews, tokens, seconds = (
            sum(s[k] for s in shards) for k in ("rows", "tokens", "seconds")
        )
        rows.append(
            (
                str(number),
                f"{reviews:,}",
                f"{tokens:,}",
                f"{seconds:,.1f} s",
                f"{tokens / max(seconds, 1e-9):,.0f}",
                f"{max(slowest - seconds, 0):,.1f} s",
            )
        )
    head = (
        *("worker", "#reviews, all epochs", "#tokens", "#trained for"),
        *("#tokens/s", "#waited for the slowest"),
    )
    return (
        f"<h3>The workers</h3>{table(head, rows)}"
        f'<p class="note">Skew: the slowest worker of a round took {slowest / max(mean, 1e-9):.2f} '
        f"times the mean, over {len(rounds)} rounds.</p>"
    )


def _event(events: Sequence[Event], kind: str) -> Event | None:
    """The last event of a kind."""
    return next((event for event in reversed(events) if event["event"] == kind), None)


def _legend(keys: Iterable[tuple[str, str]]) -> str:
    items = "".join(f'<span><i class="key {kind}"></i>{text}</span>' for kind, text in keys)
    return f'<div class="legend">{items}</div>'
