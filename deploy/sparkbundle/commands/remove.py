"""`sparkbundle remove`."""

from dataclasses import asdict
from pathlib import Path

import click

from sparkbundle import remote_down
from sparkbundle.commands.options import json_option, opened, required_inventory_option
from sparkbundle.errors import PARTLY
from sparkbundle.output import Steps, next_steps, print_json, print_pairs


@click.command()
@required_inventory_option
@click.argument("hosts", nargs=-1, required=True)
@click.option(
    "--drain",
    type=click.FloatRange(min=0),
    default=120.0,
    show_default=True,
    help="Seconds that running tasks have to end.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=180.0,
    show_default=True,
    help="Seconds to wait for the workers that stay.",
)
@json_option
@click.pass_context
def remove(
    context: click.Context,
    *,
    inventory: Path,
    hosts: tuple[str, ...],
    drain: float,
    timeout: float,
    as_json: bool,
) -> None:
    """Take HOSTS out of a running cluster and leave nothing of it on them.

    Their workers take no new tasks, get time to end those they have, and are stopped.
    The other hosts then know nothing of them any more. A host that is dead is taken
    out all the same.

    \b
    Examples:
      sparkbundle remove -i hosts.yml worker-2
      sparkbundle remove -i hosts.yml worker-2 --drain 600
    """
    steps = Steps(total=remote_down.remove_steps())
    with opened(inventory, steps=steps) as opened_hosts:
        result = remote_down.remove_hosts(
            opened_hosts, hosts, timeout=timeout, drain_seconds=drain, steps=steps
        )
    if as_json:
        print_json(asdict(result))
    else:
        print_pairs("removed", dict(result.drained))
        next_steps(
            f"take {', '.join(hosts)} out of {inventory}: the next up would add it again",
            f"sparkbundle status -i {inventory}",
        )
    if result.not_cleaned:
        context.exit(PARTLY)
