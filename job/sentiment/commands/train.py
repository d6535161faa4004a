"""`sentiment train`."""

import os
from pathlib import Path

import click

from sentiment.commands.reading import say_place
from sentiment.output import (
    TrainingProgress,
    next_step,
    result_json,
    result_table,
)
from sentiment.recipes import RECIPES, with_changes

DEFAULT_WORKERS = 2


@click.command()
@click.argument("corpus", type=click.Path(path_type=Path))
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--vectors",
    required=True,
    metavar="TABLE",
    help="The word table to start from: a directory (sentiment vectors build), or the beginning of "
    "the digest of a table that was shipped.",
)
@click.option(
    "--table-words",
    is_flag=True,
    help="Words that the training text does not have are read with TABLE's vectors. MODEL then "
    "needs TABLE on every host where it scores (sentiment vectors ship).",
)
@click.option(
    "--recipe",
    type=click.Choice(list(RECIPES)),
    default="quick",
    show_default=True,
    help="quick: a minute or two. best: the most accurate. talk: the 2016 settings.",
)
@click.option("--workers", type=click.IntRange(1), help="Shards trained at once.  [default: cores]")
@click.option("--epochs", type=int, help="Instead of the recipe's.")
@click.option("--batch-size", type=int, help="Reviews a step on each worker.")
@click.option("--learning-rate", type=float, help="Instead of the recipe's.")
@click.option("--rounds-per-epoch", type=int, help="How often an epoch the workers agree.")
@click.option("--seed", type=int, help="Same seed, same model, bit for bit.  [default: 1]")
@click.option("--events", type=click.Path(path_type=Path), help="Event file.  [MODEL.events.jsonl]")
@click.option("--force", is_flag=True, help="Replace MODEL if it exists.")
@click.option("--master", help="Spark master URL, local[N], or the name of a cluster here.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def train(
    corpus: Path,
    model: Path,
    vectors: str,
    table_words: bool,
    recipe: str,
    workers: int | None,
    events: Path | None,
    force: bool,
    master: str | None,
    as_json: bool,
    **changes: int | float | None,
) -> None:
    """Train on CORPUS across the cluster and write the directory MODEL.

    \b
    Examples:
      sentiment train corpus model --vectors table
      sentiment train corpus model --vectors table --recipe best --seed 2
      sentiment train corpus model --vectors table --epochs 1 --force
      sentiment train corpus model --vectors 1f3a5c --table-words
    """
    # Spark and torch take seconds to import: not before the options are known to be right.
    from sentiment.corpus import open_corpus  # noqa: PLC0415
    from sentiment.events import event_log  # noqa: PLC0415
    from sentiment.model import check_target  # noqa: PLC0415
    from sentiment.session import cores, find_place, spark_session  # noqa: PLC0415
    from sentiment.train import train as run  # noqa: PLC0415
    from sentiment.vectors.store import find_table  # noqa: PLC0415

    chosen = with_changes(RECIPES[recipe](), table_words=table_words or None, **changes)
    check_target(model, replace=force)
    opened, table = open_corpus(corpus), find_table(vectors)
    place = find_place(master)
    say_place(place, opened.path)
    progress = TrainingProgress()
    path = events or model.with_name(f"{model.name}.events.jsonl")
    with (
        spark_session(place, name="sentiment-train") as spark,
        event_log(path, listeners=(progress,)) as log,
    ):
        try:
            trained = run(
                spark,
                corpus=opened,
                table=table,
                recipe=chosen,
                target=model,
                workers=workers or cores(spark),
                log=log,
                replace=force,
            )
        finally:
            progress.close()
    if as_json:
        result_json(
            {
                "model": str(model),
                "digest": trained.digest,
                "recipe": recipe,
                "validation_accuracy": trained.validation.accuracy,
                "validation_loss": trained.validation.mean_loss,
                "epoch": trained.epoch,
                "epochs": trained.epochs,
                "rows": trained.assignment.training_rows,
                "validation_rows": trained.assignment.validation_rows,
                "rows_without_label": trained.assignment.without_label,
                "tokens_per_second": trained.tokens_per_second,
                "seconds": trained.seconds,
                "events": str(path),
            }
        )
    else:
        result_table(
            f"model {model}",
            [
                ("recipe", recipe),
                ("trained on", f"{trained.assignment.training_rows:,} reviews"),
                (
                    "validation accuracy",
                    f"{trained.validation.accuracy:.1%} of "
                    f"{trained.assignment.validation_rows:,} reviews held back "
                    f"(epoch {trained.epoch} of {trained.epochs})",
                ),
                ("vocabulary", f"{trained.vocabulary:,} words"),
                (
                    "speed",
                    f"{trained.tokens_per_second:,.0f} tokens/s, {trained.seconds:.0f} s in all",
                ),
                ("digest", trained.digest[:16]),
                ("events", str(path)),
            ],
        )
    # In a job of `sparkbundle submit` the model is on a host, where nobody types commands.
    job = os.environ.get("SPARKBUNDLE_JOB")
    if job:
        next_step(f"sparkbundle pull {job}:{model} {model.name}    (-i as for submit)")
    else:
        next_step(f"sentiment evaluate --model {model} --reviews {corpus}")
