"""Settings from files: the project's ./sparkbundle.toml before the user's own.

A file has a table for each command, and may have keys above them that hold for
every command with such an option:

    name = "lab"
    [up]
    workers = 3

Order: command line, environment (SPARKBUNDLE_UP_WORKERS …), project file, user
file, default.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from sparkbundle.errors import PreflightError

PROJECT_FILE = "sparkbundle.toml"
ENVIRONMENT_PREFIX = "SPARKBUNDLE"
# Read from the environment without being the option of a command.
OTHER_VARIABLES = frozenset(
    {
        "SPARKBUNDLE_STATE",
        "SPARKBUNDLE_CLUSTER",
        "SPARKBUNDLE_MASTER",
        "SPARKBUNDLE_INVENTORY",
        "SPARKBUNDLE_VECTORS",
        "SPARKBUNDLE_SHARED_FOLDERS",
    }
)


@dataclass(frozen=True)
class FileSettings:
    """Values by command and parameter, and for each the file that it came from."""

    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: dict[tuple[str, str], Path] = field(default_factory=dict)


def user_file() -> Path:
    """The user's own settings: $XDG_CONFIG_HOME/sparkbundle/config.toml, else below ~/.config."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "sparkbundle" / "config.toml"


def setting_files() -> list[Path]:
    """The files that are read, the weakest first."""
    return [user_file(), Path(PROJECT_FILE).absolute()]


def options_of(group: click.Group) -> dict[str, dict[str, click.Option]]:
    """The options of each command that a setting may name, by command and parameter.

    Imports every command of a lazy group.
    """
    context = click.Context(group)
    commands = {name: group.get_command(context, name) for name in group.list_commands(context)}
    return {
        name: {
            option.name: option
            for option in command.params
            if isinstance(option, click.Option) and option.name and not option.is_eager
        }
        for name, command in commands.items()
        if command is not None and not isinstance(command, click.Group)
    }


def load_files(group: click.Group) -> FileSettings:
    """Read both files, as far as they exist.

    Raises:
        PreflightError: a file is no TOML or has a key that no command knows.
    """
    settings = FileSettings()
    files = [path for path in setting_files() if path.exists()]
    known = options_of(group) if files else {}
    for path in files:
        for command, key, value in _entries(path, known):
            settings.values.setdefault(command, {})[key] = value
            settings.files[command, key] = path
    return settings


def _entries(
    path: Path, known: Mapping[str, Mapping[str, click.Option]]
) -> list[tuple[str, str, Any]]:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PreflightError(
            f"cannot be read: {error}", where=str(path), todo="mend the file, or remove it"
        ) from error
    common = {key: value for key, value in table.items() if not isinstance(value, dict)}
    entries = []
    for key, value in common.items():
        commands = [command for command, options in known.items() if key in options]
        if not commands:
            raise _unknown(path, key, {k for options in known.values() for k in options})
        entries += [(command, key, value) for command in commands]
    for command, values in table.items():
        if not isinstance(values, dict):
            continue
        if command not in known:
            raise _unknown(path, f"[{command}]", {f"[{name}]" for name in known})
        for key, value in values.items():
            if key not in known[command]:
                raise _unknown(path, key, set(known[command]), table=command)
            entries.append((command, key, value))
    return entries


def _unknown(path: Path, key: str, known: set[str], *, table: str = "") -> PreflightError:
    guess = _guess(key, known)
    return PreflightError(
        f"unknown setting {key!r}" + (f" in [{table}]" if table else ""),
        where=str(path),
        todo=f"did you mean {guess!r}?" if guess else "known: " + ", ".join(sorted(known)),
    )


def _guess(word: str, known: set[str]) -> str:
    return next(iter(difflib.get_close_matches(word, sorted(known), n=1)), "")


def unknown_variables(group: click.Group) -> dict[str, str]:
    """Variables that look like settings but are none, each with its nearest neighbour or ""."""
    known = set(OTHER_VARIABLES) | {f"{ENVIRONMENT_PREFIX}_DEBUG"}
    names = {name for name in os.environ if name.startswith(f"{ENVIRONMENT_PREFIX}_")} - known
    if not names:
        return {}
    for command, options in options_of(group).items():
        known |= {variable(command, option) for option in options.values()}
    return {name: _guess(name, known) for name in sorted(names - known)}


def variable(command: str, option: click.Option) -> str:
    """The environment variable of an option."""
    if isinstance(option.envvar, str):
        return option.envvar
    return f"{ENVIRONMENT_PREFIX}_{command}_{option.name}".upper().replace("-", "_")
