"""Everything a training run can be told, and the named sets of it.

A recipe is a function that returns one typed Recipe. Command-line options
replace single values with `dataclasses.replace`.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal

from sentiment.errors import USAGE, InvalidInputError

StrategyName = Literal["averaging", "allreduce"]
"""How copies of the training loop agree (`sentiment.strategy`)."""

RATE_WORKERS: Final[dict[StrategyName, int]] = {"averaging": 2, "allreduce": 1}
"""How many workers a recipe's learning rate is for; with `allreduce` a step is of all reviews."""
MOST_RATE: Final = 2.0
MOST_ROUNDS: Final = 4


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """How much of a text the model reads, and which words it knows."""

    max_tokens: int
    """A longer review is cut to its first `max_tokens` tokens."""
    min_count: int = 1
    """Words seen fewer times in the training text are unknown."""
    max_words: int = 50_000
    """At most so many words, the most frequent ones."""
    known_to_table: bool = False
    """Only words that the word table has (others cannot have a frozen vector)."""
    table_words: bool = False
    """Words that are not in the vocabulary are read with the word table's vector. The model
    then needs the table wherever it scores."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network's shape."""

    cell: Literal["lstm", "graves"]
    """`lstm`: torch's. `graves`: with peephole connections (Graves 2013) and softsign."""
    hidden: int
    """Units a direction."""
    bidirectional: bool
    pooling: Literal["last", "max_mean"]
    """What of the outputs is read: the last token's, or maximum and mean over all."""
    tune_vectors: bool
    """Whether training changes the word vectors; if not, they stay as in the word table."""
    embedding_dropout: float = 0.0
    output_dropout: float = 0.0
    ngrams: int = 0
    """Weights for words and pairs of neighbouring words, by hash, beside the LSTM; 0: none."""
    ngram_dropout: float = 0.8


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How a gradient becomes a step."""

    name: Literal["adam", "rmsprop"]
    learning_rate: float
    ngram_rate: float = 5.0
    """The learning rate of `ngrams`, in times of the others': most are in few reviews."""
    rate_by_workers: bool = False
    """More workers learn at a higher rate: see `for_workers`."""
    schedule: Literal["constant", "linear"] = "constant"
    """`linear`: the rate falls to zero over the run."""
    adversarial_noise: float = 0.0
    """Length of the change of a review's word vectors that raises its loss most; the loss with
    it counts as much as the one without (Miyato et al. 2017). A step takes twice as long."""
    l2: float = 0.0
    """Added to the loss as l2/2 times the squared weights (not of the word vectors)."""
    clip_value: float | None = None
    """Each element of the gradient is cut to [-clip_value, clip_value]."""
    clip_norm: float | None = None
    """The gradient is shortened to this Euclidean norm."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How long, in which portions."""

    epochs: int
    batch_size: int
    """Reviews a step on each worker."""
    rounds_per_epoch: int
    """How often an epoch the workers' states are averaged, or, with `allreduce`, kept; by more
    workers more often: see `for_workers`."""
    strategy: StrategyName = "averaging"
    """How the workers agree: after each round, or at every step."""
    outer_momentum: float | None = None
    """Of what all workers moved by together in a round; None: 1 - 1/workers."""
    validation: float = 0.1
    """Share of the training split held back to choose the best epoch; neighbours in the
    source are kept together, as in the split itself."""
    patience: int | None = None
    """Stop after so many epochs without a better validation loss; None: never."""
    seed: int = 1


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole training run."""

    name: str
    text: TextConfig
    model: ModelConfig
    optimizer: OptimizerConfig
    train: TrainConfig
    extra: dict[str, str] = field(default_factory=dict)
    """What was changed from the named recipe, for the record."""

    def to_json(self) -> dict[str, Any]:
        """Plain values, for the event file and the model's JSON."""
        return asdict(self)


def talk() -> Recipe:
    """The settings of the 2016 talk (DL4J's word2vec sentiment example).

    GravesLSTM of 200 softsign units over the first 100 words, frozen vectors,
    RMSProp 0.0018, l2 1e-5, elementwise clip 1.0, batch 50, 5 epochs.
    """
    return Recipe(
        name="talk",
        text=TextConfig(max_tokens=100, known_to_table=True, max_words=400_000),
        model=ModelConfig(
            cell="graves", hidden=200, bidirectional=False, pooling="last", tune_vectors=False
        ),
        optimizer=OptimizerConfig(name="rmsprop", learning_rate=0.0018, l2=1e-5, clip_value=1.0),
        train=TrainConfig(epochs=5, batch_size=50, rounds_per_epoch=4),
    )


