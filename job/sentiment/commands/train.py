"""`sentiment train`."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentiment.commands.reading import SEED, device_option, say_place
from sentiment.output import (
    TrainingProgress,
    next_pull,
    next_step,
    result_json,
    result_table,
    say,
    submitted_job,
)
from sentiment.recipes import RECIPES, with_changes

if TYPE_CHECKING:
    from sentiment.device import Precision
    from sentiment.gpus import Wanted
    from sentiment.plan import Plan
    from sentiment.train import Trained

_AUTO = "auto"


class _Rounds(click.ParamType[int | str]):
    """A number, or `auto`."""

    name = "N|auto"

    def convert(
        self, value: int | str, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | str:
        try:
            return _AUTO if value == _AUTO else int(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor {_AUTO}", param, ctx)


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
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Shards trained at once.  [default: as many as cores, or as GPUs have room for]",
)
@click.option("--epochs", type=int, help="Instead of the recipe's.")
@click.option("--batch-size", type=int, help="Reviews a step on each worker.")
@click.option("--learning-rate", type=float, help="Instead of the recipe's.")
@click.option(
    "--rounds-per-epoch",
    type=_Rounds(),
    help="How often an epoch the workers agree; auto: as often as it costs little, by the plan.",
)
@click.option(
    "--strategy",
    type=click.Choice(["averaging", "allreduce"]),
    help="How workers agree: after each round (slow networks), or at every step (fast ones).  "
    "[default: the recipe's]",
)
@click.option(
    "--outer-momentum",
    type=float,
    help="Of what the workers moved by together in a round.  [default: 1 - 1/workers]",
)
@click.option(
    "--seed",
    type=SEED,
    help="Same seed, same model, bit for bit.  [default: 1]",
)
@device_option
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Of products and activations on a GPU; weights are float32.",
)
@click.option(
    "--deterministic/--no-deterministic",
    default=True,
    show_default=True,
    help="On a GPU, too: same seed, same model, bit for bit, on the same card and torch. Without, "
    "torch may take faster ways. On a CPU it is always so.",
)
@click.option(
    "--plan",
    "only_plan",
    is_flag=True,
    help="Measure some seconds, say what the workers will be worth, and train nothing.",
)
@click.option("--no-plan", is_flag=True, help="Begin without measuring first.")
@click.option("--events", type=click.Path(path_type=Path), help="Event file.  [MODEL.events.jsonl]")
@click.option(
    "--listeners/--no-listeners",
    default=True,
    show_default=True,
    help="Tell the event file of each layer's weights, updates and gradients after every round. "
    "It changes nothing of what is learned.",
)
@click.option("--resume", is_flag=True, help="Go on where an interrupted run of the same ended.")
@click.option(
    "--keep-checkpoints",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Of the rounds made last; that of the best epoch stays, too.",
)
@click.option(
    "--force", is_flag=True, help="Replace MODEL if it exists, and checkpoints of another run."
)
@click.option("--master", help="Spark master URL, local[N], or the name of a cluster here.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def train(
    corpus: Path,
    model: Path,
    vectors: str,
    table_words: bool,
    recipe: str,
    workers: int | None,
    device: "Wanted",
    precision: "Precision",
    deterministic: bool,
    only_plan: bool,
    no_plan: bool,
    events: Path | None,
    listeners: bool,
    resume: bool,
    keep_checkpoints: int,
    force: bool,
    master: str | None,
    as_json: bool,
    **changes: int | float | str | None,
) -> None:
    """Train on CORPUS across the cluster and write the directory MODEL.

    \b
    Examples:
      sentiment train corpus model --vectors table
      sentiment train corpus model --vectors table --recipe best --seed 2
      sentiment train corpus model --vectors table --epochs 1 --force
      sentiment train corpus model --vectors table --resume
      sentiment train corpus model --vectors 1f3a5c --table-words
      sparkbundle submit --gpus-per-task 1 sentiment train @corpus model --vectors @table
    """
    if only_plan and no_plan:
        raise click.UsageError("--plan measures and --no-plan does not: give one of them")
    pick_rounds = _picked_by_plan(changes, no_plan=no_plan)
    chosen = with_changes(RECIPES[recipe](), table_words=table_words or None, **changes)
    # Spark and torch take seconds to import: not before the options are known to be right.
    from sentiment.checkpoint import check_unfinished, checkpoint_directory  # noqa: PLC0415
    from sentiment.corpus import open_corpus  # noqa: PLC0415
    from sentiment.device import DeviceConfig  # noqa: PLC0415
    from sentiment.events import event_log  # noqa: PLC0415
    from sentiment.gpus import gpus_for  # noqa: PLC0415
    from sentiment.model import check_target  # noqa: PLC0415
    from sentiment.session import find_place, spark_session  # noqa: PLC0415
    from sentiment.strategies import settings_for  # noqa: PLC0415
    from sentiment.train import Options, plan_run  # noqa: PLC0415
    from sentiment.train import train as run  # noqa: PLC0415
    from sentiment.vectors.store import find_table  # noqa: PLC0415

    if not only_plan:
        check_target(model, replace=force)
        check_unfinished(model, resume=resume, replace=force)
    opened, table = open_corpus(corpus), find_table(vectors)
    place = find_place(master)
    say_place(place, opened.path)
    config = DeviceConfig(precision=precision, deterministic=deterministic)
    say(f"reading {opened.rows('train'):,} reviews{', then measuring' * only_plan} …")
    if only_plan:
        with spark_session(place, name="sentiment-plan", settings=settings_for(place)) as spark:
            gpus = gpus_for(spark.sparkContext, config, device, warn=say)
            planned = plan_run(
                spark,
                corpus=opened,
                table=table,
                recipe=chosen,
                workers=workers or gpus.workers(spark),
                gpus=gpus,
            )
        _show_plan(planned, as_json=as_json)
        if not submitted_job():
            given = [word for word in sys.argv[1:] if word != "--plan"]
            next_step(shlex.join(["sentiment", *given]))
        return
    progress = TrainingProgress()
    path = events or model.with_name(f"{model.name}.events.jsonl")
    with (
        spark_session(place, name="sentiment-train", settings=settings_for(place)) as spark,
        event_log(path, listeners=(progress,), resume=resume) as log,
    ):
        try:
            gpus = gpus_for(spark.sparkContext, config, device, warn=log.warn)
            trained = run(
                spark,
                corpus=opened,
                table=table,
                recipe=chosen,
                target=model,
                workers=workers or gpus.workers(spark),
                log=log,
                options=Options(
                    replace=force,
                    resume=resume,
                    keep_checkpoints=keep_checkpoints,
                    plan=not no_plan,
                    pick_rounds=pick_rounds,
                    listeners=listeners,
                    gpus=gpus,
                ),
            )
        except KeyboardInterrupt:
            if checkpoint_directory(model).is_dir():
                say("go on with it: the same command with --resume")
            raise
        finally:
            progress.close()
    _show_trained(trained, model=model, recipe=recipe, events=path, as_json=as_json)
    if not next_pull(model):
        next_step(f"sentiment evaluate --model {model} --reviews {corpus}")


def _show_trained(
    trained: "Trained", *, model: Path, recipe: str, events: Path, as_json: bool
) -> None:
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
                "training_seconds": trained.training_seconds,
                "seconds": trained.seconds,
                "events": str(events),
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
                    f"{trained.tokens_per_second:,.0f} tokens/s in rounds of "
                    f"{trained.training_seconds:.0f} s together; {trained.seconds:.0f} s in all",
                ),
                ("digest", trained.digest[:16]),
                ("events", str(events)),
            ],
        )


def _picked_by_plan(changes: dict[str, int | float | str | None], *, no_plan: bool) -> bool:
    """Whether the plan picks the rounds an epoch; they are then no change of the recipe."""
    if changes["rounds_per_epoch"] != _AUTO:
        return False
    if no_plan:
        raise click.UsageError("--rounds-per-epoch auto is the plan's: not with --no-plan")
    changes["rounds_per_epoch"] = None
    return True


def _show_plan(planned: "Plan", *, as_json: bool) -> None:
    if as_json:
        result_json(planned.to_json())
        return
    measured = planned.measured
    sync = "cannot be had" if measured.sync is None else f"{measured.sync * 1e3:.0f} ms"
    result_table(
        f"{measured.workers} workers",
        [
            ("a step, one worker alone", f"{measured.alone_step * 1e3:.0f} ms"),
            (
                "a step, beside the others",
                f"{measured.step * 1e3:.0f} ms; the slowest worker {measured.skew:.2f} times that",
            ),
            ("averaging a round", f"{measured.round:.2f} s"),
            ("adding up a step's gradients", sync),
            *(
                (
                    f"{row.strategy}, {row.steps_a_round} steps a round",
                    f"{row.speed_up:.2f} times as fast as one worker"
                    + ("   (the recipe)" if row == planned.chosen else ""),
                )
                for row in planned.rows
            ),
            ("--rounds-per-epoch auto", f"would be {planned.rounds_per_epoch}"),
            ("advice", planned.advice),
        ],
    )
