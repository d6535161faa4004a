"""`sparkbundle up`."""

import click

from sparkbundle import embedded
from sparkbundle.commands.options import Size, json_option, name_option
from sparkbundle.output import Steps, next_steps, print_json, print_pairs
from sparkbundle.plan import DEFAULT_NAME, ClusterOptions

_PORT = click.IntRange(1024, 65535)


@click.command()
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
def up(
    *,
    name: str,
    workers: int | None,
    cores_per_worker: int | None,
    memory_per_worker: int | None,
    master_port: int | None,
    ui_port: int | None,
    min_free_disk: int,
    timeout: float,
    as_json: bool,
) -> None:
    """Start a Spark cluster on this machine, and prove that it works.

    One master and some worker processes, on the loopback address, as the calling
    user, authenticated and encrypted. Returns when every worker has run a part of
    a smoke job. Again on a running cluster: checks it, starts what has died.

    \b
    Examples:
      sparkbundle up
      sparkbundle up --workers 4 --cores-per-worker 1 --memory-per-worker 1g
      sparkbundle up --name lab --json
    """
    options = ClusterOptions(
        name=name,
        workers=workers,
        cores=cores_per_worker,
        memory_mib=memory_per_worker,
        master_port=master_port,
        ui_port=ui_port,
        min_free_disk_mib=min_free_disk,
        timeout=timeout,
    )
    result = embedded.start(options, steps=Steps(total=embedded.START_STEPS))
    record = result.record
    if as_json:
        print_json({**record.as_json(), "changed": list(result.started)})
        return
    print_pairs(
        f"cluster {name!r} is up" + ("" if result.started else " (nothing to do)"),
        {
            "master": record.master,
            "workers": f"{record.workers} × {record.cores} cores, {record.memory}",
            "settings": record.properties,
        },
    )
    named = "" if name == DEFAULT_NAME else f" --name {name}"
    next_steps(f"sparkbundle status{named}", f"sparkbundle down{named}")
