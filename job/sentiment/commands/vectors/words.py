"""`sentiment vectors lookup` and `nearest`."""

from pathlib import Path
from typing import Final

import click

from sentiment.commands.reading import json_option
from sentiment.output import result_json

_SHOWN_VALUES: Final = 5


@click.command()
@click.argument("table", type=click.Path(path_type=Path))
@click.argument("words", nargs=-1, required=True, metavar="WORD...")
@json_option
def lookup(table: Path, words: tuple[str, ...], as_json: bool) -> int:
    """Show the vectors of words in the word table TABLE.

    Exit code 0 if at least one word is there, else 1.

    \b
    Examples:
      sentiment vectors lookup table awful brilliant
      sentiment vectors lookup table awful --json
    """
    import numpy as np  # noqa: PLC0415

    from sentiment.vectors.store import find_table  # noqa: PLC0415

    opened = find_table(table)
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


@click.command()
@click.argument("table", type=click.Path(path_type=Path))
@click.argument("words", nargs=-1, required=True, metavar="WORD...")
@click.option("--minus", multiple=True, metavar="WORD", help="Away from this word; repeatable.")
@click.option("--top", type=click.IntRange(1), default=10, show_default=True)
@json_option
def nearest(
    table: Path, words: tuple[str, ...], minus: tuple[str, ...], top: int, as_json: bool
) -> None:
    """Show the words nearest to WORD in the word table TABLE.

    By cosine, over all words of the table. Of several words the mean is taken.
    Exit code 1 if a word is not in the table.

    \b
    Examples:
      sentiment vectors nearest table awful
      sentiment vectors nearest table king woman --minus man --top 5
    """
    from sentiment.vectors.nearest import nearest as nearest_words  # noqa: PLC0415
    from sentiment.vectors.store import find_table  # noqa: PLC0415

    opened = find_table(table)
    found = nearest_words(opened, words, minus=minus, top=top)
    if as_json:
        told = [{"word": one.word, "row": one.row, "cosine": one.cosine} for one in found]
        result_json({"table": str(opened.path), "digest": opened.digest, "nearest": told})
        return
    for one in found:
        click.echo(f"{one.cosine:+.4f}\t{one.word}")
