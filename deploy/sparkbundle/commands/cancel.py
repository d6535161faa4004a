"""`sparkbundle cancel`."""

from pathlib import Path

import click

from sparkbundle import jobs, jobs_view
from sparkbundle.commands.jobs import chosen
from sparkbundle.commands.options import inventory_option, json_option, name_option
from sparkbundle.output import next_steps, print_json


@click.command()
@click.argument("job")
@inventory_option
@name_option()
@json_option
@click.pass_context
def cancel(
    context: click.Context, *, job: str, inventory: Path | None, name: str, as_json: bool
) -> None:
    """End a JOB, and wait until it is gone. Its output and its files stay.

    It is asked to end, and killed after 20 seconds. JOB is an id, the beginning of one, or "last".

    \b
    Examples:
      sparkbundle cancel last
      sparkbundle cancel -i hosts.yml train-1125-0314-x7k
    """
    with chosen(context, inventory=inventory, name=name) as target:
        ended, changed = jobs.cancel(target, job)
        if as_json:
            print_json({**ended.as_json(), "changed": changed})
            return
        click.echo(jobs_view.ending(ended) + ("" if changed else ": nothing to do"))
        next_steps(f"sparkbundle logs{target.options} {ended.id}")
