"""`sparkbundle status`."""

import click

from sparkbundle import embedded
from sparkbundle.commands.options import json_option, name_option
from sparkbundle.embedded import ClusterStatus, DaemonStatus
from sparkbundle.errors import FAILED
from sparkbundle.output import next_steps, print_json, print_pairs
from sparkbundle.plan import DEFAULT_NAME
from sparkbundle.state import cluster_names


@click.command()
@name_option()
@json_option
@click.pass_context
def status(context: click.Context, *, name: str, as_json: bool) -> None:
    """Show a cluster's daemons and applications. Exit code 1 unless all are well.

    \b
    Examples:
      sparkbundle status
      sparkbundle status --name lab --json
    """
    found = embedded.status(name)
    if as_json:
        print_json(found.as_json())
    else:
        print_pairs(_title(found), _pairs(found))
        _advise(found)
    if not found.healthy:
        context.exit(FAILED)


def _title(found: ClusterStatus) -> str:
    if not found.up:
        return f"cluster {found.name!r} is not up"
    return f"cluster {found.name!r} is " + ("well" if found.healthy else "NOT well")


def _pairs(found: ClusterStatus) -> dict[str, object]:
    pairs: dict[str, object] = {}
    if found.record is not None:
        pairs |= {"url": found.record.master, "web page": f"{found.record.ui} (needs a token)"}
    pairs |= {daemon.name: _describe(daemon) for daemon in found.daemons}
    pairs |= {one.id: f"{one.name}, {one.cores} cores, {one.user}" for one in found.applications}
    if found.leftovers:
        pairs["left over"] = f"{found.leftovers} processes of an interrupted run"
    return pairs


def _describe(daemon: DaemonStatus) -> str:
    text = daemon.state
    if daemon.pid is not None:
        text += f", pid {daemon.pid}"
    if daemon.cores:
        text += f", {daemon.cores} cores, {daemon.memory_mib}m"
    return text if daemon.state == "ALIVE" else f"{text}; log: {daemon.log}"


def _advise(found: ClusterStatus) -> None:
    named = "" if found.name == DEFAULT_NAME else f" --name {found.name}"
    if found.healthy:
        next_steps(f"sparkbundle down{named}")
        return
    lines = [f"sparkbundle up{named}    starts what is missing"]
    if found.leftovers:
        lines.append(f"sparkbundle down{named}    ends what is left over")
    others = [name for name in cluster_names() if name != found.name]
    if not found.up and others:
        lines.append(f"sparkbundle status --name {others[0]}    there is also: {', '.join(others)}")
    next_steps(*lines)
