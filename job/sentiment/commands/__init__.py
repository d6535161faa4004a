"""The commands of `sentiment`, one file each: options and one call into a module.

A command's file is imported when the command is called, so that none waits for another's imports.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

import click


@dataclass(frozen=True)
class Entry:
    """A command that is not imported yet: where it is defined, and its line in `--help`."""

    module: str
    attribute: str
    help: str


ENTRIES: Final = {
    "ingest": Entry(
        "ingest", "ingest", "Read reviews from SOURCE and write them as the corpus OUT."
    ),
    "vectors": Entry("vectors", "vectors", "Build and look at word tables."),
    "train": Entry(
        "train", "train", "Train on CORPUS across the cluster and write the directory MODEL."
    ),
    "evaluate": Entry(
        "evaluate",
        "evaluate",
        "Measure a model on labelled reviews: accuracy, F1, confusion, calibration.",
    ),
    "score": Entry("score", "score", "Say of each review how probable it is that it praises."),
    "stream": Entry("stream", "stream", "Score reviews as they arrive, each exactly once."),
    "films": Entry("films", "films", "List the films whose reviews say other than their stars."),
    "board": Entry(
        "board", "board", "Show trainings and streams in TensorBoard, while they run and after it."
    ),
}


class LazyGroup(click.Group):
    """A group that imports a command when it is called; `--help` imports none."""

    def __init__(self, *arguments: Any, entries: Mapping[str, Entry], **options: Any) -> None:
        """Make a group of `entries`, by the names of their commands."""
        super().__init__(*arguments, **options)
        self._entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands."""
        return sorted({*super().list_commands(ctx), *self._entries})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of this name; None where there is none."""
        if entry := self._entries.get(cmd_name):
            command = getattr(import_module(f"sentiment.commands.{entry.module}"), entry.attribute)
            assert isinstance(command, click.Command)
            return command
        return super().get_command(ctx, cmd_name)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands and their lines, for `--help`."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._entries[name].help) for name in sorted(self._entries)])
