"""The state directory: where each embedded cluster keeps its record, settings, logs and work.

$SPARKBUNDLE_STATE, else $XDG_STATE_HOME/sparkbundle, else ~/.local/state/sparkbundle
  clusters/NAME/cluster.json   the record; it exists while the cluster is up
                conf/          settings and secrets (0600 files in a 0700 directory)
                logs/          one log for each daemon, the one before as .1
                work/          what executors write, a directory for each worker
                local/         shuffle and spill files
                recovery/      what a restarted master remembers
  locks/NAME.lock              held while a command changes the cluster
  vectors/                     the word tables of this machine (docs/word-table.md)
"""

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sparkbundle.errors import LOCKED, PreflightError, SparkbundleError
from sparkbundle.files import cannot_write, make_private_directory, remove, write_private
from sparkbundle.machine import parse_size

DEFAULT_NAME = "default"
FORMAT = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


def state_directory() -> Path:
    """Where the state of all embedded clusters of this user is kept."""
    if given := os.environ.get("SPARKBUNDLE_STATE"):
        return Path(given).resolve()
    xdg = os.environ.get("XDG_STATE_HOME")
    base = Path(xdg) if xdg else Path.home() / ".local" / "state"
    return base.resolve() / "sparkbundle"


def vectors_directory() -> Path:
    """Where this machine's word tables are, for all embedded clusters of this user."""
    given = os.environ.get("SPARKBUNDLE_VECTORS")
    return Path(given).resolve() if given else state_directory() / "vectors"


@dataclass(frozen=True, kw_only=True)
class ClusterRecord:
    """What a running cluster tells about itself, as `cluster.json` (format 1).

    `master` is the URL for applications, `properties` the file with every
    setting that a driver needs, the secret included. `cores` and `memory`
    (such as "1024m") are those of one worker. `ui` is the master's web address, which
    answers to a token only. `fixed_ports` are the names of the ports that the
    user gave ("master", "ui"): the others may be chosen anew. `started` is the
    time of the first start, in UTC. `gpus` are the addresses of the GPUs that the workers
    offer, all together (`machine_gpus.dealt`), `gpus_asked` what they were chosen by, and
    `gpus_fault` why there are none where the driver failed.
    """

    name: str
    master: str
    properties: str
    workers: int
    cores: int
    memory: str
    ui: str
    started: str
    master_port: int
    ui_port: int
    fixed_ports: tuple[str, ...] = ()
    gpus: tuple[str, ...] = ()
    gpus_asked: str = "auto"
    gpus_fault: str = ""
    format: int = FORMAT

    @property
    def memory_mib(self) -> int:
        """The memory of one worker's executor, in MiB."""
        return parse_size(self.memory)

    def as_json(self) -> dict[str, Any]:
        """The record as a JSON object; it holds no secret."""
        return {**asdict(self), "fixed_ports": list(self.fixed_ports), "gpus": list(self.gpus)}


@dataclass(frozen=True)
class ClusterPlace:
    """The paths of one cluster."""

    name: str
    directory: Path

    @property
    def record(self) -> Path:
        """The file that exists while the cluster is up."""
        return self.directory / "cluster.json"

    @property
    def conf(self) -> Path:
        """The directory of settings and secrets."""
        return self.directory / "conf"

    @property
    def logs(self) -> Path:
        """The directory of the daemons' logs."""
        return self.directory / "logs"

    @property
    def recovery(self) -> Path:
        """The directory in which the master remembers workers and applications."""
        return self.directory / "recovery"

    @property
    def work(self) -> Path:
        """The directory below which each executor has its working directory."""
        return self.directory / "work"

    @property
    def local(self) -> Path:
        """The directory of shuffle and spill files."""
        return self.directory / "local"

    @property
    def unverified(self) -> Path:
        """The file that exists from a daemon's start until the smoke job has passed."""
        return self.directory / "unverified"

    def log(self, daemon: str) -> Path:
        """The log of a daemon ("master", "worker-1" …) or of the smoke job ("smoke")."""
        return self.logs / f"{daemon}.log"


