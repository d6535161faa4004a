"""Playing a playbook in front of the user: a step for each play, in it a line for each host."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sparkbundle import preflight
from sparkbundle.files import make_private_directory
from sparkbundle.hosts import Hosts, cluster_directory
from sparkbundle.inventory import Inventory
from sparkbundle.output import Step, Steps
from sparkbundle.playbook import HostOutcome, Outcome, Playbook, phases
from sparkbundle.preflight import Facts

_QUIET_SECONDS = 15.0
_LOGS_KEPT = 20
_FULL_MIB = 200  # less than the largest package


def play(
    name: str,
    hosts: Hosts,
    names: Sequence[str],
    *,
    steps: Steps,
    variables: Mapping[str, Any],
    check: bool = False,
) -> Outcome:
    """Run a playbook on some hosts, a step for each of its plays."""
    if not names:
        return Outcome()
    book = Playbook(
        name=name,
        inventory=hosts.inventory.path,
        known_hosts=hosts.known_hosts,
        log=new_log(hosts.inventory, name),
        variables=variables,
        limit=names,
        check=check,
    )
    follower = Follower(steps, phases(name), names=names)
    with closing(follower):
        outcome = book.run(follower.event)
        follower.finish()
    _tell_of_full_disks(hosts, outcome)
    return outcome


def _tell_of_full_disks(hosts: Hosts, outcome: Outcome) -> None:
    """Say it first where a disk is full: a task fails there in words that do not tell it."""
    failed = {name: one for name, one in outcome.failures.items() if not one.unreachable}
    chosen = [host for host in hosts.inventory.hosts if host.name in failed]
    for name, facts in hosts.each(lambda host: preflight.ask(hosts, host), chosen).items():
        if isinstance(facts, Facts):
            full = [
                f"the disk is full: {free} MiB are free for {path}"
                for path, free in facts["free_mib"].items()
                if free < _FULL_MIB
            ]
            failed[name].told = (*full, *failed[name].told)


class Follower:
    """Turns a playbook's events into steps: one a play, in it a line for each host."""

    def __init__(self, steps: Steps, titles: Sequence[str], *, names: Sequence[str]) -> None:
        """Show the plays of these titles in order, for these hosts."""
        self._steps = steps
        self._titles = list(titles)
        self._width = max(map(len, names), default=0)
        self._stack = ExitStack()
        self._step: Step | None = None
        self._outcome: dict[str, HostOutcome] = {}
        self._said = time.monotonic()

    def event(self, event: Mapping[str, Any]) -> None:
        """Take one event."""
        kind = event["event"]
        if kind == "play":
            self._next(event["name"])
        elif kind == "task" and self._step is not None:
            self._step.working_on(event["name"])
        elif kind == "result":
            self._result(event)
        elif kind == "retry" and self._step is not None:
            told = (event["told"] or [""])[0].splitlines()
            self._step.say(f"{event['host']}: {event['task']}: again, {told[0] if told else ''}")

    def _result(self, event: Mapping[str, Any]) -> None:
        host = self._outcome.setdefault(event["host"], HostOutcome())
        if event["status"] == "changed":
            host.changed.append(event["task"])
        elif event["status"] in ("failed", "unreachable"):
            host.failed = event["task"]
        else:
            host.ok += 1
        now = time.monotonic()
        if self._step is not None and now - self._said > _QUIET_SECONDS:
            self._step.say(f"{event['host']}: {event['task']} … {event['status']}")
            self._said = now

    def _next(self, name: str) -> None:
        """End the step before and begin the next; plays without hosts are shown, too."""
        while self._titles:
            title = self._titles.pop(0)
            self._end_step()
            self._step = self._stack.enter_context(self._steps.step(title))
            self._said = time.monotonic()
            if title == name:
                return

    def finish(self) -> None:
        """End the last step; plays that never began are shown as such."""
        self._next("")
        self._end_step()

    def close(self) -> None:
        """End what is open after a failure."""
        self._stack.close()

    def _end_step(self) -> None:
        if self._step is None:
            return
        changed = 0
        for name, host in sorted(self._outcome.items()):
            changed += len(host.changed)
            text = f"changed {len(host.changed)}, ok {host.ok}"
            stopped = f", FAILED at: {host.failed}" if host.failed else ""
            self._step.say(f"{name:<{self._width}}  {text}{stopped}")
        failed = [name for name, host in self._outcome.items() if host.failed]
        self._step.done(
            f"FAILED on {', '.join(failed)}" if failed
            else f"changed {changed}" if self._outcome else "nothing to do"
        )  # fmt: skip
        self._stack.close()
        self._outcome = {}
        self._step = None


def new_log(inventory: Inventory, name: str) -> Path:
    """A new log file for a run, below the cluster's directory here; old ones are removed."""
    directory = cluster_directory(inventory.name) / "logs"
    make_private_directory(directory)
    for old in sorted(directory.glob("*.log"))[:-_LOGS_KEPT]:
        old.unlink(missing_ok=True)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    path = directory / f"{stamp}-{name}.log"
    path.touch(mode=0o600)
    return path


def last_log(inventory: Inventory, name: str) -> Path:
    """The newest log of such a run."""
    return max((cluster_directory(inventory.name) / "logs").glob(f"*-{name}.log"))
