"""Taking hosts of a cluster down, all of them or some: `down` and `remove`."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from sparkbundle import preflight
from sparkbundle.errors import PreflightError, SparkbundleError
from sparkbundle.files import remove
from sparkbundle.host_drain import NOT_REACHED, drain
from sparkbundle.host_lock import locked
from sparkbundle.hosts import Hosts, cluster_directory
from sparkbundle.output import Steps
from sparkbundle.playbook import phases
from sparkbundle.playbook_steps import play
from sparkbundle.remote import (
    UpOptions,
    converge,
    interruptible,
    report_lost,
    require_hosts,
    up_steps,
)


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """What `down` did: tasks that changed something by host, hosts that could not be reached."""

    changed: Mapping[str, Sequence[str]]
    purged: bool


def down_steps(*, purge: bool) -> int:
    """How many steps `down` has, that of reading the inventory among them."""
    return 2 + len(phases("purge" if purge else "down"))


def down(hosts: Hosts, *, purge: bool, steps: Steps) -> Stopped:
    """Stop all daemons and jobs; with `purge` leave nothing of the cluster behind.

    Raises:
        SparkbundleError: hosts were not reached or failed (7: the others are down).
    """
    name = "purge" if purge else "down"
    with ExitStack() as stack:
        stack.enter_context(interruptible())
        reached, lost = _meet(hosts, stack, steps, command="down")
        outcome = play(name, hosts, reached, steps=steps, variables={})
        report_lost(outcome, lost, name=name, hosts=hosts)
    if purge:
        remove(cluster_directory(hosts.inventory.name))
    changed = {name: tuple(host.changed) for name, host in outcome.hosts.items()}
    return Stopped(changed=changed, purged=purge)


def _meet(
    hosts: Hosts, stack: ExitStack, steps: Steps, *, command: str
) -> tuple[list[str], dict[str, SparkbundleError]]:
    """Reach all hosts and take the lock; the names of those reached, the errors of the others.

    Raises:
        SparkbundleError: none is reached, or another run holds the lock.
    """
    inventory = hosts.inventory
    with steps.step("reach the hosts") as step:
        answers = hosts.each(lambda host: hosts.run(host, "true", sudo=True, timeout=30))
        lost = {name: one for name, one in answers.items() if isinstance(one, SparkbundleError)}
        reached = [name for name in answers if name not in lost]
        if not reached:
            raise next(iter(lost.values()))
        if inventory.master.name in reached:
            stack.enter_context(locked(hosts, inventory.master, command=command))
        step.done(f"{len(reached)} of {len(answers)}")
    return reached, lost


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What `remove` did: the hosts taken out, those of them that could not be cleaned."""

    names: Sequence[str]
    drained: Mapping[str, str]
    not_cleaned: Sequence[str]


def remove_steps() -> int:
    """How many steps `remove` has, that of reading the inventory among them."""
    return up_steps(UpOptions()) + 1 + len(phases("purge"))


def remove_hosts(
    hosts: Hosts, names: Sequence[str], *, timeout: float, drain_seconds: float, steps: Steps
) -> Removed:
    """Take workers out: drain, stop, remove what is there of us, tell the other hosts.

    A host that is not reached is taken out all the same; it is not cleaned then.

    Raises:
        PreflightError: the master, or the last worker, was named.
        SparkbundleError: as `up`, for the hosts that stay.
    """
    inventory = hosts.inventory
    require_hosts(inventory, names)
    leaving = [host for host in inventory.hosts if host.name in names]
    staying = tuple(host for host in inventory.hosts if host.name not in names)
    if any(host.is_master for host in leaving) or not any(host.is_worker for host in staying):
        raise PreflightError(
            "the master and the last worker cannot be taken out",
            where=str(inventory.path),
            todo=f"take the whole cluster down: sparkbundle down -i {inventory.path}",
        )
    with ExitStack() as stack:
        stack.enter_context(interruptible())
        rest = stack.enter_context(Hosts(replace(inventory, hosts=staying)))
        stack.enter_context(locked(rest, rest.inventory.master, command="remove"))
        # Before anything is changed: those that stay are told of it at the end.
        preflight.check(rest).require()
        with steps.step("drain the workers that leave") as step:
            drained = drain(hosts, leaving, seconds=drain_seconds)
            for name, words in drained.items():
                step.say(f"{name:<12} {words}")
            step.done(f"{len(leaving)} hosts")
        reached = [name for name in names if drained[name] != NOT_REACHED]
        outcome = play("purge", hosts, reached, steps=steps, variables={})
        converge(rest, UpOptions(timeout=timeout), stack=stack, steps=steps, lock="")
    dirty = [name for name in names if name not in reached or name in outcome.failures]
    return Removed(names=tuple(names), drained=drained, not_cleaned=tuple(dirty))
