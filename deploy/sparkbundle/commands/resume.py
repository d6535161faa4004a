"""`sparkbundle resume`."""

from pathlib import Path

import click

from sparkbundle import jobs
from sparkbundle.commands.jobs import chosen
from sparkbundle.commands.options import inventory_option, json_option, name_option
from sparkbundle.commands.submit import show_started, watch
from sparkbundle.output import Steps

_SETTINGS = {"allow_interspersed_args": False}  # what stands after JOB belongs to the job


@click.command(context_settings=_SETTINGS)
@click.argument("job")
@click.argument("words", metavar="[ARGS]...", nargs=-1, type=click.UNPROCESSED)
@click.option("--wait", is_flag=True, help="Show its output, and end with its exit code.")
@inventory_option
@name_option()
@json_option
@click.pass_context
def resume(
    context: click.Context,
    *,
    job: str,
    words: tuple[str, ...],
    wait: bool,
    inventory: Path | None,
    name: str,
    as_json: bool,
) -> None:
    """Run an ended JOB again, in its own folder, with what was sent for it.

    A "sentiment train" goes on from its last checkpoint. ARGS are put behind the words that the
    job was submitted with. JOB is an id, the beginning of one, or "last".

    \b
    Examples:
      sparkbundle resume last
      sparkbundle resume -i hosts.yml --wait train-1125-0314-x7k
      sparkbundle resume last --epochs 1
    """
    with chosen(context, inventory=inventory, name=name) as target:
        with Steps(total=1).step("start the driver") as step:
            started = jobs.resume(target, job, words)
            step.done(started.id)
        if wait:
            context.exit(watch(target, started, as_json=as_json).exit_code)
        show_started(target, started, as_json=as_json)
