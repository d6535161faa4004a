"""`sparkbundle watch`."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live

from sparkbundle import jobs_view, watching_view
from sparkbundle.commands.jobs import chosen, going_on
from sparkbundle.commands.options import inventory_option, name_option
from sparkbundle.jobs import RUNNING, SUCCEEDED, Job, Target, find
from sparkbundle.jobs_watch import Watched, output, say_lost, say_no_figures
from sparkbundle.output import next_steps, stderr_console
from sparkbundle.watching import Course, Event, follow_file, parse_events

_SUFFIX = ".jsonl"


@click.command()
@click.argument("job")
@inventory_option
@name_option()
@click.option("--json", "as_json", is_flag=True, help="Print each event, a JSON object a line.")
@click.pass_context
def watch(
    context: click.Context, *, job: str, inventory: Path | None, name: str, as_json: bool
) -> None:
    """Watch a JOB learn, or a stream score, until it ends.

    JOB is an id, the beginning of one, "last", or an event file of this machine. What is
    shown is drawn from the job's event file: it is there again, whole, after a lost
    connection or a closed terminal. Ctrl-C ends the command, never the job.

    \b
    Examples:
      sparkbundle watch last
      sparkbundle watch -i hosts.yml train-1125-0314-x7k
      sparkbundle watch model.events.jsonl
      sparkbundle watch last --json | jq 'select(.event == "epoch")'
    """
    if job.endswith(_SUFFIX):
        _watch_file(Path(job), as_json=as_json)
        return
    with chosen(context, inventory=inventory, name=name) as target:
        _watch_job(target, find(target, job), as_json=as_json)


def _watch_file(path: Path, *, as_json: bool) -> None:
    # A stream's file has no end: there Ctrl-C is how to leave.
    with suppress(KeyboardInterrupt):
        _show(_until_end(parse_events(follow_file(path))), title=lambda: str(path), as_json=as_json)


def _until_end(events: Iterator[Event]) -> Iterator[Event]:
    for event in events:
        yield event
        if event["event"] == "end":
            return


def _watch_job(target: Target, job: Job, *, as_json: bool) -> None:
    watched = Watched(job.id, lost=say_lost, events=True)
    again = f"sparkbundle watch{target.options} {job.id}"
    began = time.monotonic() - (job.seconds or 0.0)

    def title() -> str:
        seconds = time.monotonic() - began if job.state == RUNNING else job.seconds
        return f"{job.id}  {job.state}  {jobs_view.duration(seconds)}"

    with going_on(target, job, again=again):
        events = parse_events(output(target, watched, follow=True))
        seen = _show(events, title=title, as_json=as_json)
    ended = watched.job or job
    stderr_console().print(jobs_view.ending(ended), markup=False)
    if not seen:
        say_no_figures(job)
    if not seen or ended.state != SUCCEEDED:
        next_steps(f"sparkbundle logs{target.options} {job.id}")


def _show(events: Iterator[Event], *, title: Callable[[], str], as_json: bool) -> bool:
    """Show events as they come: a picture on a terminal, else lines. Whether there was one."""
    course, seen = Course(), False
    console = Console(highlight=False, markup=False)
    live = None
    if console.is_terminal and not as_json:
        live = Live(
            get_renderable=lambda: watching_view.picture(course, title=title()),
            console=console,
            refresh_per_second=2,
        )
    with live or nullcontext():
        for event in events:
            seen = True
            course.add(event)
            if as_json:
                click.echo(json.dumps(event, ensure_ascii=False))
            elif live is None and (line := watching_view.line(event, course)):
                click.echo(line)
            sys.stdout.flush()
    return seen
