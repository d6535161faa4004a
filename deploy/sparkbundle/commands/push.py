"""`sparkbundle push`."""

from pathlib import Path

import click

from sparkbundle import inventory as inventories
from sparkbundle import reach, sending, transfer
from sparkbundle.commands.host_options import force_option, on_option, sudo_option
from sparkbundle.commands.options import json_option, required_inventory_option


@click.command()
@required_inventory_option
@on_option
@sudo_option
@force_option
@json_option
@click.argument("local", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.argument("remote")
@click.pass_context
def push(
    context: click.Context,
    *,
    inventory: Path,
    on: tuple[str, ...],
    sudo: bool,
    force: bool,
    as_json: bool,
    local: tuple[Path, ...],
    remote: str,
) -> None:
    """Copy files and folders from here to all hosts at once.

    REMOTE with a slash at its end is a folder that receives them, else it is the very name
    of the copy. A path without / at its beginning starts in the user's home. Each host has
    everything at the end, or nothing; what is there already stays unless you say --force.

    \b
    Examples:
      sparkbundle push -i hosts.yml vectors.bin /data/
      sparkbundle push -i hosts.yml --on workers reviews /data/reviews
      sparkbundle push -i hosts.yml --sudo --force chrony.conf /etc/chrony/chrony.conf
    """
    found = inventories.load(inventory)
    chosen = reach.choose(found, on)
    to = transfer.remote_target(remote, several=len(local) > 1)
    if force:
        sending.require_replaceable(to)
    what = sending.load(local, to)
    names = [host.name for host in chosen]
    with reach.reaching(found) as hosts, transfer.progress(names, total=what.bytes) as tell:
        results = sending.push(hosts, what, chosen=chosen, sudo=sudo, force=force, tell=tell)
    context.exit(transfer.report("pushed", results, as_json=as_json))
