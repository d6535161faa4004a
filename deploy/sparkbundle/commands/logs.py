"""`sparkbundle logs`."""

import sys
from pathlib import Path

import click

from sparkbundle import jobs_view
from sparkbundle.commands.jobs import chosen, going_on
from sparkbundle.commands.options import inventory_option, json_option, name_option
from sparkbundle.jobs import Job, Target, find
from sparkbundle.jobs_watch import Watched, output, say_lost
from sparkbundle.output import print_json, stderr_console


@click.command()
@click.argument("job")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option(
    "--tail", type=click.IntRange(min=0), metavar="N", help="Begin with the last N lines."
)
@inventory_option
@name_option()
@json_option
@click.pass_context
def logs(
    context: click.Context,
    *,
    job: str,
    follow: bool,
    tail: int | None,
    inventory: Path | None,
    name: str,
    as_json: bool,
) -> None:
    """Print what a JOB has printed: its stdout and stderr in one.

    JOB is an id, the beginning of one, or "last". Ctrl-C ends the command, never the job.

    \b
    Examples:
      sparkbundle logs last
      sparkbundle logs -f --tail 20 train-1125-0314-x7k
      sparkbundle logs -i hosts.yml last > train.log
    """
    with chosen(context, inventory=inventory, name=name) as target:
        found = find(target, job)
        if as_json:
            watched = Watched(found.id, lost=say_lost)
            text = b"".join(output(target, watched, follow=follow, tail=tail))
            known = (watched.job or found).as_json()
            print_json({**known, "text": text.decode(errors="replace")})
            return
        ended = show_output(target, found, follow=follow, tail=tail)
        if follow:
            stderr_console().print(jobs_view.ending(ended), markup=False)


def show_output(
    target: Target, job: Job, *, follow: bool, tail: int | None = None, to_stderr: bool = False
) -> Job:
    """Print the output of a job as it comes; the job as it is then.

    Raises:
        InterruptedRunError: Ctrl-C; the job goes on.
        SparkbundleError: the connection is lost for good; the job goes on (exit code 4).
    """
    stream = (sys.stderr if to_stderr else sys.stdout).buffer
    watched = Watched(job.id, lost=say_lost)
    again = f"sparkbundle logs -f{target.options} {job.id}"
    with going_on(target, job, again=again, follow=follow):
        for block in output(target, watched, follow=follow, tail=tail):
            stream.write(block)
            stream.flush()
    return watched.job or job
