"""One HTML page about a training run: figures, curves, examples. It needs no network."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from sentiment.events import Event
from sentiment.files import write_file

TRAIN_COLOUR, VALIDATION_COLOUR = "#3b6ea8", "#d1603d"
PRAISE_COLOUR, PAN_COLOUR = "#2e8b57", "#b03a48"
LENGTH_BINS = (0, 100, 150, 200, 300, 400, 600, 1_000_000)

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 960px; margin: 2rem auto;
       padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; } td, th { padding: .3rem 1rem .3rem 0; text-align: left;
       border-bottom: 1px solid #ddd; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.note { color: #666; font-size: .9rem; }
"""


@dataclass(frozen=True)
class Report:
    """What the page shows.

    `rows`: name and accuracy of the model and its controls. `probability`,
    `label`, `tokens`: of each review of the test split. `sentences`: text and
    probability of praise.
    """

    title: str
    facts: Sequence[tuple[str, str]]
    rows: Sequence[tuple[str, float]]
    events: Sequence[Event]
    metrics: dict[str, Any]
    probability: NDArray[np.float64]
    label: NDArray[np.int8]
    tokens: NDArray[np.int64]
    sentences: Sequence[tuple[str, float]]


def write_report(path: Path, report: Report) -> None:
    """Write the page: one file that opens anywhere.

    Raises:
        SentimentError: the disk refuses.
    """
    figures = [
        ("Learning, round by round", _learning(report.events)),
        ("What it said of the test reviews", _confusion(report.metrics)),
        ("How sure it was", _histogram(report.probability, report.label)),
        ("Long reviews and short ones", _length_error(report)),
    ]
    parts = [
        f"<h1>{html.escape(report.title)}</h1>",
        _table(report.facts),
        "<h2>Accuracy on the test reviews</h2>",
        _accuracy_table(report),
        "<h2>Five sentences</h2>",
        _sentences(report.sentences),
    ]
    for number, (title, figure) in enumerate(figures):
        script = "inline" if number == 0 else False
        parts += [f"<h2>{title}</h2>", _html(figure, include_plotlyjs=script)]
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{html.escape(report.title)}</title><style>{STYLE}</style></head>\n"
        f"<body>{''.join(parts)}</body></html>\n"
    )
    write_file(path, page)


def _html(figure: go.Figure, *, include_plotlyjs: str | bool) -> str:
    figure.update_layout(
        template="plotly_white",
        height=340,
        margin={"l": 60, "r": 20, "t": 20, "b": 50},
        legend={"orientation": "h", "y": 1.1},
    )
    text: str = figure.to_html(
        full_html=False, include_plotlyjs=include_plotlyjs, config={"displaylogo": False}
    )
    return text


def _table(rows: Sequence[tuple[str, str]]) -> str:
    cells = (f"<tr><td>{html.escape(a)}</td><td>{html.escape(b)}</td></tr>" for a, b in rows)
    return f"<table>{''.join(cells)}</table>"


def _accuracy_table(report: Report) -> str:
    rows = "".join(
        f'<tr><td>{html.escape(name)}</td><td class="number">{value:.1%}</td></tr>'
        for name, value in report.rows
    )
    low, high = interval(report.metrics["accuracy"], report.metrics["rows"])
    return (
        f"<table>{rows}</table>"
        f'<p class="note">{report.metrics["rows"]:,} reviews; by chance of which reviews these '
        f"are, the model's own figure would lie between {low:.1%} and {high:.1%} "
        "19 times of 20.</p>"
    )


def interval(share: float, rows: int) -> tuple[float, float]:
    """The 95 % interval of a share of `rows` (Wilson 1927)."""
    z = 1.96
    middle = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * np.sqrt(share * (1 - share) / rows + (z / (2 * rows)) ** 2)
    return float(middle - half), float(middle + half)


