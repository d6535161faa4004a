"""`sentiment vectors coverage`."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentiment.commands.reading import json_option
from sentiment.output import result_json, result_table, say

if TYPE_CHECKING:
    from sentiment.vectors.coverage import Coverage

_WORTH_A_HINT = 0.001
"""The share of the tokens from which on lower case is suggested."""


@click.command()
@click.argument("table", type=click.Path(path_type=Path))
@click.argument("corpus", type=click.Path(path_type=Path))
@json_option
def coverage(table: Path, corpus: Path, as_json: bool) -> None:
    """Show how much of the words of CORPUS the word table TABLE has.

    \b
    Examples:
      sentiment vectors coverage table corpus
      sentiment vectors coverage table corpus --json
    """
    from sentiment.corpus import open_corpus  # noqa: PLC0415
    from sentiment.vectors import coverage as covering  # noqa: PLC0415
    from sentiment.vectors.store import find_table  # noqa: PLC0415

    opened, reviews = find_table(table), open_corpus(corpus)
    splits = {}
    for split in reviews.splits:
        say(f"reading {corpus}, {split} …")
        splits[split] = covering.count_words(reviews, split)
    total = sum(splits.values(), Counter[str]())
    found = {name: covering.coverage(opened, counts) for name, counts in splits.items()}
    in_all = covering.coverage(opened, total)
    gain = covering.gain_of_lower_case(opened, total)
    if as_json:
        told: dict[str, Any] = {
            "table": str(opened.path),
            "digest": opened.digest,
            "corpus": str(reviews.path),
            "corpus_digest": reviews.digest,
            "splits": {name: one.as_json() for name, one in found.items()},
            "all": in_all.as_json(),
            "tokens_gained_by_lower_case": gain,
        }
        result_json(told)
    else:
        for name, one in {**found, "in all": in_all}.items():
            result_table(f"{name}: {opened.path} on {reviews.path}", _figures(one))
    if gain > _WORTH_A_HINT * in_all.tokens:
        say(
            f"the table's words are as in their source: in lower case it would have {gain:,} more "
            "of the tokens (sentiment vectors build SOURCE OUT --lower)"
        )


def _figures(found: "Coverage") -> list[tuple[str, str]]:
    missing = ", ".join(f"{word} ({count:,})" for word, count in found.missing)
    return [
        ("tokens", f"{found.tokens:,}, {found.share_of_tokens:.2%} of them found"),
        ("words", f"{found.words:,}, {found.share_of_words:.2%} of them found"),
        ("missing", missing or "none"),
    ]
