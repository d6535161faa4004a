"""`sentiment stream`, and `sentiment stream repair`."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sentiment.commands.reading import (
    device_option,
    json_option,
    master_option,
    model_option,
    pairs,
    reading_options,
    say_place,
    table_for,
    table_option,
    time_option,
)
from sentiment.output import next_step, result_json, result_table, say
from sentiment.sources.model import SourceOptions

if TYPE_CHECKING:
    from sentiment.events import Event
    from sentiment.gpus import Wanted
    from sentiment.stream import StreamOptions
    from sentiment.stream_sink import Memory

_SOCKET = "socket:"


class _Streams(click.Group):
    """A group whose first word may also be what the command `run` takes."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = [*self.commands, "--help", "-h"]
        if args and args[0] not in known:
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Streams)
def stream() -> None:
    """Score reviews as they arrive, each exactly once.

    \b
    `sentiment stream SOURCE OUT --model MODEL` is short for `sentiment stream run …`, whose
    --help tells the rest.

    \b
    Examples:
      sentiment stream inbox scores --model model
      sentiment stream run --help
      sentiment stream repair scores.checkpoint
    """


@stream.command()
@click.argument("places", nargs=-1, required=True, metavar="SOURCE OUT")
@model_option
@click.option(
    "--checkpoint",
    type=click.Path(path_type=Path),
    help="Where the stream keeps how far it is.  [default: OUT.checkpoint]",
)
@click.option(
    "--interval",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Seconds between the beginnings of two micro-batches.",
)
@click.option("--once", is_flag=True, help="Score what is there, then end.")
@click.option(
    "--settle",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Read a file when it was not written to for so many seconds; 0 if files are moved in.",
)
@click.option(
    "--batch-mib",
    type=click.FloatRange(min=0, min_open=True),
    default=64.0,
    show_default=True,
    help="Files of so many MiB at most are in a micro-batch, or a single one.",
)
@click.option(
    "--remember",
    type=click.IntRange(min=1),
    default=1_000_000,
    show_default=True,
    help="Of so many of the latest reviews it is known that they were scored.",
)
@click.option(
    "--late",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Quarantine what is older by more than this than the newest of the batches before; "
    "needs --time-column.",
)
@click.option(
    "--format", "form", metavar="NAME", help="A source of Spark's, e.g. kafka; no SOURCE."
)
@click.option(
    "--option",
    "options",
    multiple=True,
    callback=pairs,
    metavar="NAME=VALUE",
    help="An option of --format; may be repeated.",
)
@time_option
@table_option
@reading_options
@device_option
@master_option
@json_option
def run(
    *,
    places: tuple[str, ...],
    model: str,
    checkpoint: Path | None,
    interval: float,
    once: bool,
    settle: float,
    batch_mib: float,
    remember: int,
    late: float | None,
    form: str | None,
    options: tuple[tuple[str, str], ...],
    time_column: str | None,
    table: str | None,
    reading: SourceOptions,
    device: "Wanted",
    master: str | None,
    as_json: bool,
) -> int:
    """Score reviews as they arrive, each exactly once, until Ctrl-C.

    SOURCE is a folder in which files arrive (JSON Lines, CSV, text, Parquet), or
    socket:HOST:PORT for a demo (one review a line); with --format it is left out. OUT is a
    folder: scores/ has a Parquet file a micro-batch, quarantine/ the rows that have no score,
    each with its reason, events.jsonl the figures. A review whose text was scored before is a
    duplicate, under whatever name it comes. A file that has changed is read again. A model that
    changes at its path is taken from the next batch on. After an end of any kind the same
    command goes on.

    \b
    Examples:
      sentiment stream inbox scores --model model
      sentiment stream inbox scores --model model --once
      sentiment stream scores --model model --format kafka \\
        --option kafka.bootstrap.servers=10.0.0.5:9092 --option subscribe=reviews
    """
    from sentiment.stream_sink import Memory  # noqa: PLC0415

    if late is not None and time_column is None:
        raise click.UsageError("--late needs --time-column")
    source, out = _places(places, form)
    given = _options(
        source=source,
        form=form,
        options=options,
        reading=replace(reading, need_labels=False, time_column=time_column),
        interval=interval,
        once=once,
        settle=settle,
        batch_mib=batch_mib,
    )
    with ExitStack() as stack:
        return _run(
            stack,
            given,
            out=out,
            checkpoint=checkpoint or out.with_name(f"{out.name}.checkpoint"),
            model=model,
            memory=Memory(reviews=remember, late=late),
            table=table,
            device=device,
            master=master,
            as_json=as_json,
        )


