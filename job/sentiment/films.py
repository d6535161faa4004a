"""Films against their stars: where a film's reviews say other than the stars beside them.

Both are asked the same question of each review, whether it praises: the model by its verdict, the
stars as a label (`sources.labels`: from 7 of ten praise, up to 4 pan, between them none).
"""

import csv
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import pyarrow.parquet as pq

from sentiment.errors import InvalidInputError, first_line
from sentiment.metrics import wilson_interval
from sentiment.sources.labels import label_of_stars
from sentiment.sources.model import PRAISE

_NEEDED = ("film", "stars", "verdict")


@dataclass(frozen=True)
class Film:
    """The reviews of a film that have stars which are no neutral ones.

    `both`, `stars_only`, `model_only` and `neither` count those that praise by stars and model;
    `stars` is their mean number, of ten.
    """

    film: str
    both: int
    stars_only: int
    model_only: int
    neither: int
    stars: float

    @property
    def reviews(self) -> int:
        """How many there are."""
        return self.both + self.stars_only + self.model_only + self.neither

    @property
    def praise_by_stars(self) -> float:
        """Share of the reviews that praise by their stars."""
        return (self.both + self.stars_only) / self.reviews

    @property
    def praise_by_model(self) -> float:
        """Share of the reviews that the model calls praise."""
        return (self.both + self.model_only) / self.reviews

    @property
    def difference(self) -> float:
        """The model's share less that of the stars."""
        return (self.model_only - self.stars_only) / self.reviews

    def interval(self, confidence: float) -> tuple[float, float]:
        """Of the difference: Newcombe's hybrid score interval for paired proportions.

        Newcombe, "Improved confidence intervals for the difference between binomial proportions
        based on paired data", Statistics in Medicine 17 (1998), method 10: two Wilson intervals,
        joined by the correlation of the pairs. It holds for few reviews and at 0 and 1.
        """
        n = self.reviews
        z = NormalDist().inv_cdf((1 + confidence) / 2)
        mine, theirs = self.praise_by_model, self.praise_by_stars
        low_mine, high_mine = wilson_interval(mine, n, z=z)
        low_theirs, high_theirs = wilson_interval(theirs, n, z=z)
        phi = self._correlation()
        below = _joined(mine - low_mine, high_theirs - theirs, phi)
        above = _joined(high_mine - mine, theirs - low_theirs, phi)
        # Rounding may carry an end past what a difference of shares can be.
        return max(-1.0, self.difference - below), min(1.0, self.difference + above)

    def _correlation(self) -> float:
        """Of the two answers, corrected for continuity as the paper does."""
        a, b, c, d = self.both, self.model_only, self.stars_only, self.neither
        margins = (a + b) * (c + d) * (a + c) * (b + d)
        if margins == 0:
            return 0.0
        product, half = a * d - b * c, self.reviews / 2
        corrected = max(product - half, 0.0) if product >= 0 else product
        return corrected / math.sqrt(margins)


def _joined(one: float, other: float, phi: float) -> float:
    return math.sqrt(max(0.0, one * one - 2 * phi * one * other + other * other))


def read_scores(path: Path) -> Iterator[Mapping[str, Any]]:
    """The rows that `sentiment score` wrote: film, stars and verdict of each.

    Raises:
        InvalidInputError: it is no such file.
    """
    try:
        if path.suffix == ".parquet":
            rows = _parquet(path)
        elif path.suffix == ".csv":
            rows = _csv(path)
        else:
            rows = _json_lines(path)
        yield from rows
    except FileNotFoundError as error:
        raise InvalidInputError(
            "is not there",
            where=str(path),
            todo="make it: sentiment score --model MODEL SOURCE scores.parquet",
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:  # ArrowInvalid is a ValueError
        raise InvalidInputError(
            f"is not what sentiment score writes: {_fault(error)}",
            where=str(path),
            todo="make it: sentiment score --model MODEL SOURCE scores.parquet",
        ) from error


def _fault(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"it has no column {error}"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return first_line(error)


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    with pq.ParquetFile(path) as file:
        missing = set(_NEEDED) - set(file.schema_arrow.names)
        if missing:
            raise ValueError(f"it has no column {', '.join(sorted(missing))}")
        for batch in file.iter_batches(columns=list(_NEEDED)):
            yield from batch.to_pylist()


def _csv(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            stars = row["stars"]
            yield {name: row[name] or None for name in _NEEDED} | {
                "stars": int(stars) if stars else None
            }


def _json_lines(path: Path) -> Iterator[Mapping[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            yield {name: row[name] for name in _NEEDED}


@dataclass(frozen=True)
class Films:
    """The films of a scored source, and how many of its rows were of no use here."""

    films: tuple[Film, ...]
    rows: int
    without_film: int
    without_stars: int
    neutral: int


def films_of(rows: Iterable[Mapping[str, Any]]) -> Films:
    """Count the reviews of each film, in the order of the films' names."""
    counts: dict[str, dict[tuple[bool, bool], int]] = defaultdict(lambda: defaultdict(int))
    stars: dict[str, int] = defaultdict(int)
    seen = without_film = without_stars = neutral = 0
    for row in rows:
        seen += 1
        if row["film"] is None:
            without_film += 1
        elif row["stars"] is None:
            without_stars += 1
        elif isinstance(label := label_of_stars(row["stars"]), int):
            counts[row["film"]][label == PRAISE, row["verdict"] == "praise"] += 1
            stars[row["film"]] += row["stars"]
        else:
            neutral += 1
    films = (
        Film(
            film,
            both=mine[True, True],
            stars_only=mine[True, False],
            model_only=mine[False, True],
            neither=mine[False, False],
            stars=stars[film] / sum(mine.values()),
        )
        for film, mine in sorted(counts.items())
    )
    return Films(tuple(films), seen, without_film, without_stars, neutral)


def disagreeing(
    films: Iterable[Film], *, confidence: float = 0.95, least: int = 5
) -> list[tuple[Film, tuple[float, float]]]:
    """Films of at least so many reviews whose interval leaves zero out, the surest first.

    Of films that agree, one in 1 / (1 - confidence) is here by chance.
    """
    found = []
    for film in films:
        if film.reviews >= least:
            low, high = film.interval(confidence)
            if low > 0 or high < 0:
                found.append((film, (low, high)))
    return sorted(found, key=lambda one: (-max(one[1][0], -one[1][1]), one[0].film))
