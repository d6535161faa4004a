"""`sparkbundle config`."""

import os
from typing import Any

import click

from sparkbundle.commands.options import json_option
from sparkbundle.output import print_json, print_pairs
from sparkbundle.settings import FileSettings, load_files, options_of, setting_files, variable


@click.group()
def config() -> None:
    """Look at the settings."""


@config.command()
@json_option
@click.pass_context
def show(context: click.Context, *, as_json: bool) -> None:
    """Show every setting of every command, and where its value comes from.

    \b
    Example:
      SPARKBUNDLE_UP_WORKERS=3 sparkbundle config show
    """
    group = context.find_root().command
    assert isinstance(group, click.Group)
    files = load_files(group)
    rows = {
        f"{command}.{key}": _value(files, command, option)
        for command, options in options_of(group).items()
        for key, option in options.items()
    }
    if as_json:
        print_json(
            {
                "settings": {
                    name: {"value": value, "from": origin} for name, (value, origin) in rows.items()
                },
                "files": [str(path) for path in setting_files()],
            }
        )
        return
    print_pairs(
        "settings", {name: f"{value}  ({origin})" for name, (value, origin) in rows.items()}
    )
    print_pairs(
        "files, the first wins",
        {
            str(path): "read" if path.exists() else "does not exist"
            for path in reversed(setting_files())
        },
    )


def _value(files: FileSettings, command: str, option: click.Option) -> tuple[Any, str]:
    key = option.name or ""
    name = variable(command, option)
    if os.environ.get(name):
        return os.environ[name], f"environment, {name}"
    if key in files.values.get(command, {}):
        return files.values[command][key], str(files.files[command, key])
    if isinstance(option.show_default, str):
        return option.show_default, "default"
    # click marks "no default" with an object of its own.
    plain = isinstance(option.default, str | int | float)
    return option.default if plain else None, "default"