def _places(places: tuple[str, ...], form: str | None) -> tuple[str | None, Path]:
    if form is not None:
        if len(places) != 1:
            raise click.UsageError("with --format give OUT only: the options name the source")
        return None, Path(places[0]).absolute()
    if len(places) != 2:  # noqa: PLR2004
        raise click.UsageError("give SOURCE and OUT, or --format and OUT")
    return places[0], Path(places[1]).absolute()


def _options(
    *,
    source: str | None,
    form: str | None,
    options: tuple[tuple[str, str], ...],
    reading: SourceOptions,
    interval: float,
    once: bool,
    settle: float,
    batch_mib: float,
) -> "StreamOptions":
    from sentiment.errors import InvalidInputError  # noqa: PLC0415
    from sentiment.stream import StreamOptions  # noqa: PLC0415

    folder = None
    if source is not None and source.startswith(_SOCKET):
        host, _, port = source.removeprefix(_SOCKET).rpartition(":")
        if not (host and port.isdigit()):
            raise click.UsageError("a socket is socket:HOST:PORT")
        form, options = "socket", (("host", host), ("port", port))
    elif source is not None:
        folder = Path(source).absolute()
        if not folder.is_dir():
            raise InvalidInputError(
                "is no folder", where=source, todo="name the folder in which files arrive"
            )
        if options:
            raise click.UsageError("--option goes with --format")
    return StreamOptions(
        folder=folder,
        reading=reading,
        interval=interval,
        once=once,
        settle=settle,
        most_bytes=int(batch_mib * 2**20),
        format=form,
        format_options=options,
    )


def _run(
    stack: ExitStack,
    options: "StreamOptions",
    *,
    out: Path,
    checkpoint: Path,
    model: str,
    memory: "Memory",
    table: str | None,
    device: "Wanted",
    master: str | None,
    as_json: bool,
) -> int:
    from py4j.protocol import Py4JError  # noqa: PLC0415

    from sentiment.device import CPU  # noqa: PLC0415
    from sentiment.errors import INTERRUPTED, Terminated  # noqa: PLC0415
    from sentiment.events import event_log  # noqa: PLC0415
    from sentiment.files import locked_directory  # noqa: PLC0415
    from sentiment.gpus import gpus_for  # noqa: PLC0415
    from sentiment.session import find_place, interruption, spark_session  # noqa: PLC0415
    from sentiment.stream import SETTINGS, Stream, WatchedModel, about, running, wait  # noqa: PLC0415
    from sentiment.stream_repair import require_same_batches  # noqa: PLC0415
    from sentiment.stream_sink import Sink, claim  # noqa: PLC0415

    watched = WatchedModel(Path(model))
    path = table_for(watched.files, table, model=model)
    told = about(options, out=out)
    _refuse_inside(options.folder, out, name="OUT")
    _refuse_inside(options.folder, checkpoint, name="the checkpoint")
    stack.enter_context(locked_directory(checkpoint))
    stack.enter_context(locked_directory(out))
    claim(checkpoint, told, name="the checkpoint")
    claim(out, told, name="OUT")
    require_same_batches(checkpoint, out)
    shown = _Shown(as_json=as_json)
    place = find_place(master)
    say_place(place, options.folder or out)
    log = stack.enter_context(event_log(out / "events.jsonl", listeners=(shown,), resume=True))
    sink = Sink(out, memory=memory)
    if sink.remembered:
        say(f"goes on: {sink.remembered:,} reviews are scored already")
    spark = stack.enter_context(spark_session(place, name="sentiment-stream", settings=SETTINGS))
    gpus = gpus_for(spark.sparkContext, CPU, device, warn=log.warn)
    running_stream = Stream(
        spark, options, model=watched, sink=sink, log=log, table=path, gpus=gpus
    )
    if not options.once:
        say("scoring what arrives; Ctrl-C ends it, the same command goes on")
    asked = None
    try:
        with running(running_stream, checkpoint) as query:
            wait(query, running_stream, checkpoint)
    except (KeyboardInterrupt, Py4JError) as error:
        asked = interruption(error)
        if options.once or asked is None:
            raise
        say("ended; the same command goes on")
    shown.sum(out)
    # Ctrl-C is how a stream is ended; who cancels its job is told that it did not end by itself.
    return INTERRUPTED if isinstance(asked, Terminated) else 0


