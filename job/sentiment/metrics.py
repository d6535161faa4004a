"""How good probabilities are, measured against labels."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

CALIBRATION_BINS = 10


def binary_metrics(probability: NDArray[np.float64], label: NDArray[np.int8]) -> dict[str, Any]:
    """Accuracy, F1, confusion and calibration of [rows] probabilities of praise.

    `f1`, `precision` and `recall` are those of praise; 0 where undefined.
    `log_loss` in nats a row. `brier`: mean squared error (Brier 1950).
    `calibration_error`: expected calibration error over ten equal bins (Naeini
    et al. 2015); `calibration` has each bin that holds rows.

    Raises:
        ValueError: no rows, or lengths differ.
    """
    if len(label) == 0 or len(label) != len(probability):
        raise ValueError(f"{len(probability)} probabilities for {len(label)} labels")
    truth = label == 1
    said = probability > 0.5  # noqa: PLR2004
    true_praise = int((said & truth).sum())
    false_praise = int((said & ~truth).sum())
    missed_praise = int((~said & truth).sum())
    true_pan = int((~said & ~truth).sum())
    precision = true_praise / max(true_praise + false_praise, 1)
    recall = true_praise / max(true_praise + missed_praise, 1)
    bins = _calibration(probability, truth)
    gaps = sum(b["rows"] * abs(b["mean_probability"] - b["share_praise"]) for b in bins)
    clipped = np.clip(probability, 1e-12, 1 - 1e-12)
    return {
        "rows": len(label),
        "accuracy": (true_praise + true_pan) / len(label),
        "f1": 2 * precision * recall / (precision + recall) if true_praise else 0.0,
        "precision": precision,
        "recall": recall,
        "confusion": {
            "praise_as_praise": true_praise,
            "pan_as_praise": false_praise,
            "praise_as_pan": missed_praise,
            "pan_as_pan": true_pan,
        },
        "log_loss": float(-np.log(np.where(truth, clipped, 1 - clipped)).mean()),
        "brier": float(((probability - truth) ** 2).mean()),
        "calibration_error": gaps / len(label),
        "calibration": bins,
    }


def wilson_interval(share: float, rows: int, *, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a share of `rows` (1927), without correction; by default 95 %."""
    middle = share + z * z / (2 * rows)
    width = z * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    scale = 1 + z * z / rows
    return (middle - width) / scale, (middle + width) / scale


def _calibration(
    probability: NDArray[np.float64], truth: NDArray[np.bool_]
) -> list[dict[str, Any]]:
    which = np.minimum((probability * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    return [
        {
            "from": b / CALIBRATION_BINS,
            "to": (b + 1) / CALIBRATION_BINS,
            "rows": int(inside.sum()),
            "mean_probability": float(probability[inside].mean()),
            "share_praise": float(truth[inside].mean()),
        }
        for b in range(CALIBRATION_BINS)
        if (inside := which == b).any()
    ]
