"""`sentiment vectors info`."""

from pathlib import Path

import click

from sentiment.commands.reading import json_option
from sentiment.commands.vectors.showing import summary, table_rows
from sentiment.output import result_json, result_table


@click.command()
@click.argument("table", type=click.Path(path_type=Path))
@click.option(
    "--verify", is_flag=True, help="Check the sha256 of every file, which reads them all."
)
@json_option
def info(table: Path, verify: bool, as_json: bool) -> None:
    """Show what the word table TABLE holds and where it came from.

    \b
    Examples:
      sentiment vectors info table
      sentiment vectors info table --verify --json
    """
    from sentiment.vectors.store import find_table  # noqa: PLC0415

    opened = find_table(table, verify=verify)
    if as_json:
        result_json({**summary(opened), "verified": verify, **opened.manifest.as_json()})
        return
    verified = "every file's sha256 is right" if verify else "sizes only (--verify reads the files)"
    result_table(f"word table {opened.path}", [*table_rows(opened), ("verified", verified)])
