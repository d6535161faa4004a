"""`sparkbundle ssh`."""

from pathlib import Path

import click

from sparkbundle import inventory as inventories
from sparkbundle import reach, shell
from sparkbundle.commands.options import required_inventory_option


@click.command(context_settings={"allow_interspersed_args": False})
@required_inventory_option
@click.argument("host", required=False)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[CMD...]")
def ssh(*, inventory: Path, host: str | None, words: tuple[str, ...]) -> None:
    """Open a shell on a host, the master's unless you name another.

    It is the system's OpenSSH, with the user, port and key of the inventory, and with the
    host keys that sparkbundle has learned: no other key is taken.

    \b
    Examples:
      sparkbundle ssh -i hosts.yml
      sparkbundle ssh -i hosts.yml worker-2
      sparkbundle ssh -i hosts.yml worker-2 nvidia-smi
    """
    found = inventories.load(inventory)
    shell.enter(found, reach.one(found, host), words=words)
