"""The folder of a job: what is in it, and what state the job is in.

JOBS/ID/job.json   what was asked for and what is run
        files/     what was sent along
        work/      the working directory: what the job writes is here
        conf/      job.properties, the settings that were given with the job
        state/ cache/
        output.log
        result     how it ended; until then it is blank
        cancelled  is there when somebody asked for the end
        lock       locked while the job is being started, or by what watches it
"""

import fcntl
import json
import os
import re
import secrets
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FORMAT = 1
LAST = "last"
# Without letters and digits that look like another one.
_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,60}")
_RESULT_BYTES = 512
_SIGNAL_EXIT = 128

RUNNING = "RUNNING"
SUCCEEDED = "SUCCEEDED"
FAILED = "FAILED"
CANCELLED = "CANCELLED"
LOST = "LOST"


class AgentError(Exception):
    """Something to tell the user: what, where, and names that may have been meant."""

    def __init__(self, what: str, *, where: str = "", code: int = 3, **more: object) -> None:
        """`code` is the exit code of the command; `more` travels with the message."""
        super().__init__(what)
        self.told = {"error": what, "where": where, "code": code, **more}


@dataclass(frozen=True)
class JobFolder:
    """The paths of one job."""

    directory: Path

    @property
    def id(self) -> str:
        """The name of the job."""
        return self.directory.name

    @property
    def record(self) -> Path:
        """What was asked for and what is run, JSON."""
        return self.directory / "job.json"

    @property
    def work(self) -> Path:
        """The job's working directory."""
        return self.directory / "work"

    @property
    def log(self) -> Path:
        """All that the job prints."""
        return self.directory / "output.log"

    @property
    def result(self) -> Path:
        """How it ended."""
        return self.directory / "result"

    @property
    def cancelled(self) -> Path:
        """Is there when somebody asked for the end."""
        return self.directory / "cancelled"

    @property
    def lock(self) -> Path:
        """Locked while the job is being started, or by what watches it."""
        return self.directory / "lock"

    def read(self) -> dict[str, Any]:
        """What was asked for and what is run; empty where that cannot be read."""
        try:
            value = json.loads(self.record.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}


def is_id(name: str) -> bool:
    """Whether a folder of this name is a job's."""
    return _ID.fullmatch(name) is not None and name != LAST


def new_id(label: str, now: datetime) -> str:
    """A name such as train-1125-0314-x7k: what it is, when it started (UTC), three letters."""
    word = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")[:20].strip("-") or "job"
    ending = "".join(secrets.choice(_LETTERS) for _ in range(3))
    return f"{word}-{now:%m%d-%H%M}-{ending}"


def now_text() -> str:
    """The time in UTC, to the microsecond: jobs are sorted by it."""
    return datetime.now(UTC).isoformat()


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock; the kernel frees it when the process is gone."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def blank_result(folder: JobFolder) -> None:
    """Take the room for the result now: a job that fills the disk can still be told of."""
    folder.result.write_text(" " * _RESULT_BYTES, encoding="utf-8")


def write_result(folder: JobFolder, result: Mapping[str, object]) -> None:
    """Write how the job ended, in the place that was kept for it."""
    with folder.result.open("r+b") as file:
        file.write(json.dumps({"ended": now_text(), **result}).encode().ljust(_RESULT_BYTES))
        file.flush()
        os.fsync(file.fileno())


def read_result(folder: JobFolder) -> dict[str, Any] | None:
    """How the job ended: systemd's words `result`, `code` and `status`; None while it has not."""
    try:
        value = json.loads(folder.result.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def describe(folder: JobFolder, *, running: bool) -> dict[str, Any]:
    """All that there is to know of a job, as JSON. `running` counts while there is no result."""
    record, result = folder.read(), read_result(folder)
    state, code, reason = RUNNING, None, ""
    if result is not None:
        state, code, reason = _outcome(
            result, cancelled=folder.cancelled.exists(), memory=record.get("memory_mib")
        )
    elif not running:
        state, reason = LOST, "gone without a result"
    ended = result.get("ended") if result else None
    started = record.get("started")
    return {
        "id": folder.id,
        "app": record.get("app", "?"),
        "state": state,
        "exit": code,
        "reason": reason,
        "started": started,
        "ended": ended,
        "seconds": _seconds(started, ended) if ended or state == RUNNING else None,
        "command": record.get("command", []),
        "user": record.get("user"),
        "memory_mib": record.get("memory_mib"),
        "release": record.get("release"),
        "directory": str(folder.directory),
        "work": str(folder.work),
        "log": str(folder.log),
        "log_bytes": folder.log.stat().st_size if folder.log.exists() else 0,
    }


def _outcome(
    result: Mapping[str, Any], *, cancelled: bool, memory: int | None
) -> tuple[str, int | None, str]:
    """State, exit code as a shell counts it, and the reason in words."""
    status = str(result.get("status", ""))
    if result.get("code") == "exited":
        code = int(status) if status.isdigit() else 1
        reason = f"exit code {code}" if code else ""
        if code > _SIGNAL_EXIT and (name := _signal_name(code - _SIGNAL_EXIT)):
            reason = f"exit code {code}, as after {name}"
    else:
        number = getattr(signal, f"SIG{status}", None)
        code = _SIGNAL_EXIT + int(number) if number is not None else 1
        reason = f"killed by SIG{status}"
    if result.get("result") == "oom-kill":
        why = f"killed: it needed more than {memory} MiB of memory"
        return FAILED, code or _SIGNAL_EXIT + signal.SIGKILL, why
    if code == 0:
        return SUCCEEDED, 0, ""
    if cancelled:
        return CANCELLED, code, reason
    if result.get("stopping"):
        return LOST, code, "the host was shut down"
    return FAILED, code, reason


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return ""


def _seconds(started: str | None, ended: str | None) -> float | None:
    try:
        begin = datetime.fromisoformat(started or "")
        end = datetime.fromisoformat(ended) if ended else datetime.now(UTC)
    except ValueError:
        return None
    return round((end - begin).total_seconds(), 1)
