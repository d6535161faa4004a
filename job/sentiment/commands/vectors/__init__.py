"""`sentiment vectors`: build, train, ship and look at word tables."""

import click

from sentiment.commands.vectors.build import build
from sentiment.commands.vectors.coverage import coverage
from sentiment.commands.vectors.info import info
from sentiment.commands.vectors.ship import list_, ship
from sentiment.commands.vectors.train import train
from sentiment.commands.vectors.words import lookup, nearest


@click.group()
def vectors() -> None:
    """Build and look at word tables.

    A word table is a directory of word vectors that every process maps and no
    process loads; it is named by its digest and never changed.
    """


for command in (build, train, info, lookup, nearest, coverage, ship, list_):
    vectors.add_command(command)
