"""The clusters that jobs run on: on hosts that SSH reaches, or on this machine."""

import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sparkbundle import preflight
from sparkbundle.daemons import stop_processes
from sparkbundle.errors import PREFLIGHT, UNREACHABLE, PreflightError, SparkbundleError
from sparkbundle.host_status import ask_master_of
from sparkbundle.hosts import Hosts, as_root
from sparkbundle.inventory import Inventory, load
from sparkbundle.jobs import Job, Target
from sparkbundle.launch import Launcher, read_secrets
from sparkbundle.master import MasterState, ask_master
from sparkbundle.runtime import find_spark
from sparkbundle.sessions import draining, exit_status
from sparkbundle.spark_settings import WorkerSize
from sparkbundle.state import ClusterPlace, by_name, cluster_place, read_record, vectors_directory
from sparkbundle.word_tables import parse_tables, tables_here

HOST_AGENT = "/opt/sparkbundle/libexec/jobs.py"
HOST_JOBS = PurePosixPath("/var/lib/sparkbundle/jobs")
_BLOCK = 1 << 16


@contextmanager
def open_target(*, inventory: Path | None, name: str) -> Iterator[Target]:
    """The jobs of the hosts of an inventory, or of the cluster `name` on this machine.

    Raises:
        SparkbundleError: the inventory cannot be read, or has a mistake.
    """
    if inventory is None:
        yield LocalTarget(cluster_place(name))
        return
    with Hosts(load(inventory)) as hosts:
        yield RemoteTarget(hosts, inventory)


def local_jobs(place: ClusterPlace) -> Path:
    """Where the jobs of a cluster on this machine are."""
    return place.directory / "jobs"


@dataclass(frozen=True)
class LocalTarget:
    """The jobs of a cluster on this machine. They carry its mark, so `down` ends them."""

    place: ClusterPlace

    @property
    def label(self) -> str:
        """See Target."""
        return f"cluster {self.place.name!r}"

    @property
    def options(self) -> str:
        """See Target."""
        return by_name(self.place.name)

    @property
    def limits_memory(self) -> bool:
        """See Target."""
        return False

    def workers(self) -> Sequence[WorkerSize]:
        """See Target."""
        record, secrets = read_record(self.place), read_secrets(self.place)
        if record is None or secrets is None:
            return []
        answer = ask_master(record.ui, ui_key=secrets.ui_key)
        if answer is None:  # it is on its way back: its workers are known
            return [WorkerSize(cores=record.cores, memory_mib=record.memory_mib)]
        return _offered(answer)

    @property
    def remote(self) -> bool:
        """See Target."""
        return False

    def word_tables(self) -> Collection[str]:
        """See Target."""
        return {one.digest for one in tables_here() if one.whole}

    def ask(
        self, *words: str, given: Iterable[bytes] = (), silence: float | None = None
    ) -> Iterator[bytes]:
        """See Target. A process of ours does not fall silent: `silence` is not used."""
        del silence
        environment = self._environment() if words[0] in {"start", "resume"} else dict(os.environ)
        jobs = local_jobs(self.place)
        agent = [sys.executable, "-P", "-m", "sparkbundle.job_agent", "--jobs", str(jobs), *words]
        # In a session of its own Ctrl-C in the terminal is ours alone to act on.
        with subprocess.Popen(
            agent,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        ) as process:
            assert process.stdin and process.stdout and process.stderr
            sender = _Sender(given, write=process.stdin.write, close=process.stdin.close)
            try:
                while block := os.read(process.stdout.fileno(), _BLOCK):
                    yield block
                said = process.stderr.read()
            finally:
                process.terminate()
            sender.check()
        if process.returncode > 0:
            raise self._failed(said)

    def _failed(self, said: bytes) -> SparkbundleError:
        return SparkbundleError(
            f"the agent of the jobs failed: {_last_line(said)}", where=self.label
        )

    def ended(self, job: Job) -> None:
        """See Target."""
        stop_processes(self.place, role=f"job-{job.id}")

    def _environment(self) -> dict[str, str]:
        record, secrets = read_record(self.place), read_secrets(self.place)
        if record is None or secrets is None:
            raise PreflightError(
                f"cluster {self.place.name!r} is not up on this machine",
                todo=f"sparkbundle up{self.options}    for a cluster of hosts: -i INVENTORY",
            )
        launcher = Launcher(self.place, record, secrets, find_spark())
        return {
            **launcher.environment("job"),
            "SPARKBUNDLE_MASTER": record.master,
            # A job has a state directory of its own; word tables are the machine's.
            "SPARKBUNDLE_VECTORS": str(vectors_directory()),
        }


