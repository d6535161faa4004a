"""The processes of a job: the driver, and what watches it where there is no systemd."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from .launchers import TERM_SECONDS, Process, ends_by_itself
from .records import JobFolder, write_result

_DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_POLL_SECONDS = 0.25
_REST_SECONDS = 3.0
_NOT_STARTED = 127


def become(folder: JobFolder, *, watched: bool) -> NoReturn:
    """Become the job's command. `watched`: a process of ours watches, and must not be outlived."""
    if watched and sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    record = folder.read()
    try:
        os.chdir(folder.work)
        words = record["command"]
        os.execve(words[0], words, {**os.environ, **record["environment"]})  # noqa: S606
    except (OSError, KeyError, TypeError) as error:
        sys.stderr.write(f"sparkbundle: the job cannot be started: {error}\n")
        sys.exit(_NOT_STARTED)


def out_of_memory() -> bool:
    """Whether the kernel killed for want of memory in this process's control group, version 1.

    There systemd does not tell; in version 2 it does.
    """
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if "memory" in controllers.split(","):
                told = Path(f"/sys/fs/cgroup/memory{path}/memory.oom_control").read_text()
                return re.search(r"^oom_kill [1-9]", told, re.MULTILINE) is not None
    return False


def supervise(folder: JobFolder, launcher: Process) -> None:
    """Run the job's command in a group of its own, and write the result when it has ended."""
    # A closed terminal is none of its business; `down` and `kill` ask for the job's end.
    # Handlers that do nothing: to be ignored would be inherited by the job.
    signal.signal(signal.SIGHUP, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: folder.cancelled.touch())
    driver = subprocess.Popen(
        [*launcher.agent, "exec", folder.id], process_group=0, stdin=subprocess.DEVNULL
    )
    write_result(folder, _as_systemd(_wait(driver, folder)))
    _clear(driver.pid)


def _wait(driver: "subprocess.Popen[bytes]", folder: JobFolder) -> int:
    asked = 0.0
    while True:
        with suppress(subprocess.TimeoutExpired):
            return driver.wait(_POLL_SECONDS)
        if not folder.cancelled.exists():
            continue
        if not asked:
            asked = time.monotonic()
            tell = os.kill if ends_by_itself(folder.read()) else os.killpg
            tell(driver.pid, signal.SIGTERM)
            os.killpg(driver.pid, signal.SIGCONT)  # a stopped one hears it, too
        elif time.monotonic() - asked > TERM_SECONDS:
            os.killpg(driver.pid, signal.SIGKILL)


def _as_systemd(code: int) -> dict[str, str]:
    """The end of a process in the words that systemd has for it."""
    if code >= 0:
        return {"result": "exit-code", "code": "exited", "status": str(code)}
    return {
        "result": "signal",
        "code": "killed",
        "status": signal.Signals(-code).name.removeprefix("SIG"),
    }


def _clear(group: int) -> None:
    """End what the job's first process has left of its group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGTERM)
        deadline = time.monotonic() + _REST_SECONDS
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.1)
        os.killpg(group, signal.SIGKILL)
