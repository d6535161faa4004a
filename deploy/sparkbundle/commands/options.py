"""Options that several commands share."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from sparkbundle.gpu_request import GpuRequest, parse_request
from sparkbundle.host_gpus import Wanted
from sparkbundle.hosts import Hosts
from sparkbundle.inventory import load
from sparkbundle.machine import parse_size
from sparkbundle.machine_gpus import parse as parse_gpus
from sparkbundle.output import Steps, warn
from sparkbundle.state import DEFAULT_NAME, ClusterRecord, by_name, cluster_names

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class Size(click.ParamType[int]):
    """A size in memory or on disk such as 1g or 1536m, as a number of MiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Fail with the usual message of a wrong option when it is no size."""
        if isinstance(value, int):
            return value
        try:
            return parse_size(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Gpus(click.ParamType[Wanted]):
    """auto, none, a number of GPUs, or which: 0,2 or UUIDs; a comma behind a single number."""

    name = "gpus"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Wanted:
        """Fail with the usual message of a wrong option when it is none of these."""
        try:
            return parse_gpus(value)
        except ValueError as error:
            self.fail(f"{error}, or how many, auto, none", param, ctx)


class GpuAmount(click.ParamType[GpuRequest]):
    """GPUs for a task: 1, 2, 0.5."""

    name = "gpus"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> GpuRequest:
        """Fail with the usual message of a wrong option when it is no such amount."""
        if isinstance(value, GpuRequest):
            return value
        try:
            return parse_request(str(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _complete_name(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    return [name for name in cluster_names() if name.startswith(incomplete)]


def name_option(help_text: str = "Name of the cluster; several live side by side.") -> Decorator:
    """`--name`, from SPARKBUNDLE_CLUSTER where it is not given."""
    return click.option(
        "--name",
        default=DEFAULT_NAME,
        show_default=True,
        envvar="SPARKBUNDLE_CLUSTER",
        shell_complete=_complete_name,
        help=help_text,
    )


json_option: Decorator = click.option(
    "--json", "as_json", is_flag=True, help="Print the result as one JSON object."
)


def _inventory_option(help_text: str, *, required: bool) -> Decorator:
    return click.option(
        "-i",
        "--inventory",
        type=click.Path(path_type=Path),
        envvar="SPARKBUNDLE_INVENTORY",
        show_envvar=True,
        required=required,
        help=help_text,
    )


inventory_option = _inventory_option(
    "Inventory of hosts. Without it: the cluster on this machine.", required=False
)
required_inventory_option = _inventory_option("Inventory of hosts.", required=True)


def only_without_inventory(context: click.Context) -> None:
    """Refuse options that are for the cluster on this machine only: they would have no effect.

    Raises:
        click.UsageError: one was given on the command line.
    """
    shared = {"inventory", "check", "thorough", "timeout", "as_json", "purge", "yes", "hosts"}
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "")
        if parameter.name not in shared and given is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{parameter.opts[0]} is for the cluster on this machine; with -i INVENTORY "
                "the inventory says it"
            )


@contextmanager
def opened(path: Path, *, steps: Steps) -> Iterator[Hosts]:
    """The hosts of an inventory, read in a step of its own, with connections on first use."""
    with steps.step("read the inventory") as step:
        inventory = load(path)
        step.done(f"cluster {inventory.name!r}, {len(inventory.hosts)} hosts")
    with Hosts(inventory) as hosts:
        yield hosts


def warn_of_gpus(record: ClusterRecord) -> None:
    """Say why the workers on this machine offer no GPU, where the driver failed at their start."""
    if record.gpus_fault:
        named = by_name(record.name)
        warn(
            f"the workers offer no GPU: {record.gpus_fault} (mend the driver, then "
            f"sparkbundle down{named} and up)"
        )
