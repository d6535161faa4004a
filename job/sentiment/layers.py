"""How a training's layers look: the norm and the histogram of a parameter's values.

What DL4J's listeners showed of weights, their updates and their gradients.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

BUCKETS: Final = 30
SAMPLE: Final = 100_000
"""Of a larger tensor so many values are in the histogram: it takes some milliseconds then, however
many weights there are."""
_DIGITS: Final = 6


@dataclass(frozen=True)
class Distribution:
    """How the values of a tensor are spread.

    `norm`: Euclidean, of all of them; None where it is no finite number. `counts`, int [BUCKETS]:
    how many of the sampled finite values lie in each of as many buckets of one width, from
    `low` to `high`. Where all have one value, `low` is `high` and the first bucket has them.
    """

    norm: float | None
    low: float
    high: float
    counts: tuple[int, ...]


Gradients = Mapping[str, Distribution]
"""By the name of each trained parameter, in the network's order."""


def distribution(values: Tensor) -> Distribution:
    """The distribution of a tensor of any shape; values that are no finite numbers count nowhere.

    The norm is of all values, the histogram of at most SAMPLE of them, drawn once for a size.
    """
    flat = values.detach().flatten().cpu()  # the histogram has no fixed order of sums on a GPU
    norm = float(torch.linalg.vector_norm(flat, dtype=torch.float64))
    # In float64: the width of a float32's whole range is no float32.
    sample = _sample(flat).double()
    sample = sample[sample.isfinite()]
    low, high = (float(one) for one in sample.aminmax()) if len(sample) else (0.0, 0.0)
    if low == high:
        counts = [len(sample), *[0] * (BUCKETS - 1)]
    else:
        counts = [int(one) for one in torch.histc(sample, BUCKETS, low, high).tolist()]
    return Distribution(
        norm=_rounded(norm) if math.isfinite(norm) else None,
        low=_rounded(low),
        high=_rounded(high),
        counts=tuple(counts),
    )


def _sample(flat: Tensor) -> Tensor:
    """Drawn by a chance of its own, the same places every time.

    Evenly spaced ones could meet the same columns of a matrix only.
    """
    if len(flat) <= SAMPLE:
        return flat
    return flat[torch.randint(len(flat), (SAMPLE,), generator=torch.Generator().manual_seed(0))]


def _rounded(value: float) -> float:
    """With as many digits as a figure needs."""
    return float(f"{value:.{_DIGITS}g}")
