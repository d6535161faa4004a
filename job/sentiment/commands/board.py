"""`sentiment board`."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sentiment.commands.reading import json_option
from sentiment.output import next_step, result_json, say

if TYPE_CHECKING:
    import socket

    from sentiment.board.runs import Runs
    from sentiment.vectors import WordTable

_WORDS = 2000
_POLL_SECONDS = 1.0


@click.command()
@click.argument("places", nargs=-1, type=click.Path(path_type=Path), metavar="[EVENTS|FOLDER]...")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="On 127.0.0.1.  [default: one that is free]"
)
@click.option(
    "--socket",
    "socket_path",
    type=click.Path(path_type=Path),
    help="A Unix socket that only you can connect to, in the place of a port: for a proxy.",
)
@click.option("--path-prefix", default="", metavar="PATH", help="Of the pages behind a proxy.")
@click.option(
    "--logs",
    type=click.Path(path_type=Path),
    help="Keep TensorBoard's log directory there.  [default: a temporary one]",
)
@click.option("--once", is_flag=True, help="Write what there is now into --logs; serve nothing.")
@click.option(
    "--table", metavar="TABLE", help="Word table for the projector.  [default: this host's latest]"
)
@click.option(
    "--words",
    type=click.IntRange(0),
    help=f"How many of its words the projector has; 0: none.  [default: {_WORDS}]",
)
@json_option
def board(
    places: tuple[Path, ...],
    port: int | None,
    socket_path: Path | None,
    path_prefix: str,
    logs: Path | None,
    once: bool,
    table: str | None,
    words: int | None,
    as_json: bool,
) -> int:
    """Show trainings and streams in TensorBoard, while they run and after it.

    A run is drawn from its event file: EVENTS (MODEL.events.jsonl, OUT/events.jsonl), or all
    that are in FOLDER (default: this one), now and later. Ctrl-C ends it. Needs the package
    tensorboard.

    \b
    Examples:
      sentiment board
      sentiment board model.events.jsonl --port 6006
      sentiment board runs --table table --words 5000
      sentiment board runs --logs tensorboard --once
    """
    if once and logs is None:
        raise click.UsageError("--once writes into --logs DIR: give that")
    if port is not None and socket_path is not None:
        raise click.UsageError("--port or --socket: give one of them")
    if path_prefix and not path_prefix.startswith("/"):
        raise click.BadParameter("give a path that begins with /", param_hint="--path-prefix")
    _require_tensorboard()
    from sentiment.board.following import check_place  # noqa: PLC0415
    from sentiment.board.runs import Runs  # noqa: PLC0415

    places = places or (Path(),)
    for place in places:
        check_place(place)
    opened = _table(table, words)
    with ExitStack() as stack:
        directory = stack.enter_context(_log_directory(logs))
        runs = Runs(places, directory, said=say)
        stack.callback(runs.close)
        runs.update()
        if opened is not None:
            _write_words(directory, opened, _WORDS if words is None else words)
        if once:
            _report_once(runs, directory, places, as_json=as_json)
            return 0
        listener = stack.enter_context(_listening(port, socket_path))
        return _serve(runs, directory, listener, prefix=path_prefix, as_json=as_json)


def _require_tensorboard() -> None:
    from sentiment.errors import InvalidInputError  # noqa: PLC0415

    try:
        import tensorboard  # noqa: F401, PLC0415
    except ModuleNotFoundError as error:
        raise InvalidInputError(
            "the package tensorboard is not installed", todo="pip install 'sentiment[notebook]'"
        ) from error


def _table(name: str | None, words: int | None) -> "WordTable | None":
    """The table of the projector; None: it is left out."""
    from sentiment.errors import InvalidInputError  # noqa: PLC0415
    from sentiment.vectors.store import (  # noqa: PLC0415
        find_table,
        open_stored,
        store_directory,
        stored_tables,
    )

    if words == 0:
        return None
    if name is not None:
        return find_table(name)
    whole = [one for one in stored_tables(store_directory()) if one.state == "whole"]
    if whole:
        return open_stored(whole[0].digest)
    if words is not None:
        raise InvalidInputError(
            "--words has no effect: this host has no word table in its store",
            where=str(store_directory()),
            todo="give --table TABLE",
        )
    return None


def _write_words(directory: Path, table: "WordTable", words: int) -> None:
    from sentiment.board.projector import write_words  # noqa: PLC0415

    count = write_words(directory, table, words=words)
    say(f"projector: {count:,} words of the table {table.path}")


@contextmanager
def _log_directory(given: Path | None) -> Iterator[Path]:
    """TensorBoard's log directory: one that is given is this process's, and stays."""
    from sentiment.files import locked_directory  # noqa: PLC0415

    if given is None:
        with tempfile.TemporaryDirectory(
            prefix="sentiment-board-", ignore_cleanup_errors=True
        ) as made:
            yield Path(made)
        return
    with locked_directory(given):
        yield given


def _listening(port: int | None, path: Path | None) -> "AbstractContextManager[socket.socket]":
    from sentiment.board.server import (  # noqa: PLC0415
        listening_on_port,
        listening_on_socket,
    )

    return listening_on_port(port or 0) if path is None else listening_on_socket(path)


def _report_once(runs: "Runs", directory: Path, places: tuple[Path, ...], *, as_json: bool) -> None:
    from sentiment.errors import InvalidInputError  # noqa: PLC0415

    if not runs.names:
        raise InvalidInputError(
            "there is no event yet",
            where=", ".join(map(str, places)),
            todo="a training writes MODEL.events.jsonl, a stream OUT/events.jsonl; without --once "
            "this command waits for them",
        )
    if as_json:
        result_json({"logs": str(directory), "runs": runs.names})
    next_step(f"tensorboard --logdir {directory}")


def _serve(
    runs: "Runs", directory: Path, listener: "socket.socket", *, prefix: str, as_json: bool
) -> int:
    """Serve, and follow the event files, until Ctrl-C."""
    from sentiment.board.server import serving  # noqa: PLC0415
    from sentiment.errors import Terminated  # noqa: PLC0415

    try:
        with serving(directory, listener, prefix=prefix) as url:
            if as_json:
                result_json({"url": url, "logs": str(directory), "runs": runs.names})
            else:
                click.echo(url)
            if not runs.names:
                say("no event file yet: waiting for one (sentiment train, sentiment stream)")
            say("following the event files; Ctrl-C ends it")
            while True:
                time.sleep(_POLL_SECONDS)
                runs.update()
    except KeyboardInterrupt as asked:
        if isinstance(asked, Terminated):
            raise
        return 0