@dataclass(frozen=True)
class RemoteTarget:
    """The jobs of a cluster of hosts: they are on the host of the master."""

    hosts: Hosts
    path: Path

    @property
    def inventory(self) -> Inventory:
        """The hosts."""
        return self.hosts.inventory

    @property
    def label(self) -> str:
        """See Target."""
        return self.inventory.master.name

    @property
    def options(self) -> str:
        """See Target."""
        return f" -i {shlex.quote(str(self.path))}"

    @property
    def limits_memory(self) -> bool:
        """See Target."""
        return True

    def workers(self) -> Sequence[WorkerSize]:
        """See Target. The master itself is asked."""
        answer = ask_master_of(self.hosts)
        return _offered(answer) if answer else []

    @property
    def remote(self) -> bool:
        """See Target."""
        return True

    def word_tables(self) -> Collection[str]:
        """See Target. The master's host is asked."""
        facts = preflight.ask(self.hosts, self.inventory.master)
        return {one.digest for one in parse_tables(facts["word_tables"]) if one.whole}

    def ask(
        self, *words: str, given: Iterable[bytes] = (), silence: float | None = None
    ) -> Iterator[bytes]:
        """See Target."""
        said: list[bytes] = []
        command = as_root(shlex.join([HOST_AGENT, *words]))
        try:
            with (
                self.hosts.session(self.inventory.master, command) as channel,
                draining(channel, said.append),
            ):
                channel.settimeout(silence)
                sender = _Sender(given, write=channel.sendall, close=channel.shutdown_write)
                while block := channel.recv(_BLOCK):
                    yield block
                code = exit_status(channel)
                sender.check()
        except SparkbundleError as error:
            if error.code == UNREACHABLE:
                self.hosts.drop(self.inventory.master)
            raise
        if code:
            raise self._failed(b"".join(said))

    def _failed(self, said: bytes) -> SparkbundleError:
        why = _last_line(said)
        if "not found" in why or "No such file" in why:
            why = "it is not there"
        return SparkbundleError(
            f"the agent of the jobs failed: {why}",
            where=self.label,
            todo=f"sparkbundle up{self.options}    sets it up or mends it",
            code=PREFLIGHT,
        )

    def ended(self, job: Job) -> None:
        """See Target. systemd has ended all that belongs to the unit."""


def _offered(answer: MasterState) -> list[WorkerSize]:
    return [
        WorkerSize(cores=one.cores, memory_mib=one.memory_mib, gpus=len(one.gpus))
        for one in answer.workers
        if one.state == "ALIVE"
    ]


class _Sender:
    """Writes the input of an agent while its output is read."""

    def __init__(
        self,
        blocks: Iterable[bytes],
        *,
        write: Callable[[bytes], object],
        close: Callable[[], object],
    ) -> None:
        self._blocks = blocks
        self._write = write
        self._close = close
        self._error: SparkbundleError | None = None
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise what kept the blocks from being read, if anything did."""
        self._thread.join(timeout=5.0)
        if self._error is not None:
            raise self._error

    def _send(self) -> None:
        try:
            for block in self._blocks:
                self._write(block)
        except SparkbundleError as error:
            self._error = error
        except OSError:
            pass  # the agent has ended without reading it all, and says why
        with suppress(OSError, EOFError):
            self._close()


def _last_line(said: bytes) -> str:
    return (said.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
