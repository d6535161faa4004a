"""`sentiment vectors ship` and `list`: word tables on the hosts of a cluster."""

import sys
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from sentiment.commands.reading import json_option, master_option
from sentiment.errors import FAILED, PARTLY, SentimentError
from sentiment.output import next_step, result_json, result_table, say

if TYPE_CHECKING:
    from sentiment.session import Place
    from sentiment.shipping import Delivery, Shipment
    from sentiment.vectors import WordTable
    from sentiment.vectors.store import Stored

_LINES = 10


@click.command()
@click.argument("table")
@click.option(
    "--keep",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Tables that stay on each host: this one and those used last. One in use stays anyhow.",
)
@click.option(
    "--move", is_flag=True, help="Do not leave TABLE where it is: it goes into this host's store."
)
@master_option
@json_option
def ship(*, table: str, keep: int, move: bool, master: str | None, as_json: bool) -> int:
    """Put the word table TABLE on every host of the cluster.

    TABLE is a directory, or the beginning of the digest of a table that this host has. It
    goes from host to host, each byte leaves this one once; each host verifies it before it
    is used. Again is cheap: what is there is not sent, and an interrupted run goes on.

    \b
    Examples:
      sentiment vectors ship table
      sentiment vectors ship 1f3a5c --keep 1
      sentiment vectors ship table --master spark://10.0.0.1:7077 --json
    """
    from sentiment.session import find_place  # noqa: PLC0415
    from sentiment.vectors.store import find_table  # noqa: PLC0415

    opened = find_table(table)
    place = find_place(master)
    say(f"running on {place.label}")
    shipment = _ship(place, opened, keep=keep, move=move)
    if as_json:
        result_json(_as_json(shipment))
    else:
        _show(shipment)
    if shipment.failed:
        for one in shipment.failed:
            say(f"error: {one.error}")
        return PARTLY if len(shipment.failed) < len(shipment.deliveries) else FAILED
    next_step(f"sentiment train CORPUS MODEL --vectors {shipment.digest[:12]}")
    return 0


def _ship(place: "Place", table: "WordTable", *, keep: int, move: bool) -> "Shipment":
    from sentiment.shipping import has_worker_here, keep_here, ship, shipping_session  # noqa: PLC0415
    from sentiment.vectors.store import open_stored  # noqa: PLC0415

    if move or not has_worker_here(place):
        # The driver's host has no worker: jobs need the table there, too.
        keep_here(table, keep=keep, move=move)
        table = open_stored(table.digest)
    with shipping_session(place) as spark, _Bar() as bar:
        return ship(spark, table, keep=keep, progress=bar)


@click.command(name="list")
@click.option("--here", is_flag=True, help="Only this host's own tables; needs no cluster.")
@master_option
@json_option
def list_(*, here: bool, master: str | None, as_json: bool) -> int:
    """Show which host of the cluster has which word tables.

    \b
    Examples:
      sentiment vectors list
      sentiment vectors list --here --json
    """
    from sentiment.vectors.store import store_directory, stored_tables, this_host  # noqa: PLC0415

    found: dict[str, Any]
    if here:
        found = {this_host(): stored_tables(store_directory())}
    else:
        from sentiment.session import find_place  # noqa: PLC0415
        from sentiment.shipping import shipping_session, tables_on_hosts  # noqa: PLC0415

        place = find_place(master)
        say(f"running on {place.label}")
        with shipping_session(place) as spark:
            found = dict(tables_on_hosts(spark.sparkContext))
    if as_json:
        result_json({"hosts": {host: _host_json(tables) for host, tables in found.items()}})
    else:
        for host, tables in sorted(found.items()):
            result_table(host, _host_rows(tables))
    silent = sum(isinstance(tables, SentimentError) for tables in found.values())
    if silent:
        return PARTLY if silent < len(found) else FAILED
    if not any(found.values()):
        next_step("sentiment vectors ship TABLE")
    return 0


def _host_json(tables: "list[Stored] | SentimentError") -> Any:
    if isinstance(tables, SentimentError):
        return {"error": tables.what}
    return {"tables": [one.as_json() for one in tables]}


def _host_rows(tables: "list[Stored] | SentimentError") -> list[tuple[str, str]]:
    if isinstance(tables, SentimentError):
        return [("-", tables.what)]
    return [
        (
            one.digest[:12],
            f"{one.rows:,} x {one.dimensions} {one.dtype}, {one.bytes / 1e6:,.1f} MB, "
            f"{one.source}" + ("" if one.state == "whole" else "; CHANGED since it came"),
        )
        for one in tables
    ] or [("-", "no word table")]


def _as_json(shipment: "Shipment") -> dict[str, Any]:
    return {
        "digest": shipment.digest,
        "bytes": shipment.table_bytes,
        "seconds": round(shipment.seconds, 3),
        "hosts": {one.host: _delivery_json(one) for one in shipment.deliveries},
    }


def _delivery_json(one: "Delivery") -> dict[str, Any]:
    told: dict[str, Any] = {
        "outcome": one.outcome,
        "sent_bytes": one.sent_bytes,
        "removed": list(one.removed),
    }
    if one.error is not None:
        told |= {"error": one.error.what, "where": one.error.where, "todo": one.error.todo}
    return told


def _show(shipment: "Shipment") -> None:
    rows = []
    for one in shipment.deliveries:
        removed = f"; removed {', '.join(d[:12] for d in one.removed)}" if one.removed else ""
        sent = f", {one.sent_bytes / 1e6:,.1f} MB sent" if one.sent_bytes else ""
        rows.append((one.host, f"{one.outcome}{sent}{removed}"))
    title = f"word table {shipment.digest[:12]}"
    result_table(title, [*rows, ("time", f"{shipment.seconds:.1f} s")])


class _Bar:
    """Bytes that have arrived: a bar on a terminal, else a line at every tenth."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._tenth = 0

    def __enter__(self) -> "_Bar":
        if sys.stderr.isatty():
            self._bar = Progress(
                TextColumn("ship"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True, highlight=False, markup=False),
                transient=True,
            )
            self._bar.add_task("", total=None)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, arrived: int, due: int) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=arrived, total=due)
        elif due and arrived * _LINES // due > self._tenth:
            self._tenth = arrived * _LINES // due
            say(f"{arrived / 1e6:,.0f} of {due / 1e6:,.0f} MB have arrived on the hosts")
