"""`sparkbundle run`."""

from collections.abc import Mapping
from pathlib import Path

import click

from sparkbundle import inventory as inventories
from sparkbundle import reach, running
from sparkbundle.commands.host_options import on_option, sudo_option
from sparkbundle.commands.options import json_option, required_inventory_option
from sparkbundle.errors import SparkbundleError
from sparkbundle.hosts import Answer
from sparkbundle.output import print_json, show_error, stderr_console


@click.command(context_settings={"allow_interspersed_args": False})
@required_inventory_option
@on_option
@sudo_option
@json_option
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED, metavar="CMD...")
@click.pass_context
def run(
    context: click.Context,
    *,
    inventory: Path,
    on: tuple[str, ...],
    sudo: bool,
    as_json: bool,
    words: tuple[str, ...],
) -> None:
    """Run a command on all hosts at once, and label its output by host.

    CMD is one shell line in quotes, or the words of a command, each of which arrives as it
    is. Our own options come before it. Ctrl-C ends the command on the hosts, too.

    \b
    Examples:
      sparkbundle run -i hosts.yml uptime
      sparkbundle run -i hosts.yml --on workers 'df -h / | tail -1'
      sparkbundle run -i hosts.yml --on worker-1,gpu --sudo systemctl restart chrony
      sparkbundle run -i hosts.yml --json nproc

    Exit code: 0 where it was 0 on all hosts, 7 if it failed on some, 1 on all; 4 if no host
    was reached.
    """
    chosen = reach.choose(found := inventories.load(inventory), on)
    show = None if as_json else _printer([host.name for host in chosen])
    with reach.reaching(found) as hosts:
        answers = running.run_everywhere(
            hosts, running.line_of(words), chosen=chosen, sudo=sudo, show=show
        )
    if as_json:
        print_json({"hosts": {name: _as_json(answer) for name, answer in answers.items()}})
    for answer in answers.values():
        if isinstance(answer, SparkbundleError):
            show_error(answer)
    stderr_console().print(running.summary(answers), markup=False)
    context.exit(running.run_code(answers.values()))


def _printer(names: list[str]) -> running.Show:
    width = max(map(len, names))

    def show(host: str, line: str, failing: bool) -> None:
        label = click.style(f"{host:<{width}} |", fg="red" if failing else "cyan")
        click.echo(f"{label} {line}", err=failing)

    return show


def _as_json(answer: Answer | SparkbundleError) -> Mapping[str, object]:
    if isinstance(answer, SparkbundleError):
        return {"code": None, "out": "", "err": "", "error": answer.what, "todo": answer.todo}
    return {"code": answer.code, "out": answer.out, "err": answer.err}
