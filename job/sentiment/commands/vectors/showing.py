"""What the commands show of a word table, and how they write one."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentiment.output import next_step, result_json, result_table, say

if TYPE_CHECKING:
    from sentiment.vectors import Policy, WordTable
    from sentiment.vectors.source import Progress, Source


def write_source(
    source: "Source",
    out: Path,
    *,
    dtype: str,
    policy: "Policy",
    force: bool,
    about: Mapping[str, Any] | None = None,
) -> "WordTable":
    """Write the word table OUT from a source that was opened; `about` tells more of it."""
    from sentiment.vectors import write_table  # noqa: PLC0415

    return write_table(
        out,
        source.chunks,
        source={**source.about, **(about or {})},
        also=source.also,
        promised=source.rows,
        dtype=dtype,
        policy=policy,
        replace=force,
    )


def report_new(table: "WordTable", *, started: float, as_json: bool) -> None:
    """Show the table that was made, and what would be typed next."""
    seconds = time.perf_counter() - started
    if as_json:
        result_json({**summary(table), "seconds": round(seconds, 3)})
    else:
        rows = [*table_rows(table), ("time", f"{seconds:.1f} s")]
        result_table(f"word table {table.path}", rows)
    next_step(f"sentiment train CORPUS MODEL --vectors {table.path}")


def summary(table: "WordTable") -> dict[str, Any]:
    """What `--json` shows of a table."""
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


def table_rows(table: "WordTable") -> list[tuple[str, str]]:
    """What a table holds, as names and values."""
    manifest = table.manifest
    size = sum(file.bytes for file in manifest.files.values())
    counts = manifest.counts
    read = [f"{counts['read']:,} words"]
    if counts["repeated"]:
        read.append(f"{counts['repeated']:,} came again and were left out")
    if counts["left_out"]:
        read.append(f"{counts['left_out']:,} do not occur in the corpus")
    if counts["zero"]:
        read.append(f"{counts['zero']:,} have a vector of zeros")
    return [
        ("words", f"{table.rows:,} of {table.dimensions} dimensions, {manifest.dtype}"),
        ("length", "1 each" if manifest.normalised else "as in the source"),
        ("case", "lower" if manifest.case == "lower" else "as in the source"),
        ("tokenizer", manifest.tokenizer or "the source's own"),
        ("source", f"{manifest.source['name']} ({manifest.source.get('format', 'unknown')})"),
        ("read", ", ".join(read)),
        ("size", f"{size / 1e6:,.1f} MB"),
        ("digest", table.digest[:16]),
    ]


@contextmanager
def percentage(text: str) -> Iterator["Progress"]:
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
