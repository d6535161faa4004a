"""`sparkbundle add`."""

from pathlib import Path

import click

from sparkbundle import remote
from sparkbundle.commands.options import json_option, opened, required_inventory_option
from sparkbundle.commands.up import show_deployed
from sparkbundle.output import Steps
from sparkbundle.remote import UpOptions


@click.command()
@required_inventory_option
@click.argument("hosts", nargs=-1, required=True)
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=180.0,
    show_default=True,
    help="Seconds to wait for the workers, and again for the smoke job.",
)
@json_option
def add(*, inventory: Path, hosts: tuple[str, ...], timeout: float, as_json: bool) -> None:
    """Add HOSTS, which the inventory now has, to a running cluster.

    Their own deploy, and on the others what must change: who is let in, how many cores
    there are. Nothing that runs ends.

    \b
    Examples:
      sparkbundle add -i hosts.yml worker-3
    """
    options = UpOptions(timeout=timeout)
    steps = Steps(total=remote.up_steps(options))
    with opened(inventory, steps=steps) as opened_hosts:
        remote.require_hosts(opened_hosts.inventory, hosts)
        result = remote.up(opened_hosts, options, steps=steps)
    show_deployed(result, inventory, as_json=as_json)
