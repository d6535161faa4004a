"""`sparkbundle up`."""

from pathlib import Path

import click

from sparkbundle import embedded, gpu_verify, remote
from sparkbundle.commands.options import (
    Gpus,
    Size,
    inventory_option,
    json_option,
    name_option,
    only_without_inventory,
    opened,
    warn_of_gpus,
)
from sparkbundle.host_gpus import Wanted
from sparkbundle.output import Steps, next_steps, print_json, print_pairs
from sparkbundle.plan import ClusterOptions
from sparkbundle.remote import Deployed, UpOptions
from sparkbundle.state import by_name

_PORT = click.IntRange(1024, 65535)


@click.command()
@inventory_option
@click.option("--check", is_flag=True, help="With -i: show what would change; change nothing.")
@click.option(
    "--thorough", is_flag=True, help="With -i: run every role, also where nothing has drifted."
)
@name_option()
@click.option("--workers", type=click.IntRange(1, 64), show_default="2", help="Worker processes.")
@click.option(
    "--cores-per-worker",
    type=click.IntRange(1, 512),
    show_default="half of the machine's",
    help="Cores, that is tasks at a time, of each worker.",
)
@click.option(
    "--memory-per-worker",
    type=Size(),
    show_default="from the machine's",
    help="Java memory of each worker's executor, such as 1g.",
)
@click.option(
    "--gpus",
    type=Gpus(),
    metavar="auto|none|N|0,2",
    show_default="auto, those that are found",
    help="NVIDIA GPUs to deal out to the workers: how many, or which (one alone: `1,`).",
)
@click.option("--master-port", type=_PORT, show_default="a free one", help="Port of the master.")
@click.option("--ui-port", type=_PORT, show_default="a free one", help="Port of its web page.")
@click.option(
    "--min-free-disk", type=Size(), default="1g", show_default=True, help="Stop if there is less."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=180.0,
    show_default=True,
    help="Seconds to wait for the workers, and again for the smoke job.",
)
@json_option
@click.pass_context
def up(
    context: click.Context,
    *,
    inventory: Path | None,
    check: bool,
    thorough: bool,
    name: str,
    workers: int | None,
    cores_per_worker: int | None,
    memory_per_worker: int | None,
    gpus: Wanted | None,
    master_port: int | None,
    ui_port: int | None,
    min_free_disk: int,
    timeout: float,
    as_json: bool,
) -> None:
    """Bring up a Spark cluster and prove that it works: on hosts with -i, else on this machine.

    On this machine: one master and some worker processes, on the loopback address, as
    the calling user. On hosts: everything from Java to the firewall, over SSH. Both are
    authenticated and encrypted, and ready only when every worker has run a part of
    a smoke job. Again on a running cluster: checks it, mends what has changed or died.

    \b
    Examples:
      sparkbundle up
      sparkbundle up --workers 4 --cores-per-worker 1 --memory-per-worker 1g
      sparkbundle up -i hosts.yml
      sparkbundle up -i hosts.yml --check
    """
    if inventory is not None:
        only_without_inventory(context)
        _up_on_hosts(inventory, UpOptions(check, thorough, timeout), as_json=as_json)
        return
    if check or thorough:
        raise click.UsageError("--check and --thorough are for hosts: name them with -i INVENTORY")
    options = ClusterOptions(
        name=name,
        workers=workers,
        cores=cores_per_worker,
        memory_mib=memory_per_worker,
        gpus=gpus,
        master_port=master_port,
        ui_port=ui_port,
        min_free_disk_mib=min_free_disk,
        timeout=timeout,
    )
    result = embedded.start(options, steps=Steps(total=embedded.START_STEPS))
    record = result.record
    warn_of_gpus(record)
    if as_json:
        print_json({**record.as_json(), "changed": list(result.started)})
        return
    print_pairs(
        f"cluster {name!r} is up" + ("" if result.started else " (nothing to do)"),
        {
            "master": record.master,
            "workers": f"{record.workers} × {record.cores} cores, {record.memory}",
            **({"GPUs": ",".join(record.gpus)} if record.gpus else {}),
            "settings": record.properties,
        },
    )
    named = by_name(name)
    next_steps(
        f"sparkbundle status{named}",
        f"sparkbundle open notebook{named}",
        f"sparkbundle down{named}",
    )


def _up_on_hosts(inventory: Path, options: UpOptions, *, as_json: bool) -> None:
    steps = Steps(total=remote.up_steps(options))
    with opened(inventory, steps=steps) as hosts:
        result = remote.up(hosts, options, steps=steps)
    show_deployed(result, inventory, as_json=as_json, check=options.check)


def show_deployed(result: Deployed, inventory: Path, *, as_json: bool, check: bool = False) -> None:
    """Show what a deploy came to, or with `check` what it would change."""
    if as_json:
        print_json(result.as_json())
        return
    if check:
        for name, diffs in result.diffs.items():
            for diff in diffs:
                click.echo(f"# {name}\n{diff}")
        print_pairs(
            f"{result.count} changes would be made" if result.count else "nothing would change",
            {name: ", ".join(tasks) for name, tasks in result.changed.items() if tasks},
        )
        next_steps(f"sparkbundle up -i {inventory}")
        return
    print_pairs(_title(result), _pairs(result))
    next_steps(
        f"sparkbundle submit -i {inventory} sentiment --help",
        f"sparkbundle status -i {inventory}",
        f"sparkbundle open -i {inventory} spark",
    )


def _title(result: Deployed) -> str:
    cluster = result.plan.cluster["name"]
    assert result.verdict is not None
    word = "ready" if result.verdict.proven else "up, and not proven yet"
    return f"cluster {cluster!r} is {word} (changed={result.count})"


def _pairs(result: Deployed) -> dict[str, object]:
    assert result.verdict is not None
    pairs: dict[str, object] = {
        "master": result.plan.cluster["master"],
        **result.verdict.workers,
        "smoke job": result.verdict.note
        or ", ".join(f"{name}: {count} tasks" for name, count in result.verdict.tasks.items()),
    }
    if tried := gpu_verify.summary(result.verdict.gpus):
        pairs["GPUs"] = tried
    return pairs
