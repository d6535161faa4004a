"""The two ways to run a job: as a unit of systemd, or beside a small process that watches it."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

from .records import AgentError, JobFolder, is_locked, read_result
from .request import SENTIMENT
from .settings import VECTORS

TERM_SECONDS = 20.0
# After the last signal, for the result to be written and the group to be cleared away.
_GRACE_SECONDS = 20.0
_UNITS = Path("/run/systemd/system")
_UNIT = "sparkbundle-job-"
EVENTS = "/var/lib/sparkbundle/events"
_SANDBOX = """
    NoNewPrivileges=yes ProtectSystem=strict ProtectHome=yes PrivateTmp=yes
    ProtectHostname=yes ProtectClock=yes ProtectKernelTunables=yes ProtectKernelModules=yes
    ProtectKernelLogs=yes ProtectControlGroups=yes ProtectProc=invisible
    RestrictSUIDSGID=yes RestrictRealtime=yes RestrictNamespaces=yes LockPersonality=yes
    CapabilityBoundingSet= SystemCallArchitectures=native SystemCallFilter=@system-service
    SystemCallErrorNumber=EPERM UMask=0027 LimitNOFILE=65536 TasksMax=8192
""".split()
_FAMILIES = "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK"


class Launcher(Protocol):
    """A way to run a job."""

    def start(self, folder: JobFolder, *, lock: IO[bytes], record: Mapping[str, Any]) -> None:
        """Start it; it runs when this returns.

        Raises:
            AgentError: it cannot be started.
        """

    def running(self) -> set[str]:
        """The jobs that run, as far as their locks do not tell it."""

    def stop(self, folder: JobFolder) -> None:
        """End a job that is marked as cancelled, and wait until it is gone.

        Raises:
            AgentError: it does not end.
        """


def ends_by_itself(record: Mapping[str, Any]) -> bool:
    """Whether a job's first process, asked alone to end, ends the others in good order.

    `sentiment` does: its JVM must be there to stop what runs on the cluster. What is left of the
    job when the first process has gone is killed. In a job of a user's own the first process is
    the JVM, and the program in Python hears the signal as well.
    """
    return bool(record.get("app") == SENTIMENT)


def is_running(launcher: Launcher, folder: JobFolder) -> bool:
    """Whether a job runs now."""
    if read_result(folder) is not None:
        return False
    return _has_processes(launcher, folder)


def wait_until_gone(
    launcher: Launcher, folder: JobFolder, *, seconds: float = _GRACE_SECONDS
) -> None:
    """Wait until nothing of a job is left: its group is cleared away after its result is written.

    Raises:
        AgentError: it does not end within so many seconds.
    """
    deadline = time.monotonic() + seconds
    while _has_processes(launcher, folder):
        if time.monotonic() > deadline:
            raise AgentError("does not end", where=folder.id, code=1)
        time.sleep(0.1)


def _has_processes(launcher: Launcher, folder: JobFolder) -> bool:
    return is_locked(folder.lock) or folder.id in launcher.running()


@dataclass(frozen=True)
class Systemd:
    """A unit for each job, until it ends. `script` is the program that this process is."""

    script: Path
    user: str
    group: str

    def start(self, folder: JobFolder, *, lock: IO[bytes], record: Mapping[str, Any]) -> None:
        """See Launcher. The unit holds no word of the user: `exec` reads them from the folder."""
        del lock  # systemd tells what runs
        agent = f"{sys.executable} -IB {self.script}"
        lines = [
            "Type=exec", f"User={self.user}", f"Group={self.group}",
            f"WorkingDirectory={folder.work}",
            f"StandardOutput=append:{folder.log}", f"StandardError=append:{folder.log}",
            f"MemoryMax={record['memory_mib']}M", "OOMPolicy=stop",
            f"KillMode={'mixed' if ends_by_itself(record) else 'control-group'}",
            f"TimeoutStopSec={TERM_SECONDS:.0f}",
            f"ReadWritePaths={folder.directory} -{EVENTS} -{VECTORS}",
            *_SANDBOX, _FAMILIES, *_devices(),
            # With all rights, whatever ended the job: the result is root's to write.
            f"ExecStopPost=+{agent} ended {folder.id}",
        ]  # fmt: skip
        unit = self.unit(folder)
        unit.write_text("\n".join([
            "[Unit]", f"Description=Sparkbundle job {folder.id}", "CollectMode=inactive-or-failed",
            "[Service]", *lines, f"ExecStart={agent} exec {folder.id}", "",
        ]), encoding="utf-8")  # fmt: skip
        done = _run("systemctl", "--no-ask-password", "start", unit.name)
        if done.returncode:
            unit.unlink(missing_ok=True)
            said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise AgentError(f"systemd did not start the job: {said}", code=1)

    def unit(self, folder: JobFolder) -> Path:
        """The unit file of a job, gone after a reboot. `ended` removes it.

        No transient unit: of those, systemd forgets ExecStopPost at a daemon-reload where it has
        a prefix (seen with 252), and any package that is installed reloads systemd.
        """
        return _UNITS / f"{_UNIT}{folder.id}.service"

    def running(self) -> set[str]:
        """See Launcher."""
        done = _run(
            "systemctl", "list-units", "--plain", "--no-legend", "--full", "--all",
            "--state=active,activating,deactivating,reloading", f"{_UNIT}*.service",
        )  # fmt: skip
        names = [line.split()[0] for line in done.stdout.splitlines() if line.split()]
        return {name.removeprefix(_UNIT).removesuffix(".service") for name in names}

    def stop(self, folder: JobFolder) -> None:
        """See Launcher."""
        done = _run("systemctl", "stop", self.unit(folder).name)
        if is_running(self, folder):
            raise AgentError(f"does not end: {done.stderr.strip()}", where=folder.id, code=1)


@dataclass(frozen=True)
class Process:
    """A process for each job that starts it, waits for its end and writes the result."""

    jobs: Path

    def start(self, folder: JobFolder, *, lock: IO[bytes], record: Mapping[str, Any]) -> None:
        """See Launcher. The watching process holds the lock as long as it lives."""
        try:
            with folder.log.open("ab") as log:
                subprocess.Popen(
                    [*self.agent, "supervise", folder.id, str(lock.fileno())],
                    env={**os.environ, **record["environment"]},
                    cwd=folder.work,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=[lock.fileno()],
                )
        except OSError as error:
            raise AgentError(f"the job cannot be started: {error}", code=1) from error

    @property
    def agent(self) -> list[str]:
        """The command that this process is."""
        return [sys.executable, "-P", "-m", "sparkbundle.job_agent", "--jobs", str(self.jobs)]

    def running(self) -> set[str]:
        """See Launcher: the locks tell all."""
        return set()

    def stop(self, folder: JobFolder) -> None:
        """See Launcher. Who watches the job sees the mark and ends it."""
        wait_until_gone(self, folder, seconds=TERM_SECONDS + _GRACE_SECONDS)


def _devices() -> list[str]:
    """No devices, but for those of GPUs and of their MIG instances."""
    found = (*Path("/dev").glob("nvidia*"), *Path("/dev/nvidia-caps").glob("*"))
    gpus = sorted(str(path) for path in found if path.is_char_device())
    if not gpus:
        return ["PrivateDevices=yes"]
    return ["DevicePolicy=closed", *(f"DeviceAllow={path} rw" for path in gpus)]


def _run(*words: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        raise AgentError(f"{words[0]}: {error.strerror}", code=1) from error
