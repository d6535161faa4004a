import re

import numpy as np
import pytest

from sentiment.metrics import binary_metrics
from sentiment.report import Report, interval, write_report


@pytest.fixture
def report():
    generator = np.random.default_rng(0)
    label = generator.integers(0, 2, 300).astype(np.int8)
    probability = np.clip(label * 0.5 + generator.random(300) * 0.5, 0, 1)
    rounds = [
        {"event": "round", "round": i, "train_loss": 1 / i, "train_accuracy": 0.5 + i / 100}
        for i in range(1, 9)
    ]
    epochs = [
        {
            "event": "epoch",
            "epoch": i,
            "round": 4 * i,
            "validation_loss": 0.4,
            "validation_accuracy": 0.8,
        }
        for i in (1, 2)
    ]
    return Report(
        title="A <run>",
        facts=[("reviews", "300")],
        rows=[("LSTM", 0.9), ("majority class", 0.5)],
        events=[*rounds, {"event": "layers", "round": 8, "layers": []}, *epochs],
        metrics=binary_metrics(probability, label),
        probability=probability,
        label=label,
        tokens=generator.integers(1, 900, 300),
        sentences=[("<script>alert(1)</script>", 0.25)],
    )


def test_the_page_holds_every_part_and_needs_no_network(report, tmp_path):
    write_report(tmp_path / "report.html", report)
    page = (tmp_path / "report.html").read_text()
    for text in (
        "A &lt;run&gt;",
        "90.0%",
        "majority class",
        "0.250",
        "validation loss",
        "share wrong",
    ):
        assert text in page
    assert page.count('class="plotly-graph-div"') == 4
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page)


def test_texts_are_shown_and_not_obeyed(report, tmp_path):
    write_report(tmp_path / "report.html", report)
    page = (tmp_path / "report.html").read_text()
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert(1)" not in page


def test_the_interval_is_wilsons():
    low, high = interval(0.9, 100)
    assert (low, high) == pytest.approx((0.8256, 0.9448), abs=1e-4)
