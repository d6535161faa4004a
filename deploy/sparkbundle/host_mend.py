"""Workers that run and that the master has lost: started anew.

Seen with Spark 4.3 after a crash or a restart of the master: a worker that is registered stays
DEAD in the new master's list; or the core of an executor that ended in the gap is held for ever,
for its worker, asked to end it, no longer knows it, and never reports it.
"""

import time
from collections.abc import Iterable

from sparkbundle.errors import SparkbundleError
from sparkbundle.hosts import Hosts
from sparkbundle.master import MasterState
from sparkbundle.output import warn

# Longer than a worker takes to register again, or an executor to end, where all is well.
_PATIENCE_SECONDS = 20.0


def lost_workers(answer: MasterState | None, names: Iterable[str]) -> dict[str, str]:
    """The workers that the master holds for dead, or busy with no application, and which of it."""
    if answer is None or answer.status != "ALIVE":
        return {}
    entries = {name: answer.worker(name) for name in names}
    found = {
        name: "DEAD in the master's list"
        for name, entry in entries.items()
        if entry is not None and entry.state == "DEAD"
    }
    if not answer.applications:
        found |= {
            name: f"cores that no application holds are in use: {entry.cores_used}"
            for name, entry in entries.items()
            if entry is not None and entry.cores_used and name not in found
        }
    return found


class Mending:
    """Starts a worker anew, once, when it has been lost for a while though its unit runs."""

    def __init__(self, hosts: Hosts, *, patience: float = _PATIENCE_SECONDS) -> None:
        """Nobody is lost yet."""
        self._hosts = hosts
        self._patience = patience
        self._since: dict[str, float] = {}
        self._done: set[str] = set()

    def look(self, lost: dict[str, str]) -> None:
        """Note who is lost now; start those anew who were all the time."""
        now = time.monotonic()
        self._since = {name: self._since.get(name, now) for name in lost}
        for name, since in self._since.items():
            if now - since >= self._patience and name not in self._done:
                self._done.add(name)
                self._restart(name, why=lost[name])

    def _restart(self, name: str, *, why: str) -> None:
        warn(f"{name}: {why}, for {self._patience:.0f} s; its worker is started anew")
        try:
            # Not one that is down: systemd starts it, or somebody has stopped it.
            self._hosts.run(
                self._hosts.inventory.host(name),
                "systemctl try-restart spark-worker",
                sudo=True,
                timeout=90,
            )
        except SparkbundleError as error:
            warn(f"{name}: {error.what}")
