"""`sentiment vectors train`."""

import os
import time
from pathlib import Path
from typing import Any

import click

from sentiment.commands.reading import SEED, json_option
from sentiment.commands.vectors import options
from sentiment.commands.vectors.showing import report_new, write_source
from sentiment.output import say


@click.command()
@click.argument("corpus", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--dimensions", type=click.IntRange(1, 65536), default=100, show_default=True)
@click.option(
    "--window", type=click.IntRange(1), default=5, show_default=True, help="Words on each side."
)
@click.option(
    "--min-count",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Rarer words get no vector.",
)
@click.option("--epochs", type=click.IntRange(1), default=5, show_default=True)
@click.option(
    "--seed",
    type=SEED,
    default=1,
    show_default=True,
    help="With --workers 1: same seed, same table.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Threads. Only one gives the same table again.  [default: cores]",
)
@options.dtype
@options.force
@json_option
def train(
    corpus: Path,
    out: Path,
    dtype: str,
    force: bool,
    as_json: bool,
    workers: int | None,
    **settings: Any,
) -> None:
    """Train word2vec on the reviews of CORPUS and build the word table OUT.

    Only the training split is read, so that no test review leaks into the
    vectors.

    \b
    Examples:
      sentiment vectors train corpus table
      sentiment vectors train corpus table --dimensions 200 --epochs 10
      sentiment vectors train corpus table --workers 1 --seed 7
    """
    from sentiment.corpus import open_corpus  # noqa: PLC0415
    from sentiment.text import TOKENIZER  # noqa: PLC0415
    from sentiment.vectors.chunk import Policy  # noqa: PLC0415
    from sentiment.vectors.gensim_training import TrainingSettings, train_vectors  # noqa: PLC0415
    from sentiment.vectors.table import check_target  # noqa: PLC0415

    check_target(out, replace=force)
    started = time.perf_counter()
    reviews = open_corpus(corpus)
    batches = reviews.read("train", columns=["text"])
    trained = train_vectors(
        (text for batch in batches for text in batch.column("text").to_pylist()),
        about={"name": str(corpus), "corpus": reviews.digest},
        settings=TrainingSettings(workers=workers or len(os.sched_getaffinity(0)), **settings),
        say=say,
    )
    policy = Policy(tokenizer=TOKENIZER, lower=True)
    table = write_source(trained, out, dtype=dtype, policy=policy, force=force)
    report_new(table, started=started, as_json=as_json)
