"""Options that several commands share."""

from collections.abc import Callable
from typing import Any

import click

from sparkbundle.machine import parse_size
from sparkbundle.plan import DEFAULT_NAME
from sparkbundle.state import cluster_names

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
