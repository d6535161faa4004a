"""Which reviews are held out: each way to split comes down to one condition on a row."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from sentiment.errors import INVALID_INPUT, InvalidInputError
from sentiment.sources import Source

How = Literal["contiguous", "random", "film", "given", "none"]
WAYS: Final[tuple[How, ...]] = ("contiguous", "random", "film", "given", "none")
_SPLIT_SALT = "split"
_SHUFFLE_SALT = "shuffle"
_BOTH = ("train", "test")


@dataclass(frozen=True)
class SplitOptions:
    """How to split. `how` None: as the source does, else contiguous; `test` is a share of rows."""

    how: How | None = None
    test: Decimal = Decimal("0.2")
    seed: int = 1


def chosen_way(source: Source, options: SplitOptions) -> How:
    """The way that is meant where none is named.

    Raises:
        InvalidInputError: `given`, and the source brings no two splits.
    """
    has_both = set(_BOTH) <= set(source.splits)
    if options.how == "given" and not has_both:
        raise InvalidInputError(
            "has no train and test split of its own",
            where=source.spec,
            todo="choose another: --split contiguous|random|film|none",
        )
    if options.how is not None:
        return options.how
    if has_both:
        return "given"
    return "contiguous" if source.labelled else "none"


def shuffle_key(seed: int) -> Column:
    """The place of a row in the global shuffle: a seeded hash of 63 bits."""
    return F.shiftrightunsigned(_hash(_SHUFFLE_SALT, seed, F.col("row")), 1)


def held_out(reviews: DataFrame, how: How, options: SplitOptions) -> Column:
    """The condition under which a row of `reviews` is of the test split.

    contiguous: the last rows of each label in the source's order, its share of them rounded
    down, but one at least of two or more. random: as many of each label, those with the
    lowest hashes. film: films with the lowest hashes, until they have the share;
    a row without a film is not held out. given: what the source says. none: no row.

    Raises:
        InvalidInputError: `film`, and there are no two films.
    """
    if how == "none":
        return F.lit(False)
    if how == "given":
        return F.col("split") == "test"
    if how == "film":
        return _films_held_out(reviews, options)
    in_source = F.col("row") * F.lit(-1)
    order = in_source if how == "contiguous" else _hash(_SPLIT_SALT, options.seed, F.col("row"))
    condition = F.lit(False)
    for last in _last_held_out(reviews, order, options.test):
        condition = condition | ((F.col("label") == last["label"]) & _up_to(order, last))
    return F.coalesce(condition, F.lit(False))


def _last_held_out(reviews: DataFrame, order: Column, share: Decimal) -> list[Row]:
    """Of each label that has two rows or more the last row, by `order`, that is held out."""
    of_label = Window.partitionBy("label")
    ranked = reviews.where("label is not null").select(
        "label",
        "row",
        order.alias("order"),
        F.count("*").over(of_label).alias("rows"),
        F.row_number().over(of_label.orderBy(order, "row")).alias("rank"),
    )
    above, below = share.as_integer_ratio()
    wanted = F.greatest(F.expr(f"rows * {above}L div {below}L"), F.lit(1))
    return ranked.where((F.col("rows") > 1) & (F.col("rank") == wanted)).collect()


def _up_to(order: Column, last: Row) -> Column:
    """Whether a row comes no later than `last`."""
    same = order == F.lit(last["order"])
    return (order < F.lit(last["order"])) | (same & (F.col("row") <= F.lit(last["row"])))


def _films_held_out(reviews: DataFrame, options: SplitOptions) -> Column:
    place = _hash(_SPLIT_SALT, options.seed, F.col("film"))
    counted = reviews.where("film is not null").groupBy(place.alias("place")).count()
    films = sorted((row["place"], row["count"]) for row in counted.collect())
    if len(films) < 2:  # noqa: PLR2004
        raise InvalidInputError(
            f"--split film needs films, and there are {len(films)} in it",
            todo="a column film, film_id, movie, movie_id or imdb_id; or --split contiguous",
            code=INVALID_INPUT,
        )
    wanted = max(int(sum(count for _, count in films) * options.test), 1)
    held = 0
    last = films[0][0]
    for film, count in films[:-1]:
        held, last = held + count, film
        if held >= wanted:
            break
    return F.coalesce(place <= last, F.lit(False))


def _hash(salt: str, seed: int, what: Column) -> Column:
    return F.xxhash64(F.lit(salt), F.lit(seed).cast("bigint"), what)
