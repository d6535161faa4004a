"""`sparkbundle pull`."""

from pathlib import Path

import click

from sparkbundle import pulling, transfer
from sparkbundle.commands.host_options import (
    force_option,
    hosts_or_here,
    on_option,
    sudo_option,
)
from sparkbundle.commands.options import inventory_option, json_option, name_option


@click.command()
@inventory_option
@name_option("Name of the cluster on this machine, where no inventory is given.")
@on_option
@sudo_option
@force_option
@json_option
@click.argument("remote", metavar="[HOST:|JOB:]PATH")
@click.argument("local")
@click.pass_context
def pull(
    context: click.Context,
    *,
    inventory: Path | None,
    name: str,
    on: tuple[str, ...],
    sudo: bool,
    force: bool,
    as_json: bool,
    remote: str,
    local: str,
) -> None:
    """Copy a file or folder from a host, from all hosts, or from a job to here.

    What stands before the colon is a host if the inventory has one of this name, else a
    job: its id, the beginning of its id, or `last`. Without it the copies come from all
    hosts (see --on), each into a folder of its own: LOCAL/HOST/. LOCAL with a slash at its
    end is a folder that receives the copy, else it is the very name of the copy. You get
    everything or nothing; what is there already stays unless you say --force.

    \b
    Examples:
      sparkbundle pull -i hosts.yml worker-1:/var/log/syslog .
      sparkbundle pull -i hosts.yml --on workers --sudo /var/log/syslog logs/
      sparkbundle pull -i hosts.yml last:model my-model
      sparkbundle pull train-7k:events runs/        from the cluster on this machine
    """
    asked = pulling.PullOptions(
        remote=remote,
        local=local,
        inventory=hosts_or_here(context, inventory),
        name=name,
        on=on,
        sudo=sudo,
        force=force,
    )
    context.exit(transfer.report("pulled", pulling.pull(asked), as_json=as_json))
