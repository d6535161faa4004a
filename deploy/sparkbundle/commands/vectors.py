"""`sparkbundle vectors`: word tables on the hosts of a cluster."""

import json
from collections.abc import Mapping
from pathlib import Path

import click

from sparkbundle import jobs, word_tables
from sparkbundle.commands.jobs import chosen
from sparkbundle.commands.options import inventory_option, json_option, name_option, opened
from sparkbundle.commands.submit import start, watch
from sparkbundle.errors import FAILED, SparkbundleError
from sparkbundle.jobs import Target
from sparkbundle.jobs_request import JobOptions, read_request
from sparkbundle.output import Steps, next_steps, print_json, print_rows
from sparkbundle.word_tables import WordTable


@click.group()
def vectors() -> None:
    """Word tables on the hosts of a cluster: one copy on each, for all of its processes.

    `sentiment vectors` builds them.
    """


@vectors.command()
@click.argument("table")
@click.option(
    "--keep",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Tables that stay on each host: this one and those used last.",
)
@inventory_option
@name_option()
@json_option
@click.pass_context
def ship(
    context: click.Context,
    *,
    table: str,
    keep: int,
    inventory: Path | None,
    name: str,
    as_json: bool,
) -> None:
    """Put the word table TABLE on every host of a cluster.

    TABLE is a directory that `sentiment vectors build` made, or the beginning of the digest
    of a table that the master's host has. It is sent to the master once, and goes from
    host to host from there, as a job that goes on without this terminal. Again is cheap: hosts
    that have the table are left alone, and those that joined since get it.

    \b
    Examples:
      sparkbundle vectors ship table
      sparkbundle vectors ship -i hosts.yml table
      sparkbundle vectors ship -i hosts.yml 1f3a5c --keep 1
    """
    with chosen(context, inventory=inventory, name=name) as target:
        words = ("vectors", "ship", *_named(target, table), "--keep", str(keep))
        request = read_request(JobOptions(app="sentiment", words=words))
        job = start(target, request)
        ended = watch(target, job, as_json=as_json)
        if ended.exit == 0:
            jobs.remove(target, [ended.id])
            next_steps(f"sparkbundle vectors list{target.options}")
        context.exit(ended.exit_code)


def _named(target: Target, table: str) -> tuple[str, ...]:
    """The table as the job is to be told of it; it is sent along if it has to be."""
    path = Path(table).expanduser()
    if not path.is_dir():
        return (table,)
    if not target.remote:
        return (str(path.absolute()),)
    if (digest := _digest(path)) and digest in target.word_tables():
        return (digest,)
    return (f"@{path}", "--move")


def _digest(table: Path) -> str:
    """What a table says that it is; the job, which can read tables, checks it."""
    try:
        return str(json.loads((table / "manifest.json").read_text(encoding="utf-8"))["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


@vectors.command(name="list")
@inventory_option
@json_option
@click.pass_context
def list_(context: click.Context, *, inventory: Path | None, as_json: bool) -> None:
    """Show which host has which word tables. Exit code 1 if one was changed or a host is silent.

    Without -i: those of this machine, which all clusters on it have in common.

    \b
    Examples:
      sparkbundle vectors list
      sparkbundle vectors list -i hosts.yml --json
    """
    told: Mapping[str, tuple[WordTable, ...] | SparkbundleError]
    if inventory is None:
        told = {"this machine": word_tables.tables_here()}
    else:
        steps = Steps(total=2)
        with opened(inventory, steps=steps) as hosts, steps.step("ask the hosts"):
            told = word_tables.tables_on(hosts)
    tables = {name: one for name, one in told.items() if not isinstance(one, SparkbundleError)}
    faults = [
        fault if inventory is None else f"{name}: {fault}"
        for name, one in told.items()
        for fault in _faults(one)
    ]
    _show(tables, faults, as_json=as_json)
    if faults:
        context.exit(FAILED)


def _faults(told: tuple[WordTable, ...] | SparkbundleError) -> list[str]:
    """What is wrong with a host's tables, or with the host."""
    if isinstance(told, SparkbundleError):
        return [told.what]
    return [one.fault for one in told if one.fault]


def _show(hosts: dict[str, tuple[WordTable, ...]], faults: list[str], *, as_json: bool) -> None:
    if as_json:
        told = {name: [one.as_json() for one in tables] for name, tables in hosts.items()}
        print_json({"hosts": told, "faults": faults})
        return
    lines = word_tables.spread(hosts)
    if lines:
        print_rows(("WORD TABLE", "WHAT", "ON"), lines)
    for fault in faults:
        click.echo(fault)
    if not lines:
        click.echo("no word table yet")
        next_steps("sparkbundle vectors ship TABLE    (sentiment vectors build makes one)")
