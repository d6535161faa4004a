"""Which hosts of an inventory a command is for, and what it came to on all of them."""

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from sparkbundle.errors import (
    AUTHENTICATION,
    FAILED,
    PARTLY,
    UNREACHABLE,
    USAGE,
    SparkbundleError,
)
from sparkbundle.hosts import Hosts
from sparkbundle.inventory import Host, Inventory
from sparkbundle.output import stderr_console

EVERYBODY = "all"


@contextmanager
def reaching(inventory: Inventory) -> Iterator[Hosts]:
    """Connections to the hosts; at the end it is told whose key was learned."""
    with Hosts(inventory) as hosts:
        try:
            yield hosts
        finally:
            for name, key in sorted(hosts.learned.items()):
                stderr_console().print(
                    f"{name}: met for the first time, its key is {key}", markup=False, style="dim"
                )


def choose(inventory: Inventory, words: Iterable[str]) -> tuple[Host, ...]:
    """The hosts that `--on` names, in the inventory's order; all of them where it names none.

    A word is the name of a host, a group or a label; commas join several.

    Raises:
        SparkbundleError: a word names nothing (exit code 2).
    """
    wanted = [part for word in words for part in word.split(",") if part]
    if not wanted:
        return inventory.hosts
    known = {EVERYBODY}
    for host in inventory.hosts:
        known |= {host.name, *host.groups, *host.labels}
    for word in wanted:
        if word not in known:
            guess = difflib.get_close_matches(word, sorted(known), n=1)
            raise SparkbundleError(
                f"no host, group or label is named {word!r}",
                where=str(inventory.path),
                todo=f"did you mean {guess[0]!r}?" if guess else f"known: {_list(known)}",
                code=USAGE,
            )
    return tuple(
        host
        for host in inventory.hosts
        if {EVERYBODY, host.name, *host.groups, *host.labels} & set(wanted)
    )


def one(inventory: Inventory, name: str | None) -> Host:
    """The host of this name, the master's where none is given.

    Raises:
        SparkbundleError: there is no such host (exit code 2).
    """
    if name is None:
        return inventory.master
    try:
        return inventory.host(name)
    except KeyError:
        names = {host.name for host in inventory.hosts}
        guess = difflib.get_close_matches(name, sorted(names), n=1)
        raise SparkbundleError(
            f"there is no host {name!r}",
            where=str(inventory.path),
            todo=f"did you mean {guess[0]!r}?" if guess else f"hosts: {_list(names)}",
            code=USAGE,
        ) from None


def exit_code(codes: Sequence[int]) -> int:
    """One exit code for many hosts, from 0 or the code of the failure on each.

    All well 0, some failed 7. All failed: the code that they share, 4 or 6 where no host
    was so much as entered, else 1.
    """
    failed = {code for code in codes if code}
    if not failed:
        return 0
    if not all(codes):
        return PARTLY
    if len(failed) == 1:
        return failed.pop()
    return UNREACHABLE if failed <= {UNREACHABLE, AUTHENTICATION} else FAILED


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
