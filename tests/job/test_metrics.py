import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.metrics import binary_metrics

rows = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=200)


def measured(pairs):
    probability, label = zip(*pairs, strict=True)
    return binary_metrics(np.array(probability), np.array(label, dtype=np.int8))


def test_a_worked_example():
    result = measured([(0.9, 1), (0.8, 1), (0.7, 0), (0.4, 1), (0.1, 0)])
    assert result["accuracy"] == pytest.approx(3 / 5)
    assert result["precision"] == pytest.approx(2 / 3)
    assert result["recall"] == pytest.approx(2 / 3)
    assert result["f1"] == pytest.approx(2 / 3)
    assert result["confusion"] == {
        "praise_as_praise": 2,
        "pan_as_praise": 1,
        "praise_as_pan": 1,
        "pan_as_pan": 1,
    }
    assert result["brier"] == pytest.approx((0.01 + 0.04 + 0.49 + 0.36 + 0.01) / 5)


def test_certainty_that_is_right_is_calibrated():
    result = measured([(1.0, 1), (0.0, 0)])
    assert result["calibration_error"] == 0
    assert result["log_loss"] == pytest.approx(0, abs=1e-9)


def test_nothing_praised_has_no_f1():
    assert measured([(0.1, 1), (0.2, 0)])["f1"] == 0.0


@given(rows)
def test_counts_add_up_and_shares_are_shares(pairs):
    result = measured(pairs)
    assert sum(result["confusion"].values()) == result["rows"] == len(pairs)
    assert sum(b["rows"] for b in result["calibration"]) == len(pairs)
    for name in ("accuracy", "f1", "precision", "recall", "brier", "calibration_error"):
        assert 0 <= result[name] <= 1
    assert np.isfinite(result["log_loss"])


@given(rows)
def test_accuracy_is_what_counting_says(pairs):
    right = sum((p > 0.5) == bool(label) for p, label in pairs)
    assert measured(pairs)["accuracy"] == pytest.approx(right / len(pairs))


def test_no_rows_is_an_error():
    with pytest.raises(ValueError, match="0 probabilities"):
        binary_metrics(np.array([]), np.array([], dtype=np.int8))