def quick() -> Recipe:
    """A good model in a minute or two on two cores, for the demo and for trying things."""
    return Recipe(
        name="quick",
        text=TextConfig(max_tokens=300, min_count=3, max_words=30_000),
        model=ModelConfig(
            cell="lstm",
            hidden=64,
            bidirectional=True,
            pooling="max_mean",
            tune_vectors=False,
            embedding_dropout=0.2,
            output_dropout=0.3,
            ngrams=1 << 18,
        ),
        optimizer=OptimizerConfig(
            name="adam",
            learning_rate=3e-3,
            rate_by_workers=True,
            schedule="linear",
            clip_norm=1.0,
        ),
        train=TrainConfig(epochs=3, batch_size=32, rounds_per_epoch=2, validation=0.05),
    )


def best() -> Recipe:
    """The most accurate: long reviews, both directions, pooling over all tokens, pairs of words."""
    return Recipe(
        name="best",
        text=TextConfig(max_tokens=400, min_count=3, max_words=40_000),
        model=ModelConfig(
            cell="lstm",
            hidden=128,
            bidirectional=True,
            pooling="max_mean",
            tune_vectors=False,
            embedding_dropout=0.3,
            output_dropout=0.5,
            ngrams=1 << 20,
        ),
        optimizer=OptimizerConfig(
            name="adam",
            learning_rate=2e-3,
            rate_by_workers=True,
            schedule="linear",
            clip_norm=1.0,
        ),
        train=TrainConfig(epochs=4, batch_size=32, rounds_per_epoch=4, validation=0.05),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {"talk": talk, "quick": quick, "best": best}


def with_changes(recipe: Recipe, **changes: Any) -> Recipe:
    """The recipe with single values replaced, wherever in it they stand.

    Changes that are None are not made.

    Raises:
        InvalidInputError: no part of a recipe has such a value, or it is out of range.
    """
    parts = ("text", "model", "optimizer", "train")
    for name, value in changes.items():
        if value is None:
            continue
        part = next((p for p in parts if name in getattr(recipe, p).__dataclass_fields__), None)
        if part is None:
            raise InvalidInputError(f"a recipe has no setting {name!r}")
        changed = replace(getattr(recipe, part), **{name: value})
        extra = recipe.extra | {name: str(value)}
        recipe = replace(recipe, **{part: changed, "extra": extra})
    _check(recipe)
    return recipe


def for_workers(recipe: Recipe, workers: int) -> Recipe:
    """The recipe as so many workers train it; values that were given stay as they are.

    N workers make an Nth of the steps, together of N times the reviews. So the learning rate rises
    with the square root of N (Malladi et al. 2022, for Adam and RMSProp), to twice at most, and
    with averaging they agree as many times an epoch as they are, up to four.
    """
    rate, train = recipe.optimizer.learning_rate, recipe.train
    if recipe.optimizer.rate_by_workers and "learning_rate" not in recipe.extra:
        times = math.sqrt(max(1.0, workers / RATE_WORKERS[train.strategy]))
        rate *= min(times, MOST_RATE)
    rounds = train.rounds_per_epoch
    if train.strategy == "averaging" and "rounds_per_epoch" not in recipe.extra:
        rounds = max(rounds, min(workers, MOST_ROUNDS))
    return replace(
        recipe,
        optimizer=replace(recipe.optimizer, learning_rate=rate),
        train=replace(train, rounds_per_epoch=rounds),
    )


def _check(recipe: Recipe) -> None:
    at_least_one = {
        "max_tokens": recipe.text.max_tokens,
        "hidden": recipe.model.hidden,
        "epochs": recipe.train.epochs,
        "batch_size": recipe.train.batch_size,
        "rounds_per_epoch": recipe.train.rounds_per_epoch,
    }
    for name, value in at_least_one.items():
        if value < 1:
            raise _wrong(name, value, todo="give a number of at least 1")
    rate = recipe.optimizer.learning_rate
    if not (rate > 0 and math.isfinite(rate)):
        raise _wrong("learning_rate", rate, todo="give a number above 0, such as 0.003")
    momentum = recipe.train.outer_momentum
    if momentum is not None and not 0 <= momentum < 1:
        raise _wrong("outer_momentum", momentum, todo="give a number from 0 to below 1")
    if not 0 < recipe.train.validation < 1:
        raise _wrong("validation", recipe.train.validation, todo="give a share between 0 and 1")


def _wrong(name: str, value: float, *, todo: str) -> InvalidInputError:
    option = f"--{name.replace('_', '-')}"
    return InvalidInputError(f"{option} is {value}", todo=todo, code=USAGE)
