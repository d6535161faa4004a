"""`sparkbundle restart`."""

from pathlib import Path

import click

from sparkbundle import remote
from sparkbundle.commands.options import json_option, opened, required_inventory_option
from sparkbundle.output import Steps, next_steps, print_json


@click.command()
@required_inventory_option
@click.argument("hosts", nargs=-1)
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=180.0,
    show_default=True,
    help="Seconds to wait for the workers to be back.",
)
@json_option
def restart(*, inventory: Path, hosts: tuple[str, ...], timeout: float, as_json: bool) -> None:
    """Start the daemons on HOSTS (default: all) anew, the workers one after the other.

    Running applications go on: the master remembers them, and what a worker computed
    is computed again elsewhere.

    \b
    Examples:
      sparkbundle restart -i hosts.yml
      sparkbundle restart -i hosts.yml worker-2
    """
    steps = Steps(total=remote.restart_steps())
    with opened(inventory, steps=steps) as opened_hosts:
        remote.restart(opened_hosts, hosts, timeout=timeout, steps=steps)
    if as_json:
        print_json({"restarted": list(hosts) or [h.name for h in opened_hosts.inventory.hosts]})
    next_steps(f"sparkbundle status -i {inventory}")
