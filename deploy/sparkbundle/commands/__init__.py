"""The commands of `sparkbundle`, one file each: options and one call into a module.

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
    "up": Entry(
        "up",
        "up",
        "Bring up a Spark cluster and prove that it works: on hosts with -i, else on this machine.",
    ),
    "check": Entry(
        "check",
        "check",
        "Look at every host of an inventory: can it be deployed to? Changes nothing there.",
    ),
    "status": Entry("status", "status", "Show a cluster's daemons and applications."),
    "restart": Entry(
        "restart",
        "restart",
        "Start the daemons on HOSTS (default: all) anew, the workers one after the other.",
    ),
    "add": Entry("add", "add", "Add HOSTS, which the inventory now has, to a running cluster."),
    "remove": Entry(
        "remove", "remove", "Take HOSTS out of a running cluster and leave nothing of it on them."
    ),
    "down": Entry("down", "down", "End every process of a cluster, also what a crash has left."),
    "config": Entry("config", "config", "Look at the settings."),
    "submit": Entry("submit", "submit", "Run a job on a cluster."),
    "jobs": Entry("jobs", "jobs", "Show the jobs of a cluster, or one JOB in full."),
    "logs": Entry("logs", "logs", "Print what a JOB has printed: its stdout and stderr in one."),
    "watch": Entry("watch", "watch", "Watch a JOB learn, or a stream score, until it ends."),
    "cancel": Entry("cancel", "cancel", "End a JOB, and wait until it is gone."),
    "resume": Entry(
        "resume", "resume", "Run an ended JOB again, in its own folder, with what was sent for it."
    ),
    "vectors": Entry(
        "vectors",
        "vectors",
        "Word tables on the hosts of a cluster: one copy on each, for all of its processes.",
    ),
    "ssh": Entry("ssh", "ssh", "Open a shell on a host, the master's unless you name another."),
    "run": Entry("run", "run", "Run a command on all hosts at once, and label its output by host."),
    "push": Entry("push", "push", "Copy files and folders from here to all hosts at once."),
    "pull": Entry(
        "pull", "pull", "Copy a file or folder from a host, from all hosts, or from a job to here."
    ),
    "open": Entry("open", "open_page", "Open a web page of the cluster in your browser."),
    "demo": Entry(
        "demo", "demo", "Show everything on this machine, on real reviews, in some minutes."
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
            command = getattr(
                import_module(f"sparkbundle.commands.{entry.module}"), entry.attribute
            )
            assert isinstance(command, click.Command)
            return command
        return super().get_command(ctx, cmd_name)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands and their lines, for `--help`."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._entries[name].help) for name in sorted(self._entries)])
