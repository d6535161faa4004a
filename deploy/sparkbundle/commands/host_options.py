"""Options of the commands that work on the hosts of an inventory."""

from pathlib import Path

import click
from click.core import ParameterSource

from sparkbundle.commands.options import Decorator

on_option: Decorator = click.option(
    "--on",
    multiple=True,
    metavar="HOST|GROUP|LABEL",
    help="Only these hosts; several times, or with commas.  [default: all]",
)

sudo_option: Decorator = click.option(
    "--sudo", is_flag=True, help="As root there; sudo must not ask for a password."
)

force_option: Decorator = click.option(
    "--force", is_flag=True, help="Replace what is there already."
)


def hosts_or_here(context: click.Context, inventory: Path | None) -> Path | None:
    """The inventory, or None where --name on the command line means a cluster on this machine.

    Raises:
        click.UsageError: both are on the command line.
    """
    line = ParameterSource.COMMANDLINE
    if inventory is None or context.get_parameter_source("name") is not line:
        return inventory
    if context.get_parameter_source("inventory") is line:
        raise click.UsageError("-i names a cluster of hosts, --name one on this machine", context)
    return None
