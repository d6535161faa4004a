"""`sparkbundle status`."""

from pathlib import Path

import click

from sparkbundle import embedded, host_gpus, host_status
from sparkbundle.commands.options import (
    inventory_option,
    json_option,
    name_option,
    only_without_inventory,
    opened,
    warn_of_gpus,
)
from sparkbundle.embedded import ClusterStatus, DaemonStatus
from sparkbundle.errors import FAILED
from sparkbundle.executor_size import counted
from sparkbundle.host_status import HostsStatus, HostStatus
from sparkbundle.master import Application
from sparkbundle.output import Steps, next_steps, print_json, print_pairs, print_rows, warn
from sparkbundle.state import by_name, cluster_names, vectors_directory
from sparkbundle.word_tables import SHORT, WordTable, spread, tables_here


@click.command()
@inventory_option
@name_option()
@json_option
@click.pass_context
def status(context: click.Context, *, inventory: Path | None, name: str, as_json: bool) -> None:
    """Show a cluster's daemons and applications. Exit code 1 unless all are well.

    With -i every host is asked by itself, and the master about all of them.

    \b
    Examples:
      sparkbundle status
      sparkbundle status --name lab --json
      sparkbundle status -i hosts.yml
    """
    if inventory is not None:
        only_without_inventory(context)
        _status_of_hosts(context, inventory, as_json=as_json)
        return
    found, tables = embedded.status(name), tables_here()
    if found.record is not None:
        warn_of_gpus(found.record)
    well = found.healthy and not any(one.fault for one in tables)
    if as_json:
        print_json({**found.as_json(), "word_tables": [one.as_json() for one in tables]})
    else:
        print_pairs(_title(found, well=well), _pairs(found, tables))
        _advise(found)
        for one in tables:
            if one.fault:
                warn(f"{one.fault}, or remove its folder below {vectors_directory()}")
    if not well:
        context.exit(FAILED)


def _title(found: ClusterStatus, *, well: bool) -> str:
    if not found.up:
        return f"cluster {found.name!r} is not up"
    return f"cluster {found.name!r} is " + ("well" if well else "NOT well")


def _pairs(found: ClusterStatus, tables: tuple[WordTable, ...]) -> dict[str, object]:
    pairs: dict[str, object] = {}
    if found.record is not None:
        pairs |= {"url": found.record.master, "web page": f"{found.record.ui} (needs a token)"}
    pairs |= {daemon.name: _describe(daemon) for daemon in found.daemons}
    pairs |= {one.id: _application(one) for one in found.applications}
    pairs |= {f"word table {one.digest[:SHORT]}": _table(one) for one in tables}
    if found.notebook:
        command = f"sparkbundle open notebook{by_name(found.name)}"
        pairs["notebook"] = f"{found.notebook} ({command})"
    if found.leftovers:
        pairs["left over"] = f"{found.leftovers} processes of an interrupted run"
    return pairs


def _table(one: WordTable) -> str:
    return one.described + (f"; {one.fault}" if one.fault else "")


def _application(one: Application) -> str:
    waits = f"; waits for ever: {one.note}" if one.note else ""
    gpus = f", {counted(one.gpus, 'GPU')} an executor" if one.gpus else ""
    return f"{one.name}, {one.cores} cores, {one.user}{gpus}{waits}"


def _describe(daemon: DaemonStatus) -> str:
    text = daemon.state
    if daemon.pid is not None:
        text += f", pid {daemon.pid}"
    if daemon.cores:
        text += f", {daemon.cores} cores, {daemon.memory_mib}m"
    if daemon.gpus:
        text += f", GPUs {','.join(daemon.gpus)}"
    return text if daemon.state == "ALIVE" else f"{text}; log: {daemon.log}"


def _advise(found: ClusterStatus) -> None:
    named = by_name(found.name)
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


def _status_of_hosts(context: click.Context, inventory: Path, *, as_json: bool) -> None:
    steps = Steps(total=2)
    with opened(inventory, steps=steps) as hosts, steps.step("ask the hosts"):
        found = host_status.status(hosts)
    if as_json:
        print_json(found.as_json())
    else:
        word = "well" if found.healthy else "NOT well"
        click.echo(f"cluster {found.name!r} is {word}" if found.up else _not_up(found))
        titles = ("HOST", "ADDRESS", "DAEMONS", "CORES", "MEMORY", "GPUS", "STATE")
        print_rows(titles, [_row(host) for host in found.hosts])
        for one in found.applications:
            click.echo(f"{one.id}  {_application(one)}")
        tables = spread({host.name: host.word_tables for host in found.hosts})
        if tables:
            print_rows(("WORD TABLE", "WHAT", "ON"), tables)
        if found.healthy:
            next_steps(f"sparkbundle submit -i {inventory} sentiment --help")
        else:
            next_steps(f"sparkbundle up -i {inventory}    mends what can be mended")
    if not found.healthy:
        context.exit(FAILED)


def _not_up(found: HostsStatus) -> str:
    return f"cluster {found.name!r} is not up"


def _gpus(host: HostStatus) -> str:
    use = host_gpus.in_use(host.gpus, host.gpu_devices, held=len(host.gpus_used))
    return host_gpus.shown(host.gpus, host.gpu_devices) + (use and f", {use}")


def _row(host: HostStatus) -> tuple[object, ...]:
    return (
        host.name,
        host.address or "-",
        "+".join(host.daemons),
        host.cores or "-",
        f"{host.memory_mib}m" if host.memory_mib else "-",
        _gpus(host),
        "; ".join(host.faults) or "ALIVE",
    )