def _refuse_inside(folder: Path | None, place: Path, *, name: str) -> None:
    """A stream that writes into the folder that it reads would go on for ever."""
    from sentiment.errors import InvalidInputError  # noqa: PLC0415

    if folder is not None and place.resolve().is_relative_to(folder.resolve()):
        raise InvalidInputError(
            f"{name} lies in SOURCE: the stream would read what it writes",
            where=str(place),
            todo=f"name a place outside of {folder}",
        )


class _Shown:
    """What a stream shows: a line a batch, and their sum at the end."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._sums: dict[str, int] = dict.fromkeys(
            ("batches", "rows", "scored", "praise", "quarantined", "duplicates"), 0
        )

    def __call__(self, event: "Event") -> None:
        if event["event"] == "warning":
            say(f"warning: {event['text']}")
        if event["event"] == "batch":
            self._sums["batches"] += 1
            for name in ("rows", "scored", "praise", "quarantined", "duplicates"):
                self._sums[name] += event[name]
            say(_line(event))

    def sum(self, out: Path) -> None:
        """The last words."""
        if self._as_json:
            result_json({"out": str(out), **self._sums})
            return
        result_table(f"scores {out}", [(name, f"{n:,}") for name, n in self._sums.items()])
        if self._sums["quarantined"]:
            next_step(f"look at what was not scored: {out}/quarantine")
        next_step(f"the figures of each batch: {out}/events.jsonl")


def _line(event: "Event") -> str:
    scored = event["scored"]
    share = f", {event['praise'] / scored:.0%} praise" if scored else ""
    others = "".join(
        f", {event[name]:,} {words}"
        for name, words in (("quarantined", "quarantined"), ("duplicates", "scored before"))
        if event[name]
    )
    waited = event["latency_p50"]
    latency = f"; {waited:.1f} s after their arrival" if waited is not None else ""
    took = f"{event['seconds']:.1f} s{latency}"
    return f"batch {event['batch']}: {scored:,} scored{share}{others}; {took}"


@stream.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@json_option
def repair(*, checkpoint: Path, as_json: bool) -> None:
    """Make a damaged checkpoint one that a stream can go on from.

    Spark stops at a file of the checkpoint that a power failure has emptied. From the first
    damaged batch on all is moved aside; those batches are made again, and no review is scored
    twice.

    \b
    Examples:
      sentiment stream repair scores.checkpoint
    """
    from sentiment.stream_repair import repair as run_repair  # noqa: PLC0415

    done = run_repair(checkpoint)
    told: dict[str, Any] = {"first": done.first, "moved": done.moved, "metadata": done.metadata}
    if as_json:
        result_json(told | {"aside": str(done.aside) if done.aside else None})
        return
    if done.first is None and not done.metadata:
        click.echo("nothing to do: every file of it can be read")
        return
    if done.metadata:
        click.echo("the file that names the stream was missing or damaged: it is written anew")
    if done.first is not None:
        click.echo(f"batches from {done.first} on are made again: {done.moved} files moved aside")
        click.echo(f"they are in {done.aside}")
    next_step("the same sentiment stream as before")