def _sentences(sentences: Sequence[tuple[str, float]]) -> str:
    rows = "".join(
        f'<tr><td>{html.escape(text)}</td><td class="number">{probability:.3f}</td></tr>'
        for text, probability in sentences
    )
    return f'<table><tr><th>Text</th><th class="number">Praise</th></tr>{rows}</table>'


def _learning(events: Sequence[Event]) -> go.Figure:
    rounds = [e for e in events if e["event"] == "round"]
    epochs = [e for e in events if e["event"] == "epoch"]
    figure = go.Figure()
    for kind, dash, axis in (("loss", "solid", "y"), ("accuracy", "dot", "y2")):
        figure.add_scatter(
            x=[r["round"] for r in rounds],
            y=[r[f"train_{kind}"] for r in rounds],
            name=f"training {kind}",
            line={"color": TRAIN_COLOUR, "dash": dash},
            yaxis=axis,
        )
        figure.add_scatter(
            x=[e["round"] for e in epochs],
            y=[e[f"validation_{kind}"] for e in epochs],
            name=f"validation {kind}",
            mode="lines+markers",
            line={"color": VALIDATION_COLOUR, "dash": dash},
            yaxis=axis,
        )
    figure.update_layout(
        xaxis={"title": "round"},
        yaxis={"title": "loss (nats a review)"},
        yaxis2={"title": "accuracy", "overlaying": "y", "side": "right", "tickformat": ".0%"},
    )
    return figure


def _confusion(metrics: dict[str, Any]) -> go.Figure:
    cells = metrics["confusion"]
    counts = [
        [cells["pan_as_pan"], cells["pan_as_praise"]],
        [cells["praise_as_pan"], cells["praise_as_praise"]],
    ]
    figure = go.Figure(
        go.Heatmap(
            z=counts,
            x=["said: pan", "said: praise"],
            y=["is: pan", "is: praise"],
            text=counts,
            texttemplate="%{text:,}",
            colorscale="Blues",
            showscale=False,
        )
    )
    figure.update_yaxes(autorange="reversed")
    return figure


def _histogram(probability: NDArray[np.float64], label: NDArray[np.int8]) -> go.Figure:
    figure = go.Figure()
    edges = np.linspace(0, 1, 26)
    for value, name, colour in ((1, "praise", PRAISE_COLOUR), (0, "pan", PAN_COLOUR)):
        counts, _ = np.histogram(probability[label == value], bins=edges)
        figure.add_bar(
            x=(edges[:-1] + edges[1:]) / 2,
            y=counts,
            name=f"is {name}",
            marker_color=colour,
            opacity=0.75,
        )
    figure.update_layout(
        barmode="overlay",
        bargap=0.05,
        xaxis={"title": "probability of praise"},
        yaxis={"title": "reviews"},
    )
    return figure


def _length_error(report: Report) -> go.Figure:
    wrong = (report.probability > 0.5) != (report.label == 1)  # noqa: PLR2004
    names, shares, spans = [], [], []
    for low, high in pairwise(LENGTH_BINS):
        inside = (report.tokens >= low) & (report.tokens < high)
        if inside.any():
            share = float(wrong[inside].mean())
            bounds = interval(share, int(inside.sum()))
            end = f"–{high - 1}" if high != LENGTH_BINS[-1] else " and more"
            names.append(f"{low}{end}<br>n = {int(inside.sum()):,}")
            shares.append(share)
            spans.append((bounds[1] - share, share - bounds[0]))
    figure = go.Figure(
        go.Bar(
            x=names,
            y=shares,
            marker_color=TRAIN_COLOUR,
            error_y={
                "array": [up for up, _ in spans],
                "arrayminus": [down for _, down in spans],
                "color": "#555",
            },
        )
    )
    figure.update_layout(
        xaxis={"title": "tokens in the review"},
        yaxis={"title": "share wrong", "tickformat": ".0%", "rangemode": "tozero"},
    )
    return figure
