"""`sparkbundle jobs`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from click.core import ParameterSource

from sparkbundle import jobs as jobs_of
from sparkbundle import jobs_view
from sparkbundle.commands.options import inventory_option, json_option, name_option
from sparkbundle.errors import InterruptedRunError, SparkbundleError
from sparkbundle.jobs import RUNNING, SUCCEEDED, Job, Target
from sparkbundle.jobs_targets import open_target
from sparkbundle.output import next_steps, print_json, print_pairs


@contextmanager
def chosen(context: click.Context, *, inventory: Path | None, name: str) -> Iterator[Target]:
    """The jobs of the hosts of -i, or of the cluster --name on this machine.

    A --name on the command line is stronger than an inventory from elsewhere.

    Raises:
        click.UsageError: both are on the command line.
    """
    line = ParameterSource.COMMANDLINE
    if inventory is not None and context.get_parameter_source("name") is line:
        if context.get_parameter_source("inventory") is line:
            raise click.UsageError(
                "-i names a cluster of hosts, --name one on this machine", context
            )
        inventory = None
    with open_target(inventory=inventory, name=name) as target:
        yield target


@contextmanager
def going_on(target: Target, job: Job, *, again: str, follow: bool = True) -> Iterator[None]:
    """Say of a job that is watched in the block that it goes on, whatever ends the watching.

    `again` is the command that watches it again.

    Raises:
        InterruptedRunError: Ctrl-C.
        SparkbundleError: the connection is lost for good.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"you stopped watching; {job.id} goes on",
            todo=f"{again}    or end it: sparkbundle cancel{target.options} {job.id}",
        ) from None
    except SparkbundleError as error:
        if follow:
            error.what = f"{error.what} ({job.id} goes on without us)"
            error.todo = f"watch it again: {again}"
        raise


@click.command()
@click.argument("job", required=False)
@click.option("--remove", multiple=True, metavar="JOB", help="Remove an ended job and its files.")
@click.option(
    "--prune", type=click.IntRange(min=0), metavar="N", help="Remove all ended jobs but the last N."
)
@inventory_option
@name_option()
@json_option
@click.pass_context
def jobs(
    context: click.Context,
    *,
    job: str | None,
    remove: tuple[str, ...],
    prune: int | None,
    inventory: Path | None,
    name: str,
    as_json: bool,
) -> None:
    """Show the jobs of a cluster, or one JOB in full.

    JOB is an id, the beginning of one, or "last". The last 50 ended jobs are kept.

    \b
    Examples:
      sparkbundle jobs
      sparkbundle jobs -i hosts.yml last
      sparkbundle jobs --remove train-1125-0314-x7k
      sparkbundle jobs --prune 10
    """
    if (job is not None) + bool(remove) + (prune is not None) > 1:
        raise click.UsageError("JOB, --remove and --prune do not go together", context)
    with chosen(context, inventory=inventory, name=name) as target:
        if remove or prune is not None:
            gone = jobs_of.remove(target, remove) if remove else []
            gone += jobs_of.prune(target, keep=prune) if prune is not None else []
            _show_removed(gone, as_json=as_json)
        elif job is not None:
            _show_one(target, job, as_json=as_json)
        else:
            _show_all(target, as_json=as_json)


def _show_removed(gone: list[str], *, as_json: bool) -> None:
    if as_json:
        print_json({"removed": gone})
    else:
        print_pairs("removed" if gone else "nothing to do", dict.fromkeys(gone, ""))


def _show_one(target: Target, name: str, *, as_json: bool) -> None:
    found = jobs_of.find(target, name)
    if as_json:
        print_json(found.as_json())
        return
    print_pairs(found.id, jobs_view.details(found))
    if found.state == RUNNING:
        next_steps(
            f"sparkbundle logs -f{target.options} {found.id}",
            f"sparkbundle cancel{target.options} {found.id}",
        )
    else:
        again = [f"sparkbundle resume{target.options} {found.id}"]
        next_steps(
            f"sparkbundle logs{target.options} {found.id}",
            *(again if found.state != SUCCEEDED else []),
        )


def _show_all(target: Target, *, as_json: bool) -> None:
    found = jobs_of.list_jobs(target)
    if as_json:
        print_json({"jobs": [one.as_json() for one in found]})
    elif found:
        click.echo(jobs_view.table(found), nl=False)
    else:
        print_pairs(f"no jobs on {target.label}", {})
        next_steps(f"sparkbundle submit{target.options} sentiment --help")
