"""`sparkbundle down`."""

from dataclasses import asdict
from pathlib import Path

import click

from sparkbundle import embedded, remote_down
from sparkbundle.commands.options import (
    inventory_option,
    json_option,
    name_option,
    only_without_inventory,
    opened,
)
from sparkbundle.embedded import StopReport
from sparkbundle.output import Steps, next_steps, print_json, print_pairs, warn
from sparkbundle.state import by_name, cluster_names


@click.command()
@inventory_option
@name_option()
@click.option("--all", "every", is_flag=True, help="All clusters of the state directory.")
@click.option("--purge", is_flag=True, help="Remove the logs and all other files, too.")
@json_option
@click.pass_context
def down(
    context: click.Context,
    *,
    inventory: Path | None,
    name: str,
    every: bool,
    purge: bool,
    as_json: bool,
) -> None:
    """End every process of a cluster, also what a crash has left.

    Your own drivers go on, but their applications have lost the cluster. On hosts,
    submitted jobs end, too; with --purge nothing is left there but Java and nftables.

    \b
    Examples:
      sparkbundle down
      sparkbundle down --name lab --purge
      sparkbundle down --all
      sparkbundle down -i hosts.yml --purge
    """
    if inventory is not None:
        only_without_inventory(context)
        _down_on_hosts(inventory, purge=purge, as_json=as_json)
        return
    names = cluster_names() if every else [name]
    steps = Steps(total=len(names) * embedded.STOP_STEPS)
    reports = [embedded.stop(one, purge=purge, steps=steps) for one in names]
    for report in reports:
        if report.applications:
            lost = ", ".join(f"{one.name} ({one.id})" for one in report.applications)
            warn(
                f"{len(report.applications)} applications have lost cluster {report.name!r}: "
                f"{lost}; submitted jobs were ended with it, other drivers may wait for it for ever"
            )
    if as_json:
        print_json({"clusters": [asdict(report) for report in reports]})
        return
    print_pairs(
        "down" if reports else "there is no cluster: nothing to do",
        {report.name: _describe(report) for report in reports},
    )
    only = by_name(names[0]) if len(names) == 1 else ""
    next_steps(f"sparkbundle up{only}")


def _describe(report: StopReport) -> str:
    if not (report.was_up or report.processes):
        text = "nothing to do: it was not up"
    else:
        text = f"{report.processes} processes ended"
    return f"{text}; all its files removed" if report.purged else text


def _down_on_hosts(inventory: Path, *, purge: bool, as_json: bool) -> None:
    steps = Steps(total=remote_down.down_steps(purge=purge))
    with opened(inventory, steps=steps) as hosts:
        result = remote_down.down(hosts, purge=purge, steps=steps)
    if as_json:
        print_json(asdict(result))
        return
    print_pairs(
        "down, and removed from the hosts" if purge else "down",
        {name: f"changed {len(tasks)}" for name, tasks in result.changed.items()},
    )
    next_steps(f"sparkbundle up -i {inventory}")
