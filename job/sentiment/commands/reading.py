"""Options that several commands have: how to read reviews, where to run and on what, a seed."""

from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentiment.output import say
from sentiment.sources.model import SourceOptions

if TYPE_CHECKING:
    from sentiment.session import Place

Command = Callable[..., Any]

SEED = click.IntRange(0, 2**31 - 1)
"""What numpy, torch and Spark all take."""


def pairs(
    _: click.Context, __: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    """NAME=VALUE, each as two words."""
    found = [value.partition("=") for value in values]
    if not all(name and sign for name, sign, _ in found):
        raise click.BadParameter("give NAME=VALUE, e.g. source=imdb")
    return tuple((name, value) for name, _, value in found)


_READING = (
    click.option("--text-column", metavar="NAME", help="Column of the text, if it is not guessed."),
    click.option("--label-column", metavar="NAME", help="Column of the label or the stars."),
    click.option(
        "--only",
        multiple=True,
        callback=pairs,
        metavar="COLUMN=VALUE",
        help="Only rows with this value; may be repeated.",
    ),
    click.option("--stars-of", type=click.Choice(["5", "10"]), help="Top of the rating scale."),
    click.option("--encoding", default="utf-8", show_default=True, help="Of text files."),
    click.option("--max-chars", type=click.IntRange(1), default=1_000_000, show_default=True),
)


def reading_options(command: Command) -> Command:
    """Add the options on how to read a source; the command gets them as `reading`."""

    @wraps(command)
    def with_reading(
        *args: Any,
        text_column: str | None,
        label_column: str | None,
        only: tuple[tuple[str, str], ...],
        stars_of: str | None,
        encoding: str,
        max_chars: int,
        **others: Any,
    ) -> Any:
        reading = SourceOptions(
            text_column=text_column,
            label_column=label_column,
            only=only,
            encoding=encoding,
            max_chars=max_chars,
            stars_of=int(stars_of) if stars_of else None,
        )
        return command(*args, reading=reading, **others)

    for option in reversed(_READING):
        with_reading = option(with_reading)
    return with_reading


def say_place(place: "Place", path: Path | str) -> None:
    """Say where the command runs, and if the rows at `path` are sent there."""
    from sentiment.folders import shared  # noqa: PLC0415

    sent = "" if shared(place.master, path) else "; it does not share this folder: rows are sent"
    say(f"running on {place.label}{sent}")


time_option = click.option(
    "--time-column",
    metavar="NAME",
    help="Column that tells when a review was made (ISO 8601, or seconds since 1970); it goes "
    "into `time`.",
)
master_option = click.option(
    "--master", help="Spark master URL, local[N], or the name of a cluster here."
)
device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="cuda: on the job's GPUs (sparkbundle submit --gpus-per-task), or not at all. auto: on "
    "those, if there are any.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
table_option = click.option(
    "--vectors",
    "table",
    metavar="TABLE",
    help="The word table of a model that was trained with --table-words, where this host's store "
    "does not have it.",
)


def table_for(files: Mapping[str, bytes], table: str | None, *, model: str) -> str | None:
    """The path of the table that --vectors names, once it is clear that the model needs it.

    `files` are those of the model, `model` names it in messages.

    Raises:
        InvalidInputError: the model needs another table, or none.
    """
    if table is None:
        return None
    from sentiment.errors import InvalidInputError  # noqa: PLC0415
    from sentiment.model import needed_table  # noqa: PLC0415
    from sentiment.vectors.store import find_table  # noqa: PLC0415

    needed = needed_table(files, where=model)
    if needed is None:
        raise InvalidInputError(
            "--vectors has no effect: the model has all its vectors in itself",
            where=table,
            todo="leave it out",
        )
    found = find_table(table)
    if found.digest != needed:
        raise InvalidInputError(
            f"is the word table {found.digest[:12]}, the model was trained with {needed[:12]}",
            where=table,
            todo="give the table that it was trained with",
        )
    return str(found.path)


model_option = click.option(
    "--model",
    required=True,
    type=click.Path(),
    help="The directory that sentiment train wrote.",
)
