import html
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

from sentiment.metrics import binary_metrics, wilson_interval
from sentiment.mistakes import Mistake
from sentiment.report import Report, write_report
from sentiment.svg import round_axis

NASTY = "<script>alert(1)</script> & \"quotes'"
"""What a review or a name may hold."""


@pytest.fixture
def report():
    generator = np.random.default_rng(0)
    label = generator.integers(0, 2, 300).astype(np.int8)
    probability = np.clip(label * 0.4 + generator.random(300) * 0.6, 0, 1)
    start = {"event": "start", "rows": 1100, "validation_rows": 120}
    rounds = [
        {
            "event": "round",
            "round": i,
            "train_loss": 1 / i,
            "train_accuracy": 0.5 + i / 100,
            "shards": [
                {"rows": 70, "tokens": 9000, "seconds": 2.0},
                {"rows": 71, "tokens": 9100, "seconds": 3.0},
            ],
        }
        for i in range(1, 13)
    ]
    epochs = [
        {
            "event": "epoch",
            "epoch": i,
            "round": 4 * i,
            "validation_loss": loss,
            "validation_accuracy": 0.8,
        }
        for i, loss in ((1, 0.45), (2, 0.41), (3, 0.43))
    ]
    end = {"event": "end", "seconds": 93.4, "tokens_per_second": 81234}
    return Report(
        question=f"A {NASTY} question?",
        held_out=f"the last reviews of {NASTY}",
        rows=[("LSTM", 0.85), (f"control {NASTY}", 0.86), ("majority class", 0.5)],
        events=[start, *rounds, {"event": "layers", "round": 8, "layers": []}, *epochs, end],
        metrics=binary_metrics(probability, label),
        probability=probability,
        label=label,
        tokens=generator.integers(1, 900, 300),
        sentences=[(NASTY, 0.25)],
        mistakes=[Mistake(text=f"Not {NASTY}", label=0, probability=0.987, tokens=1234)],
        facts=[("Reviews", NASTY)],
        command=f"sparkbundle demo --reviews {NASTY}",
        date=datetime(2026, 11, 28, 9, 5, tzinfo=UTC),
    )


@pytest.fixture
def page(report, tmp_path):
    write_report(tmp_path / "report.html", report)
    return (tmp_path / "report.html").read_text()


def charts(page):
    return [ElementTree.fromstring(one) for one in re.findall(r"<svg viewBox.*?</svg>", page)]


def marks(chart, kind):
    return [e for e in chart.iter() if kind == e.get("class")]


class Words(HTMLParser):
    """What is read on the page, and which elements it has."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.words, self._style = set(), [], False
        self.feed(page)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, _):
        self.elements.add(tag)
        self._style = tag == "style"

    def handle_data(self, data):
        if not self._style:
            self.words.append(data)


def test_the_page_says_what_it_found_beside_what_and_on_which_reviews(report, page):
    accuracy = report.metrics["accuracy"]
    low, high = wilson_interval(accuracy, 300)
    text = Words(page).text
    assert f"{accuracy:.1%} of 300 held-out reviews judged right" in text
    assert f"95% interval {low:.1%} to {high:.1%}." in text
    assert f"control {NASTY} 86.0% (1.0 points more, which may be chance)" in text
    assert "majority class 50.0% (35.0 points less)." in text
    assert "Measured on the last reviews of" in text
    assert "Made on 2026-11-28 09:05 UTC." in text
    assert "sparkbundle demo --reviews" in text


def test_the_page_needs_no_network_and_no_script(page):
    found = Words(page).elements
    assert not found & {"script", "link", "img", "iframe", "object"}
    assert "url(" not in page
    assert "http" not in page
    assert len(page.encode()) < 100_000


def test_texts_are_shown_and_not_obeyed(page):
    assert page.count(html.escape(NASTY)) == 8
    assert "<script" not in page
    assert "It is pan; the model said praise, probability of praise 0.987; 1,234 tokens" in page


def test_the_numbers_of_the_confusion_are_in_a_table(report, page):
    cells = report.metrics["confusion"]
    found = re.findall(r'<td class="(right|wrong)"><b>([\d,]+)</b>', page)
    assert found == [
        ("right", str(cells["pan_as_pan"])),
        ("wrong", str(cells["pan_as_praise"])),
        ("wrong", str(cells["praise_as_pan"])),
        ("right", str(cells["praise_as_praise"])),
    ]


def test_the_curves_have_every_round_and_mark_the_epoch_of_the_lowest_validation_loss(page):
    loss, accuracy, *_ = charts(page)
    for chart in (loss, accuracy):
        assert len(marks(chart, "dot training small")) == 12
        assert len(marks(chart, "dot validation")) == 3
        (ring,) = marks(chart, "dot validation ring")
        assert ring.find("title").text.startswith("kept: epoch 2, ")
        (kept,) = marks(chart, "segment kept")
        assert kept.get("x1") == kept.get("x2") == ring.get("cx")
    assert "epoch 2 of 3" in page
    assert "<td>2 (kept)</td>" in page


def test_a_bar_of_the_histogram_is_as_high_as_it_counts_reviews(report, page):
    chart = charts(page)[2]
    counts, heights = [], []
    for kind in ("praise", "pan"):
        for bar in marks(chart, f"bar {kind}"):
            counts.append(int(bar.find("title").text.split()[0]))
            heights.append(float(bar.get("height")))
    assert sum(counts) == 300
    scale = np.array(heights) / np.array(counts)
    assert scale == pytest.approx(scale.mean(), rel=0.05)


def test_calibration_and_length_show_their_intervals(report, page):
    calibration, length = charts(page)[3:5]
    bins = report.metrics["calibration"]
    assert len(marks(calibration, "dot validation")) == len(bins)
    assert len(marks(calibration, "segment whisker")) == len(bins)
    names = [bar.find("title").text for bar in marks(length, "bar plain")]
    assert sum(int(re.search(r"of (\d+) wrong", name)[1]) for name in names) == 300


def test_the_workers_are_told_apart(page):
    text = Words(page).text
    assert "1 840 108,000 24.0 s 4,500 12.0 s" in text
    assert "2 852 109,200 36.0 s 3,033 0.0 s" in text
    assert "the slowest worker of a round took 1.20 times the mean, over 12 rounds" in text


def test_what_there_is_none_of_is_said(report, tmp_path):
    write_report(tmp_path / "report.html", replace(report, mistakes=(), events=(), rows=[("a", 1)]))
    text = Words((tmp_path / "report.html").read_text()).text
    assert "It made none." in text
    assert "No epoch was finished." in text
    assert "Beside it" not in text
    assert "The workers" not in text


def test_the_interval_is_wilsons():
    low, high = wilson_interval(0.9, 100)
    assert (low, high) == pytest.approx((0.8256, 0.9448), abs=1e-4)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.31, 0.66, [0.3, 0.4, 0.5, 0.6, 0.7]),
        (0, 1310, [0, 500, 1000, 1500]),
        (0.5, 0.5, None),
    ],
)
def test_an_axis_holds_its_values_between_round_ticks(low, high, ticks):
    axis = round_axis(low, high, title="", text=str)
    assert axis.low <= low
    assert axis.high >= high
    assert axis.high > axis.low
    if ticks:
        assert [value for value, _ in axis.ticks] == pytest.approx(ticks)