def cluster_place(name: str) -> ClusterPlace:
    """The place of the cluster with this name; nothing is made there.

    Raises:
        PreflightError: the name cannot be a directory's name.
    """
    if not _NAME.fullmatch(name):
        raise PreflightError(
            f"{name!r} cannot be the name of a cluster",
            todo="use 1 to 40 letters, digits, - and _, a letter or digit first",
        )
    return ClusterPlace(name, state_directory() / "clusters" / name)


def cluster_names() -> list[str]:
    """The names of all clusters that have a place in the state directory, sorted."""
    clusters = state_directory() / "clusters"
    try:
        return sorted(p.name for p in clusters.iterdir() if _NAME.fullmatch(p.name) and p.is_dir())
    except OSError:
        return []


def make_place(place: ClusterPlace) -> None:
    """Make the private directories of a cluster.

    Raises:
        PreflightError: the state directory cannot be written.
    """
    for directory in (place.directory, place.conf, place.logs, place.recovery, place.work):
        make_private_directory(directory)
    make_private_directory(place.local)


def write_record(place: ClusterPlace, record: ClusterRecord) -> None:
    """Write `cluster.json`, whole or not at all."""
    write_private(place.record, json.dumps(record.as_json(), indent=2) + "\n")


def read_record(place: ClusterPlace) -> ClusterRecord | None:
    """The record of a cluster, or None when it is not up.

    Raises:
        SparkbundleError: the file is damaged or of a later version.
    """
    try:
        value = json.loads(place.record.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _damaged(place, str(error)) from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise _damaged(place, f"it is not of format {FORMAT}")
    known = {field.name for field in fields(ClusterRecord)} - {"fixed_ports", "gpus"}
    try:
        return ClusterRecord(
            **{key: item for key, item in value.items() if key in known},
            fixed_ports=tuple(value.get("fixed_ports", ())),
            gpus=tuple(value.get("gpus", ())),
        )
    except TypeError as error:
        raise _damaged(place, str(error)) from error


def not_up(name: str) -> PreflightError:
    """What to say where a cluster of this machine is asked for and there is none."""
    return PreflightError(
        f"cluster {name!r} is not up",
        todo=f"sparkbundle up{by_name(name)}",
    )


def by_name(name: str) -> str:
    """What a command on this machine's cluster of this name ends with: nothing by default."""
    return "" if name == DEFAULT_NAME else f" --name {name}"


def _damaged(place: ClusterPlace, reason: str) -> SparkbundleError:
    return SparkbundleError(
        f"the record of cluster {place.name!r} cannot be read: {reason}",
        where=str(place.record),
        todo=f"sparkbundle down --name {place.name}, then up: it is written anew",
    )


def forget(place: ClusterPlace) -> None:
    """Remove what belongs to one life of the cluster: record, secrets, recovery, spill files.

    Logs stay to be read, and so does what executors wrote.
    """
    for path in (place.record, place.unverified, place.conf, place.recovery, place.local):
        remove(path)


@contextmanager
def lock(place: ClusterPlace, command: str) -> Iterator[None]:
    """Hold the cluster's lock while the block runs; the kernel frees it if the process dies.

    Raises:
        SparkbundleError: another process holds it (exit code 5).
        PreflightError: the state directory cannot be written.
    """
    path = state_directory() / "locks" / f"{place.name}.lock"
    make_private_directory(path.parent)
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise cannot_write(path, error) from error
    with os.fdopen(handle, "r+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SparkbundleError(
                f"cluster {place.name!r} is locked by {file.read().strip() or 'another run'}",
                where=str(path),
                todo="wait until it has ended, then run the same command again",
                code=LOCKED,
            ) from error
        since = datetime.now(UTC).isoformat(timespec="seconds")
        file.seek(0)
        file.truncate()
        file.write(f"`sparkbundle {command}` (pid {os.getpid()}) since {since}\n")
        file.flush()
        yield
